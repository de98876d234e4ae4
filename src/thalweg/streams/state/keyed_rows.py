"""Rows held whole, found by key and time: the keyed columnar index of joins and tables.

Two parts: typed arrays that know of every row its key's identity, time and neighbours (`_keyed_rows`), and a `RowStore`
with its columns. Adding, finding and removing rows costs what is added, found and removed; never a scan of the state.

Saved as "<name>" (rows with `__row`, their number), "<name>/gone" and "<name>/matched" (numbers of rows that were
removed before their time, or that met a partner). A row never changes, so the order of these does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.operator import Memory, State
from thalweg.streams.state.key_groups import KEY_GROUPS, canonical_bytes, key_groups
from thalweg.streams.state.row_store import SLOT, RowStore
from thalweg.streams.state.session_index import grown
from thalweg.streams.state.time_buckets import TimeBuckets

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

ROW = "__row"
"""The number of a row, Int64; unique within its key group."""
MATCHED = "__matched"
TIME = "__time"
"""The row's time in the index, Int64; saved with it."""

EARLIEST, LATEST = -(2**62), 2**62
_UNLIMITED = 2**62
_SLOT_ARRAYS = ("time", "_older", "_newer", "serial", "_key_first", "_key_second", "_free")
_AT_ONCE = 1_000_000


@dataclass(frozen=True, slots=True)
class Keys:
    """The identities of a frame's keys: two 64-bit hashes of their canonical bytes (of a billion keys two coincide with
    a probability of 1e-21). `null` rows have a null in their key, which equals nothing."""

    first: UInt64s
    second: UInt64s
    null: Bools | None

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: Any) -> Keys:
        """Those of some rows: a mask or row numbers."""
        return Keys(self.first[rows], self.second[rows], None if self.null is None else self.null[rows])


def keys_of(frame: pl.DataFrame, columns: Sequence[str], *, nulls_equal: bool = False) -> Keys:
    """The identities of the key columns; without any, all rows have the same key.

    Args:
        nulls_equal: null is a key like any other, as in `key_by`; else a row with a null is `null`.
    """
    first, second = np.zeros(frame.height, dtype=np.uint64), np.zeros(frame.height, dtype=np.uint64)
    if not columns or not frame.height:
        return Keys(first, second, None)
    offsets, data = canonical_bytes(frame, columns)
    _kernels().hashes(np.ascontiguousarray(offsets), np.ascontiguousarray(data), first, second)
    holed = [frame[name].is_null() for name in columns if frame[name].null_count()]
    if not holed:
        return Keys(first, second, None)
    if nulls_equal:
        for number, name in enumerate(columns):  # null and "" share their bytes
            absent = frame[name].is_null().to_numpy()
            first[absent] ^= np.uint64((0x9E3779B97F4A7C15 * (number + 1)) % 2**64)
        return Keys(first, second, None)
    null = np.zeros(frame.height, dtype=bool)
    for one in holed:
        null |= one.to_numpy()
    return Keys(first, second, null)


class KeyedRows:
    """The rows of one input of an operator.

    Args:
        name: what its state is called.
        columns: the key columns.
        bucket: how wide the steps are in which rows come due, ms; None: they never do.
    """

    def __init__(self, name: str, columns: Sequence[str], *, bucket: int | None = None, nulls_equal: bool = False):
        self.name = name
        self.columns = tuple(columns)
        self.nulls_equal = nulls_equal
        self._buckets = None if bucket is None else TimeBuckets(bucket)
        self._table(1024)
        nothing = np.zeros(0, dtype=np.int64)
        self.time = self.serial = self._older = self._newer = self._free = nothing
        self._key_first = self._key_second = np.zeros(0, dtype=np.uint64)
        self._control = np.zeros(4, dtype=np.int64)
        self.matched = np.zeros(0, dtype=bool)
        self._durable = np.zeros(0, dtype=bool)
        self._store = RowStore()
        self._fresh: list[tuple[Int64s, Int64s]] = []
        self._marked: list[tuple[Int64s, Int64s]] = []
        self._gone: list[pl.DataFrame] = []
        self.forgotten = False
        """Rows that were saved have come due since the last snapshot: how far time has come is then worth saving."""

    def _table(self, size: int) -> None:
        self._first, self._second = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint64)
        self._head, self._cursor = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._control[0] - self._control[1])

    def memory(self) -> Memory:
        """Rows held, and about how many bytes they and their index take."""
        arrays = sum(getattr(self, name).nbytes for name in (*_SLOT_ARRAYS, "_head", "_cursor", "_first", "_second"))
        return Memory(len(self), self._store.memory().bytes + arrays)

    def keys(self, frame: pl.DataFrame) -> Keys:
        """The identities of rows that have this input's key columns."""
        return keys_of(frame, self.columns, nulls_equal=self.nulls_equal)

    # -- adding and removing

    def add(self, rows: pl.DataFrame, keys: Keys, times: Int64s) -> Int64s:
        """Adds rows; returns their slots."""
        numbers = np.arange(self._control[3], self._control[3] + rows.height, dtype=np.int64)
        self._control[3] += rows.height
        slots = self._insert(rows, keys, times, numbers)
        self._fresh.append((slots, numbers))
        return slots

    def _insert(self, rows: pl.DataFrame, keys: Keys, times: Int64s, numbers: Int64s) -> Int64s:
        self._make_room(rows.height)
        slots = np.empty(rows.height, dtype=np.int64)
        if keys.null is not None and keys.null.any():
            keys = self._apart(keys, numbers)
        _kernels().insert(
            *(self._first, self._second, self._head, self._cursor, self._key_first, self._key_second),
            *(self.time, self._older, self._newer, self._free, self._control),
            *(keys.first, keys.second, np.ascontiguousarray(times), slots),
        )
        self.serial[slots] = numbers
        self.matched[slots] = False
        self._durable[slots] = False
        self._store.write(rows.with_columns(pl.Series(SLOT, slots)))
        if self._buckets is not None:
            self._buckets.add(slots, numbers, times)
        return slots

    @staticmethod
    def _apart(keys: Keys, numbers: Int64s) -> Keys:
        """Gives rows with a null in their key an identity of their own: they meet nobody, and fall due like others."""
        first, second = keys.first.copy(), keys.second.copy()
        first[keys.null], second[keys.null] = numbers[keys.null].view(np.uint64), _NOBODY
        return Keys(first, second, keys.null)

    def remove(self, slots: Int64s, *, due: bool = False) -> None:
        """Forgets rows. `due`: their time has come, by which a restore leaves them out; others are noted as gone."""
        if not len(slots):
            return
        saved = slots[self._durable[slots]]
        if due:
            self.forgotten |= len(saved) > 0
        elif len(saved):
            self._gone.append(self._numbers(saved))
        _kernels().remove(
            *(self._first, self._second, self._head, self._cursor, self._key_first, self._key_second),
            *(self._older, self._newer, self._free, self._control, np.ascontiguousarray(slots)),
        )
        self.serial[slots] = -1
        self._store.free(slots)

    def mark(self, slots: Int64s) -> Int64s:
        """Notes that rows have met a partner; returns those that had not before, each once."""
        slots = np.unique(slots)
        new: Int64s = slots[~self.matched[slots]]
        self.matched[new] = True
        saved = new[self._durable[new]]
        if len(saved):
            self._marked.append((saved, self.serial[saved]))
        return new

    # -- finding

    def find(
        self, keys: Keys, low: Int64s | int = EARLIEST, high: Int64s | int = LATEST, *, most: int = _UNLIMITED
    ) -> Iterator[tuple[Int64s, Int64s]]:
        """Pairs (number of the key, slot) of the rows of each key with a time in [low, high], the newest first.

        In pieces of about a million pairs: a key that meets very many rows must not need memory for all at once.
        """
        wanted = None if keys.null is None else np.flatnonzero(~keys.null)
        first, second = (keys.first, keys.second) if wanted is None else (keys.first[wanted], keys.second[wanted])
        n = len(first)
        if not n or not len(self):
            return
        start, count = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        _kernels().search(
            *(self._first, self._second, self._head, self._cursor, self.time, self._older, self._newer),
            *(first, second, _bounds(low, n, wanted), _bounds(high, n, wanted), most, start, count),
        )
        for piece in _pieces(count):
            total = int(count[piece].sum())
            if not total:
                continue
            probes, slots = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
            _kernels().collect(self._older, start[piece], count[piece], probes, slots)
            probes += piece.start
            yield (probes if wanted is None else wanted[probes]), slots

    def read(self, slots: Int64s) -> pl.DataFrame:
        """The rows in the order of `slots`, which may repeat."""
        distinct, places = np.unique(slots, return_inverse=True)
        rows = self._store.read(distinct)
        assert rows is not None, "every slot has its row"
        return rows.sort(SLOT).drop(SLOT)[places]

    def alive(self) -> Int64s:
        """All rows."""
        slots = np.arange(self._control[0], dtype=np.int64)
        found: Int64s = slots[self.serial[slots] >= 0]
        return found

    # -- time

    def due(self, until: int) -> Int64s:
        """The rows with a time of at most `until`, in order of time; they stay until `remove`."""
        assert self._buckets is not None, "rows of this index never come due"
        return self._buckets.due(until, self.serial)

    def superseded(self, slots: Int64s) -> Int64s:
        """The rows of the same keys that are older than these, each given once over its life; marks them `matched`."""
        found = np.empty(len(self), dtype=np.int64)
        n = _kernels().superseded(self._older, self.matched, np.ascontiguousarray(slots), found)
        return found[:n].copy()

    # -- state

    def snapshot(self, *, full: bool = False) -> list[tuple[str, pl.DataFrame]]:
        """What has changed since the last snapshot, or everything, as puts."""
        slots = self.alive() if full else self._current(self._fresh)
        puts = []
        if len(slots):
            labels = [
                pl.Series(ROW, self.serial[slots]),
                pl.Series(TIME, self.time[slots]),
                pl.Series(MATCHED, self.matched[slots]),
            ]
            rows = self.read(slots)
            puts.append((self.name, rows.with_columns(*labels, self._groups(rows))))
            self._durable[slots] = True
        if not full:
            puts += [(f"{self.name}/gone", frame) for frame in self._gone]
            marked = self._current(self._marked)
            if len(marked):
                puts.append((f"{self.name}/matched", self._numbers(marked)))
        self._fresh, self._marked, self._gone, self.forgotten = [], [], [], False
        return puts

    def _current(self, entries: Sequence[tuple[Int64s, Int64s]]) -> Int64s:
        if not entries:
            return np.zeros(0, dtype=np.int64)
        slots, serials = np.concatenate([e[0] for e in entries]), np.concatenate([e[1] for e in entries])
        current: Int64s = slots[self.serial[slots] == serials]
        return current

    def _numbers(self, slots: Int64s) -> pl.DataFrame:
        return pl.DataFrame([pl.Series(ROW, self.serial[slots]), self._groups(self.read(slots))])

    def _groups(self, rows: pl.DataFrame) -> pl.Series:
        return key_groups(rows, self.columns, KEY_GROUPS)

    def restore(self, state: State, *, after: int = EARLIEST) -> None:
        """Takes back what snapshots gave, but for rows with a time of at most `after`: they were due."""
        frames = state.get(self.name, ())
        if not frames:
            return
        identity = [KEY_GROUP, ROW]
        rows = pl.concat(frames, how="diagonal_relaxed")
        self._control[3] = max(int(self._control[3]), int(rows[ROW].max()) + 1)  # type: ignore[arg-type]
        gone, marked = state.get(f"{self.name}/gone", ()), state.get(f"{self.name}/matched", ())
        if gone:
            rows = rows.join(pl.concat(gone), on=identity, how="anti")
        if marked:
            met = pl.concat(marked).unique(identity).with_columns(pl.lit(True).alias("__met"))
            rows = rows.join(met, on=identity, how="left")
            rows = rows.with_columns((pl.col(MATCHED) | pl.col("__met").fill_null(False)).alias(MATCHED)).drop("__met")
        rows = rows.filter(pl.col(TIME) > after).sort(TIME, ROW)
        if not rows.height:
            return
        kept = rows.drop(KEY_GROUP, ROW, TIME, MATCHED)
        times, numbers = (np.ascontiguousarray(rows[name].to_numpy()) for name in (TIME, ROW))
        slots = self._insert(kept, self.keys(kept), times, numbers)
        self.matched[slots] = rows[MATCHED].to_numpy()
        self._durable[slots] = True

    def _make_room(self, rows: int) -> None:
        """Room for as many new rows and keys."""
        needed = len(self) + rows
        if needed > len(self.time):
            room = max(needed, 2 * len(self.time), 1024)
            for name in _SLOT_ARRAYS:
                setattr(self, name, grown(getattr(self, name), room))
            for name in ("matched", "_durable"):
                old: Bools = getattr(self, name)
                setattr(self, name, np.append(old, np.zeros(room - len(old), dtype=bool)))
            self._store.reserve(room)
        size = len(self._head)
        if 2 * (int(self._control[2]) + rows) > size:
            before = self._first, self._second, self._head, self._cursor
            while 2 * (int(self._control[2]) + rows) > size:
                size *= 2
            self._table(size)
            _kernels().rehash(*before, self._first, self._second, self._head, self._cursor)


_NOBODY = np.uint64(0xDEAD_0000_0000_0001)


def _bounds(bound: Int64s | int, n: int, wanted: Int64s | None) -> Int64s:
    if isinstance(bound, int):
        return np.full(n, bound, dtype=np.int64)
    return np.ascontiguousarray(bound if wanted is None else bound[wanted])


def _pieces(count: Int64s) -> Iterator[slice]:
    """Ranges whose counts add up to about a million."""
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + _AT_ONCE, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def warm_up() -> None:
    """Compiles (or loads from the cache) the kernels, so that the first event doesn't wait for it."""
    rows = KeyedRows("warm", ["k"], bucket=10)
    frame = pl.DataFrame({"k": ["a"] * 2000})
    keys = rows.keys(frame)
    slots = rows.add(frame, keys, np.arange(2000, dtype=np.int64))
    for _ in rows.find(keys, 0, 1):
        pass
    rows.superseded(slots[:1])
    rows.remove(slots)
    rows.snapshot(full=True)


def _kernels() -> Any:
    from thalweg.streams.state import _keyed_rows

    return _keyed_rows

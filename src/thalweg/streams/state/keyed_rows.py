"""Rows held whole, found by key and time: the keyed columnar index of joins and tables.

Three parts: `RowLists` knows which rows a key has, a `RowStore` holds their columns, `TimeBuckets` says which are due.
Adding, finding and removing rows costs what is added, found and removed; never a scan of the state.

Saved as "<name>" (rows with `__row`, their number), "<name>/gone" and "<name>/matched" (numbers of rows that were
removed before their time, or that met a partner). A row never changes, so the order of these does not matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from zlib import crc32

import numpy as np
import polars as pl

from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.operator import Memory, State
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.state.row_lists import EARLIEST, LATEST, UNLIMITED, Bools, Int64s, Keys, RowLists, keys_of
from thalweg.streams.state.row_store import SLOT, RowStore
from thalweg.streams.state.slot_table import grown
from thalweg.streams.state.time_buckets import TimeBuckets

ROW = "__row"
"""The number of a row, Int64; unique within its key group."""
MATCHED = "__matched"
TIME = "__time"
"""The row's time in the index, Int64; saved with it."""
LABELS = (ROW, TIME, MATCHED)


class KeyedRows:
    """The rows of one input of an operator.

    Args:
        name: what its state is called.
        columns: the key columns.
        bucket: how wide the steps are in which rows come due, ms; None: they never do.
        nulls_equal: null is a key like any other; else a row with a null in its key is found by nobody.
        identity: also finds rows by these columns (null being a value); None: it does not.
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        *,
        bucket: int | None = None,
        nulls_equal: bool = False,
        identity: Sequence[str] | None = None,
    ) -> None:
        self.name = name
        self.columns = tuple(columns)
        self.nulls_equal = nulls_equal
        self.identity = identity
        self.lists = RowLists()
        self.identities = None if identity is None else RowLists()
        self.serial = np.zeros(0, dtype=np.int64)
        self.matched = self._durable = np.zeros(0, dtype=bool)
        self._buckets = None if bucket is None else TimeBuckets(bucket)
        self._store = RowStore()
        self._free = np.zeros(0, dtype=np.int64)
        self._n_free = self._used = self._numbered = 0
        self._fresh: list[tuple[Int64s, Int64s]] = []
        self._marked: list[tuple[Int64s, Int64s]] = []
        self._gone: list[pl.DataFrame] = []
        self.forgotten = False
        """Rows that were saved have come due since the last snapshot: how far time has come is then worth saving."""

    def __len__(self) -> int:
        return self._used - self._n_free

    @property
    def time(self) -> Int64s:
        """The time of every slot."""
        return self.lists.time

    def memory(self) -> Memory:
        """Rows held, and about how many bytes they and their index take."""
        arrays = self.lists.bytes + (0 if self.identities is None else self.identities.bytes)
        arrays += self.serial.nbytes + self._free.nbytes + self.matched.nbytes + self._durable.nbytes
        return Memory(len(self), self._store.memory().bytes + arrays)

    def keys(self, frame: pl.DataFrame) -> Keys:
        """The identities of rows that have this input's key columns."""
        return keys_of(frame, self.columns, nulls_equal=self.nulls_equal)

    # -- adding and removing

    def add(self, rows: pl.DataFrame, keys: Keys, times: Int64s) -> Int64s:
        """Adds rows; returns their slots."""
        numbers = np.arange(self._numbered, self._numbered + rows.height, dtype=np.int64)
        self._numbered += rows.height
        slots = self._insert(rows, keys, times, numbers)
        self._fresh.append((slots, numbers))
        return slots

    def _insert(self, rows: pl.DataFrame, keys: Keys, times: Int64s, numbers: Int64s) -> Int64s:
        slots = self._take(rows.height)
        self.lists.link(keys.apart(numbers), times, slots)
        if self.identities is not None:
            self.identities.link(self.identify(rows), np.zeros(rows.height, dtype=np.int64), slots)
        self.serial[slots] = numbers
        self.matched[slots] = False
        self._durable[slots] = False
        self._store.write(rows.with_columns(pl.Series(SLOT, slots)))
        if self._buckets is not None:
            self._buckets.add(slots, numbers, times)
        return slots

    def identify(self, rows: pl.DataFrame) -> Keys:
        """By which rows are found in `identities`: two hashes of the columns, of any type; in memory only.

        A null counts as if there were no such column: a row stays the same when a column is added later.
        """
        assert self.identity is not None
        first, second = np.zeros(rows.height, dtype=np.uint64), np.zeros(rows.height, dtype=np.uint64)
        for name in self.identity:
            if name in rows.columns:
                there = rows[name].is_not_null().to_numpy()
                of_name = crc32(name.encode())
                first[there] += rows.select(name).hash_rows(seed=of_name).to_numpy()[there]
                second[there] += rows.select(name).hash_rows(seed=of_name ^ 0x9E3779B9).to_numpy()[there]
        return Keys(first, second, None)

    def remove(self, slots: Int64s, *, due: bool = False) -> None:
        """Forgets rows. `due`: their time has come, by which a restore leaves them out; others are noted as gone."""
        if not len(slots):
            return
        saved = slots[self._durable[slots]]
        if due:
            self.forgotten |= len(saved) > 0
        elif len(saved):
            self._gone.append(self._numbers(saved))
        self.lists.unlink(slots)
        if self.identities is not None:
            self.identities.unlink(slots)
        self.serial[slots] = -1
        self._store.free(slots)
        self._free[self._n_free : self._n_free + len(slots)] = slots
        self._n_free += len(slots)

    def mark(self, slots: Int64s) -> None:
        """Notes that rows have met a partner."""
        slots = np.unique(slots)
        new = slots[~self.matched[slots]]
        self.matched[new] = True
        saved = new[self._durable[new]]
        if len(saved):
            self._marked.append((saved, self.serial[saved]))

    # -- finding

    def find(
        self, keys: Keys, low: Int64s | int = EARLIEST, high: Int64s | int = LATEST, *, most: int = UNLIMITED
    ) -> Iterator[tuple[Int64s, Int64s]]:
        """Pairs (number of the key, slot): see `RowLists.find`."""
        return self.lists.find(keys, low, high, most=most)

    def has(self, keys: Keys) -> Bools:
        """Which of the keys have rows."""
        found: Bools = self.lists.search(keys, most=1)[1] > 0
        return found

    def read(self, slots: Int64s) -> pl.DataFrame:
        """The rows in the order of `slots`, which may repeat."""
        distinct, places = np.unique(slots, return_inverse=True)
        rows = self._store.read(distinct)
        assert rows is not None, "every slot has its row"
        return rows.sort(SLOT).drop(SLOT)[places]

    def alive(self) -> Int64s:
        """All rows."""
        found: Int64s = np.flatnonzero(self.serial[: self._used] >= 0)
        return found

    def due(self, until: int) -> Int64s:
        """The rows with a time of at most `until`, in order of time; they stay until `remove`."""
        assert self._buckets is not None, "rows of this index never come due"
        return self._buckets.due(until, self.serial)

    def superseded(self, slots: Int64s) -> Int64s:
        """The rows of the same keys that are older than these, each given once over its life; marks them `matched`."""
        return self.lists.superseded(slots, self.matched)

    # -- state

    def snapshot(self, *, full: bool = False) -> list[tuple[str, pl.DataFrame]]:
        """What has changed since the last snapshot, or everything, as puts."""
        slots = self.alive() if full else self._current(self._fresh)
        puts = []
        if len(slots):
            values = (self.serial[slots], self.time[slots], self.matched[slots])
            rows = self.read(slots)
            labels = [pl.Series(name, value) for name, value in zip(LABELS, values, strict=True)]
            puts.append((self.name, rows.with_columns(*labels, key_groups(rows, self.columns))))
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
        return pl.DataFrame([pl.Series(ROW, self.serial[slots]), key_groups(self.read(slots), self.columns)])

    def restore(self, state: State, *, after: int = EARLIEST - 1) -> None:
        """Takes back what snapshots gave, but for rows with a time of at most `after`: they were due."""
        frames = state.get(self.name, ())
        if not frames:
            return
        rows = pl.concat(frames, how="diagonal_relaxed")
        self._numbered = int(rows[ROW].max()) + 1  # type: ignore[arg-type]
        gone, marked = state.get(f"{self.name}/gone", ()), state.get(f"{self.name}/matched", ())
        if gone:
            rows = rows.join(pl.concat(gone), on=[KEY_GROUP, ROW], how="anti")
        if marked:
            met = pl.concat(marked).unique().with_columns(pl.lit(True).alias("__met"))
            rows = rows.join(met, on=[KEY_GROUP, ROW], how="left")
            rows = rows.with_columns((pl.col(MATCHED) | pl.col("__met").fill_null(False)).alias(MATCHED)).drop("__met")
        rows = rows.filter(pl.col(TIME) > after).sort(TIME, ROW)
        if not rows.height:
            return
        kept = rows.drop(KEY_GROUP, *LABELS)
        times, numbers = (np.ascontiguousarray(rows[name].to_numpy()) for name in (TIME, ROW))
        slots = self._insert(kept, self.keys(kept), times, numbers)
        self.matched[slots] = rows[MATCHED].to_numpy()
        self._durable[slots] = True

    def _take(self, rows: int) -> Int64s:
        """Free slots, with room for them everywhere."""
        again = min(rows, self._n_free)
        self._n_free -= again
        reused = self._free[self._n_free : self._n_free + again]
        slots = np.concatenate([reused, np.arange(self._used, self._used + rows - again, dtype=np.int64)])
        self._used += rows - again
        if self._used > len(self.serial):
            room = max(self._used, 2 * len(self.serial), 1024)
            self.serial, self._free = grown(self.serial, room), grown(self._free, room)
            for name in ("matched", "_durable"):
                old: Bools = getattr(self, name)
                setattr(self, name, np.append(old, np.zeros(room - len(old), dtype=bool)))
            self._store.reserve(room)
        for lists in (self.lists, self.identities):
            if lists is not None:
                lists.reserve(len(self.serial), rows)
        return slots


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

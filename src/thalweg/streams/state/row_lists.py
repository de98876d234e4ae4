"""Lists of rows by key, in order of time: which slots a key has, and which of them lie between two times.

Typed arrays and a hash table (`_row_lists`). Linking, finding and unlinking cost what is linked, found and unlinked;
never a scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.state.key_groups import canonical_bytes
from thalweg.streams.state.session_index import grown

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

EARLIEST, LATEST = -(2**62), 2**62
UNLIMITED = 2**62
_SLOT_ARRAYS = ("time", "older", "newer", "_key_first", "_key_second")
_TABLE_ARRAYS = ("_first", "_second", "_head", "_cursor")
_AT_ONCE = 1_000_000
_NOBODY = np.uint64(0xDEAD_0000_0000_0001)


@dataclass(frozen=True, slots=True)
class Keys:
    """The identities of a frame's keys: two 64-bit hashes of their canonical bytes (of a billion keys two coincide with
    a probability of 1e-21). `null` rows have a null in their key, which equals nothing."""

    first: UInt64s
    second: UInt64s
    null: Bools | None

    def __len__(self) -> int:
        return len(self.first)

    def apart(self, numbers: Int64s) -> Keys:
        """Gives rows with a null in their key an identity of their own: they meet nobody, and are removed like others.

        Args:
            numbers: differ from those of all other rows.
        """
        if self.null is None or not self.null.any():
            return self
        first, second = self.first.copy(), self.second.copy()
        first[self.null], second[self.null] = numbers[self.null].view(np.uint64), _NOBODY
        return Keys(first, second, self.null)

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


class RowLists:
    """For each key the slots of its rows, the newest first."""

    def __init__(self) -> None:
        self._table(1024)
        nothing = np.zeros(0, dtype=np.int64)
        self.time = self.older = self.newer = nothing
        self._key_first = self._key_second = np.zeros(0, dtype=np.uint64)
        self._control = np.zeros(1, dtype=np.int64)

    def _table(self, size: int) -> None:
        self._first, self._second = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint64)
        self._head, self._cursor = np.full(size, -1, dtype=np.int64), np.full(size, -1, dtype=np.int64)

    @property
    def keys(self) -> int:
        """How many keys have rows."""
        return int(self._control[0])

    @property
    def bytes(self) -> int:
        """What the arrays take."""
        return sum(int(getattr(self, name).nbytes) for name in (*_SLOT_ARRAYS, *_TABLE_ARRAYS))

    def reserve(self, slots: int, rows: int) -> None:
        """Room for so many slots in all, and for `rows` more keys."""
        if slots > len(self.time):
            for name in _SLOT_ARRAYS:
                setattr(self, name, grown(getattr(self, name), slots))
        size = len(self._head)
        if 2 * (self.keys + rows) > size:
            before = self._first, self._second, self._head, self._cursor
            while 2 * (self.keys + rows) > size:
                size *= 2
            self._table(size)
            _kernels().rehash(*before, self._first, self._second, self._head, self._cursor)

    def link(self, keys: Keys, times: Int64s, slots: Int64s) -> None:
        """Adds rows to the lists of their keys, in order of arrival."""
        _kernels().link(
            *(self._first, self._second, self._head, self._cursor, self._key_first, self._key_second),
            *(self.time, self.older, self.newer, self._control),
            *(keys.first, keys.second, np.ascontiguousarray(times), slots),
        )

    def unlink(self, slots: Int64s) -> None:
        """Takes rows out."""
        _kernels().unlink(
            *(self._first, self._second, self._head, self._cursor, self._key_first, self._key_second),
            *(self.older, self.newer, self._control, np.ascontiguousarray(slots)),
        )

    def search(
        self, keys: Keys, low: Int64s | int = EARLIEST, high: Int64s | int = LATEST, most: int = UNLIMITED
    ) -> tuple[Int64s, Int64s]:
        """For each key its newest row with a time in [low, high] (else -1), and how many there are (`most` at most)."""
        n = len(keys)
        start, count = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        _kernels().search(
            *(self._first, self._second, self._head, self._cursor, self.time, self.older, self.newer),
            *(keys.first, keys.second, _bounds(low, n), _bounds(high, n), most, start, count),
        )
        if keys.null is not None:
            count[keys.null] = 0
        return start, count

    def find(
        self, keys: Keys, low: Int64s | int = EARLIEST, high: Int64s | int = LATEST, *, most: int = UNLIMITED
    ) -> Iterator[tuple[Int64s, Int64s]]:
        """Pairs (number of the key, slot) of the rows of each key with a time in [low, high], the newest first.

        In pieces of about a million pairs: a key that meets very many rows must not need memory for all at once.
        Nothing may be linked or unlinked before the last piece was taken.
        """
        if not len(keys) or not self.keys:
            return
        start, count = self.search(keys, low, high, most)
        for piece in _pieces(count):
            total = int(count[piece].sum())
            if total:
                probes, slots = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
                _kernels().collect(self.older, start[piece], count[piece], probes, slots)
                yield probes + piece.start, slots

    def superseded(self, slots: Int64s, seen: Bools) -> Int64s:
        """The rows of the same keys that are older than these, but for those marked in `seen`; marks them."""
        found = np.empty(len(seen), dtype=np.int64)
        n = _kernels().superseded(self.older, seen, np.ascontiguousarray(slots), found)
        return found[:n].copy()


def _bounds(bound: Int64s | int, n: int) -> Int64s:
    if isinstance(bound, int):
        return np.full(n, bound, dtype=np.int64)
    return np.ascontiguousarray(bound)


def _pieces(count: Int64s) -> Iterator[slice]:
    """Ranges whose counts add up to about a million."""
    ends = np.cumsum(count)
    start = 0
    while start < len(count):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + _AT_ONCE, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _kernels() -> Any:
    from thalweg.streams.state import _row_lists

    return _row_lists

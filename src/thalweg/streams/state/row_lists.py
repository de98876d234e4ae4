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
from thalweg.streams.state.slot_table import SlotTable, grown, records

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

EARLIEST, LATEST = -(2**62), 2**62
UNLIMITED = 2**62
_SLOT_ARRAYS = ("time", "older", "newer")
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

    @property
    def numbers(self) -> tuple[Int64s, Int64s]:
        """The two hashes as the table has them."""
        return np.ascontiguousarray(self.first).view(np.int64), np.ascontiguousarray(self.second).view(np.int64)

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
        self._table = SlotTable()
        nothing = np.zeros(0, dtype=np.int64)
        self.time = self.older = self.newer = nothing
        self._known = records(0, 2)
        self._control = np.zeros(3, dtype=np.int64)

    @property
    def keys(self) -> int:
        """How many keys have rows."""
        return int(self._control[2])

    @property
    def bytes(self) -> int:
        """What the arrays take."""
        arrays = [self._known, *(getattr(self, name) for name in _SLOT_ARRAYS)]
        return sum(int(array.nbytes) for array in arrays) + self._table.bytes

    def reserve(self, slots: int, rows: int) -> None:
        """Room for so many slots in all, and for `rows` more keys."""
        if slots > len(self.time):
            known = records(slots, 2)
            known[: len(self.time)] = self._known
            self._known = known
            for name in _SLOT_ARRAYS:
                setattr(self, name, grown(getattr(self, name), slots))
        self._table.make_room(self.keys + rows)

    def link(self, keys: Keys, times: Int64s, slots: Int64s) -> None:
        """Adds rows to the lists of their keys, in order of arrival."""
        _kernels().link(
            *(self._table.rows, self._known, self.time, self.older, self.newer, self._control),
            *(*keys.numbers, np.ascontiguousarray(times), slots),
        )

    def unlink(self, slots: Int64s) -> None:
        """Takes rows out."""
        _kernels().unlink(
            *(self._table.rows, self._known, self.older, self.newer, self._control, np.ascontiguousarray(slots)),
        )

    def search(
        self, keys: Keys, low: Int64s | int = EARLIEST, high: Int64s | int = LATEST, most: int = UNLIMITED
    ) -> tuple[Int64s, Int64s]:
        """For each key its newest row with a time in [low, high] (else -1), and how many there are (`most` at most)."""
        n = len(keys)
        start, count = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        _kernels().search(
            *(self._table.rows, self.time, self.older, self.newer),
            *(*keys.numbers, _bounds(low, n), _bounds(high, n), most, start, count),
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

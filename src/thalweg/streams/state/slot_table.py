"""What the indexes of keys share: the hash table, the identities of keys, and arrays that grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.batch import FEW_ROWS

Int64s = npt.NDArray[np.int64]

_CACHE_LINE = 64
_SEEDS = (0x5BD1E995, 0x9E3779B9)


class SlotTable:
    """A hash table from keys, known by two 64-bit hashes, to numbers: see `_slot_table` for its rows.

    Two of a billion keys coincide with a probability of 1e-21. Finding a key costs one cache line, whatever their
    number.
    """

    def __init__(self) -> None:
        self.rows = _free_rows(1024)

    def make_room(self, keys: int) -> None:
        """Room for so many keys in all."""
        size = len(self.rows)
        if 4 * keys <= 3 * size:
            return
        while 4 * keys > 3 * size:
            size *= 2
        larger = _free_rows(size)
        kernels().rehash(self.rows, larger)
        self.rows = larger

    def clear(self, keys: int) -> None:
        """Forgets all keys, of which there were so many: a table that was much too large for them gets small again."""
        if len(self.rows) > 1024 and 16 * keys < len(self.rows):
            self.rows = _free_rows(1024)
        else:
            self.rows.fill(-1)

    @property
    def bytes(self) -> int:
        """What it takes."""
        return int(self.rows.nbytes)


def _free_rows(size: int) -> Int64s:
    rows = records(size, 4)
    rows.fill(-1)
    return rows


def records(number: int, width: int) -> Int64s:
    """Rows of `width` numbers whose first one begins a cache line: a row of 4 or 8 lies in one. Not initialised."""
    raw = np.empty(number * width + _CACHE_LINE // 8, dtype=np.int64)
    shift = -raw.ctypes.data % _CACHE_LINE // 8
    return raw[shift : shift + number * width].reshape(number, width)


def enough(needed: int, capacity: int) -> int:
    """How many slots to make room for where `needed` are more than there are: so that growing stays rare.

    A fourth more: of millions of slots, twice as many would be hundreds of megabytes that nobody uses.
    """
    return max(needed, capacity + capacity // 4, 1024)


def grown(array: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    """The array with room for more, filled with -1."""
    larger = np.full(room, -1, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def roomier(array: Int64s, room: int) -> Int64s:
    """The array with room for more, which is not initialised: it takes memory once it is used."""
    larger = np.empty(room, dtype=array.dtype)
    larger[: len(array)] = array
    return larger


def identities(keys: pl.DataFrame, rows: int) -> tuple[Int64s, Int64s]:
    """Two independent 64-bit hashes of each row; in memory only (Polars' hash is not stable between versions)."""
    if not keys.width:
        nothing = np.zeros(rows, dtype=np.int64)
        return nothing, nothing
    if keys.width == 1 and rows <= FEW_ROWS:  # the same hashes, without waking Polars' threads
        column = pl.col(keys.columns[0])
        hashes = keys.select_seq(column.hash(seed).alias(str(seed)) for seed in _SEEDS).get_columns()
    else:
        hashes = [keys.hash_rows(seed=seed) for seed in _SEEDS]
    first, second = (np.ascontiguousarray(hashed.to_numpy()).view(np.int64) for hashed in hashes)
    return first, second


class Distinct:
    """Tells which slots there are among many, at a few nanoseconds for each; `numpy.unique` takes ten times as long."""

    def __init__(self) -> None:
        self._marks = np.zeros(0, dtype=np.bool_)

    def of(self, *slots: Int64s) -> Int64s:
        """Each of the slots once, in the order of its first place; negative ones are none."""
        all_slots = slots[0] if len(slots) == 1 else np.concatenate(slots)
        if not len(all_slots):
            return all_slots
        needed = int(all_slots.max()) + 1
        if needed > len(self._marks):
            self._marks = np.zeros(enough(needed, len(self._marks)), dtype=np.bool_)
        out = np.empty(len(all_slots), dtype=np.int64)
        return out[: kernels().distinct(np.ascontiguousarray(all_slots), self._marks, out)].copy()


def kernels() -> Any:
    """The Numba kernels of tables, loaded on first use."""
    from thalweg.streams.state import _slot_table

    return _slot_table

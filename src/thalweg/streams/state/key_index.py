"""Keys as slots: a hash index over typed arrays, for state that is kept per key."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.state.session_index import grown, identities

Int64s = npt.NDArray[np.int64]

_SLOT_ARRAYS = ("_key_first", "_key_second", "_free", "_following")


class KeyIndex:
    """A slot (a small number, reused) for each key.

    A key is known by two 64-bit hashes of different seeds (in memory only): two of a billion keys coincide with a
    probability of 1e-21. Cost: one probe per row, whatever the number of keys.
    """

    def __init__(self) -> None:
        self._table(1024)
        self._key_first = self._key_second = np.zeros(0, dtype=np.uint64)
        self._free = self._following = np.zeros(0, dtype=np.int64)
        self._live = np.zeros(0, dtype=bool)
        self._control = np.zeros(4, dtype=np.int64)

    def _table(self, size: int) -> None:
        self._first, self._second = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint64)
        self._head = np.full(size, -1, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._control[2])

    @property
    def capacity(self) -> int:
        """How many slots there is room for."""
        return len(self._live)

    def assign(self, keys: pl.DataFrame, rows: int) -> tuple[Int64s, Int64s]:
        """The slots of these keys, one for each of the `rows`, and the rows that began a key."""
        self._make_room(rows)
        slots, created = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.int64)
        begun = _kernels().assign(
            *(self._first, self._second, self._head, self._key_first, self._key_second, self._free, self._control),
            *identities(keys, rows),
            *(slots, created),
        )
        created = created[:begun].copy()
        self._live[slots[created]] = True
        return slots, created

    def find(self, keys: pl.DataFrame, rows: int) -> Int64s:
        """The slots of these keys; -1 where there is none."""
        slots = np.empty(rows, dtype=np.int64)
        _kernels().look_up(self._first, self._second, self._head, *identities(keys, rows), slots)
        return slots

    def remove(self, slots: Int64s) -> None:
        """Forgets keys; their slots are used again."""
        slots = np.ascontiguousarray(slots)
        _sessions().close(
            *(self._first, self._second, self._head, self._key_first, self._key_second),
            *(self._following, self._control, slots),
        )
        free = int(self._control[1])
        self._free[free : free + len(slots)] = slots
        self._control[1] += len(slots)
        self._live[slots] = False

    def alive(self, slots: Int64s | None = None) -> Int64s:
        """Those of the slots that belong to a key; None: of all."""
        return np.flatnonzero(self._live) if slots is None else slots[self._live[slots]]

    def _make_room(self, rows: int) -> None:
        """Room for as many new keys as there are rows."""
        needed = len(self) + rows
        if needed > self.capacity:
            room = max(needed, 2 * self.capacity, 1024)
            for name in _SLOT_ARRAYS:
                setattr(self, name, grown(getattr(self, name), room))
            self._live = np.append(self._live, np.zeros(room - len(self._live), dtype=bool))
        size = len(self._head)
        if 2 * needed > size:
            old = self._first, self._second, self._head
            while 2 * needed > size:
                size *= 2
            self._table(size)
            _sessions().rehash(*old, self._first, self._second, self._head)


def warm_up() -> None:
    """Compiles (or loads from the cache) the kernels, so that the first event doesn't wait for it."""
    index = KeyIndex()
    keys = pl.DataFrame({"k": np.arange(2000)})
    slots, _ = index.assign(keys, 2000)
    index.find(keys, 2000)
    index.remove(slots)


def _kernels() -> Any:
    from thalweg.streams.state import _keys

    return _keys


def _sessions() -> Any:
    from thalweg.streams.state import _sessions

    return _sessions

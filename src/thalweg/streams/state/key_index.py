"""Keys as slots: a hash index over typed arrays, for state that is kept per key."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.state.slot_table import SlotTable, enough, identities, records, roomier

Int64s = npt.NDArray[np.int64]


class KeyIndex:
    """A slot (a small number, reused) for each key. Cost: one probe per row, whatever the number of keys."""

    def __init__(self) -> None:
        self._table = SlotTable()
        self._known = records(0, 2)
        self._free = np.zeros(0, dtype=np.int64)
        self._live = np.zeros(0, dtype=bool)
        self._control = np.zeros(3, dtype=np.int64)

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
        a, b = identities(keys, rows)
        begun = _kernels().assign(self._table.rows, self._known, self._free, self._control, a, b, slots, created)
        created = created[:begun].copy()
        self._live[slots[created]] = True
        return slots, created

    def find(self, keys: pl.DataFrame, rows: int) -> Int64s:
        """The slots of these keys; -1 where there is none."""
        slots = np.empty(rows, dtype=np.int64)
        _kernels().look_up(self._table.rows, *identities(keys, rows), slots)
        return slots

    def remove(self, slots: Int64s) -> None:
        """Forgets keys; their slots are used again."""
        _kernels().remove(self._table.rows, self._known, self._free, self._control, np.ascontiguousarray(slots))
        self._live[slots] = False

    def alive(self, slots: Int64s | None = None) -> Int64s:
        """Those of the slots that belong to a key; None: of all."""
        return np.flatnonzero(self._live) if slots is None else slots[self._live[slots]]

    def _make_room(self, rows: int) -> None:
        """Room for as many new keys as there are rows."""
        needed = len(self) + rows
        if needed > self.capacity:
            room = enough(needed, self.capacity)
            known = records(room, 2)
            known[: self.capacity] = self._known
            self._known, self._free = known, roomier(self._free, room)
            self._live = np.append(self._live, np.zeros(room - len(self._live), dtype=bool))
        self._table.make_room(needed)


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

"""Numba kernels of the key index. Imported on first use: `import thalweg` does not load Numba."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg.streams.state._slot_table import HEAD, NONE, find, give_slots, occupy, take_slot, vacate

Int64s = npt.NDArray[np.int64]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def assign(
    table: Int64s,
    known: Int64s,
    free: Int64s,
    control: Int64s,
    a: Int64s,
    b: Int64s,
    slots: Int64s,
    created: Int64s,
) -> int:
    """The slot of each row's key; `created` becomes the rows that came first of a new key. Returns their number.

    `known` has the two hashes of the key of each slot.
    """
    begun = 0
    if min(len(b), len(slots), len(created)) < len(a):
        raise ValueError("columns of unequal length")
    for i in range(len(a)):
        place = find(table, a[i], b[i])
        slot = table[place, HEAD]
        if slot == NONE:
            slot = take_slot(free, control, len(known))
            occupy(table, place, a[i], b[i], control)
            table[place, HEAD] = slot
            known[slot, 0], known[slot, 1] = a[i], b[i]
            created[begun] = i
            begun += 1
        slots[i] = slot
    return begun


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def look_up(table: Int64s, a: Int64s, b: Int64s, slots: Int64s) -> None:
    """The slot of each row's key, or -1 where there is none."""
    if min(len(b), len(slots)) < len(a):
        raise ValueError("columns of unequal length")
    for i in range(len(a)):
        slots[i] = table[find(table, a[i], b[i]), HEAD]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def remove(table: Int64s, known: Int64s, free: Int64s, control: Int64s, slots: Int64s) -> None:
    """Forgets the keys of these slots."""
    for slot in slots:
        place = find(table, known[slot, 0], known[slot, 1])
        if table[place, HEAD] != slot:
            raise ValueError("slot without a key")
        vacate(table, place, control)
    give_slots(free, control, slots)

"""Numba kernels of the hash table that finds what is kept of a key. Imported on first use.

A row of the table is four numbers, half a cache line: the two 64-bit hashes that are a key's identity, its `HEAD` (the
slot of the key, or the first one of its list; -1: the row is free), and a number more for those who need it. Linear
probing, at most three quarters full (`SlotTable` sees to that), and what is taken out leaves no tombstone.

`control` holds counters of slots and keys: slots ever used, free slots (those in `free`), keys.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Int64s = npt.NDArray[np.int64]

FIRST, SECOND, HEAD, CURSOR = range(4)
USED, FREE, KEYS = range(3)
NONE = -1

_ONE = np.uint64(1)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def find(table: Int64s, a: int, b: int) -> np.int64:
    """The row of a key, or the free row where it belongs."""
    mask = np.uint64(len(table) - 1)
    place = np.uint64(a) & mask
    while table[place, HEAD] != NONE and not (table[place, FIRST] == a and table[place, SECOND] == b):
        place = (place + _ONE) & mask
    return np.int64(place)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def occupy(table: Int64s, place: int, a: int, b: int, control: Int64s) -> None:
    """Gives a free row to a key; the caller sets its head."""
    table[place, FIRST], table[place, SECOND] = a, b
    control[KEYS] += 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _copy(table: Int64s, place: int, other: Int64s, to: int) -> None:
    for column in range(4):
        other[to, column] = table[place, column]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def vacate(table: Int64s, place: int, control: Int64s) -> None:
    """Takes a key out. What had to probe past its row moves up, so that no tombstones pile up."""
    mask = np.uint64(len(table) - 1)
    hole = np.uint64(place)
    table[hole, HEAD] = NONE
    control[KEYS] -= 1
    other = (hole + _ONE) & mask
    while table[other, HEAD] != NONE:
        home = np.uint64(table[other, FIRST]) & mask
        if ((other - home) & mask) >= ((other - hole) & mask):
            _copy(table, other, table, hole)
            table[other, HEAD] = NONE
            hole = other
        other = (other + _ONE) & mask


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def rehash(table: Int64s, larger: Int64s) -> None:
    """Moves all keys to a larger table."""
    for place in range(len(table)):
        if table[place, HEAD] != NONE:
            _copy(table, place, larger, find(larger, table[place, FIRST], table[place, SECOND]))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def take_slot(free: Int64s, control: Int64s, room: int) -> np.int64:
    """A slot that is not in use."""
    if control[FREE] > 0:
        control[FREE] -= 1
        return np.int64(free[control[FREE]])
    if control[USED] >= room:
        raise ValueError("slots used up")
    control[USED] += 1
    return np.int64(control[USED] - 1)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def give_slots(free: Int64s, control: Int64s, slots: Int64s) -> None:
    """Slots that may be used again."""
    if control[FREE] + len(slots) > len(free):
        raise ValueError("more free slots than there are")
    for slot in slots:
        free[control[FREE]] = slot
        control[FREE] += 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def distinct(slots: Int64s, marks: npt.NDArray[np.bool_], out: Int64s) -> int:
    """Each of the slots once, in the order of its first place; negative ones are passed over. Returns how many.

    `marks` has a place for every slot; it is false before and after.
    """
    found = 0
    for slot in slots:
        if slot >= len(marks):
            raise ValueError("no such slot")
        if slot >= 0 and not marks[slot]:
            marks[slot] = True
            out[found] = slot
            found += 1
    for i in range(found):
        marks[out[i]] = False
    return found

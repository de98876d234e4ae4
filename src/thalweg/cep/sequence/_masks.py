"""Condition bits of many events, in Numba. Imported on first use.

`masks` has a row per event and a word (64 conditions) per column.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Masks = npt.NDArray[np.uint64]
Booleans = npt.NDArray[np.bool_]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def pack(values: Booleans, bit: int, masks: Masks) -> None:
    """Sets a condition's bit where it holds."""
    if len(values) < len(masks):
        raise ValueError("arrays of unequal length")
    word, place = bit // 64, np.uint64(bit % 64)
    for row in range(len(masks)):
        masks[row, word] |= np.uint64(values[row]) << place


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def any_of(masks: Masks, wanted: UInt64s, found: Int64s) -> int:
    """The rows that have any of the wanted bits into `found`; how many."""
    if len(found) < len(masks) or len(wanted) < masks.shape[1]:
        raise ValueError("arrays of unequal length")
    count = 0
    for row in range(len(masks)):
        hit = np.uint64(0)
        for word in range(masks.shape[1]):
            hit |= masks[row, word] & wanted[word]
        if hit:
            found[count] = row
            count += 1
    return count


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def chosen(masks: Masks, rows: Int64s, bits: Int64s, out: UInt64s) -> None:
    """The bits of some conditions, of some rows, side by side from the lowest place on."""
    if len(out) < len(rows):
        raise ValueError("arrays of unequal length")
    for number in range(len(rows)):
        row = rows[number]
        if row < 0 or row >= len(masks):
            raise ValueError("a row out of bounds")
        value = np.uint64(0)
        for place in range(len(bits)):
            value |= (masks[row, bits[place] // 64] >> np.uint64(bits[place] % 64) & np.uint64(1)) << np.uint64(place)
        out[number] = value

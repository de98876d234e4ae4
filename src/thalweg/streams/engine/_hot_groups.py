"""Numba kernel that finds the cell of each event: of its key, slice and first window. Imported on first use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg.streams.state._slot_table import FIRST, HEAD, NONE, SECOND, find

Int64s = npt.NDArray[np.int64]

_READ = "Array(int64, 1, 'C', readonly=True)"


@njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def _mixed(number: int) -> np.int64:
    """The finaliser of SplitMix64: times that differ little must differ everywhere."""
    z = np.uint64(number) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64(z ^ (z >> np.uint64(31)))


@njit(  # type: ignore[untyped-decorator]
    f"UniTuple(int64, 2)(int64[:, ::1], {_READ}, {_READ}, {_READ}, {_READ}, int64, int64, int64[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def assign(
    table: Int64s,
    a: Int64s,
    b: Int64s,
    slices: Int64s,
    firsts: Int64s,
    start: int,
    held: int,
    cells: Int64s,
    created: Int64s,
) -> tuple[int, int]:
    """The cell of each row from `start` on into `cells`; new ones are numbered from `held` on.

    `slices` and `firsts` have a number for each row, or one for all. The rows that got a new cell go to `created`.
    Returns how many these are, and the row at which the table was full (or the number of rows).
    """
    rows = len(a)
    many = len(slices) > 1
    if min(len(b), len(cells), len(created)) < rows or not len(slices) or len(firsts) != len(slices):
        raise ValueError("arrays of unequal length")
    if start < 0 or (many and len(slices) < rows):
        raise ValueError("not a number for each row")
    new = 0
    last = slices[0] - 1
    x = y = np.int64(0)
    for row in range(start, rows):
        at = row if many else 0
        if many or slices[at] != last:
            last = slices[at]
            x = _mixed(last ^ _mixed(firsts[at]))
            y = _mixed(x)
        first, second = a[row] ^ x, b[row] ^ y
        place = find(table, first, second)
        if table[place, HEAD] == NONE:
            if 4 * (held + new + 1) > 3 * len(table):
                return new, row
            table[place, FIRST], table[place, SECOND], table[place, HEAD] = first, second, held + new
            created[new] = row
            new += 1
        cells[row] = table[place, HEAD]
    return new, rows

"""Putting firings into the order of events, in Numba. Imported on first use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Int64s = npt.NDArray[np.int64]


@njit("void(int64[::1], int64[::1], int64, int64[::1])", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def place(rows: Int64s, following: Int64s, number: int, out: Int64s) -> None:
    """Writes a rule's number to the next free place of each row that it fires on."""
    for i in range(len(rows)):
        row = rows[i]
        if row < 0 or row >= len(following) or following[row] >= len(out):
            raise ValueError("a row out of bounds")
        out[following[row]] = number
        following[row] += 1

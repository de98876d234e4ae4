"""Codes of keys, in Numba, on the hash table that state has too (`SlotTable`). Imported on first use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg.streams.state._slot_table import FIRST, HEAD, NONE, SECOND, find

Int64s = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def look_up(
    table: Int64s,
    a: Int64s,
    b: Int64s,
    adds: Booleans,
    following: int,
    codes: Int64s,
    created: Int64s,
) -> int:
    """The code of each key (a, b) into `codes`; a new one, from `following` on, where `adds` says so, else -1.

    The rows that got a new code go to `created`; returns how many.
    """
    if min(len(b), len(adds), len(codes), len(created)) < len(a):
        raise ValueError("arrays of unequal length")
    new = 0
    for row in range(len(a)):
        place = find(table, a[row], b[row])
        if table[place, HEAD] == NONE and adds[row]:
            if following + new >= len(table) - 1:
                raise ValueError("no room for a key")
            table[place, FIRST], table[place, SECOND], table[place, HEAD] = a[row], b[row], following + new
            created[new] = row
            new += 1
        codes[row] = table[place, HEAD]
    return new

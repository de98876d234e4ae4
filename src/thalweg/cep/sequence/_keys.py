"""The hash table of keys, in Numba: linear probing, never full. Imported on first use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg.streams.state._sessions import find

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Booleans = npt.NDArray[np.bool_]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def look_up(
    first: UInt64s,
    second: UInt64s,
    code: Int64s,
    a: UInt64s,
    b: UInt64s,
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
        place = find(first, second, code, a[row], b[row])
        if code[place] < 0 and adds[row]:
            if 2 * (following + new) >= len(code):
                raise ValueError("no room for a key")
            first[place], second[place], code[place] = a[row], b[row], following + new
            created[new] = row
            new += 1
        codes[row] = code[place]
    return new


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def move(
    first: UInt64s, second: UInt64s, code: Int64s, new_first: UInt64s, new_second: UInt64s, new_code: Int64s
) -> None:
    """Moves all keys to a larger table."""
    for place in range(len(code)):
        if code[place] >= 0:
            to = find(new_first, new_second, new_code, first[place], second[place])
            new_first[to], new_second[to], new_code[to] = first[place], second[place], code[place]

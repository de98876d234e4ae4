"""Numba kernels of the key index. Imported on first use: `import thalweg` does not load Numba.

The table is that of the session index (see `_sessions`), with one slot for each key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg.streams.state._sessions import KEYS, NONE, find, take_slot

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def assign(
    first: UInt64s,
    second: UInt64s,
    head: Int64s,
    key_first: UInt64s,
    key_second: UInt64s,
    free: Int64s,
    control: Int64s,
    a: UInt64s,
    b: UInt64s,
    slots: Int64s,
    created: Int64s,
) -> int:
    """The slot of each row's key; `created` becomes the rows that came first of a new key. Returns their number."""
    begun = 0
    if min(len(b), len(slots), len(created)) < len(a):
        raise ValueError("columns of unequal length")
    for i in range(len(a)):
        place = find(first, second, head, a[i], b[i])
        if head[place] == NONE:
            slot = take_slot(free, control, len(key_first))
            first[place], second[place], head[place] = a[i], b[i], slot
            key_first[slot], key_second[slot] = a[i], b[i]
            control[KEYS] += 1
            created[begun] = i
            begun += 1
        slots[i] = head[place]
    return begun


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def look_up(first: UInt64s, second: UInt64s, head: Int64s, a: UInt64s, b: UInt64s, slots: Int64s) -> None:
    """The slot of each row's key, or -1 where there is none."""
    if min(len(b), len(slots)) < len(a):
        raise ValueError("columns of unequal length")
    for i in range(len(a)):
        slots[i] = head[find(first, second, head, a[i], b[i])]

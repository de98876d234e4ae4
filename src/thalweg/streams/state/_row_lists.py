"""Numba kernels of lists of rows by key and time. Imported on first use: `import thalweg` does not load Numba.

A hash table (`_slot_table`) from a key to its rows: a list in falling order of time, doubly linked through the slot
arrays `older` and `newer`. CURSOR is where the last search of the key ended: searches that move on with time cost a
step each, wherever in the list they are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg.streams.state._slot_table import CURSOR, HEAD, NONE, find, occupy, vacate

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

_M1, _M2 = np.uint64(0xC6A4A7935BD1E995), np.uint64(0x9FB21C651E98DF25)
_SEED1, _SEED2 = np.uint64(0x8445D61A4E774912), np.uint64(0x2545F4914F6CDD1D)
_R = np.uint64(47)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def hashes(offsets: Int64s, data: npt.NDArray[np.uint8], first: UInt64s, second: UInt64s) -> None:
    """Two independent 64-bit hashes (murmur64A's mixing) of each run `data[offsets[i]:offsets[i + 1]]`."""
    if len(first) < len(offsets) - 1 or len(second) < len(offsets) - 1:
        raise ValueError("columns of unequal length")
    if len(offsets) > 1 and (offsets[0] < 0 or offsets[len(offsets) - 1] > len(data)):
        raise ValueError("run out of bounds")
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        length = np.uint64(stop - start)
        a = _SEED1 ^ (length * _M1)
        b = _SEED2 ^ (length * _M2)
        at = start
        while at < stop:
            word = np.uint64(0)
            for i in range(min(8, stop - at)):
                word |= np.uint64(data[at + i]) << np.uint64(8 * i)
            x = word * _M1
            x = (x ^ (x >> _R)) * _M1
            a = (a ^ x) * _M1
            y = word * _M2
            y = (y ^ (y >> _R)) * _M2
            b = (b ^ y) * _M2
            at += 8
        a = (a ^ (a >> _R)) * _M1
        b = (b ^ (b >> _R)) * _M2
        first[row] = a ^ (a >> _R)
        second[row] = b ^ (b >> _R)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def link(
    table: Int64s,
    known: Int64s,
    time: Int64s,
    older: Int64s,
    newer: Int64s,
    control: Int64s,
    a: Int64s,
    b: Int64s,
    times: Int64s,
    slots: Int64s,
) -> None:
    """Adds rows, in order of arrival, each to the list of its key; of equal times the last that came is the newest.

    `known` has the two hashes of the key of each slot.
    """
    if min(len(a), len(b), len(slots)) < len(times):
        raise ValueError("columns of unequal length")
    for i in range(len(times)):
        slot = slots[i]
        if slot < 0 or slot >= len(time):
            raise ValueError("slot out of bounds")
        place = find(table, a[i], b[i])
        if table[place, HEAD] == NONE:
            occupy(table, place, a[i], b[i], control)
            table[place, CURSOR] = slot
        before = np.int64(NONE)
        after = table[place, HEAD]
        while after != NONE and time[after] > times[i]:
            before = after
            after = older[after]
        time[slot], older[slot], newer[slot] = times[i], after, before
        known[slot, 0], known[slot, 1] = a[i], b[i]
        if after != NONE:
            newer[after] = slot
        if before == NONE:
            table[place, HEAD] = slot
        else:
            older[before] = slot


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def search(
    table: Int64s,
    time: Int64s,
    older: Int64s,
    newer: Int64s,
    a: Int64s,
    b: Int64s,
    low: Int64s,
    high: Int64s,
    most: int,
    start: Int64s,
    count: Int64s,
) -> None:
    """For each key the newest row not after `high[i]`, and how many rows from there on are not before `low[i]`.

    At most `most` are counted. They are `start[i]`, `older[start[i]]` and so on.
    """
    if min(len(b), len(low), len(high), len(start), len(count)) < len(a):
        raise ValueError("columns of unequal length")
    for i in range(len(a)):
        start[i] = NONE
        count[i] = 0
        place = find(table, a[i], b[i])
        if table[place, HEAD] == NONE:
            continue
        at = table[place, CURSOR]
        while time[at] > high[i] and older[at] != NONE:
            at = older[at]
        if time[at] <= high[i]:
            while newer[at] != NONE and time[newer[at]] <= high[i]:
                at = newer[at]
        table[place, CURSOR] = at
        if time[at] > high[i]:
            continue
        start[i] = at
        while at != NONE and time[at] >= low[i] and count[i] < most:
            count[i] += 1
            at = older[at]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def collect(older: Int64s, start: Int64s, count: Int64s, probes: Int64s, slots: Int64s) -> None:
    """Writes out what `search` found: for each row its probe number and its slot."""
    at = 0
    for i in range(len(start)):
        slot = start[i]
        for _ in range(count[i]):
            probes[at] = i
            slots[at] = slot
            slot = older[slot]
            at += 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def superseded(older: Int64s, seen: npt.NDArray[np.bool_], slots: Int64s, found: Int64s) -> int:
    """Writes the rows that are older than these, of their keys, to `found`, each once; returns how many.

    `seen` marks them: behind a row that is marked all are, so no list is walked twice.
    """
    n = 0
    for slot in slots:
        at = older[slot]
        while at != NONE and not seen[at]:
            if n >= len(found):
                raise ValueError("more rows than there are")
            seen[at] = True
            found[n] = at
            n += 1
            at = older[at]
    return n


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def unlink(table: Int64s, known: Int64s, older: Int64s, newer: Int64s, control: Int64s, slots: Int64s) -> None:
    """Takes rows out of their keys' lists; a key without rows leaves the table."""
    for slot in slots:
        place = find(table, known[slot, 0], known[slot, 1])
        after, before = older[slot], newer[slot]
        if after != NONE:
            newer[after] = before
        if before != NONE:
            older[before] = after
        else:
            table[place, HEAD] = after
        if table[place, CURSOR] == slot:
            table[place, CURSOR] = after if after != NONE else before
        if table[place, HEAD] == NONE:
            vacate(table, place, control)

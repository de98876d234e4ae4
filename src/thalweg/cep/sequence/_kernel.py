"""The sequence engine's inner loop, in Numba. Imported on first use: `import thalweg` does not load Numba.

A pattern is a row of *slots*, one per event of a match. A partial match waits at one slot; an event that satisfies the
slot's condition moves it on, another one passes it by, or ends it where the slot is strict. Every event that satisfies
the first slot starts a partial match of its own. Partial matches of a key form a list, oldest first.

The arrays: `head` and `tail` hold each key's list (index: the key's code; -1: none), `after`, `slot`, `start` and
`events` describe the partial matches, `free` is a stack of unused ones, its size in its last place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Booleans = npt.NDArray[np.bool_]

NONE = -1


@njit(  # type: ignore[untyped-decorator]
    "int64(int64[::1], int64[::1], uint64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1],"
    " int64[:, ::1], int64[::1], uint64[::1], boolean[::1], int64, boolean, int64[:, ::1])",
    nogil=True,
    cache=True,
)
def advance(
    codes: Int64s,
    times: Int64s,
    masks: UInt64s,
    ids: Int64s,
    head: Int64s,
    tail: Int64s,
    after: Int64s,
    slot: Int64s,
    start: Int64s,
    events: Int64s,
    free: Int64s,
    bits: UInt64s,
    strict: Booleans,
    within: int,
    skip_past: bool,
    out: Int64s,
) -> int:
    """Takes events in time order; each has its key's code, its time, the bits of its conditions, and an id.

    `bits` has the condition bit of each slot, `strict` whether it is strict; `within` -1: no limit. Each match is
    written to a row of `out`, as event ids and the time of the last one. Returns the number of matches.
    """
    slots = len(bits)
    top = len(free) - 1
    matches = 0
    if (
        min(len(times), len(masks), len(ids)) < len(codes)
        or min(len(strict), events.shape[1], out.shape[1] - 1) < slots
    ):
        raise ValueError("arrays of unequal length")
    for row in range(len(codes)):
        code, time, mask = codes[row], times[row], masks[row]
        if code < 0 or code >= len(head):
            raise ValueError("a key code out of bounds")
        before, partial = NONE, head[code]
        matched = False
        while partial != NONE:
            following = after[partial]
            place = slot[partial]
            keep = within < 0 or time - start[partial] < within
            if keep and mask & bits[place]:
                events[partial, place] = ids[row]
                slot[partial] = place + 1
                if place + 1 == slots:
                    if matches >= len(out):
                        raise ValueError("no room for a match")
                    for i in range(slots):
                        out[matches, i] = events[partial, i]
                    out[matches, slots] = time
                    matches += 1
                    matched = True
                    keep = False
                    if skip_past:
                        break
            elif keep and strict[place]:
                keep = False
            if keep:
                before = partial
            else:
                if before == NONE:
                    head[code] = following
                else:
                    after[before] = following
                if following == NONE:
                    tail[code] = before
                free[free[top]] = partial
                free[top] += 1
            partial = following
        if matched and skip_past:
            # The match and all that overlaps it are done: nothing of this key goes on.
            partial = head[code]
            while partial != NONE:
                free[free[top]] = partial
                free[top] += 1
                partial = after[partial]
            head[code] = NONE
            tail[code] = NONE
        elif mask & bits[0]:
            if slots == 1:
                if matches >= len(out):
                    raise ValueError("no room for a match")
                out[matches, 0], out[matches, 1] = ids[row], time
                matches += 1
            else:
                if free[top] <= 0:
                    raise ValueError("no room for a partial match")
                free[top] -= 1
                new = free[free[top]]
                after[new] = NONE
                slot[new] = 1
                start[new] = time
                events[new, 0] = ids[row]
                if tail[code] == NONE:
                    head[code] = new
                else:
                    after[tail[code]] = new
                tail[code] = new
    return matches


@njit("int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def sweep(head: Int64s, tail: Int64s, after: Int64s, start: Int64s, free: Int64s, oldest: int) -> int:
    """Ends the partial matches that started before `oldest`, of all keys; returns how many.

    A key's list is in the order of starts, so that its expired ones come first.
    """
    top = len(free) - 1
    ended = 0
    for code in range(len(head)):
        while head[code] != NONE and start[head[code]] < oldest:
            partial = head[code]
            head[code] = after[partial]
            free[free[top]] = partial
            free[top] += 1
            ended += 1
        if head[code] == NONE:
            tail[code] = NONE
    return ended


@njit("int64(int64[::1], int64[:, ::1], int64[::1], int64[::1])", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def referenced(slot: Int64s, events: Int64s, free: Int64s, out: Int64s) -> int:
    """The ids of all events that partial matches hold into `out`; returns how many."""
    unused = np.zeros(len(slot), np.bool_)
    for place in range(free[len(free) - 1]):
        unused[free[place]] = True
    count = 0
    for partial in range(len(slot)):
        if unused[partial]:
            continue
        if count + slot[partial] > len(out) or slot[partial] > events.shape[1]:
            raise ValueError("no room for the events")
        for place in range(slot[partial]):
            out[count] = events[partial, place]
            count += 1
    return count


@njit("int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1])", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def held(codes: Int64s, head: Int64s, after: Int64s, partials: Int64s, owners: Int64s) -> int:
    """Lists the partial matches of these keys, oldest first per key, and whose they are; returns how many."""
    count = 0
    for code in codes:
        partial = head[code] if code < len(head) else NONE
        while partial != NONE:
            if count >= min(len(partials), len(owners)):
                raise ValueError("no room for the partial matches")
            partials[count], owners[count] = partial, code
            count += 1
            partial = after[partial]
    return count

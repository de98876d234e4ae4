"""The automaton's inner loop: partial matches of all keys, advanced event by event, in one kernel.

A pattern is a row of *slots*, one per event of a match. A partial match waits at one slot; an event that satisfies the
slot's condition moves it on, another one passes it by, or ends it where the slot is strict. Every event that satisfies
the first slot starts a partial match of its own. Partial matches of a key form a list, oldest first.
"""

from __future__ import annotations

from functools import cache
from typing import Any

NONE = -1


@cache
def kernel() -> Any:
    """advance(codes, times, masks, ids, head, tail, after, slot, start, events, free, bits, strict, within, skip_past, out)

    For each event: its key's code (index into `head` and `tail`), time, condition bits and id. `after`, `slot`, `start`,
    `events` describe the partial matches; `free` is a stack of unused ones, its size in free[-1]. `bits` has the condition bit
    of each slot, `strict` whether it is strict; `within` -1: no limit. Each match is written to a row of `out` as event ids.
    Returns the number of matches. The caller makes sure that `free` and `out` have room for all that may come.
    """
    from numba import njit

    @njit(
        "int64(int64[::1], int64[::1], uint64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1],"
        " int64[::1], int64[:, ::1], int64[::1], uint64[::1], boolean[::1], int64, boolean, int64[:, ::1])",
        nogil=True,
        cache=True,
    )
    def advance(
        codes, times, masks, ids, head, tail, after, slot, start, events, free, bits, strict, within, skip_past, out
    ):  # type: ignore[no-untyped-def]
        slots = len(bits)
        top = len(free) - 1
        matches = 0
        for row in range(len(codes)):
            code, time, mask = codes[row], times[row], masks[row]
            before, partial = -1, head[code]
            matched = False
            while partial != -1:
                following = after[partial]
                place = slot[partial]
                keep = within < 0 or time - start[partial] < within
                if keep and mask & bits[place]:
                    events[partial, place] = ids[row]
                    slot[partial] = place + 1
                    if place + 1 == slots:
                        for i in range(slots):
                            out[matches, i] = events[partial, i]
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
                    if before == -1:
                        head[code] = following
                    else:
                        after[before] = following
                    if following == -1:
                        tail[code] = before
                    free[free[top]] = partial
                    free[top] += 1
                partial = following
            if matched and skip_past:
                # The match and all that overlaps it are done: nothing of this key goes on.
                partial = head[code]
                while partial != -1:
                    free[free[top]] = partial
                    free[top] += 1
                    partial = after[partial]
                head[code] = -1
                tail[code] = -1
            elif mask & bits[0]:
                if slots == 1:
                    out[matches, 0] = ids[row]
                    matches += 1
                else:
                    free[top] -= 1
                    new = free[free[top]]
                    after[new] = -1
                    slot[new] = 1
                    start[new] = time
                    events[new, 0] = ids[row]
                    if tail[code] == -1:
                        head[code] = new
                    else:
                        after[tail[code]] = new
                    tail[code] = new
        return matches

    return advance


@cache
def sweeper() -> Any:
    """sweep(head, tail, after, start, free, oldest): ends the partial matches that started before `oldest`, of all keys.

    Returns how many.
    """
    from numba import njit

    @njit(
        "int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64)", nogil=True, cache=True
    )
    def sweep(head, tail, after, start, free, oldest):  # type: ignore[no-untyped-def]
        top = len(free) - 1
        ended = 0
        for code in range(len(head)):
            # Oldest first: the list's own order is that of its starts.
            while head[code] != -1 and start[head[code]] < oldest:
                partial = head[code]
                head[code] = after[partial]
                free[free[top]] = partial
                free[top] += 1
                ended += 1
            if head[code] == -1:
                tail[code] = -1
        return ended

    return sweep

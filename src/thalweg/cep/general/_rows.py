"""The general engine's memory, in Numba: rows of integers, and what is done with single ones. Imported on first use.

Arrays are rows of integers, one row per thing, so that a thing is one line of memory:

- `keys`: per key the list of its partial matches (in the order of their first events) and of complete matches that
  wait for older partial matches; how many there are; the deadline by which the heap finds it;
- `runs`: partial matches and waiting matches, linked through NEXT; the unused ones are a list as well;
- `taken`: events of partial matches, each with the one before it, so that partial matches that begin alike share their
  beginning; counted references tell when one is no longer needed;
- `heap`: (deadline, key), smallest first;
- `out`: what was found, with its last `taken`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Table = npt.NDArray[np.int64]
Int64s = npt.NDArray[np.int64]

NONE = -1
HEAD, TAIL, RUNS, WAITING_HEAD, WAITING_TAIL, WAITING, DUE, KEY_WIDTH = 0, 1, 2, 3, 4, 5, 6, 8
NEXT, STATE, START, FIRST, LAST, TAKEN, RUN_WIDTH = 0, 1, 2, 3, 4, 5, 6
BEFORE, STEP, ID, REFERENCES, TAKEN_WIDTH = 0, 1, 2, 3, 4
TIME, TRIGGER, OUT_FIRST, OUT_TAKEN, TIMED_OUT, CODE, OUT_WIDTH = 0, 1, 2, 3, 4, 5, 6
# counters
FREE_RUN, RUNS_LEFT, FREE_TAKEN, TAKEN_LEFT, FOUND = 0, 1, 2, 3, 4
QUEUED, ALIVE, DROPPED, FAILED, COUNTERS = 5, 6, 7, 8, 10

options = {"nogil": True, "cache": True}


@njit(**options)  # type: ignore[untyped-decorator]
def release(taken: Table, counters: Int64s, node: int) -> None:
    """Gives one reference to a taken event back."""
    while node != NONE:
        taken[node, REFERENCES] -= 1
        if taken[node, REFERENCES] > 0:
            return
        before = taken[node, BEFORE]
        taken[node, BEFORE] = counters[FREE_TAKEN]
        counters[FREE_TAKEN] = node
        counters[TAKEN_LEFT] += 1
        node = before


@njit(**options)  # type: ignore[untyped-decorator]
def take(taken: Table, counters: Int64s, before: int, step: int, event: int) -> int:
    """A further taken event, with one reference: the caller's."""
    if counters[TAKEN_LEFT] <= 0:
        raise ValueError("no room for an event")
    node = counters[FREE_TAKEN]
    counters[FREE_TAKEN] = taken[node, BEFORE]
    counters[TAKEN_LEFT] -= 1
    taken[node, BEFORE], taken[node, STEP], taken[node, ID], taken[node, REFERENCES] = before, step, event, 1
    if before != NONE:
        taken[before, REFERENCES] += 1
    return int(node)


@njit(**options)  # type: ignore[untyped-decorator]
def new_run(
    runs: Table, taken: Table, counters: Int64s, state: int, start: int, first: int, last: int, node: int
) -> int:
    """A further partial (or waiting) match, in no list yet."""
    if counters[RUNS_LEFT] <= 0:
        raise ValueError("no room for a partial match")
    run = counters[FREE_RUN]
    counters[FREE_RUN] = runs[run, NEXT]
    counters[RUNS_LEFT] -= 1
    runs[run, NEXT], runs[run, STATE], runs[run, START] = NONE, state, start
    runs[run, FIRST], runs[run, LAST], runs[run, TAKEN] = first, last, node
    taken[node, REFERENCES] += 1
    return int(run)


@njit(**options)  # type: ignore[untyped-decorator]
def free_run(runs: Table, counters: Int64s, run: int) -> None:
    """The row is unused again; its reference has gone elsewhere."""
    runs[run, NEXT] = counters[FREE_RUN]
    counters[FREE_RUN] = run
    counters[RUNS_LEFT] += 1


@njit(**options)  # type: ignore[untyped-decorator]
def append(keys: Table, runs: Table, code: int, run: int) -> None:
    """Puts a partial match at the end of its key's list."""
    runs[run, NEXT] = NONE
    if keys[code, TAIL] == NONE:
        keys[code, HEAD] = run
    else:
        runs[keys[code, TAIL], NEXT] = run
    keys[code, TAIL] = run
    keys[code, RUNS] += 1


@njit(**options)  # type: ignore[untyped-decorator]
def append_waiting(keys: Table, runs: Table, code: int, run: int) -> None:
    """Puts a complete match at the end of its key's list."""
    runs[run, NEXT] = NONE
    if keys[code, WAITING_TAIL] == NONE:
        keys[code, WAITING_HEAD] = run
    else:
        runs[keys[code, WAITING_TAIL], NEXT] = run
    keys[code, WAITING_TAIL] = run
    keys[code, WAITING] += 1


@njit(**options)  # type: ignore[untyped-decorator]
def drop_head(keys: Table, runs: Table, taken: Table, counters: Int64s, code: int) -> None:
    """Ends a key's oldest partial match."""
    run = keys[code, HEAD]
    keys[code, HEAD] = runs[run, NEXT]
    if keys[code, HEAD] == NONE:
        keys[code, TAIL] = NONE
    keys[code, RUNS] -= 1
    counters[ALIVE] -= 1
    release(taken, counters, runs[run, TAKEN])
    free_run(runs, counters, run)


@njit(**options)  # type: ignore[untyped-decorator]
def tell(
    runs: Table, counters: Int64s, out: Table, run: int, time: int, trigger: int, timed_out: int, code: int
) -> None:
    """Writes a match (or a partial match that timed out) to `out`, with its reference; the row is unused again."""
    place = counters[FOUND]
    if place >= len(out):
        raise ValueError("no room for a match")
    out[place, TIME], out[place, TRIGGER], out[place, OUT_FIRST] = time, trigger, runs[run, FIRST]
    out[place, OUT_TAKEN], out[place, TIMED_OUT], out[place, CODE] = runs[run, TAKEN], timed_out, code
    counters[FOUND] += 1
    free_run(runs, counters, run)


@njit(**options)  # type: ignore[untyped-decorator]
def sizes_of(taken: Table, nodes: Int64s, sizes: Int64s) -> int:
    """How many events each chain of taken events has; returns how many there are in all."""
    total = 0
    for number in range(len(nodes)):
        node, size = nodes[number], 0
        while node != NONE:
            size += 1
            node = taken[node, BEFORE]
        sizes[number] = size
        total += size
    return total


@njit(**options)  # type: ignore[untyped-decorator]
def unroll(taken: Table, nodes: Int64s, sizes: Int64s, steps: Int64s, ids: Int64s) -> None:
    """Writes the steps and ids of each chain, oldest first, chain after chain."""
    end = 0
    for number in range(len(nodes)):
        end += sizes[number]
        place, node = end, nodes[number]
        while node != NONE:
            place -= 1
            steps[place], ids[place] = taken[node, STEP], taken[node, ID]
            node = taken[node, BEFORE]


@njit(**options)  # type: ignore[untyped-decorator]
def release_all(taken: Table, counters: Int64s, nodes: Int64s) -> None:
    """Gives the references of what was told back."""
    for node in nodes:
        release(taken, counters, node)


@njit(**options)  # type: ignore[untyped-decorator]
def runs_of(codes: Int64s, keys: Table, runs: Table, found: Int64s, owners: Int64s) -> int:
    """The partial and then the waiting matches of some keys into `found`, their keys into `owners`; how many."""
    count = 0
    for code in codes:
        for head in (HEAD, WAITING_HEAD):
            run = keys[code, head]
            while run != NONE:
                found[count], owners[count] = run, code
                count += 1
                run = runs[run, NEXT]
    return count

"""The inner loop of state machines, in Numba. Imported on first use: `import thalweg` does not load Numba.

Instances are rows of arrays, by the key's code: `state` (-1: none), `since`, `step`, `previous` (the state before),
`deadline` (when its timeout comes, `NEVER` for none), `changed` (since the last snapshot), `visits` (per state, where
guards look at them) and `path` (the last states it has left, where results show them).

Deadlines are in a heap as well; an entry whose instance has another deadline by now is void, and passed over.
"""

from __future__ import annotations

from typing import Any

from numba import njit

NEVER = 2**63 - 1
NO_ROW = -1

DONE, FULL, ASK = 0, 1, 2
"""What `advance` returns: all events taken; no room for results; a guard needs an answer."""

NO_TRANSITION, REFUSED, ENDED, RAISED = 0, 1, 2, 3
"""Why a trigger was invalid."""

UNKNOWN, NO, YES, FAILED = -1, 0, 1, 2
"""The answer of a guard that looks at the instance."""

TIME, CODE, ROW, FROM, TO, NUMBER, SINCE, STEP = range(8)
"""The columns of results; `NUMBER` is the transition's, -1 for a timeout."""

AT, RESULTS, INVALID, ASKING = range(4)
"""The places of `cursor`: the next event, results and invalid triggers so far, the transition whose guard asks."""


@njit(cache=True)  # type: ignore[untyped-decorator]
def push(heap_time: Any, heap_code: Any, size: Any, time: int, code: int) -> None:
    """Adds a deadline to the heap."""
    place = size[0]
    if place >= len(heap_time):
        raise ValueError("no room for a deadline")
    size[0] += 1
    while place > 0:
        parent = (place - 1) >> 1
        if heap_time[parent] <= time:
            break
        heap_time[place], heap_code[place] = heap_time[parent], heap_code[parent]
        place = parent
    heap_time[place], heap_code[place] = time, code


@njit(cache=True)  # type: ignore[untyped-decorator]
def pop(heap_time: Any, heap_code: Any, size: Any) -> None:
    """Takes the earliest deadline off the heap."""
    size[0] -= 1
    last = size[0]
    time, code = heap_time[last], heap_code[last]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= last:
            break
        if child + 1 < last and heap_time[child + 1] < heap_time[child]:
            child += 1
        if heap_time[child] >= time:
            break
        heap_time[place], heap_code[place] = heap_time[child], heap_code[child]
        place = child
    if last > 0:
        heap_time[place], heap_code[place] = time, code


@njit(cache=True)  # type: ignore[untyped-decorator]
def change(
    code: int, row: int, time: int, to: int, number: int, remember: int, timeout: Any, final: Any,
    state: Any, since: Any, step: Any, previous: Any, deadline: Any, changed: Any, visits: Any, path: Any,
    heap_time: Any, heap_code: Any, heap_size: Any, out: Any, out_path: Any, cursor: Any,
) -> None:  # fmt: skip
    """Moves an instance to another state, and writes the result."""
    at, before = cursor[RESULTS], state[code]
    depth = path.shape[1]
    if depth:
        for i in range(depth - 1):
            path[code, i] = path[code, i + 1]
        path[code, depth - 1] = before
        out_path[at] = path[code]
    step[code] += 1
    out[at, TIME], out[at, CODE], out[at, ROW], out[at, FROM] = time, code, row, before
    out[at, TO], out[at, NUMBER], out[at, SINCE], out[at, STEP] = to, number, since[code], step[code]
    cursor[RESULTS] += 1
    previous[code], state[code], since[code], changed[code] = before, to, time, True
    deadline[code] = NEVER
    if visits.shape[1]:
        visits[code, to] += 1
    if final[to] and not remember:
        state[code] = -1
        return
    wait = remember if final[to] else timeout[to]
    if wait:
        deadline[code] = time + wait
        push(heap_time, heap_code, heap_size, time + wait, code)


@njit(cache=True)  # type: ignore[untyped-decorator]
def run_out(
    until: int, remember: int, timeout: Any, on_timeout: Any, final: Any,
    state: Any, since: Any, step: Any, previous: Any, deadline: Any, changed: Any, visits: Any, path: Any,
    heap_time: Any, heap_code: Any, heap_size: Any, out: Any, out_path: Any, cursor: Any,
) -> bool:  # fmt: skip
    """Takes the timeouts up to `until`, in order of time; false where there is no room for more results."""
    while heap_size[0] and heap_time[0] <= until:
        time, code = heap_time[0], heap_code[0]
        if deadline[code] == time and not final[state[code]]:
            if cursor[RESULTS] >= len(out):
                return False
            pop(heap_time, heap_code, heap_size)
            change(
                code, NO_ROW, time, on_timeout[state[code]], -1, remember, timeout, final,
                state, since, step, previous, deadline, changed, visits, path,
                heap_time, heap_code, heap_size, out, out_path, cursor,
            )  # fmt: skip
            continue
        pop(heap_time, heap_code, heap_size)
        if deadline[code] == time:  # an ended instance is forgotten
            state[code], deadline[code], changed[code] = -1, NEVER, True
    return True


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def advance(
    times: Any, codes: Any, named: Any, bits: Any, until: int, answer: int,
    first: Any, trigger: Any, when: Any, guard: Any, asks: Any, target: Any, numbers: Any,
    timeout: Any, on_timeout: Any, final: Any, initial: int, keep_initial: bool, remember: int,
    state: Any, since: Any, step: Any, previous: Any, deadline: Any, changed: Any, visits: Any, path: Any,
    heap_time: Any, heap_code: Any, heap_size: Any, out: Any, out_path: Any, bad: Any, cursor: Any,
) -> int:  # fmt: skip
    """Takes events in order of time, and the timeouts before each and up to `until`.

    An event at the very time of a timeout comes after it. `answer` is that of the guard which the call before asked
    for (`cursor[ASKING]`).
    """
    while cursor[AT] < len(codes):
        row = cursor[AT]
        time, code = times[row], codes[row]
        if code < 0 or code >= len(state):
            raise ValueError("a key code out of bounds")
        ready = run_out(
            time, remember, timeout, on_timeout, final,
            state, since, step, previous, deadline, changed, visits, path,
            heap_time, heap_code, heap_size, out, out_path, cursor,
        )  # fmt: skip
        if not ready or cursor[RESULTS] >= len(out):
            return FULL
        if state[code] < 0:
            state[code], since[code], step[code], previous[code] = initial, time, 0, -1
            if visits.shape[1]:
                visits[code, :] = 0
            if path.shape[1]:
                path[code, :] = -1
            fresh = True
            if keep_initial:
                fresh, changed[code] = False, True
                if timeout[initial]:
                    deadline[code] = time + timeout[initial]
                    push(heap_time, heap_code, heap_size, deadline[code], code)
        else:
            fresh = state[code] == initial and step[code] == 0 and not keep_initial
        here = state[code]
        reason = ENDED if final[here] else NO_TRANSITION
        place = first[here]
        if answer != UNKNOWN:
            place = cursor[ASKING]
        taken = False
        while place < first[here + 1]:
            if (trigger[place] >= 0 and named[row] == trigger[place]) or (bits[row] & when[place]) != 0:
                holds = guard[place] == 0 or (bits[row] & guard[place]) != 0
                if holds and asks[place]:
                    if answer == UNKNOWN:
                        cursor[ASKING] = place
                        return ASK
                    holds = answer == YES
                    if answer == FAILED:
                        reason = RAISED
                        break
                    answer = UNKNOWN
                if holds:
                    to = target[place]
                    if to < 0:
                        to = previous[code] if previous[code] >= 0 else here
                    change(
                        code, row, time, to, numbers[place], remember, timeout, final,
                        state, since, step, previous, deadline, changed, visits, path,
                        heap_time, heap_code, heap_size, out, out_path, cursor,
                    )  # fmt: skip
                    taken = True
                    break
                reason = REFUSED
            place += 1
        answer = UNKNOWN
        if not taken:
            at = cursor[INVALID]
            bad[at, 0], bad[at, 1], bad[at, 2] = row, here, reason
            cursor[INVALID] += 1
            if fresh:
                state[code] = -1
        cursor[AT] += 1
    ready = run_out(
        until, remember, timeout, on_timeout, final,
        state, since, step, previous, deadline, changed, visits, path,
        heap_time, heap_code, heap_size, out, out_path, cursor,
    )  # fmt: skip
    return DONE if ready else FULL

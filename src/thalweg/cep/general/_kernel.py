"""The general engine's inner loop, in Numba: any automaton whose tests look at the event alone. Imported on first use.

`_rows` says how the arrays are laid out. What an event does in a state is looked up: `spans[kind of event, state]` says
where its moves are in `moves`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg.cep.general._rows import (
    ALIVE,
    BEFORE,
    DROPPED,
    DUE,
    FAILED,
    FIRST,
    FOUND,
    HEAD,
    ID,
    LAST,
    NEXT,
    NONE,
    QUEUED,
    RUNS,
    RUNS_LEFT,
    START,
    STATE,
    STEP,
    TAIL,
    TAKEN,
    TAKEN_LEFT,
    WAITING,
    WAITING_HEAD,
    WAITING_TAIL,
    append,
    append_waiting,
    drop_head,
    free_run,
    new_run,
    options,
    release,
    take,
    tell,
)

Table = npt.NDArray[np.int64]
Cube = npt.NDArray[np.int64]
Int64s = npt.NDArray[np.int64]

# settings
WITHIN, MAX_GAP, STRATEGY, SKIP_STEP, REQUIRED, FAN_OUT, TELLS_TIMEOUTS, MOST, SETTINGS = 0, 1, 2, 3, 4, 5, 6, 7, 8
NO_SKIP, TO_NEXT, PAST_LAST, TO_FIRST, TO_LAST = 0, 1, 2, 3, 4
NO_EVENT_TO_SKIP_TO, SKIPS_TO_ITSELF = 1, 2
# moves
DOES, MOVE_STEP, TARGET = 0, 1, 2
TAKES, KEEPS, COMPLETES = 1, 2, 4
# spans
AT, COUNT, DEAD = 0, 1, 2


@njit(**options)  # type: ignore[untyped-decorator]
def skip_bound(taken: Table, settings: Int64s, counters: Int64s, first: int, node: int) -> int:
    """Partial matches whose first event is before this id end with the match; NONE: none do."""
    strategy = settings[STRATEGY]
    if strategy == TO_NEXT:
        return int(first + 1)
    if strategy == PAST_LAST:
        return int(taken[node, ID] + 1)
    found = NONE
    while node != NONE:  # from the last event back
        if taken[node, STEP] == settings[SKIP_STEP]:
            found = taken[node, ID]
            if strategy == TO_LAST:
                break
        node = taken[node, BEFORE]
    if settings[REQUIRED]:
        if found == NONE:
            counters[FAILED] = NO_EVENT_TO_SKIP_TO
        elif found == first:
            counters[FAILED] = SKIPS_TO_ITSELF
    return int(found)


@njit(**options)  # type: ignore[untyped-decorator]
def end_before(keys: Table, runs: Table, taken: Table, counters: Int64s, code: int, bound: int) -> None:
    """Ends the partial and waiting matches whose first event is before `bound`."""
    while keys[code, HEAD] != NONE and runs[keys[code, HEAD], FIRST] < bound:
        drop_head(keys, runs, taken, counters, code)
    run = keys[code, WAITING_HEAD]
    keys[code, WAITING_HEAD], keys[code, WAITING_TAIL], keys[code, WAITING] = NONE, NONE, 0
    while run != NONE:
        following = runs[run, NEXT]
        if runs[run, FIRST] < bound:
            release(taken, counters, runs[run, TAKEN])
            free_run(runs, counters, run)
            counters[ALIVE] -= 1
        else:
            append_waiting(keys, runs, code, run)
        run = following


@njit(**options)  # type: ignore[untyped-decorator]
def let_go(
    keys: Table, runs: Table, taken: Table, out: Table, settings: Int64s, counters: Int64s,
    code: int, time: int, trigger: int,
) -> None:  # fmt: skip
    """Writes out the waiting matches that may go, and ends what each of them ends.

    Matches go in the order of their first event: one waits while a partial match that began earlier is open, for that
    one's match may end it.
    """
    while keys[code, WAITING_HEAD] != NONE:
        before_best, best = NONE, keys[code, WAITING_HEAD]
        if settings[STRATEGY] != NO_SKIP:
            before, run = best, runs[best, NEXT]
            while run != NONE:
                if runs[run, FIRST] < runs[best, FIRST]:
                    before_best, best = before, run
                before, run = run, runs[run, NEXT]
            if keys[code, HEAD] != NONE and runs[keys[code, HEAD], FIRST] < runs[best, FIRST]:
                return
        following = runs[best, NEXT]
        if before_best == NONE:
            keys[code, WAITING_HEAD] = following
        else:
            runs[before_best, NEXT] = following
        if following == NONE:
            keys[code, WAITING_TAIL] = before_best
        keys[code, WAITING] -= 1
        counters[ALIVE] -= 1
        first, node = runs[best, FIRST], runs[best, TAKEN]
        tell(runs, counters, out, best, time, trigger, 0, code)
        if settings[STRATEGY] != NO_SKIP:
            bound = skip_bound(taken, settings, counters, first, node)
            if counters[FAILED]:
                return
            if bound != NONE:
                end_before(keys, runs, taken, counters, code, bound)


@njit(**options)  # type: ignore[untyped-decorator]
def deadline_of(runs: Table, absences: Int64s, settings: Int64s, run: int) -> int:
    """The first time at which no further event can belong to the partial match; the largest number: there is none."""
    limit = np.iinfo(np.int64).max
    if settings[WITHIN] >= 0:
        limit = runs[run, START] + settings[WITHIN]
    if settings[MAX_GAP] >= 0 and absences[runs[run, STATE]] != runs[run, STATE]:
        limit = min(limit, runs[run, LAST] + settings[MAX_GAP])
    return int(limit)


@njit(**options)  # type: ignore[untyped-decorator]
def earliest(keys: Table, runs: Table, absences: Int64s, settings: Int64s, code: int) -> int:
    """The first deadline among a key's partial matches. Without `max_gap` it is the oldest one's."""
    limit = np.iinfo(np.int64).max
    run = keys[code, HEAD]
    while run != NONE:
        limit = min(limit, deadline_of(runs, absences, settings, run))
        if settings[MAX_GAP] < 0:
            break
        run = runs[run, NEXT]
    return int(limit)


@njit(**options)  # type: ignore[untyped-decorator]
def expire_key(
    keys: Table, runs: Table, taken: Table, out: Table, absences: Int64s, settings: Int64s, counters: Int64s,
    code: int, time: int,
) -> None:  # fmt: skip
    """Ends a key's partial matches whose deadline has come by `time`, one deadline after the other, so that what each
    lets go does not depend on when it is looked at. A pattern that ends with an absence is complete then."""
    while True:
        moment = earliest(keys, runs, absences, settings, code)
        if moment > time or keys[code, HEAD] == NONE:
            return
        run = keys[code, HEAD]
        keys[code, HEAD], keys[code, TAIL], keys[code, RUNS] = NONE, NONE, 0
        while run != NONE:
            following = runs[run, NEXT]
            if deadline_of(runs, absences, settings, run) != moment:
                append(keys, runs, code, run)
            elif absences[runs[run, STATE]] != NONE:
                if moment >= runs[run, START] + settings[WITHIN]:
                    append_waiting(keys, runs, code, run)
                else:  # no event may extend it any more: only the absence is awaited
                    runs[run, STATE] = absences[runs[run, STATE]]
                    append(keys, runs, code, run)
            elif settings[TELLS_TIMEOUTS]:
                counters[ALIVE] -= 1
                tell(runs, counters, out, run, moment, NONE, 1, code)
            else:
                counters[ALIVE] -= 1
                release(taken, counters, runs[run, TAKEN])
                free_run(runs, counters, run)
            run = following
        let_go(keys, runs, taken, out, settings, counters, code, moment, NONE)
        if counters[FAILED]:
            return


@njit(**options)  # type: ignore[untyped-decorator]
def schedule(
    keys: Table, runs: Table, heap: Table, absences: Int64s, settings: Int64s, counters: Int64s, code: int
) -> None:
    """Sees that a key is looked at when its first deadline has come."""
    due = earliest(keys, runs, absences, settings, code)
    if due == np.iinfo(np.int64).max or (keys[code, DUE] != NONE and due >= keys[code, DUE]):
        return
    if counters[QUEUED] >= len(heap):
        raise ValueError("no room for a deadline")
    keys[code, DUE] = due
    place = counters[QUEUED]
    counters[QUEUED] += 1
    while place > 0 and heap[(place - 1) // 2, 0] > due:
        heap[place, 0], heap[place, 1] = heap[(place - 1) // 2, 0], heap[(place - 1) // 2, 1]
        place = (place - 1) // 2
    heap[place, 0], heap[place, 1] = due, code


@njit(**options)  # type: ignore[untyped-decorator]
def unqueue(heap: Table, counters: Int64s) -> None:
    """Takes the first deadline off."""
    counters[QUEUED] -= 1
    size = counters[QUEUED]
    due, code = heap[size, 0], heap[size, 1]
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1, 0] < heap[child, 0]:
            child += 1
        if heap[child, 0] >= due:
            break
        heap[place, 0], heap[place, 1] = heap[child, 0], heap[child, 1]
        place = child
    heap[place, 0], heap[place, 1] = due, code


@njit(**options)  # type: ignore[untyped-decorator]
def offer(
    keys: Table, runs: Table, taken: Table, spans: Cube, moves: Table, counters: Int64s,
    code: int, run: int, time: int, kind: int, event: int,
) -> None:  # fmt: skip
    """Moves one partial match (which is in no list now) by an event."""
    state, start, first, last = runs[run, STATE], runs[run, START], runs[run, FIRST], runs[run, LAST]
    held = runs[run, TAKEN]
    dead = spans[kind, state, DEAD] != 0
    kept = False
    fresh, fresh_step = NONE, NONE
    at = spans[kind, state, AT]
    for number in range(at, at + spans[kind, state, COUNT]):
        does, step, target = moves[number, DOES], moves[number, MOVE_STEP], moves[number, TARGET]
        node, latest = held, last
        if does & TAKES:
            if step != fresh_step or fresh == NONE:
                if fresh != NONE:
                    release(taken, counters, fresh)
                fresh, fresh_step = take(taken, counters, held, step, event), step
            node, latest = fresh, time
        if does & KEEPS and not dead:
            if not does & TAKES and not kept:
                runs[run, STATE] = target
                append(keys, runs, code, run)
                kept = True
            else:
                append(keys, runs, code, new_run(runs, taken, counters, target, start, first, latest, node))
                counters[ALIVE] += 1
        if does & COMPLETES:
            append_waiting(keys, runs, code, new_run(runs, taken, counters, NONE, start, first, latest, node))
            counters[ALIVE] += 1
    if fresh != NONE:
        release(taken, counters, fresh)
    if not kept:
        counters[ALIVE] -= 1
        release(taken, counters, held)
        free_run(runs, counters, run)


@njit(**options)  # type: ignore[untyped-decorator]
def begin(
    keys: Table, runs: Table, taken: Table, spans: Cube, moves: Table, counters: Int64s,
    code: int, time: int, kind: int, event: int,
) -> None:  # fmt: skip
    """Begins partial matches with an event. Their moves stand behind those of the last state."""
    state = spans.shape[1] - 1
    at = spans[kind, state, AT]
    for number in range(at, at + spans[kind, state, COUNT]):
        node = take(taken, counters, NONE, moves[number, MOVE_STEP], event)
        if moves[number, DOES] & KEEPS:
            append(keys, runs, code, new_run(runs, taken, counters, moves[number, TARGET], time, event, time, node))
            counters[ALIVE] += 1
        if moves[number, DOES] & COMPLETES:
            append_waiting(keys, runs, code, new_run(runs, taken, counters, NONE, time, event, time, node))
            counters[ALIVE] += 1
        release(taken, counters, node)


@njit(**options)  # type: ignore[untyped-decorator]
def advance(
    codes: Int64s, times: Int64s, kinds: Int64s, ids: Int64s, row: int,
    keys: Table, runs: Table, taken: Table, heap: Table, out: Table,
    spans: Cube, moves: Table, absences: Int64s, settings: Int64s, counters: Int64s,
) -> int:  # fmt: skip
    """Takes events in time order, from `row` on; returns the row before which more room is needed, or their number."""
    if min(len(times), len(kinds), len(ids)) < len(codes):
        raise ValueError("arrays of unequal length")
    first_moves = spans.shape[1] - 1
    while row < len(codes):
        code, kind = codes[row], kinds[row]
        if code < 0 or code >= len(keys) or kind < 0 or kind >= len(spans):
            raise ValueError("a key or a kind of event out of bounds")
        head = keys[code, HEAD]
        if head == NONE and spans[kind, first_moves, COUNT] == 0:
            row += 1
            continue
        need = (keys[code, RUNS] + 1) * settings[FAN_OUT]
        found = counters[FOUND] + keys[code, RUNS] + keys[code, WAITING] + need
        if min(counters[RUNS_LEFT], counters[TAKEN_LEFT]) < need or found > len(out) or counters[QUEUED] >= len(heap):
            return int(row)
        time, event = times[row], ids[row]
        if head != NONE:
            expire_key(keys, runs, taken, out, absences, settings, counters, code, time)
            if counters[FAILED]:
                return int(row)
        run = keys[code, HEAD]
        keys[code, HEAD], keys[code, TAIL], keys[code, RUNS] = NONE, NONE, 0
        while run != NONE:
            following = runs[run, NEXT]
            offer(keys, runs, taken, spans, moves, counters, code, run, time, kind, event)
            run = following
        begin(keys, runs, taken, spans, moves, counters, code, time, kind, event)
        if keys[code, WAITING_HEAD] != NONE:
            let_go(keys, runs, taken, out, settings, counters, code, time, event)
            if counters[FAILED]:
                return int(row)
        while keys[code, RUNS] > settings[MOST]:
            drop_head(keys, runs, taken, counters, code)
            counters[DROPPED] += 1
        schedule(keys, runs, heap, absences, settings, counters, code)
        row += 1
    return int(row)


@njit(**options)  # type: ignore[untyped-decorator]
def expire(
    watermark: int,
    keys: Table, runs: Table, taken: Table, heap: Table, out: Table,
    absences: Int64s, settings: Int64s, counters: Int64s,
) -> bool:  # fmt: skip
    """Ends what ends by the passing of time; false where more room is needed first."""
    while counters[QUEUED] > 0 and heap[0, 0] <= watermark:
        due, code = heap[0, 0], heap[0, 1]
        if keys[code, DUE] != due:
            unqueue(heap, counters)
            continue
        if counters[FOUND] + keys[code, RUNS] + keys[code, WAITING] > len(out):
            return False
        unqueue(heap, counters)
        keys[code, DUE] = NONE
        expire_key(keys, runs, taken, out, absences, settings, counters, code, watermark)
        if counters[FAILED]:
            return True
        schedule(keys, runs, heap, absences, settings, counters, code)
    return True

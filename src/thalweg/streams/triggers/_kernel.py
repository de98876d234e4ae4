"""Numba kernels that put events into windows and ask the triggers, event by event. No Python object per event.

`facts` is a row per window (`_facts`), its trigger's state at the end of the row. Panes are written to `log`; the
contents are worked out afterwards, for whole columns: `cells[i]` is the cell that event i belongs to, which says of
which window it is and after how many of its panes it came.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from thalweg.streams.state._sessions import FOLLOWING, LAST, START, begin, follow, stretch, swallow
from thalweg.streams.state._slot_table import HEAD, NONE, find
from thalweg.streams.state.session_index import SessionArrays
from thalweg.streams.triggers._automaton import ARMS, MAY_FIRE, fire, merge, ready, scratch, take_event
from thalweg.streams.triggers._facts import (
    ARMED,
    CELL,
    CELL_ROUND,
    CELL_SLOT,
    EARLIEST,
    EARLY,
    END,
    END_OF_WINDOW,
    FINISHED,
    HOLD,
    INDEX,
    LATE,
    LATER,
    LOG_WIDTH,
    NO_HOLD,
    ON_TIME,
    SCRATCH,
    TURNS,
    WIDTH,
)
from thalweg.streams.triggers.program import Int64s

IGNORED = -2
"""In place of a slot: the event's window has a trigger that is finished."""

PANES, CELLS, BEGUN, MERGED, CLOCK, PANE_TIME, EACH = range(7)
"""Columns of `go`. How many panes were given, cells begun, windows begun and merged away; what the clock says; what a
pane's time is; whether triggers are asked after each event (otherwise the caller asks once for a batch)."""
GO_WIDTH = 7

_M1, _M2 = np.uint64(0xC6A4A7935BD1E995), np.uint64(0x9FB21C651E98DF25)
_R = np.uint64(32)


class Asking(NamedTuple):
    """What the kernels need to ask a trigger."""

    program: Int64s
    facts: Int64s
    marks: Int64s
    log: Int64s
    cells: Int64s
    """A row per cell that has been begun in this go."""
    go: Int64s


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def with_ends(a: Int64s, b: Int64s, ends: Int64s) -> tuple[Int64s, Int64s]:
    """The two hashes of key and window end, from those of the key: different for different ends of a key."""
    if min(len(b), len(ends)) < len(a):
        raise ValueError("columns of unequal length")
    first, second = np.empty(len(a), dtype=np.int64), np.empty(len(a), dtype=np.int64)
    for i in range(len(a)):
        end = np.uint64(ends[i])
        x = (np.uint64(a[i]) ^ (end * _M1)) * _M2
        y = (np.uint64(b[i]) + (end * _M2)) * _M1
        first[i], second[i] = np.int64(x ^ (x >> _R)), np.int64(y ^ (y >> _R))
    return first, second


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def ask(
    program: Int64s,
    facts: Int64s,
    marks: Int64s,
    log: Int64s,
    go: Int64s,
    slot: int,
    start: int,
    watermark: int,
    at_end: bool,
) -> None:
    """Asks one window's trigger; a pane goes to the log. `at_end`: because the watermark passed."""
    end = facts[slot, END]
    passed = watermark >= end
    if passed:
        facts[slot, ARMED] = 0
    if not ready(program, facts, slot, passed, go[CLOCK], marks):
        return
    done = fire(program, facts, slot, passed, marks)
    later, timing = -1, EARLY
    if passed:
        later = facts[slot, LATER]
        facts[slot, LATER] += 1
        timing = ON_TIME if at_end and later == 0 else LATE
    held = go[PANE_TIME] != END_OF_WINDOW and facts[slot, HOLD] != NO_HOLD
    entry = log[go[PANES]]
    entry[0], entry[1], entry[2], entry[3] = slot, facts[slot, TURNS], start, end
    entry[4], entry[5], entry[6], entry[7] = facts[slot, INDEX], later, timing, 1 if done else 0
    entry[8] = facts[slot, HOLD] if held else end - 1
    go[PANES] += 1
    facts[slot, INDEX] += 1
    facts[slot, HOLD] = NO_HOLD
    facts[slot, TURNS] += 1
    facts[slot, CELL] = NONE
    if done:
        facts[slot, FINISHED] = 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def to_be_asked(facts: Int64s, slot: int, watermark: int) -> bool:
    """Whether an event finds its window's end passed, for which the window is then asked before it.

    So it does not matter whether the watermark came between two batches or within one.
    """
    return bool(facts[slot, ARMED] == 1 and facts[slot, FINISHED] == 0 and watermark >= facts[slot, END])


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def take(
    program: Int64s,
    facts: Int64s,
    marks: Int64s,
    log: Int64s,
    cells: Int64s,
    go: Int64s,
    slot: int,
    start: int,
    time: int,
    watermark: int,
) -> int:
    """Takes an event into a window; returns its cell, -1 where the window's trigger is finished.

    An event behind the watermark has no say in the pane's time.
    """
    if facts[slot, FINISHED] == 1:
        return NONE
    cell: int = facts[slot, CELL]
    if cell == NONE:
        cell = go[CELLS]
        go[CELLS] += 1
        facts[slot, CELL] = cell
        cells[cell, CELL_SLOT], cells[cell, CELL_ROUND] = slot, facts[slot, TURNS]
    told = take_event(program, facts, slot, go[CLOCK], marks)
    if told & ARMS != 0:
        facts[slot, ARMED] = 1
    if time >= watermark and go[PANE_TIME] != END_OF_WINDOW:
        hold_time(facts, slot, time, go[PANE_TIME])
    if go[EACH] == 1 and (told & MAY_FIRE != 0 or watermark >= facts[slot, END]):
        ask(program, facts, marks, log, go, slot, start, watermark, False)
    return cell


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def hold_time(facts: Int64s, slot: int, time: int, pane_time: int) -> None:
    """Takes a time into the pane's."""
    held = facts[slot, HOLD]
    if held == NO_HOLD:
        facts[slot, HOLD] = time
    else:
        facts[slot, HOLD] = min(held, time) if pane_time == EARLIEST else max(held, time)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def in_windows(
    job: Asking,
    index: SessionArrays,
    a: Int64s,
    b: Int64s,
    ends: Int64s,
    times: Int64s,
    watermarks: Int64s,
    horizons: Int64s,
    slots: Int64s,
    cells: Int64s,
    created: Int64s,
) -> None:
    """Events into the windows of their keys that end at `ends`, in order of arrival, and asks the triggers.

    (a, b) are the hashes of key and end. The index holds a window as a session of one millisecond, the last before its
    end. `horizons[i]` is up to where windows are let go for event i: the watermark less the allowed lateness.
    `slots[i]` becomes -1 for an event that is late even for that. The caller fills in the starts of the panes.
    """
    shortest = min(len(a), len(b), len(times), len(watermarks), len(horizons), len(slots), len(cells), len(created))
    if min(shortest, len(job.cells)) < len(ends) or len(job.log) < 2 * len(ends):
        raise ValueError("columns of unequal length")
    table, facts, go = index.table, job.facts, job.go
    program, marks, log, of_cells = job.program, job.marks, job.log, job.cells
    for i in range(len(ends)):
        cells[i] = NONE
        if ends[i] <= horizons[i]:
            slots[i] = NONE
            continue
        place = find(table, a[i], b[i])
        slot = table[place, HEAD]
        if slot == NONE:
            slot = begin_window(job, index, place, NONE, ends[i] - 1, a[i], b[i])
            created[go[BEGUN]] = i
            go[BEGUN] += 1
        if to_be_asked(facts, slot, watermarks[i]):
            ask(program, facts, marks, log, go, slot, 0, watermarks[i], True)
        cells[i] = take(program, facts, marks, log, of_cells, go, slot, 0, times[i], watermarks[i])
        slots[i] = slot if cells[i] != NONE else IGNORED


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def at_moment(job: Asking, slots: Int64s, starts: Int64s, watermark: int, at_end: bool) -> None:
    """Asks windows: those whose end has been passed (`at_end`), or for what the clock or a batch brought."""
    if len(starts) < len(slots) or len(job.log) < len(slots):
        raise ValueError("columns of unequal length")
    program, facts, marks, log, go = job.program, job.facts, job.marks, job.log, job.go
    for i in range(len(slots)):
        slot = slots[i]
        if facts[slot, FINISHED] == 1 or (at_end and (facts[slot, ARMED] == 0 or facts[slot, END] > watermark)):
            continue
        ask(program, facts, marks, log, go, slot, starts[i], watermark, at_end)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def in_sessions(
    job: Asking,
    index: SessionArrays,
    a: Int64s,
    b: Int64s,
    times: Int64s,
    watermarks: Int64s,
    horizons: Int64s,
    first: int,
    slots: Int64s,
    cells: Int64s,
    created: Int64s,
    gone: Int64s,
) -> int:
    """Events from number `first` on into the sessions of their keys, as `_sessions.assign` does, and asks the triggers.

    `horizons[i]` is where sessions are let go for event i: the watermark less the allowed lateness. Stops before an
    event that would merge a session that has given a pane in this go; returns the event where to go on.
    """
    table, sessions, gap = index.table, index.sessions, index.gap
    program, facts, marks, log, of_cells, go = job.program, job.facts, job.marks, job.log, job.cells, job.go
    i = first
    while i < len(times):
        time, watermark = times[i], watermarks[i]
        limit = max(time, horizons[i]) - gap
        place = find(table, a[i], b[i])
        # In falling order of LAST: where one ends at or before the event or the horizon, all further ones do.
        joined, moved = 0, False
        session = table[place, HEAD]
        while session != NONE and sessions[session, LAST] > limit:
            if sessions[session, START] - time < gap:
                joined += 1
                if to_be_asked(facts, session, watermark):
                    ask(program, facts, marks, log, go, session, sessions[session, START], watermark, True)
                moved = moved or facts[session, TURNS] > 0
            session = sessions[session, FOLLOWING]
        if joined > 1 and moved:
            break
        before, found = np.int64(NONE), np.int64(NONE)
        session = table[place, HEAD]
        while session != NONE and sessions[session, LAST] > limit:
            after = sessions[session, FOLLOWING]
            if sessions[session, START] - time >= gap:
                before = session
            elif found == NONE:
                found = session
                before = session
            else:
                swallow(sessions, found, before, session)
                gone[go[MERGED]] = session
                go[MERGED] += 1
                join(program, facts, found, session, go[PANE_TIME])
            session = after
        cells[i] = NONE
        if found == NONE and time + gap <= horizons[i]:
            slots[i] = NONE
            i += 1
            continue
        if found == NONE:
            found = begin_window(job, index, place, before, time, a[i], b[i])
            created[go[BEGUN]] = i
            go[BEGUN] += 1
        else:
            grow(facts, sessions, found, time, gap)
        start = sessions[found, START]
        cells[i] = take(program, facts, marks, log, of_cells, go, found, start, time, watermark)
        slots[i] = found if cells[i] != NONE else IGNORED
        i += 1
    if go[MERGED]:
        follow(sessions, slots[first:i])
        follow(sessions, of_cells[: go[CELLS], CELL_SLOT])
    return i


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def begin_window(job: Asking, index: SessionArrays, place: int, before: int, time: int, a: int, b: int) -> np.int64:
    """A new session of the index with its facts; returns its slot."""
    new: np.int64 = begin(index, place, before, time, a, b)
    row = job.facts[new]
    row[:] = 0
    row[END], row[HOLD], row[CELL] = time + index.gap, NO_HOLD, NONE
    return new


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def grow(facts: Int64s, sessions: Int64s, slot: int, time: int, gap: int) -> None:
    """A session takes a time; where its bounds change it is another window, whose panes count from 0."""
    end = max(sessions[slot, LAST], time) + gap
    if end != facts[slot, END] or time < sessions[slot, START]:
        facts[slot, INDEX], facts[slot, LATER] = 0, 0
    stretch(sessions, slot, time)
    facts[slot, END] = end


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def join(program: Int64s, facts: Int64s, slot: int, other: int, pane_time: int) -> None:
    """A session takes in another one. Its bounds change, so its panes count from 0."""
    merge(program, facts, slot, other)
    facts[slot, INDEX], facts[slot, LATER], facts[slot, ARMED] = 0, 0, 0
    facts[slot, FINISHED] = max(facts[slot, FINISHED], facts[other, FINISHED])
    if facts[other, HOLD] != NO_HOLD:
        hold_time(facts, slot, facts[other, HOLD], pane_time)


def warm_up(program: Int64s) -> None:
    """Compiles (or loads from the cache) the kernels, so that the first event does not wait for them."""
    from thalweg.streams.state.session_index import SessionIndex

    index = SessionIndex(10)
    index.make_room(1)
    nothing = np.zeros(0, dtype=np.int64)
    facts, log = (np.zeros((4, width), dtype=np.int64) for width in (WIDTH + len(program) + SCRATCH, LOG_WIDTH))
    job = Asking(program, facts, scratch(program), log, np.zeros((4, 2), dtype=np.int64), np.zeros(GO_WIDTH, np.int64))
    with_ends(nothing, nothing, nothing)
    in_windows(job, index.arrays(), *([nothing] * 9))
    at_moment(job, nothing, nothing, 0, True)
    in_sessions(job, index.arrays(), *([nothing] * 5), 0, *([nothing] * 4))

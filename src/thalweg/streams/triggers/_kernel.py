"""Numba kernels that put events into windows and ask the triggers, event by event. No Python object per event.

`facts` is a row per window (`_facts`), its trigger's state at the end of the row. Panes are written to `log`; the
contents are worked out afterwards, for whole columns: `cells[i]` is the cell that event i belongs to, which says of
which window it is and after how many of its panes it came.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from thalweg.streams.state._sessions import FOLLOWING, LAST, START, begin, follow, stretch, swallow
from thalweg.streams.state._slot_table import HEAD, NONE, find
from thalweg.streams.state.session_index import SessionArrays
from thalweg.streams.triggers._automaton import ARMS, MAY_FIRE, fire, merge, ready, take_event
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
from thalweg.streams.triggers.program import Int64s, Program

IGNORED = -2
"""In place of a slot: the event's window has a trigger that is finished."""

PANES, CELLS, BEGUN, MERGED = range(4)
"""What `counts` counts."""

_M1, _M2 = np.uint64(0xC6A4A7935BD1E995), np.uint64(0x9FB21C651E98DF25)
_R = np.uint64(32)


class Asking(NamedTuple):
    """What the kernels need to ask a trigger."""

    program: Program
    facts: Any
    marks: Int64s
    fired: Int64s
    log: Any
    cells: Any
    """A row per cell that has been begun in this go."""
    counts: Int64s
    clock: int
    pane_time: int
    each: bool
    """Ask after each event; otherwise the caller asks once for a batch."""


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
def ask(job: Asking, slot: int, start: int, watermark: int, at_end: bool) -> None:
    """Asks one window's trigger; a pane goes to the log. `at_end`: because the watermark passed."""
    row = job.facts[slot]
    passed = watermark >= row[END]
    if passed:
        row[ARMED] = 0
    state = row[WIDTH:]
    if not ready(job.program, state, passed, job.clock, job.marks):
        return
    done = fire(job.program, state, passed, job.marks, job.fired)
    later, timing = -1, EARLY
    if passed:
        later = row[LATER]
        row[LATER] += 1
        timing = ON_TIME if at_end and later == 0 else LATE
    held = job.pane_time != END_OF_WINDOW and row[HOLD] != NO_HOLD
    entry = job.log[job.counts[PANES]]
    entry[0], entry[1], entry[2], entry[3] = slot, row[TURNS], start, row[END]
    entry[4], entry[5], entry[6], entry[7] = row[INDEX], later, timing, 1 if done else 0
    entry[8] = row[HOLD] if held else row[END] - 1
    job.counts[PANES] += 1
    row[INDEX] += 1
    row[HOLD] = NO_HOLD
    row[TURNS] += 1
    row[CELL] = NONE
    if done:
        row[FINISHED] = 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def ask_if_passed(job: Asking, slot: int, start: int, watermark: int) -> None:
    """Before an event that finds its window's end passed, the window is asked for that.

    So it does not matter whether the watermark came between two batches or within one.
    """
    row = job.facts[slot]
    if row[ARMED] == 1 and row[FINISHED] == 0 and watermark >= row[END]:
        ask(job, slot, start, watermark, True)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def take(job: Asking, slot: int, start: int, time: int, watermark: int) -> int:
    """Takes an event into a window; returns its cell, -1 where the window's trigger is finished.

    An event behind the watermark has no say in the pane's time.
    """
    row = job.facts[slot]
    if row[FINISHED] == 1:
        return NONE
    cell = row[CELL]
    if cell == NONE:
        cell = job.counts[CELLS]
        job.counts[CELLS] += 1
        row[CELL] = cell
        job.cells[cell, CELL_SLOT], job.cells[cell, CELL_ROUND] = slot, row[TURNS]
    told = take_event(job.program, row[WIDTH:], job.clock, job.marks)
    if told & ARMS != 0:
        row[ARMED] = 1
    if time >= watermark and job.pane_time != END_OF_WINDOW:
        hold_time(row, time, job.pane_time)
    if job.each and (told & MAY_FIRE != 0 or watermark >= row[END]):
        ask(job, slot, start, watermark, False)
    return cell


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def hold_time(row: Int64s, time: int, pane_time: int) -> None:
    """Takes a time into the pane's."""
    if row[HOLD] == NO_HOLD:
        row[HOLD] = time
    else:
        row[HOLD] = min(row[HOLD], time) if pane_time == EARLIEST else max(row[HOLD], time)


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
    table = index.table
    for i in range(len(ends)):
        cells[i] = NONE
        if ends[i] <= horizons[i]:
            slots[i] = NONE
            continue
        place = find(table, a[i], b[i])
        slot = table[place, HEAD]
        if slot == NONE:
            slot = begin_window(job, index, place, NONE, ends[i] - 1, a[i], b[i])
            created[job.counts[BEGUN]] = i
            job.counts[BEGUN] += 1
        ask_if_passed(job, slot, 0, watermarks[i])
        cells[i] = take(job, slot, 0, times[i], watermarks[i])
        slots[i] = slot if cells[i] != NONE else IGNORED


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def at_moment(job: Asking, slots: Int64s, starts: Int64s, watermark: int, at_end: bool) -> None:
    """Asks windows: those whose end has been passed (`at_end`), or for what the clock or a batch brought."""
    if len(starts) < len(slots) or len(job.log) < len(slots):
        raise ValueError("columns of unequal length")
    for i in range(len(slots)):
        row = job.facts[slots[i]]
        if row[FINISHED] == 1 or (at_end and (row[ARMED] == 0 or row[END] > watermark)):
            continue
        ask(job, slots[i], starts[i], watermark, at_end)


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
    table, sessions, counts = index.table, index.sessions, job.counts
    i = first
    while i < len(times):
        time, watermark = times[i], watermarks[i]
        limit = max(time, horizons[i]) - index.gap
        place = find(table, a[i], b[i])
        # In falling order of LAST: where one ends at or before the event or the horizon, all further ones do.
        joined, moved = 0, False
        session = table[place, HEAD]
        while session != NONE and sessions[session, LAST] > limit:
            if sessions[session, START] - time < index.gap:
                joined += 1
                ask_if_passed(job, session, sessions[session, START], watermark)
                moved = moved or job.facts[session][TURNS] > 0
            session = sessions[session, FOLLOWING]
        if joined > 1 and moved:
            break
        before, found = np.int64(NONE), np.int64(NONE)
        session = table[place, HEAD]
        while session != NONE and sessions[session, LAST] > limit:
            after = sessions[session, FOLLOWING]
            if sessions[session, START] - time >= index.gap:
                before = session
            elif found == NONE:
                found = session
                before = session
            else:
                swallow(sessions, found, before, session)
                gone[counts[MERGED]] = session
                counts[MERGED] += 1
                join(job, job.facts[found], job.facts[session])
            session = after
        cells[i] = NONE
        if found == NONE and time + index.gap <= horizons[i]:
            slots[i] = NONE
            i += 1
            continue
        if found == NONE:
            found = begin_window(job, index, place, before, time, a[i], b[i])
            created[counts[BEGUN]] = i
            counts[BEGUN] += 1
        else:
            grow(job.facts[found], sessions, found, time, index.gap)
        cells[i] = take(job, found, sessions[found, START], time, watermark)
        slots[i] = found if cells[i] != NONE else IGNORED
        i += 1
    if counts[MERGED]:
        follow(sessions, slots[first:i])
        follow(sessions, job.cells[: counts[CELLS], CELL_SLOT])
    return i


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def begin_window(job: Asking, index: SessionArrays, place: int, before: int, time: int, a: int, b: int) -> np.int64:
    """A new session of the index with its facts; returns its slot."""
    new = begin(index, place, before, time, a, b)
    row = job.facts[new]
    row[:] = 0
    row[END], row[HOLD], row[CELL] = time + index.gap, NO_HOLD, NONE
    return new


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def grow(row: Int64s, sessions: Int64s, slot: int, time: int, gap: int) -> None:
    """A session takes a time; where its bounds change it is another window, whose panes count from 0."""
    end = max(sessions[slot, LAST], time) + gap
    if end != row[END] or time < sessions[slot, START]:
        row[INDEX], row[LATER] = 0, 0
    stretch(sessions, slot, time)
    row[END] = end


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def join(job: Asking, row: Int64s, other: Int64s) -> None:
    """A session takes in another one. Its bounds change, so its panes count from 0."""
    merge(job.program, row[WIDTH:], other[WIDTH:])
    row[INDEX], row[LATER], row[ARMED] = 0, 0, 0
    row[FINISHED] = max(row[FINISHED], other[FINISHED])
    if other[HOLD] != NO_HOLD:
        hold_time(row, other[HOLD], job.pane_time)


def warm_up(program: Program) -> None:
    """Compiles (or loads from the cache) the kernels, so that the first event does not wait for them."""
    from thalweg.streams.state.session_index import SessionIndex

    index = SessionIndex(10)
    index.make_room(1)
    nothing = np.zeros(0, dtype=np.int64)
    parts = len(program.kind)
    facts, log = np.zeros((1, WIDTH + parts + SCRATCH), dtype=np.int64), np.zeros((4, LOG_WIDTH), dtype=np.int64)
    marks, fired = np.zeros(parts, dtype=np.int64), np.zeros(parts, dtype=np.int64)
    cells, counts = np.zeros((4, 2), dtype=np.int64), np.zeros(4, dtype=np.int64)
    job = Asking(program, facts, marks, fired, log, cells, counts, 0, 0, True)
    with_ends(nothing, nothing, nothing)
    in_windows(job, index.arrays(), *([nothing] * 9))
    at_moment(job, nothing, nothing, 0, True)
    in_sessions(job, index.arrays(), *([nothing] * 5), 0, *([nothing] * 4))

"""Numba kernels that put events into windows and ask the triggers, event by event. No Python object per event.

`facts` is a row per window (`_facts`), its trigger's state at the end of the row. Panes are written to `log`; the
contents are worked out afterwards, for whole columns: `rounds[i]` says after how many panes of its window event i came.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from thalweg.streams.state._sessions import KEYS, NONE, SERIAL, find, take_slot
from thalweg.streams.state.session_index import SessionArrays
from thalweg.streams.triggers._automaton import fire, merge, ready, take_event
from thalweg.streams.triggers._facts import (
    ARMED,
    EARLIEST,
    EARLY,
    END,
    END_OF_WINDOW,
    FINISHED,
    HOLD,
    INDEX,
    LATE,
    LATER,
    NO_HOLD,
    ON_TIME,
    WIDTH,
)
from thalweg.streams.triggers.program import Int64s, Program

IGNORED = -2
"""In place of a slot: the event's window has a trigger that is finished."""


class Asking(NamedTuple):
    """What the kernels need to ask a trigger."""

    program: Program
    facts: Any
    turns: Int64s
    """How many panes each window has given in this go."""
    marks: Int64s
    fired: Int64s
    log: Any
    clock: int
    pane_time: int
    each: bool
    """Ask after each event; otherwise the caller asks once for a batch."""


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def ask(job: Asking, slot: int, start: int, watermark: int, at_end: bool, panes: int) -> int:
    """Asks one window's trigger; returns the number of panes in the log. `at_end`: because the watermark passed."""
    row = job.facts[slot]
    passed = watermark >= row[END]
    if passed:
        row[ARMED] = 0
    state = row[WIDTH:]
    if not ready(job.program, state, passed, job.clock, job.marks):
        return panes
    done = fire(job.program, state, passed, job.marks, job.fired)
    later, timing = -1, EARLY
    if passed:
        later = row[LATER]
        row[LATER] += 1
        timing = ON_TIME if at_end and later == 0 else LATE
    held = job.pane_time != END_OF_WINDOW and row[HOLD] != NO_HOLD
    entry = job.log[panes]
    entry[0], entry[1], entry[2], entry[3] = slot, job.turns[slot], start, row[END]
    entry[4], entry[5], entry[6], entry[7] = row[INDEX], later, timing, 1 if done else 0
    entry[8] = row[HOLD] if held else row[END] - 1
    row[INDEX] += 1
    row[HOLD] = NO_HOLD
    job.turns[slot] += 1
    if done:
        row[FINISHED] = 1
    return panes + 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def add_event(job: Asking, row: Int64s, time: int, watermark: int) -> None:
    """Takes an event into a window's facts. One behind the watermark has no say in the pane's time."""
    if take_event(job.program, row[WIDTH:], job.clock, job.marks):
        row[ARMED] = 1
    if time >= watermark and job.pane_time != END_OF_WINDOW:
        hold_time(row, time, job.pane_time)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def hold_time(row: Int64s, time: int, pane_time: int) -> None:
    """Takes a time into the pane's."""
    if row[HOLD] == NO_HOLD:
        row[HOLD] = time
    else:
        row[HOLD] = min(row[HOLD], time) if pane_time == EARLIEST else max(row[HOLD], time)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def in_windows(job: Asking, slots: Int64s, times: Int64s, watermarks: Int64s, rounds: Int64s) -> int:
    """Events in windows that are known (`slots`; -1: none), in order of arrival.

    Before an event that finds its window's end passed, the window is asked for that: so it does not matter whether
    the watermark came between two batches or within one. Returns the number of panes; the caller fills in their starts.
    """
    panes = 0
    if min(len(times), len(watermarks), len(rounds)) < len(slots) or len(job.log) < 2 * len(slots):
        raise ValueError("columns of unequal length")
    for i in range(len(slots)):
        slot, watermark = slots[i], watermarks[i]
        if slot < 0:
            continue
        row = job.facts[slot]
        if row[ARMED] == 1 and row[FINISHED] == 0 and watermark >= row[END]:
            panes = ask(job, slot, np.int64(0), watermark, True, panes)
        if row[FINISHED] == 1:
            slots[i] = IGNORED
            continue
        rounds[i] = job.turns[slot]
        add_event(job, row, times[i], watermark)
        if job.each:
            panes = ask(job, slot, np.int64(0), watermark, False, panes)
    return panes


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def at_moment(job: Asking, slots: Int64s, starts: Int64s, watermark: int, at_end: bool) -> int:
    """Asks windows: those whose end has been passed (`at_end`), or for what the clock or a batch brought."""
    panes = 0
    if len(starts) < len(slots) or len(job.log) < len(slots):
        raise ValueError("columns of unequal length")
    for i in range(len(slots)):
        row = job.facts[slots[i]]
        if row[FINISHED] == 1 or (at_end and (row[ARMED] == 0 or row[END] > watermark)):
            continue
        panes = ask(job, slots[i], starts[i], watermark, at_end, panes)
    return panes


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def in_sessions(
    job: Asking,
    index: SessionArrays,
    a: Any,
    b: Any,
    times: Int64s,
    watermarks: Int64s,
    horizons: Int64s,
    begin: int,
    slots: Int64s,
    rounds: Int64s,
    created: Int64s,
    gone: Int64s,
    counts: Int64s,
) -> int:
    """Events from number `begin` on into the sessions of their keys, as `_sessions.assign` does, and asks the triggers.

    `horizons[i]` is where sessions are let go for event i: the watermark less the allowed lateness. Stops before an
    event that would merge a session that has given a pane in this go; returns the event where to go on. `counts` gets
    the numbers of sessions created, of those merged away, and of panes.
    """
    begun, merged, panes = 0, 0, 0
    start, last, following = index.start, index.last, index.following
    i = begin
    while i < len(times):
        time, watermark = times[i], watermarks[i]
        limit = max(time, horizons[i]) - index.gap
        place = find(index.first, index.second, index.head, a[i], b[i])
        # In falling order of `last`: where one ends at or before the event or the horizon, all further ones do.
        joined, moved = 0, False
        session = index.head[place]
        while session != NONE and last[session] > limit:
            if start[session] - time < index.gap:
                joined += 1
                row = job.facts[session]
                if row[ARMED] == 1 and row[FINISHED] == 0 and watermark >= row[END]:
                    panes = ask(job, session, start[session], watermark, True, panes)
                moved = moved or job.turns[session] > 0
            session = following[session]
        if joined > 1 and moved:
            break
        before, found = np.int64(NONE), np.int64(NONE)
        session = index.head[place]
        while session != NONE and last[session] > limit:
            after = following[session]
            if start[session] - time >= index.gap:
                before = session
            elif found == NONE:
                found = session
                before = session
            else:
                start[found] = min(start[found], start[session])
                following[before] = after
                index.target[session] = found
                gone[merged] = session
                merged += 1
                join(job, job.facts[found], job.facts[session])
            session = after
        if found == NONE:
            if time + index.gap <= horizons[i]:
                slots[i] = NONE
                i += 1
                continue
            found = begin_session(job, index, place, before, time, a[i], b[i])
            created[begun] = i
            begun += 1
        else:
            grow(job.facts[found], start, last, found, time, index.gap)
        row = job.facts[found]
        slots[i] = found
        if row[FINISHED] == 1:
            slots[i] = IGNORED
        else:
            rounds[i] = job.turns[found]
            add_event(job, row, time, watermark)
            if job.each:
                panes = ask(job, found, start[found], watermark, False, panes)
        i += 1
    for j in range(begin, i):
        slot = slots[j]
        while slot >= 0 and index.target[slot] != NONE:
            slot = index.target[slot]
        slots[j] = slot
    counts[0], counts[1], counts[2] = begun, merged, panes
    return i


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def begin_session(job: Asking, index: SessionArrays, place: int, before: int, time: int, a: int, b: int) -> int:
    """A new session in its key's list, after session `before`; returns its slot."""
    new: int = take_slot(index.free, index.control, len(index.start))
    row = job.facts[new]
    row[:] = 0
    row[END], row[HOLD] = time + index.gap, NO_HOLD
    job.turns[new] = 0
    index.start[new], index.last[new], index.target[new] = time, time, NONE
    index.serial[new] = index.control[SERIAL]
    index.control[SERIAL] += 1
    index.key_first[new], index.key_second[new] = a, b
    if index.head[place] == NONE:
        index.first[place], index.second[place] = a, b
        index.control[KEYS] += 1
    if before == NONE:
        index.following[new] = index.head[place]
        index.head[place] = new
    else:
        index.following[new] = index.following[before]
        index.following[before] = new
    return new


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def grow(row: Int64s, start: Int64s, last: Int64s, slot: int, time: int, gap: int) -> None:
    """A session takes a time; where its bounds change it is another window, whose panes count from 0."""
    end = max(last[slot], time) + gap
    if end != row[END] or time < start[slot]:
        row[INDEX], row[LATER] = 0, 0
    start[slot] = min(start[slot], time)
    last[slot] = max(last[slot], time)
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
    nothing, one = np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64)
    parts = len(program.kind)
    facts, log = np.zeros((1, WIDTH + parts), dtype=np.int64), np.zeros((4, 9), dtype=np.int64)
    marks, fired = np.zeros(parts, dtype=np.int64), np.zeros(parts, dtype=np.int64)
    job = Asking(program, facts, one.copy(), marks, fired, log, 0, 0, True)
    hashes = np.zeros(0, dtype=np.uint64)
    in_windows(job, nothing, nothing, nothing, nothing)
    at_moment(job, nothing, nothing, 0, True)
    in_sessions(
        *(job, index.arrays(), hashes, hashes, nothing, nothing, nothing, 0),
        *(nothing, nothing, nothing, nothing, np.zeros(3, dtype=np.int64)),
    )

"""Numba kernels of the session index. Imported on first use: `import thalweg` does not load Numba.

The index is a hash table (`_slot_table`) from a key to the head of the key's list of open sessions, in falling order of
last event. A session is a slot: a row of the array of sessions, which is one cache line. `control[NEXT]` is the next
serial number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg.streams.state._slot_table import HEAD, NONE, find, give_slots, occupy, take_slot, vacate

Int64s = npt.NDArray[np.int64]

START, LAST, FOLLOWING, TARGET, SERIAL, DUE, KEY_FIRST, KEY_SECOND = range(8)
"""Columns of a session. TARGET: what it was merged into. DUE: the serial number it has been put up for closing with."""
WIDTH = 8
NEXT = 3


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def assign(
    index: Any,
    a: Int64s,
    b: Int64s,
    times: Int64s,
    watermarks: Int64s,
    longest: int,
    slots: Int64s,
    created: Int64s,
    gone: Int64s,
) -> tuple[int, int]:
    """Puts events, in order of arrival, into the sessions of their keys. `index`: `SessionArrays`.

    `slots[i]` becomes the session of event i, or -1 where it is late; `created` the events that began a session;
    `gone` the sessions that were merged into others (`TARGET`). Returns the lengths of the last two.

    An event joins every session of its key that is open by the event's own watermark (ends after it) and whose pause
    to the event is shorter than the gap; with none it begins one, unless it is itself behind the watermark by a gap.
    Events that reach a session's `longest` begin a new one: right only for events in order of time.
    """
    begun, merged = 0, 0
    table, sessions, gap = index.table, index.sessions, index.gap
    if min(len(a), len(b), len(watermarks), len(slots), len(created)) < len(times):
        raise ValueError("columns of unequal length")
    for i in range(len(times)):
        time, watermark = times[i], watermarks[i]
        place = find(table, a[i], b[i])
        before, found = np.int64(NONE), np.int64(NONE)
        session = table[place, HEAD]
        # In falling order of LAST: where one ends at or before the event or the watermark, all further ones do.
        while session != NONE and sessions[session, LAST] + gap > max(time, watermark):
            after = sessions[session, FOLLOWING]
            if sessions[session, START] - time >= gap:
                before = session
            elif time - sessions[session, START] >= longest:
                break
            elif found == NONE:
                found = session
                before = session
                stretch(sessions, session, time)
            else:
                swallow(sessions, found, before, session)
                gone[merged] = session
                merged += 1
            session = after
        if found != NONE:
            slots[i] = found
        elif time + gap <= watermark:
            slots[i] = NONE
        else:
            slots[i] = begin(index, place, before, time, a[i], b[i])
            created[begun] = i
            begun += 1
    if merged:
        follow(sessions, slots[: len(times)])
    return begun, merged


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def begin(index: Any, place: int, before: int, time: int, a: int, b: int) -> np.int64:
    """A new session in its key's list, after session `before` (-1: at the head); returns its slot."""
    table, sessions, control = index.table, index.sessions, index.control
    new: np.int64 = take_slot(index.free, control, len(sessions))
    row = sessions[new]
    row[START], row[LAST], row[TARGET], row[DUE] = time, time, NONE, NONE
    row[KEY_FIRST], row[KEY_SECOND], row[SERIAL] = a, b, control[NEXT]
    control[NEXT] += 1
    if table[place, HEAD] == NONE:
        occupy(table, place, a, b, control)
    if before == NONE:
        row[FOLLOWING] = table[place, HEAD]
        table[place, HEAD] = new
    else:
        row[FOLLOWING] = sessions[before, FOLLOWING]
        sessions[before, FOLLOWING] = new
    return new


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def stretch(sessions: Int64s, slot: int, time: int) -> None:
    """A session takes a time."""
    sessions[slot, START] = min(sessions[slot, START], time)
    sessions[slot, LAST] = max(sessions[slot, LAST], time)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def swallow(sessions: Int64s, found: int, before: int, session: int) -> None:
    """A session takes in an earlier one of its key, which follows `before` in the list."""
    sessions[found, START] = min(sessions[found, START], sessions[session, START])
    sessions[before, FOLLOWING] = sessions[session, FOLLOWING]
    sessions[session, TARGET] = found


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def follow(sessions: Int64s, slots: Int64s) -> None:
    """From sessions that have been merged on to those that they are part of; negative numbers stay."""
    for i in range(len(slots)):
        slot = slots[i]
        while slot >= 0 and sessions[slot, TARGET] != NONE:
            slot = sessions[slot, TARGET]
        slots[i] = slot


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def insert(index: Any, slots: Int64s) -> None:
    """Links filled slots into the table, each at the head of its key: the caller sorts them by last event, rising."""
    table, sessions = index.table, index.sessions
    for slot in slots:
        row = sessions[slot]
        place = find(table, row[KEY_FIRST], row[KEY_SECOND])
        if table[place, HEAD] == NONE:
            occupy(table, place, row[KEY_FIRST], row[KEY_SECOND], index.control)
        row[FOLLOWING] = table[place, HEAD]
        table[place, HEAD] = slot


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def close(index: Any, slots: Int64s) -> None:
    """Takes sessions out of their keys' lists; a key without sessions leaves the table."""
    table, sessions = index.table, index.sessions
    for slot in slots:
        place = find(table, sessions[slot, KEY_FIRST], sessions[slot, KEY_SECOND])
        if table[place, HEAD] == slot:
            table[place, HEAD] = sessions[slot, FOLLOWING]
            if table[place, HEAD] == NONE:
                vacate(table, place, index.control)
            continue
        session = table[place, HEAD]
        while session != NONE and sessions[session, FOLLOWING] != slot:
            session = sessions[session, FOLLOWING]
        if session == NONE:
            raise ValueError("session not in its key's list")
        sessions[session, FOLLOWING] = sessions[slot, FOLLOWING]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def release(index: Any, slots: Int64s) -> None:
    """Gives slots back for reuse."""
    for slot in slots:
        index.sessions[slot, TARGET] = NONE
        index.sessions[slot, SERIAL] = NONE
    give_slots(index.free, index.control, slots)

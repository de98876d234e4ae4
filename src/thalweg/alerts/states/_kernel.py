"""The inner loop of rules that watch states, in Numba. Imported on first use: `import thalweg` does not load Numba.

A state under way is a row of `slots`; the states of one key are a list (`head`, `NEXT`, `PREVIOUS`), so a batch costs
the states that it is about, and none of the others. What an event does is worked out on a copy of the row, which is put
back when the batch's events of that key have been seen: a state that begins and ends within a batch never has a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from thalweg.alerts.states.layout import (
    ABSENT,
    ALIVE,
    AT,
    BEGAN,
    BEGUN,
    CHANGES,
    CODE,
    COUNT,
    ENDED,
    EVENT,
    FIRING,
    FREE,
    GOES_ON,
    GONE,
    GROUP,
    HOLD,
    KIND,
    LAST,
    MORE,
    NEVER,
    NEXT,
    OF_CODE,
    OF_EVENT,
    OF_RULE,
    OVER,
    PREVIOUS,
    RESOLVE,
    RESOLVED,
    ROW,
    RULE,
    SAVED,
    SINCE,
    TOLD,
    TOUCHED,
    WIDTH,
)  # fmt: skip

SEEN, NOT_HERE = -2, -2


@njit(cache=True)  # type: ignore[untyped-decorator]
def with_room(rows: Any, count: int) -> Any:
    """The rows, and room for one more."""
    if count < len(rows):
        return rows
    more = np.empty((2 * len(rows) + 16, rows.shape[1]), np.int64)
    more[: len(rows)] = rows
    return more


@njit(cache=True)  # type: ignore[untyped-decorator]
def tell(out: Any, cursor: Any, kind: int, state: Any, at: int, count: int, row: int) -> Any:
    """Writes a change."""
    number = cursor[CHANGES]
    out = with_room(out, number)
    out[number, KIND], out[number, OF_RULE], out[number, OF_CODE] = kind, state[RULE], state[CODE]
    out[number, AT], out[number, BEGAN], out[number, COUNT] = at, state[SINCE], count
    out[number, ROW], out[number, OF_EVENT] = row, state[EVENT]
    cursor[CHANGES] += 1
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]
def pass_until(state: Any, setting: Any, now: int, row: int, out: Any, cursor: Any) -> Any:
    """What has become due for a state up to `now`."""
    if setting[ABSENT] >= 0:
        due = state[LAST] + setting[ABSENT]
        if not state[FIRING] and now >= due:
            state[FIRING], state[SINCE] = 1, due
            out = tell(out, cursor, BEGUN, state, due, 0, row)
        return out
    begins = state[SINCE] + setting[HOLD]
    if not state[FIRING] and now >= begins:
        state[FIRING], state[TOLD] = 1, begins
        out = tell(out, cursor, BEGUN, state, begins, 0, row)
    if state[ENDED] != NEVER and setting[RESOLVE] >= 0 and now >= state[ENDED] + setting[RESOLVE]:
        state[ALIVE] = 0
        out = tell(out, cursor, RESOLVED, state, state[ENDED] + setting[RESOLVE], 0, row)
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]
def begin(state: Any, time: int, group: int, event: int) -> None:
    """A state begins."""
    state[ALIVE], state[GROUP], state[SINCE], state[LAST], state[EVENT] = 1, group, time, time, event
    state[TOLD], state[ENDED], state[MORE], state[FIRING] = 0, NEVER, 0, 0


@njit(cache=True)  # type: ignore[untyped-decorator]
def goes_on(state: Any, at: int, row: int, out: Any, cursor: Any) -> Any:
    """Tells the alert of the events since the last time."""
    out = tell(out, cursor, GOES_ON, state, at, state[MORE], row)
    state[MORE], state[TOLD] = 0, at
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]
def end(state: Any, setting: Any, time: int, row: int, out: Any, cursor: Any) -> Any:
    """An event that ends a state, at once or after a while."""
    # One at the very end of the hold proves that the condition has held until then.
    out = pass_until(state, setting, time, row, out, cursor)
    state[LAST] = time
    if not state[FIRING]:
        state[ALIVE] = 0
        return out
    # Time may have begun the state before an event came that is older: it does not end before it begins.
    time = max(time, state[SINCE] + setting[HOLD])
    if state[MORE]:
        out = goes_on(state, time, row, out, cursor)
    if state[ENDED] == NEVER:
        state[ENDED] = time
        if setting[RESOLVE] < 0:
            state[ALIVE] = 0
            return tell(out, cursor, OVER, state, time, 0, row)
    return pass_until(state, setting, time, row, out, cursor)


@njit(cache=True)  # type: ignore[untyped-decorator]
def hold(
    state: Any, setting: Any, time: int, group: int, event: int, every: int, row: int, out: Any, cursor: Any
) -> Any:
    """An event that meets the condition."""
    if not state[ALIVE]:
        begin(state, time, group, event)
    else:
        state[MORE] += 1
        state[ENDED], state[LAST] = NEVER, time
    out = pass_until(state, setting, time, row, out, cursor)
    if state[FIRING] and state[MORE] and time - state[TOLD] >= every:
        out = goes_on(state, time, row, out, cursor)
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]
def seen(state: Any, setting: Any, time: int, group: int, event: int, row: int, out: Any, cursor: Any) -> Any:
    """An event whose absence a rule alerts on."""
    if not state[ALIVE]:
        begin(state, time, group, event)
        return out
    out = pass_until(state, setting, time, row, out, cursor)
    if state[FIRING]:
        out = tell(out, cursor, OVER if setting[RESOLVE] < 0 else RESOLVED, state, time, 0, row)
        state[FIRING] = 0
    state[LAST], state[SINCE], state[EVENT] = time, time, event
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]
def put_back(state: Any, slot: int, head: Any, slots: Any, touched: Any, gone: Any, cursor: Any) -> Any:
    """Writes a state to its slot, to a new one, or to none any more; returns `touched` and `gone`."""
    if state[ALIVE]:
        if slot < 0:
            slot = cursor[FREE]
            cursor[FREE] = slots[slot, NEXT]
            first = head[state[CODE]]
            state[NEXT], state[PREVIOUS] = first, -1
            if first >= 0:
                slots[first, PREVIOUS] = slot
            head[state[CODE]] = slot
        slots[slot] = state
        touched = with_room(touched, cursor[TOUCHED])
        touched[cursor[TOUCHED], 0] = slot
        cursor[TOUCHED] += 1
    elif slot >= 0:
        before, after = slots[slot, PREVIOUS], slots[slot, NEXT]
        if before >= 0:
            slots[before, NEXT] = after
        else:
            head[state[CODE]] = after
        if after >= 0:
            slots[after, PREVIOUS] = before
        slots[slot, ALIVE], slots[slot, NEXT] = 0, cursor[FREE]
        cursor[FREE] = slot
        if state[SAVED]:
            gone = with_room(gone, cursor[GONE])
            number = cursor[GONE]
            gone[number, 0], gone[number, 1], gone[number, 2] = state[RULE], state[CODE], state[GROUP]
            cursor[GONE] += 1
    return touched, gone


@njit(cache=True)  # type: ignore[untyped-decorator]
def follow_key(
    state: Any, setting: Any, rows: Any, held: Any, clear: int, ends: Any, times: Any, watermarks: Any, groups: Any,
    failed: Any, first_event: int, every: int, out: Any, cursor: Any,
) -> Any:  # fmt: skip
    """The events of one key (`rows`) for one rule, whose condition holds on those in `held`."""
    absence = setting[ABSENT] >= 0
    place = 0
    for row in held if absence else rows:
        holds = absence or (place < len(held) and held[place] == row)
        if holds:
            place += 1
        elif not state[ALIVE]:
            if place == len(held):
                break
            continue
        time = times[row]
        if state[ALIVE] and time < state[LAST]:
            continue
        if absence:
            due = state[LAST] + setting[ABSENT]
            if state[ALIVE] and not state[FIRING] and time < due and watermarks[row] < due:  # as nearly always
                state[LAST], state[SINCE], state[EVENT] = time, time, first_event + row
                continue
            if state[ALIVE]:
                out = pass_until(state, setting, watermarks[row], -1, out, cursor)
            out = seen(state, setting, time, groups[row], first_event + row, row, out, cursor)
            continue
        if clear < 0:
            over = not holds and not failed[row]
        else:
            over = (ends[clear, row >> 3] >> (7 - (row & 7))) & 1 == 1 and not failed[row]
        begins = state[SINCE] + setting[HOLD]
        if state[ALIVE] and not state[FIRING] and time < begins and watermarks[row] < begins:  # it has yet to hold
            state[LAST] = time
            if holds and not over:
                state[MORE] += 1
            else:
                state[ALIVE] = 0
            continue
        if state[ALIVE]:
            out = pass_until(state, setting, watermarks[row], -1, out, cursor)
        if over:
            if state[ALIVE]:
                out = end(state, setting, time, row, out, cursor)
        elif holds:
            out = hold(state, setting, time, groups[row], first_event + row, every, row, out, cursor)
        elif state[ALIVE]:  # between the two conditions: neither begins nor ends; what had yet to hold has not
            state[LAST] = time
            if not state[FIRING]:
                state[ALIVE] = 0
    return out


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def by_code(rows: Any, starts: Any, rules: Any, codes: Any, failed: Any, count: int) -> Any:
    """Rows of rules, in the order of codes, then rules, then rows: where each code begins, the rules, the rows.

    Args:
        rows: of all rules, one after the other; those of rule number `rules[i]` from `starts[i]` to `starts[i + 1]`.
        codes: per row of the batch.
        failed: rows that are left out.
        count: of codes.
    """
    first = np.zeros(count + 1, np.int64)
    for row in rows:
        if not failed[row]:
            first[codes[row] + 1] += 1
    for code in range(count):
        first[code + 1] += first[code]
    place = first[:-1].copy()
    found_rules, found_rows = np.empty(first[count], np.int64), np.empty(first[count], np.int64)
    for number in range(len(rules)):
        for i in range(starts[number], starts[number + 1]):
            row = rows[i]
            if not failed[row]:
                to = place[codes[row]]
                found_rules[to], found_rows[to] = rules[number], row
                place[codes[row]] += 1
    return first, found_rules, found_rows


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def follow(
    begin_at: int, keys: Any, rows: Any, row_starts: Any, held_rules: Any, held: Any, held_starts: Any, settings: Any,
    clear: Any, ends: Any, times: Any, watermarks: Any, groups: Any, failed: Any, first_event: int, every: int,
    head: Any, slots: Any, free: int, mine: Any, cursor: Any, out: Any, touched: Any, gone: Any,
) -> Any:  # fmt: skip
    """Takes a batch, key by key (`keys`: their codes; -1 for one that no rule is about), from key `begin_at` on.

    Args:
        rows, row_starts: the batch's rows, by key.
        held_rules, held, held_starts: where which rule's condition holds, by key, then rule.
        clear: by rule, which row of `ends` (bitmaps) has where its state ends; -1: where its condition does not hold;
            -2: the rule does not look at these events.
        first_event: the number of the batch's first event.
        free: how many slots are free.
        mine: -1 per rule.

    Returns:
        The key at which there were too few free slots to go on (or the number of keys), how many are free, and the
        outputs.
    """
    state = np.zeros(WIDTH, np.int64)
    for number in range(begin_at, len(keys)):
        code, place, stop = keys[number], held_starts[number], held_starts[number + 1]
        if code < 0 or (place == stop and head[code] < 0):
            continue
        if stop - place > free:
            needed = 0
            for i in range(place, stop):
                needed += i == place or held_rules[i] != held_rules[i - 1]
            if needed > free:
                return number, free, out, touched, gone
        mine_rows = rows[row_starts[number] : row_starts[number + 1]]
        slot = head[code]
        while slot >= 0:
            mine[slots[slot, RULE]] = slot
            slot = slots[slot, NEXT]
        while place < stop:
            rule, after = held_rules[place], place
            while after < stop and held_rules[after] == rule:
                after += 1
            slot = mine[rule]
            if slot >= 0:
                state[:] = slots[slot]
            else:
                state[:] = 0
                state[RULE], state[CODE] = rule, code
            out = follow_key(
                state, settings[rule], mine_rows, held[place:after], clear[rule], ends, times, watermarks, groups,
                failed, first_event, every, out, cursor,
            )  # fmt: skip
            free += (1 if slot >= 0 else 0) - state[ALIVE]
            touched, gone = put_back(state, slot, head, slots, touched, gone, cursor)
            mine[rule] = SEEN
            place = after
        slot = head[code]
        while slot >= 0:
            following, rule = slots[slot, NEXT], slots[slot, RULE]
            if mine[rule] == slot:
                mine[rule] = -1
                if settings[rule, ABSENT] < 0 and clear[rule] != NOT_HERE:
                    state[:] = slots[slot]
                    out = follow_key(
                        state, settings[rule], mine_rows, held[:0], clear[rule], ends, times, watermarks, groups,
                        failed, first_event, every, out, cursor,
                    )  # fmt: skip
                    free += 1 - state[ALIVE]
                    touched, gone = put_back(state, slot, head, slots, touched, gone, cursor)
            slot = following
        for i in range(held_starts[number], stop):
            mine[held_rules[i]] = -1
    return len(keys), free, out, touched, gone


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def pass_time(
    due: Any, now: int, settings: Any, head: Any, slots: Any, free: int, cursor: Any, out: Any, touched: Any, gone: Any
) -> Any:
    """What time alone brings about in these slots up to `now`; returns how many slots are free, and the outputs."""
    for slot in due:
        if not slots[slot, ALIVE]:
            continue
        state = slots[slot].copy()
        out = pass_until(state, settings[state[RULE]], now, -1, out, cursor)
        free += 1 - state[ALIVE]
        touched, gone = put_back(state, slot, head, slots, touched, gone, cursor)
    return free, out, touched, gone


@njit(cache=True)  # type: ignore[untyped-decorator]
def put(states: Any, head: Any, slots: Any, touched: Any, gone: Any, cursor: Any) -> Any:
    """Takes states back; there are free slots for all of them."""
    for number in range(len(states)):
        touched, gone = put_back(states[number].copy(), -1, head, slots, touched, gone, cursor)
    return touched, gone


@njit(cache=True)  # type: ignore[untyped-decorator]
def drop(chosen: Any, head: Any, slots: Any, gone: Any, cursor: Any) -> Any:
    """Forgets the states in some slots."""
    touched = np.empty((0, 1), np.int64)
    for slot in chosen:
        state = slots[slot].copy()
        state[ALIVE] = 0
        touched, gone = put_back(state, slot, head, slots, touched, gone, cursor)
    return gone

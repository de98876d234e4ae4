"""The inner loop of correlation, in Numba. Imported on first use: `import thalweg` does not load Numba.

Events stand in *slots*, in order of time over all keys; `code` is their key's (-1: consumed or put out), `stream` the
number of their stream, `value` a hash of what is counted (0: nothing), `event` where they are stored, `after` the next
slot of the same key, `first` whether no earlier live event of the key has the value. `ends` has the first slot that has
not expired, and the first free one. Per key there are `head` and `tail` of its slots, `count`, how many distinct values
(`distinct`), and how many events of each stream (`per_stream`).
"""

from __future__ import annotations

from typing import Any

from numba import njit

STREAMS, EVENTS, VALUES = range(3)
"""What is counted."""

DONE, FULL = 0, 1
OLDEST, FREE = 0, 1
AT, MATCHES, SLOTS = 0, 1, 2
"""The places of `cursor`: the next event, matches so far, slots written so far."""


@njit(cache=True)  # type: ignore[untyped-decorator]
def unlink(slot: int, stream: Any, value: Any, after: Any, first: Any, code: Any,
           head: Any, tail: Any, count: Any, distinct: Any, per_stream: Any) -> None:  # fmt: skip
    """Takes the first event of a key away."""
    key = code[slot]
    head[key] = after[slot]
    if head[key] < 0:
        tail[key] = -1
    count[key] -= 1
    per_stream[key, stream[slot]] -= 1
    if first[slot]:
        other = head[key]
        while other >= 0 and value[other] != value[slot]:
            other = after[other]
        if other >= 0:
            first[other] = True
        else:
            distinct[key] -= 1
    code[slot] = -1


@njit(cache=True)  # type: ignore[untyped-decorator]
def link(slot: int, key: int, kind: int, stream: Any, value: Any, after: Any, first: Any, code: Any,
         head: Any, tail: Any, count: Any, distinct: Any, per_stream: Any) -> None:  # fmt: skip
    """Adds an event at the end of its key's."""
    code[slot], after[slot], first[slot] = key, -1, False
    if kind == VALUES and value[slot] != 0:
        other = head[key]
        while other >= 0 and value[other] != value[slot]:
            other = after[other]
        if other < 0:
            first[slot] = True
            distinct[key] += 1
    if head[key] < 0:
        head[key] = slot
    else:
        after[tail[key]] = slot
    tail[key] = slot
    count[key] += 1
    per_stream[key, stream[slot]] += 1


@njit(cache=True)  # type: ignore[untyped-decorator]
def expire(until: int, time: Any, stream: Any, value: Any, after: Any, first: Any, code: Any, ends: Any,
           head: Any, tail: Any, count: Any, distinct: Any, per_stream: Any) -> None:  # fmt: skip
    """Takes away what is not after `until`. Slots are in order of time: the first that stays ends it."""
    while ends[OLDEST] < ends[FREE] and time[ends[OLDEST]] <= until:
        if code[ends[OLDEST]] >= 0:
            unlink(ends[OLDEST], stream, value, after, first, code, head, tail, count, distinct, per_stream)
        ends[OLDEST] += 1


@njit(cache=True)  # type: ignore[untyped-decorator]
def in_order(key: int, stream: Any, after: Any, head: Any, longest: Any) -> int:
    """The most streams, in their order, that the key's events have one after the other."""
    longest[:] = 0
    best = 0
    slot = head[key]
    while slot >= 0:
        here = stream[slot]
        before = 0
        for i in range(here):
            before = max(before, longest[i])
        longest[here] = max(longest[here], before + 1)
        best = max(best, longest[here])
        slot = after[slot]
    return int(best)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def advance(
    times: Any, keys: Any, streams: Any, values: Any, events: Any, until: int,
    window: int, kind: int, ordered: bool, minimum: int, resets: bool, most: int,
    time: Any, stream: Any, value: Any, event: Any, after: Any, first: Any, code: Any, ends: Any,
    head: Any, tail: Any, count: Any, distinct: Any, per_stream: Any, evicted: Any,
    sizes: Any, slots: Any, consumed: Any, longest: Any, cursor: Any,
) -> int:  # fmt: skip
    """Takes events in order of time. A match's slots go to `slots`, its size to `sizes`.

    With `resets` a match consumes its key's events; `consumed` then has the slot of the last of them per key.
    """
    while cursor[AT] < len(keys):
        row = cursor[AT]
        key = keys[row]
        if key < 0 or key >= len(head) or streams[row] >= per_stream.shape[1] or ends[FREE] >= len(time):
            raise ValueError("an event out of bounds")
        expire(
            times[row] - window, time, stream, value, after, first, code, ends,
            head, tail, count, distinct, per_stream,
        )  # fmt: skip
        if cursor[MATCHES] >= len(sizes) or cursor[SLOTS] + count[key] + 1 > len(slots):
            return FULL
        if count[key] >= most:
            unlink(head[key], stream, value, after, first, code, head, tail, count, distinct, per_stream)
            evicted[0] += 1
        slot = ends[FREE]
        ends[FREE] += 1
        time[slot], stream[slot], value[slot], event[slot] = times[row], streams[row], values[row], events[row]
        link(slot, key, kind, stream, value, after, first, code, head, tail, count, distinct, per_stream)
        cursor[AT] += 1
        if kind == EVENTS:
            reached = count[key]
        elif kind == VALUES:
            reached = distinct[key]
        else:
            reached = 0
            for i in range(per_stream.shape[1]):
                reached += per_stream[key, i] > 0
            if ordered and reached >= minimum:
                reached = in_order(key, stream, after, head, longest)
        if reached < minimum:
            continue
        place = head[key]
        sizes[cursor[MATCHES]] = count[key]
        cursor[MATCHES] += 1
        while place >= 0:
            slots[cursor[SLOTS]] = place
            cursor[SLOTS] += 1
            following = after[place]
            if resets:
                code[place] = -1
            place = following
        if resets:
            consumed[key] = slot
            head[key], tail[key], count[key], distinct[key] = -1, -1, 0, 0
            per_stream[key, :] = 0
    expire(
        until - window, time, stream, value, after, first, code, ends, head, tail, count, distinct, per_stream
    )  # fmt: skip
    return DONE


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def hold(
    keys: Any, kind: int, most: int, stream: Any, value: Any, after: Any, first: Any, code: Any, ends: Any,
    head: Any, tail: Any, count: Any, distinct: Any, per_stream: Any,
) -> None:  # fmt: skip
    """Takes back events after a restart: those of the next slots, without looking for matches."""
    for row in range(len(keys)):
        slot, key = ends[FREE], keys[row]
        ends[FREE] += 1
        if count[key] >= most:
            unlink(head[key], stream, value, after, first, code, head, tail, count, distinct, per_stream)
        link(slot, key, kind, stream, value, after, first, code, head, tail, count, distinct, per_stream)


@njit(cache=True)  # type: ignore[untyped-decorator]
def moved(slots: Any, by: int) -> None:
    """Slot numbers after the first `by` slots were given up."""
    for i in range(len(slots)):
        if slots[i] >= 0:
            slots[i] -= by

"""Numba kernels of the session index. Imported on first use: `import thalweg` does not load Numba.

The index is a hash table (linear probing, never full) from a key's identity, two 64-bit hashes, to the head of the
key's list of open sessions, in falling order of last event. A session is a slot: a place in the slot arrays.
`control` holds the counters: slots ever used, free slots, keys, next serial number.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

USED, FREE, KEYS, SERIAL = 0, 1, 2, 3
NONE = -1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def find(first: UInt64s, second: UInt64s, head: Int64s, a: np.uint64, b: np.uint64) -> np.int64:
    """The table place of a key, or the free place where it belongs."""
    mask = np.uint64(len(head) - 1)
    place = a & mask
    while head[place] != NONE and not (first[place] == a and second[place] == b):
        place = (place + np.uint64(1)) & mask
    return np.int64(place)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def take_slot(free: Int64s, control: Int64s, room: int) -> np.int64:
    """A free slot."""
    if control[FREE] > 0:
        control[FREE] -= 1
        return np.int64(free[control[FREE]])
    if control[USED] >= room:
        raise ValueError("session slots used up")
    control[USED] += 1
    return np.int64(control[USED] - 1)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def assign(
    first: UInt64s,
    second: UInt64s,
    head: Int64s,
    key_first: UInt64s,
    key_second: UInt64s,
    start: Int64s,
    last: Int64s,
    following: Int64s,
    target: Int64s,
    serial: Int64s,
    free: Int64s,
    control: Int64s,
    a: UInt64s,
    b: UInt64s,
    times: Int64s,
    watermarks: Int64s,
    gap: int,
    longest: int,
    slots: Int64s,
    created: Int64s,
    gone: Int64s,
) -> tuple[int, int]:
    """Puts events, in order of arrival, into the sessions of their keys.

    `slots[i]` becomes the session of event i, or -1 where it is late; `created` the events that began a session;
    `gone` the sessions that were merged into others (`target`). Returns the lengths of the last two.

    An event joins every session of its key that is open by the event's own watermark (ends after it) and whose pause
    to the event is shorter than the gap; with none it begins one, unless it is itself behind the watermark by a gap.
    Events that reach a session's `longest` begin a new one: right only for events in order of time.
    """
    begun = 0
    merged = 0
    if min(len(a), len(b), len(watermarks), len(slots), len(created)) < len(times):
        raise ValueError("columns of unequal length")
    for i in range(len(times)):
        time, watermark = times[i], watermarks[i]
        place = find(first, second, head, a[i], b[i])
        before = np.int64(NONE)
        found = np.int64(NONE)
        session = head[place]
        # In falling order of `last`: where one ends at or before the event or the watermark, all further ones do.
        while session != NONE and last[session] + gap > max(time, watermark):
            after = following[session]
            if start[session] - time >= gap:
                before = session
            elif time - start[session] >= longest:
                break
            elif found == NONE:
                found = session
                before = session
                start[session] = min(start[session], time)
                last[session] = max(last[session], time)
            else:
                start[found] = min(start[found], start[session])
                following[before] = after
                target[session] = found
                gone[merged] = session
                merged += 1
            session = after
        if found != NONE:
            slots[i] = found
        elif time + gap <= watermark:
            slots[i] = NONE
        else:
            new = take_slot(free, control, len(start))
            start[new] = time
            last[new] = time
            target[new] = NONE
            serial[new] = control[SERIAL]
            control[SERIAL] += 1
            key_first[new] = a[i]
            key_second[new] = b[i]
            if head[place] == NONE:
                first[place] = a[i]
                second[place] = b[i]
                control[KEYS] += 1
            if before == NONE:
                following[new] = head[place]
                head[place] = new
            else:
                following[new] = following[before]
                following[before] = new
            slots[i] = new
            created[begun] = i
            begun += 1
    for i in range(len(times)):
        slot = slots[i]
        while slot != NONE and target[slot] != NONE:
            slot = target[slot]
        slots[i] = slot
    return begun, merged


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def insert(
    first: UInt64s,
    second: UInt64s,
    head: Int64s,
    key_first: UInt64s,
    key_second: UInt64s,
    following: Int64s,
    control: Int64s,
    slots: Int64s,
) -> None:
    """Links filled slots into the table, each at the head of its key: the caller sorts them by last event, rising."""
    for slot in slots:
        a, b = key_first[slot], key_second[slot]
        place = find(first, second, head, a, b)
        if head[place] == NONE:
            first[place] = a
            second[place] = b
            control[KEYS] += 1
        following[slot] = head[place]
        head[place] = slot


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def close(
    first: UInt64s,
    second: UInt64s,
    head: Int64s,
    key_first: UInt64s,
    key_second: UInt64s,
    following: Int64s,
    control: Int64s,
    slots: Int64s,
) -> None:
    """Takes sessions out of their keys' lists; a key without sessions leaves the table."""
    mask = np.uint64(len(head) - 1)
    for slot in slots:
        place = np.uint64(find(first, second, head, key_first[slot], key_second[slot]))
        if head[place] == slot:
            head[place] = following[slot]
        else:
            session = head[place]
            while session != NONE and following[session] != slot:
                session = following[session]
            if session == NONE:
                raise ValueError("session not in its key's list")
            following[session] = following[slot]
        if head[place] != NONE:
            continue
        control[KEYS] -= 1
        # Backward shift: what had to probe past this place moves up, so that no tombstones pile up.
        hole = place
        other = (hole + np.uint64(1)) & mask
        while head[other] != NONE:
            home = first[other] & mask
            if ((other - home) & mask) >= ((other - hole) & mask):
                first[hole] = first[other]
                second[hole] = second[other]
                head[hole] = head[other]
                head[other] = NONE
                hole = other
            other = (other + np.uint64(1)) & mask


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def release(target: Int64s, serial: Int64s, free: Int64s, control: Int64s, slots: Int64s) -> None:
    """Gives slots back for reuse."""
    for slot in slots:
        target[slot] = NONE
        serial[slot] = NONE
        free[control[FREE]] = slot
        control[FREE] += 1


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def rehash(
    first: UInt64s,
    second: UInt64s,
    head: Int64s,
    new_first: UInt64s,
    new_second: UInt64s,
    new_head: Int64s,
) -> None:
    """Moves all keys to a larger table."""
    for place in range(len(head)):
        if head[place] != NONE:
            new = find(new_first, new_second, new_head, first[place], second[place])
            new_first[new] = first[place]
            new_second[new] = second[place]
            new_head[new] = head[place]

"""Open sessions by key: a hash index over typed arrays. No batch and no close costs a scan of the state."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from thalweg.streams.state.slot_table import Distinct, SlotTable, enough, records, roomier

Int64s = npt.NDArray[np.int64]

NO_LIMIT = 2**62
_START, _LAST, _TARGET, _SERIAL, _DUE, _KEY_FIRST, _KEY_SECOND = 0, 1, 3, 4, 5, 6, 7
"""Columns of a session, as `_sessions` has them: that module brings Numba."""
_WIDTH = 8
_USED, _FREE, _KEYS, _NEXT = range(4)


@dataclass(frozen=True, slots=True)
class Assignment:
    """What became of a batch's events."""

    slots: Int64s
    """The session of each event after all merging; -1: late."""
    created: Int64s
    """The events that began a session."""
    gone: Int64s
    """Sessions that were merged into others, `into[i]` for `gone[i]`. They stay readable until `release`."""
    into: Int64s


class SessionArrays(NamedTuple):
    """The index as kernels take it: see `_sessions`."""

    table: Int64s
    sessions: Int64s
    free: Int64s
    control: Int64s
    gap: int


class SessionIndex:
    """Slots of open sessions, found by key and, for closing, by time.

    A key is known by two hashes (`slot_table.identities`). Cost per event: one probe, and a step for each session of
    the key that lies after the event.
    Closing follows buckets of time, an eighth of a gap wide (100 ms at least): a session is looked at when its bucket
    is due, and moved on where it has grown since.
    """

    def __init__(self, gap: int, longest: int | None = None) -> None:
        self.gap = gap
        self.longest = NO_LIMIT if longest is None else longest
        self._bucket_width = max(gap // 8, 100)
        self._buckets: dict[int, list[npt.NDArray[np.int32]]] = {}
        self._distinct = Distinct()
        self._order: list[int] = []
        self._table = SlotTable()
        self._sessions = records(0, _WIDTH)
        self._free = np.zeros(0, dtype=np.int64)
        self._control = np.zeros(4, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._control[_USED] - self._control[_FREE])

    @property
    def capacity(self) -> int:
        """How many slots there is room for."""
        return len(self._sessions)

    @property
    def start(self) -> Int64s:
        """The first event of every slot's session, ms UTC."""
        return self._sessions[:, _START]

    @property
    def last(self) -> Int64s:
        """The last event of every slot's session, ms UTC."""
        return self._sessions[:, _LAST]

    @property
    def serial(self) -> Int64s:
        """The serial number of every slot's session; -1: the slot is free."""
        return self._sessions[:, _SERIAL]

    def memory(self) -> int:
        """Bytes of its arrays; what is scheduled to close is not counted."""
        return int(self._sessions.nbytes + self._free.nbytes) + self._table.bytes

    def ends(self, slots: Int64s) -> Int64s:
        """When these sessions end, ms UTC."""
        ends: Int64s = self.last[slots] + self.gap
        if self.longest == NO_LIMIT:
            return ends
        capped: Int64s = np.minimum(ends, self.start[slots] + self.longest)
        return capped

    def assign(self, keys: tuple[Int64s, Int64s], times: Int64s, watermarks: Int64s) -> Assignment:
        """Puts events, in order of arrival, into sessions: see `_sessions.assign` for the rule.

        Args:
            keys: what `identities` gives.
        """
        self.make_room(len(times))
        slots, created = np.empty(len(times), dtype=np.int64), np.empty(len(times), dtype=np.int64)
        gone = np.empty(self.used + len(times), dtype=np.int64)
        begun, merged = _kernels().assign(self.arrays(), *keys, times, watermarks, self.longest, slots, created, gone)
        created, gone = created[:begun].copy(), gone[:merged].copy()
        self.schedule_new(slots[created])
        return Assignment(slots, created, gone, self.merged_into(gone))

    def arrays(self) -> SessionArrays:
        """For a kernel that puts events into sessions itself; `make_room` before, `schedule_new` after it."""
        return SessionArrays(self._table.rows, self._sessions, self._free, self._control, self.gap)

    @property
    def used(self) -> int:
        """How many slots have ever been used."""
        return int(self._control[_USED])

    def merged_into(self, gone: Int64s) -> Int64s:
        """The session that each of these, which were merged away, is part of now."""
        target = self._sessions[:, _TARGET]
        into: Int64s = target[gone]
        while len(into) and (target[into] >= 0).any():
            into = np.where(target[into] >= 0, target[into], into)
        return into

    def schedule_new(self, slots: Int64s) -> None:
        """Sees to it that sessions that have begun come up in `due`; negative numbers are passed over.

        Args:
            slots: where the events went that began a session; sessions that took in others were put up before.
        """
        slots = slots[slots >= 0]
        self._schedule(np.unique(slots[self._sessions[slots, _DUE] != self.serial[slots]]))

    def _schedule(self, slots: Int64s) -> None:
        if not len(slots):
            return
        self._sessions[slots, _DUE] = self.serial[slots]
        buckets = self.ends(slots) // self._bucket_width
        order = np.argsort(buckets, kind="stable")
        cuts = np.flatnonzero(np.diff(buckets[order])) + 1
        for part in np.split(order, cuts):
            bucket = int(buckets[part[0]])
            if bucket not in self._buckets:
                self._buckets[bucket] = []
                heappush(self._order, bucket)
            self._buckets[bucket].append(slots[part].astype(np.int32))

    def due(self, watermark: int) -> Int64s:
        """The sessions that end at or before the watermark; they stay open until `close`."""
        entries: list[npt.NDArray[np.int32]] = []
        while self._order and self._order[0] * self._bucket_width <= watermark:
            entries += self._buckets.pop(heappop(self._order))
        if not entries:
            return np.zeros(0, dtype=np.int64)
        # Where a session was merged away, its slot's entry stays: whoever has the slot then is looked at once more.
        slots = self.alive(self._distinct.of(np.concatenate(entries).astype(np.int64)))
        over = self.ends(slots) <= watermark
        self._schedule(slots[~over])
        ended: Int64s = slots[over]
        return ended

    def alive(self, slots: Int64s | None = None) -> Int64s:
        """Those of the slots that are open sessions; None: of all."""
        if slots is None:
            slots = np.arange(self.used, dtype=np.int64)
        found: Int64s = slots[(self.serial[slots] >= 0) & (self._sessions[slots, _TARGET] < 0)]
        return found

    def close(self, slots: Int64s) -> None:
        """Takes sessions out of the index; the slots stay readable until `release`."""
        _kernels().close(self.arrays(), np.ascontiguousarray(slots))

    def release(self, slots: Int64s) -> None:
        """Gives closed or merged slots back for reuse."""
        _kernels().release(self.arrays(), np.ascontiguousarray(slots))

    def restore(self, keys: tuple[Int64s, Int64s], start: Int64s, last: Int64s, serial: Int64s) -> Int64s:
        """Adds open sessions as they were saved; returns their slots. Called before the first event."""
        self.make_room(len(start))
        slots = np.arange(self.used, self.used + len(start), dtype=np.int64)
        rows = self._sessions[slots[0] : slots[0] + len(start)] if len(slots) else self._sessions[:0]
        rows[:, _KEY_FIRST], rows[:, _KEY_SECOND] = keys
        rows[:, _START], rows[:, _LAST], rows[:, _SERIAL] = start, last, serial
        rows[:, _TARGET] = -1
        self._control[_USED] += len(start)
        self._control[_NEXT] = max(int(self._control[_NEXT]), int(serial.max(initial=-1)) + 1)
        _kernels().insert(self.arrays(), slots[np.argsort(last, kind="stable")])
        self._schedule(slots)
        return slots

    def make_room(self, events: int) -> None:
        """Room for as many new sessions and keys as there are events."""
        needed = len(self) + events
        if needed > self.capacity:
            room = enough(needed, self.capacity)
            sessions = records(room, _WIDTH)
            sessions[: self.used] = self._sessions[: self.used]
            self._sessions, self._free = sessions, roomier(self._free, room)
        self._table.make_room(int(self._control[_KEYS]) + events)


def warm_up() -> None:
    """Compiles (or loads from the cache) the kernels, so that the first session doesn't wait for it."""
    index = SessionIndex(10)
    nobody = np.zeros(2000, dtype=np.int64)
    times = np.arange(2000, dtype=np.int64) * 20
    given = index.assign((nobody, nobody), times, times - 5)
    index.close(given.slots)
    index.release(given.slots)
    one = nobody[:1]
    SessionIndex(10).restore((one, one), one, one, one)


def _kernels() -> Any:
    from thalweg.streams.state import _sessions

    return _sessions

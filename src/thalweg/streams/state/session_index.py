"""Open sessions by key: a hash index over typed arrays. No batch and no close costs a scan of the state."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

NO_LIMIT = 2**62
_SLOT_ARRAYS = ("start", "last", "serial", "_following", "_target", "_free", "_due_serial", "_key_first", "_key_second")


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

    first: Any
    second: Any
    head: Int64s
    key_first: Any
    key_second: Any
    start: Int64s
    last: Int64s
    following: Int64s
    target: Int64s
    serial: Int64s
    free: Int64s
    control: Int64s
    gap: int


class SessionIndex:
    """Slots of open sessions, found by key and, for closing, by time.

    A key is known by two 64-bit hashes of different seeds (in memory only): two of a billion keys coincide with a
    probability of 1e-21. Cost per event: one probe, and a step for each session of the key that lies after the event.
    Closing follows buckets of time, an eighth of a gap wide (100 ms at least): a session is looked at when its bucket
    is due, and moved on where it has grown since.
    """

    def __init__(self, gap: int, longest: int | None = None) -> None:
        self.gap = gap
        self.longest = NO_LIMIT if longest is None else longest
        self._bucket_width = max(gap // 8, 100)
        self._buckets: dict[int, list[tuple[Int64s, Int64s]]] = {}
        self._order: list[int] = []
        self._table(1024)
        nothing = np.zeros(0, dtype=np.int64)
        self.start = self.last = self.serial = nothing
        self._following = self._target = self._free = self._due_serial = nothing
        self._key_first = self._key_second = np.zeros(0, dtype=np.uint64)
        self._control = np.zeros(4, dtype=np.int64)

    def _table(self, size: int) -> None:
        self._first, self._second = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint64)
        self._head = np.full(size, -1, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._control[0] - self._control[1])

    @property
    def capacity(self) -> int:
        """How many slots there is room for."""
        return len(self.start)

    def memory(self) -> int:
        """Bytes of its arrays; what is scheduled to close is not counted."""
        arrays = [getattr(self, name) for name in _SLOT_ARRAYS] + [self._first, self._second, self._head]
        return sum(int(array.nbytes) for array in arrays)

    def ends(self, slots: Int64s) -> Int64s:
        """When these sessions end, ms UTC."""
        ends: Int64s = self.last[slots] + self.gap
        if self.longest == NO_LIMIT:
            return ends
        capped: Int64s = np.minimum(ends, self.start[slots] + self.longest)
        return capped

    def assign(self, keys: pl.DataFrame, times: Int64s, watermarks: Int64s) -> Assignment:
        """Puts events, in order of arrival, into sessions: see `_sessions.assign` for the rule."""
        self.make_room(len(times))
        slots, created = np.empty(len(times), dtype=np.int64), np.empty(len(times), dtype=np.int64)
        gone = np.empty(int(self._control[0]) + len(times), dtype=np.int64)
        first, second = identities(keys, len(times))
        begun, merged = _kernels().assign(
            *(self._first, self._second, self._head, self._key_first, self._key_second),
            *(self.start, self.last, self._following, self._target, self.serial, self._free, self._control),
            *(first, second, times, watermarks, self.gap, self.longest, slots, created, gone),
        )
        gone = gone[:merged].copy()
        self.schedule_new(slots)
        return Assignment(slots, created[:begun].copy(), gone, self.merged_into(gone))

    def arrays(self) -> SessionArrays:
        """For a kernel that puts events into sessions itself; `make_room` before, `schedule_new` after it."""
        return SessionArrays(
            *(self._first, self._second, self._head, self._key_first, self._key_second, self.start, self.last),
            *(self._following, self._target, self.serial, self._free, self._control, self.gap),
        )

    @property
    def used(self) -> int:
        """How many slots have ever been used."""
        return int(self._control[0])

    def merged_into(self, gone: Int64s) -> Int64s:
        """The session that each of these, which were merged away, is part of now."""
        into: Int64s = self._target[gone]
        while len(into) and (self._target[into] >= 0).any():
            into = np.where(self._target[into] >= 0, self._target[into], into)
        return into

    def schedule_new(self, slots: Int64s) -> None:
        """Sees to it that these sessions (negative numbers: none) come up in `due`."""
        slots = slots[slots >= 0]
        self._schedule(np.unique(slots[self._due_serial[slots] != self.serial[slots]]))

    def _schedule(self, slots: Int64s) -> None:
        if not len(slots):
            return
        self._due_serial[slots] = self.serial[slots]
        buckets = self.ends(slots) // self._bucket_width
        order = np.argsort(buckets, kind="stable")
        cuts = np.flatnonzero(np.diff(buckets[order])) + 1
        for part in np.split(order, cuts):
            entry = (slots[part], self.serial[slots[part]])
            bucket = int(buckets[part[0]])
            if bucket not in self._buckets:
                self._buckets[bucket] = []
                heappush(self._order, bucket)
            self._buckets[bucket].append(entry)

    def due(self, watermark: int) -> Int64s:
        """The sessions that end at or before the watermark; they stay open until `close`."""
        entries = []
        while self._order and self._order[0] * self._bucket_width <= watermark:
            entries += self._buckets.pop(heappop(self._order))
        if not entries:
            return np.zeros(0, dtype=np.int64)
        slots, serials = np.concatenate([e[0] for e in entries]), np.concatenate([e[1] for e in entries])
        slots = slots[(self.serial[slots] == serials) & (self._target[slots] < 0)]
        over = self.ends(slots) <= watermark
        self._schedule(slots[~over])
        ended: Int64s = slots[over]
        return ended

    def alive(self, slots: Int64s | None = None) -> Int64s:
        """Those of the slots that are open sessions; None: of all."""
        if slots is None:
            slots = np.arange(self._control[0], dtype=np.int64)
        found: Int64s = slots[(self.serial[slots] >= 0) & (self._target[slots] < 0)]
        return found

    def close(self, slots: Int64s) -> None:
        """Takes sessions out of the index; the slots stay readable until `release`."""
        _kernels().close(
            *(self._first, self._second, self._head, self._key_first, self._key_second),
            *(self._following, self._control, np.ascontiguousarray(slots)),
        )

    def release(self, slots: Int64s) -> None:
        """Gives closed or merged slots back for reuse."""
        _kernels().release(self._target, self.serial, self._free, self._control, np.ascontiguousarray(slots))

    def restore(self, keys: pl.DataFrame, start: Int64s, last: Int64s, serial: Int64s) -> Int64s:
        """Adds open sessions as they were saved; returns their slots. Called before the first event."""
        self.make_room(len(start))
        used = int(self._control[0])
        slots = np.arange(used, used + len(start), dtype=np.int64)
        self._key_first[slots], self._key_second[slots] = identities(keys, len(start))
        self.start[slots], self.last[slots], self.serial[slots] = start, last, serial
        self._target[slots] = -1
        self._control[0] += len(start)
        self._control[3] = max(int(self._control[3]), int(serial.max(initial=-1)) + 1)
        _kernels().insert(
            *(self._first, self._second, self._head, self._key_first, self._key_second),
            *(self._following, self._control, slots[np.argsort(last, kind="stable")]),
        )
        self._schedule(slots)
        return slots

    def make_room(self, events: int) -> None:
        """Room for as many new sessions and keys as there are events."""
        needed = int(self._control[0] - self._control[1]) + events
        if needed > self.capacity:
            room = max(needed, 2 * self.capacity, 1024)
            for name in _SLOT_ARRAYS:
                setattr(self, name, grown(getattr(self, name), room))
        size = len(self._head)
        if 2 * (int(self._control[2]) + events) > size:
            old = self._first, self._second, self._head
            while 2 * (int(self._control[2]) + events) > size:
                size *= 2
            self._table(size)
            _kernels().rehash(*old, self._first, self._second, self._head)


def identities(keys: pl.DataFrame, rows: int) -> tuple[UInt64s, UInt64s]:
    """Two independent 64-bit hashes of each row; in memory only (Polars' hash is not stable between versions)."""
    if not keys.width:
        nothing = np.zeros(rows, dtype=np.uint64)
        return nothing, nothing
    first, second = keys.hash_rows(seed=0x5BD1E995).to_numpy(), keys.hash_rows(seed=0x9E3779B9).to_numpy()
    return np.ascontiguousarray(first), np.ascontiguousarray(second)


def warm_up() -> None:
    """Compiles (or loads from the cache) the kernels, so that the first session doesn't wait for it."""
    index = SessionIndex(10)
    keys = pl.DataFrame({"k": ["a"] * 2000})
    times = np.arange(2000, dtype=np.int64) * 20
    given = index.assign(keys, times, times - 5)
    index.close(given.slots)
    index.release(given.slots)
    SessionIndex(10).restore(keys.head(1), times[:1], times[:1], np.array([7]))


def grown(array: npt.NDArray[Any], room: int) -> npt.NDArray[Any]:
    """The array with room for more, filled with -1 (all bits set)."""
    larger = np.full(room, -1, dtype=np.int64).view(array.dtype)
    larger[: len(array)] = array
    return larger


def _kernels() -> Any:
    from thalweg.streams.state import _sessions

    return _sessions

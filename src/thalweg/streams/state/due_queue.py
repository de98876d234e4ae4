"""Slots by the time at which something is due for them: in buckets of time, so that no watermark costs a scan."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

NEVER = 2**62


class DueQueue:
    """One time per slot. Setting it costs an entry; a slot is looked at when its bucket is due.

    Args:
        width: of a bucket, ms.
    """

    def __init__(self, width: int = 256) -> None:
        self._width = width
        self._buckets: dict[int, list[npt.NDArray[np.int32]]] = {}
        """Slots, in four bytes each: when they are due stands in `at`, also where that has changed since."""
        self._order: list[int] = []
        self.at = np.zeros(0, dtype=np.int64)
        """When each slot is due, ms; `NEVER` where nothing is."""

    def reserve(self, capacity: int) -> None:
        """Makes room for slots below `capacity`."""
        if capacity > len(self.at):
            self.at = np.append(self.at, np.full(capacity - len(self.at), NEVER, dtype=np.int64))

    def set(self, slots: Int64s, times: Int64s) -> None:
        """Sets the times of these slots; `NEVER` takes them out."""
        changed = self.at[slots] != times
        slots, times = slots[changed], times[changed]
        self.at[slots] = times
        self._add(slots[times != NEVER], times[times != NEVER])

    def lower(self, slots: Int64s, times: Int64s) -> None:
        """Sets the times of those slots that would be due later, or never."""
        sooner = times < self.at[slots]
        self.set(slots[sooner], times[sooner])

    def _add(self, slots: Int64s, times: Int64s) -> None:
        if not len(slots):
            return
        buckets = times // self._width
        order = np.argsort(buckets, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(buckets[order])) + 1):
            bucket = int(buckets[part[0]])
            if bucket not in self._buckets:
                self._buckets[bucket] = []
                heappush(self._order, bucket)
            self._buckets[bucket].append(slots[part].astype(np.int32))

    def due(self, now: int) -> Int64s:
        """The slots whose time has come, each once; they are no longer in the queue."""
        entries: list[npt.NDArray[np.int32]] = []
        end = 0
        while self._order and self._order[0] * self._width <= now:
            bucket = heappop(self._order)
            entries += self._buckets.pop(bucket)
            end = (bucket + 1) * self._width
        if not entries:
            return np.zeros(0, dtype=np.int64)
        slots = np.unique(np.concatenate(entries)).astype(np.int64)
        slots = slots[self.at[slots] < end]  # others have been put off, and stand in the bucket of that time as well
        over = self.at[slots] <= now
        self._add(slots[~over], self.at[slots[~over]])
        ended: Int64s = slots[over]
        self.at[ended] = NEVER
        return ended

"""What comes due with time: entries in buckets of time, so that no watermark costs a scan."""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


class TimeBuckets:
    """Slots (with a serial number that tells whether they were used again since) by the time at which they are due.

    Args:
        width: of a bucket, ms: an entry is looked at once its bucket has begun.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._buckets: dict[int, list[tuple[Int64s, Int64s, Int64s]]] = {}
        self._order: list[int] = []

    def add(self, slots: Int64s, serials: Int64s, times: Int64s) -> None:
        """Notes when slots are due."""
        if not len(slots):
            return
        numbers = times // self._width
        order = np.argsort(numbers, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            number = int(numbers[part[0]])
            if number not in self._buckets:
                self._buckets[number] = []
                heappush(self._order, number)
            self._buckets[number].append((slots[part], serials[part], times[part]))

    def due(self, until: int, serial: Int64s) -> Int64s:
        """Takes out the slots whose time is at most `until`, in order of time; those that were used again are left out.

        Args:
            serial: the serial number of every slot now.
        """
        entries = []
        while self._order and self._order[0] * self._width <= until:
            entries += self._buckets.pop(heappop(self._order))
        if not entries:
            return np.zeros(0, dtype=np.int64)
        slots, serials, times = (np.concatenate(column) for column in zip(*entries, strict=True))
        current = serial[slots] == serials
        slots, serials, times = slots[current], serials[current], times[current]
        over = times <= until
        self.add(slots[~over], serials[~over], times[~over])
        slots, serials, times = slots[over], serials[over], times[over]
        ended: Int64s = slots[np.lexsort((serials, times))]
        return ended

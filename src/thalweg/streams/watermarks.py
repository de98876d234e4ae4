"""Watermarks: per partition, per row; their minimum, and what idleness may exclude from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from thalweg.durations import Duration, milliseconds
from thalweg.records import Int32s, Int64s
from thalweg.streams.batch import MIN_TIME


@dataclass(frozen=True, init=False)
class WatermarkGenerator:
    """Says how far out of order the events of one partition may come.

    The watermark of a partition is its largest timestamp so far minus `max_out_of_orderness`; an event whose window has
    ended by that watermark is late.

    Args:
        max_out_of_orderness: a duration; ms where it is an int.

    >>> WatermarkGenerator("5s").max_out_of_orderness
    5000
    """

    max_out_of_orderness: int

    def __init__(self, max_out_of_orderness: Duration = 0) -> None:
        object.__setattr__(
            self, "max_out_of_orderness", milliseconds(max_out_of_orderness, name="max_out_of_orderness")
        )


@cache
def _kernel() -> Any:
    from numba import njit

    @njit("void(int64[::1], int32[::1], int64[::1], int64, int64, int64[::1])", nogil=True, cache=True)  # type: ignore[untyped-decorator]
    def running_watermarks(
        timestamps: Int64s, partitions: Int32s, largest: Int64s, lateness: int, nothing: int, out: Int64s
    ) -> None:
        """Writes each row's watermark to `out` and leaves each partition's largest timestamp in `largest`."""
        for row in range(len(timestamps)):
            partition = partitions[row]
            if partition < 0 or partition >= len(largest):
                raise IndexError("a row of a partition that the source does not own")
            before = largest[partition]
            out[row] = nothing if before == nothing else before - lateness
            if timestamps[row] > before:
                largest[partition] = timestamps[row]

    return running_watermarks


def warm_up() -> None:
    """Compiles (or loads) the kernel, so that the first event does not wait for it."""
    _kernel()


class PartitionWatermarks:
    """The watermarks of one source: one per partition, and their minimum.

    The only state is the largest timestamp of each partition (`largest`); it is what a commit keeps. Idleness excludes
    a partition from the minimum only while the broker says that it is read to its end *and* nothing has come from it
    for `idle_timeout`. A partition that was excluded comes back at the source's watermark, so that none of its rows can
    count as in time for a window that has closed without it.
    """

    def __init__(
        self,
        partitions: Iterable[int],
        out_of_orderness: int,
        *,
        idle_timeout: int | None = None,
        close_idle_after: int | None = None,
        clock: int = 0,
    ) -> None:
        self.partitions = sorted(partitions)
        self.out_of_orderness = out_of_orderness
        self.idle_timeout = idle_timeout
        self.close_idle_after = close_idle_after
        size = (self.partitions[-1] + 1) if self.partitions else 0
        self.largest: Int64s = np.full(size, MIN_TIME, dtype=np.int64)
        self.event_time = MIN_TIME
        self.idle: frozenset[int] = frozenset()
        self.closed_by_clock = False
        self._heard = dict.fromkeys(self.partitions, clock)

    def restore(self, largest: Mapping[int, int]) -> None:
        """Goes on from the largest timestamps that the last commit named."""
        for partition, timestamp in largest.items():
            self.largest[partition] = timestamp

    def assign(self, timestamps: Int64s, partitions: Int32s, clock: int) -> Int64s:
        """Gives each row the watermark of its own partition just before it, and takes the rows into account."""
        out = np.empty(len(timestamps), dtype=np.int64)
        _kernel()(timestamps, partitions, self.largest, self.out_of_orderness, MIN_TIME, out)
        self.heard(np.unique(partitions).tolist(), clock)
        return out

    def heard(self, partitions: Iterable[int], clock: int) -> None:
        """Notes that rows came from these partitions."""
        for partition in partitions:
            self._heard[partition] = clock
        self.idle -= frozenset(partitions)
        self.closed_by_clock = False

    def advance(self, clock: int, caught_up: frozenset[int]) -> None:
        """Brings the source's watermark up to date: idleness by `caught_up` and the clock, then the minimum.

        Args:
            clock: the job's clock, ms UTC.
            caught_up: the partitions that are read to their end, by the broker's evidence.
        """
        if self.idle_timeout is not None:
            self.idle = frozenset(
                p for p in self.partitions if p in caught_up and clock - self._heard[p] >= self.idle_timeout
            )
        active = [p for p in self.partitions if p not in self.idle]
        if active:
            least = min(int(self.largest[p]) for p in active)
            self._raise_to(least - self.out_of_orderness if least != MIN_TIME else MIN_TIME)
        self._close_by_clock(clock, caught_up)
        if self.idle:
            self.lift(self.event_time, self.idle)

    def _close_by_clock(self, clock: int, caught_up: frozenset[int]) -> None:
        """The opt-in close of a quiet stream: event time goes on with the clock, from the largest timestamp seen."""
        if self.close_idle_after is None or not self.partitions or not caught_up.issuperset(self.partitions):
            return
        quiet = clock - max(self._heard.values())
        newest = int(self.largest.max())
        if quiet < self.close_idle_after or newest == MIN_TIME:
            return
        if not self.closed_by_clock:
            self.closed_by_clock, self._newest = True, newest
        self.lift(self._newest + quiet - self.out_of_orderness, self.partitions)
        self._raise_to(self._newest + quiet - self.out_of_orderness)

    def lift(self, event_time: int, partitions: Iterable[int] | None = None) -> None:
        """Brings these partitions (all, where not given) to at least `event_time`: no later row counts as earlier."""
        if event_time == MIN_TIME:
            return
        for partition in self.partitions if partitions is None else partitions:
            self.largest[partition] = max(int(self.largest[partition]), event_time + self.out_of_orderness)

    def _raise_to(self, event_time: int) -> None:
        self.event_time = max(self.event_time, event_time)

    @property
    def all_idle(self) -> bool:
        """Whether nothing of this source counts in a minimum now."""
        return bool(self.partitions) and len(self.idle) == len(self.partitions)

    def by_partition(self) -> dict[int, int]:
        """The watermark of each partition: no later row of it has a lower one."""
        return {
            p: MIN_TIME if largest == MIN_TIME else largest - self.out_of_orderness
            for p, largest in self.committed().items()
        }

    def committed(self) -> dict[int, int]:
        """What a commit keeps: the largest timestamp of each partition."""
        return {p: int(self.largest[p]) for p in self.partitions}

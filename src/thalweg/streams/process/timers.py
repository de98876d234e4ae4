"""Timers of keyed functions: a set of (clock, time, name) per key, and who is due next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np
import polars as pl

from thalweg.streams.process.handles import CollectionHandle, Now
from thalweg.streams.state.due_queue import NEVER, DueQueue
from thalweg.streams.state.keyed_store import Collection, Slots
from thalweg.streams.state.row_store import SLOT

TIMERS = "__timers"
COLLECTION = Collection(TIMERS, {"processing": pl.Boolean(), "time": pl.Int64(), "name": pl.String()})

_Entry = tuple[int, str]


@dataclass(frozen=True, slots=True)
class Timer:
    """A timer that has come due."""

    time: int
    """What it was set to, ms UTC."""
    name: str = ""
    processing: bool = False
    """By the clock rather than by the watermark."""


class Timers(CollectionHandle):
    """The timers of the batch's keys: `held` has, for each key that was asked for, a set for each of the two clocks."""

    def __init__(self, now: Now) -> None:
        super().__init__(TIMERS, pl.Int64(), None, now)
        self.event, self.processing = DueQueue(), DueQueue()
        self.first: dict[int, int] = {}
        """When the first event-time timer of each key of the batch is due."""

    def begin(self, slots: Slots) -> None:
        super().begin(slots)
        for queue in (self.event, self.processing):
            queue.reserve(self.store.index.capacity)
        self.first = dict(zip(slots.tolist(), self.event.at[slots].tolist(), strict=True))

    def of(self, slot: int) -> tuple[set[_Entry], set[_Entry]]:
        """The event-time and the processing-time timers of a key."""
        if not self._loaded:
            self._load()
        return self.held.setdefault(slot, (set(), set()))  # type: ignore[no-any-return]

    def _take(self, slot: int, row: dict[str, Any]) -> None:
        self.held.setdefault(slot, (set(), set()))[row["processing"]].add((row["time"], row["name"]))

    def add(self, time: int, name: str, *, processing: bool) -> None:
        """Sets a timer of the key at hand; the same one twice is one."""
        self._change(time, name, processing, present=True)

    def remove(self, time: int, name: str, *, processing: bool) -> None:
        """Takes a timer of the key at hand back, if it is set."""
        self._change(time, name, processing, present=False)

    def _change(self, time: int, name: str, processing: bool, *, present: bool) -> None:
        slot, entry = self._now.slot, (time, name)
        own = self.of(slot)
        if (entry in own[processing]) is present:
            return
        self._touch(own)
        (own[processing].add if present else own[processing].discard)(entry)
        back = own[processing].discard if present else own[processing].add

        def undo() -> None:
            back(entry)
            self._refresh(slot)

        self._now.undo.append((undo,))
        self._refresh(slot)

    def _refresh(self, slot: int) -> None:
        self.first[slot] = min((time for time, _ in self.of(slot)[0]), default=NEVER)

    def pop(self, slot: int, until: int, *, processing: bool) -> Timer | None:
        """Takes the first timer of a key that is due; None where none is."""
        own = self.of(slot)
        first = min(own[processing], default=None)
        if first is None or first[0] > until:
            return None
        own[processing].discard(first)
        self.dirty.add(slot)
        self._refresh(slot)
        return Timer(*first, processing)

    def all(self, slot: int) -> list[Timer]:
        """All timers of a key, in order of time."""
        event, processing = self.of(slot)
        return sorted(
            [Timer(*t) for t in event] + [Timer(*t, True) for t in processing], key=lambda t: (t.time, t.name)
        )

    def queue(self, *, processing: bool) -> DueQueue:
        """Who is due when, by this clock."""
        return self.processing if processing else self.event

    def rows(self, slots: Iterable[int]) -> pl.DataFrame:
        found = [
            (slot, bool(clock), time, name)
            for slot in slots
            for clock, entries in enumerate(self.of(slot))
            for time, name in sorted(entries)
        ]
        schema = {SLOT: pl.Int64(), **COLLECTION.columns}
        return pl.DataFrame(found, schema=schema, orient="row")

    def schedule(self, rows: pl.DataFrame, slots: Slots) -> None:
        """Brings the queues in line with these keys' timers (`rows`, with `__slot`)."""
        for processing in (False, True):
            first = rows.filter(pl.col("processing") == processing).group_by(SLOT).agg(pl.col("time").min())
            times = np.full(len(slots), NEVER, dtype=np.int64)
            times[np.searchsorted(slots, first[SLOT].to_numpy())] = first["time"].to_numpy()
            queue = self.queue(processing=processing)
            queue.reserve(self.store.index.capacity)
            queue.set(slots, times)


class Order:
    """Keys whose timers are due, the one with the earliest timer first."""

    def __init__(self, timers: Timers, slots: Iterable[int], until: int, *, processing: bool) -> None:
        self._timers = timers
        self._until = until
        self._processing = processing
        self._heap = [(time, slot) for slot in slots if (time := self._first(slot)) <= until]
        heapify(self._heap)

    def _first(self, slot: int) -> int:
        return min((time for time, _ in self._timers.of(slot)[self._processing]), default=NEVER)

    def next(self) -> tuple[int, Timer] | None:
        """The next key and its timer, which is no longer set; None where nothing is due any more."""
        while self._heap:
            _, slot = heappop(self._heap)
            timer = self._timers.pop(slot, self._until, processing=self._processing)
            if timer is not None:
                return slot, timer
        return None

    def again(self, slot: int) -> None:
        """Looks at a key again: it may have more timers, or new ones."""
        if (time := self._first(slot)) <= self._until:
            heappush(self._heap, (time, slot))

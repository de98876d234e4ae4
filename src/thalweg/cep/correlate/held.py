"""The events that correlations hold, per key, as long as the window is long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.cep.sequence.events import EventStore
from thalweg.cep.sequence.keys import KeyCodes
from thalweg.records import Int64s

_ROOM = 1_024


@dataclass(frozen=True, slots=True)
class Terms:
    """What makes a correlation, in numbers."""

    window: int
    kind: int
    ordered: bool
    minimum: int
    resets: bool
    most: int
    streams: int


@dataclass(slots=True)
class Arrivals:
    """Events in order of time: their times, keys (a column per key column), streams, value hashes (0: none), places in
    their stream's store, and numbers."""

    times: Int64s
    keys: pl.DataFrame
    streams: Int64s
    values: Int64s
    events: Int64s
    numbers: Int64s


@dataclass(slots=True)
class Correlated:
    """Matches: per match its size; per event of a match its stream, its place in the stream's store, its time."""

    sizes: Int64s
    streams: Int64s
    events: Int64s
    times: Int64s
    keys: pl.DataFrame


class Held:
    """Events by key, in the order of their times, over all streams.

    Cost: a few steps per event, and one per event of a match; counting values looks through the key's events. What
    has expired is given up in the order of time, so that no look at the whole state is needed.
    """

    def __init__(self, terms: Terms, keys: Sequence[str]) -> None:
        self.terms = terms
        self.stores = [EventStore() for _ in range(terms.streams)]
        self.evicted = np.zeros(1, np.int64)
        """Events put out because their key had more than its bound."""
        self._codes = KeyCodes(keys)
        self._ends = np.zeros(2, np.int64)
        self._slots(_ROOM)
        self._keys(0)

    def _slots(self, size: int) -> None:
        self._time, self._stream, self._value = (np.zeros(size, np.int64) for _ in range(3))
        self._event, self._number = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._after, self._code = np.full(size, -1, np.int64), np.full(size, -1, np.int64)
        self._first = np.zeros(size, np.bool_)

    def _keys(self, size: int) -> None:
        self._head, self._tail, self._consumed = (np.full(size, -1, np.int64) for _ in range(3))
        self._count, self._distinct = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._per_stream = np.zeros((size, self.terms.streams), np.int64)

    def __len__(self) -> int:
        """Events held."""
        return int(self._count.sum())

    @property
    def keys(self) -> int:
        """How many keys have events."""
        return int((self._count > 0).sum())

    @property
    def dropped(self) -> int:
        """Events put out because their key had more than its bound."""
        return int(self.evicted[0])

    # -- events

    def advance(self, arrivals: Arrivals | None, until: int) -> Correlated:
        """Takes events in order, then gives up what is out of the window at `until`."""
        kernel, terms = _kernel(), self.terms
        none = np.zeros(0, np.int64)
        arrivals = arrivals or Arrivals(none, pl.DataFrame(), none, none, none, none)
        codes = self._codes.of(arrivals.keys) if arrivals.keys.height else none
        if not arrivals.keys.width:
            codes = np.zeros(len(arrivals.times), np.int64)  # no key: one sequence
        self._make_room(len(self._codes), len(codes))
        start = int(self._ends[1])
        self._number[start : start + len(codes)] = arrivals.numbers
        cursor, longest = np.zeros(3, np.int64), np.zeros(terms.streams, np.int64)
        parts: list[tuple[Int64s, Int64s]] = []
        while True:
            sizes = np.zeros(len(codes) + 1, np.int64)
            slots = np.zeros(4 * len(codes) + terms.most + 2, np.int64)
            cursor[1:] = 0
            done = kernel.advance(
                arrivals.times, codes, arrivals.streams, arrivals.values, arrivals.events, until,
                terms.window, terms.kind, terms.ordered, terms.minimum, terms.resets, terms.most,
                self._time, self._stream, self._value, self._event, self._after, self._first, self._code, self._ends,
                self._head, self._tail, self._count, self._distinct, self._per_stream, self.evicted,
                sizes, slots, self._consumed, longest, cursor,
            )  # fmt: skip
            parts.append((sizes[: cursor[1]], slots[: cursor[2]]))
            if done == kernel.DONE:
                break
        return self._found(np.concatenate([p for p, _ in parts]), np.concatenate([p for _, p in parts]), codes, start)

    def _found(self, sizes: Int64s, slots: Int64s, codes: Int64s, start: int) -> Correlated:
        last = slots[np.cumsum(sizes) - 1]  # a match's last event is one of those that just came
        keys = self._codes.values()[codes[last - start]] if len(last) and self._codes.columns else pl.DataFrame()
        return Correlated(sizes, self._stream[slots], self._event[slots], self._time[slots], keys)

    def tidy(self) -> None:
        """Gives up slots, keys and stored events that nothing needs any more."""
        oldest, free = (int(end) for end in self._ends)
        if oldest > _ROOM and 2 * oldest > free:
            for name in ("_time", "_stream", "_value", "_event", "_number", "_after", "_code", "_first"):
                array = getattr(self, name)
                array[: free - oldest] = array[oldest:free].copy()
            for slots in (self._after[: free - oldest], self._head, self._tail):
                _kernel().moved(slots, oldest)
            self._consumed[self._consumed >= 0] -= oldest
            self._ends[:] = 0, free - oldest
        alive = (self._head[: len(self._codes)] >= 0) | (self._consumed[: len(self._codes)] >= 0)
        new = self._codes.keep(alive)
        if new is not None:
            kept = np.flatnonzero(new >= 0)
            for name in ("_head", "_tail", "_consumed", "_count", "_distinct", "_per_stream"):
                setattr(self, name, np.ascontiguousarray(getattr(self, name)[kept]))
            codes = self._code[int(self._ends[0]) : int(self._ends[1])]
            codes[codes >= 0] = new[codes[codes >= 0]]
        for number, store in enumerate(self.stores):
            store.trim(lambda number=number: self._held_of(number))  # type: ignore[misc]

    def _held_of(self, stream: int) -> Int64s:
        oldest, free = self._ends
        live = (self._code[oldest:free] >= 0) & (self._stream[oldest:free] == stream)
        events: Int64s = self._event[oldest:free][live]
        return events

    def _make_room(self, keys: int, more: int) -> None:
        size = len(self._head)
        if keys > size:
            old = self._head, self._tail, self._consumed, self._count, self._distinct, self._per_stream
            self._keys(max(keys, 2 * size, _ROOM))
            new = self._head, self._tail, self._consumed, self._count, self._distinct, self._per_stream
            for target, source in zip(new, old, strict=True):
                target[:size] = source
        used, room = int(self._ends[1]), len(self._time)
        if used + more > room:
            names = ("_time", "_stream", "_value", "_event", "_number", "_after", "_code", "_first")
            arrays = [getattr(self, name) for name in names]
            self._slots(max(used + more, 2 * room))
            for name, array in zip(names, arrays, strict=True):
                getattr(self, name)[:room] = array

    # -- state

    def held_since(self, number: int) -> list[tuple[int, pl.DataFrame, Int64s]]:
        """The live events numbered from `number` on: (stream, rows, numbers)."""
        oldest, free = self._ends
        slots = np.arange(oldest, free)[(self._code[oldest:free] >= 0) & (self._number[oldest:free] >= number)]
        found = []
        for stream, store in enumerate(self.stores):
            mine = slots[self._stream[slots] == stream]
            if len(mine):
                found.append((stream, store.get(self._event[mine]), self._number[mine]))
        return found

    def take_consumed(self) -> tuple[pl.DataFrame, Int64s] | None:
        """The keys whose events were consumed since the last call, and the number of the last event that was."""
        codes = np.flatnonzero(self._consumed >= 0)
        if not len(codes):
            return None
        numbers = self._number[self._consumed[codes]]
        self._consumed[codes] = -1
        keys = self._codes.values()[codes] if self._codes.columns else pl.DataFrame()
        return keys, numbers

    def restore(self, arrivals: Arrivals) -> None:
        """Takes back events that were held, in order of time."""
        codes = self._codes.of(arrivals.keys) if arrivals.keys.width else np.zeros(len(arrivals.times), np.int64)
        self._make_room(len(self._codes), len(codes))
        start, end = int(self._ends[1]), int(self._ends[1]) + len(codes)
        for name, array in (
            ("_time", arrivals.times), ("_stream", arrivals.streams), ("_value", arrivals.values),
            ("_event", arrivals.events), ("_number", arrivals.numbers),
        ):  # fmt: skip
            getattr(self, name)[start:end] = array
        _kernel().hold(
            codes, self.terms.kind, self.terms.most,
            self._stream, self._value, self._after, self._first, self._code, self._ends,
            self._head, self._tail, self._count, self._distinct, self._per_stream,
        )  # fmt: skip


def _kernel() -> Any:
    from thalweg.cep.correlate import _kernel as kernel

    return kernel

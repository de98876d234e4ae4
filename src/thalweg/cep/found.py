"""What engines are given, find and hold, in the form that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.cep.pattern import Pattern
from thalweg.records import Int64s, UInt64s

Columns = TypeVar("Columns", "MatchTable", "HeldTable")


class Match(NamedTuple):
    """A match, or a partial match that timed out.

    `time` (ms UTC) is when it became certain: its last event's time, but for one that ends with an absence, or that
    waited for an older partial match. `trigger` is the id of the event that made it certain, -1 where the passing of
    time did. `steps` (numbers) and `ids` (of events) are in order of time.
    """

    time: int
    trigger: int
    steps: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(slots=True)
class MatchTable:
    """Matches as columns: per match its size, trigger and time, per event its step and id, match after match."""

    sizes: Int64s
    triggers: Int64s
    times: Int64s
    steps: Int64s
    ids: Int64s

    def __len__(self) -> int:
        return len(self.sizes)

    @staticmethod
    def of_slots(ids: npt.NDArray[np.int64], times: Int64s, steps: Int64s) -> MatchTable:
        """From a row of event ids per match; `steps` has the step of each place in the row."""
        found, slots = ids.shape
        sizes = np.full(found, slots, np.int64)
        return MatchTable(sizes, ids[:, -1], times, np.tile(steps, found), np.ascontiguousarray(ids).ravel())

    @staticmethod
    def of(matches: Sequence[Match]) -> MatchTable:
        """From single matches."""
        return MatchTable(
            _column(len(match.ids) for match in matches),
            _column(match.trigger for match in matches),
            _column(match.time for match in matches),
            _column(chain.from_iterable(match.steps for match in matches)),
            _column(chain.from_iterable(match.ids for match in matches)),
        )

    @staticmethod
    def together(tables: Sequence[MatchTable]) -> MatchTable:
        """One after the other."""
        return _joined(tables)


def _joined(tables: Sequence[Columns]) -> Columns:
    """The columns of each, one after the other."""
    if len(tables) == 1:
        return tables[0]
    names = [each.name for each in fields(tables[0])]
    return type(tables[0])(*(np.concatenate([getattr(table, name) for table in tables]) for name in names))


def _column(values: Iterable[int]) -> Int64s:
    return np.fromiter(values, np.int64)


@dataclass(slots=True)
class Offered:
    """Events in time order, for one pattern."""

    codes: Int64s
    """The code of each event's key, below `keys`."""
    times: Int64s
    masks: UInt64s
    """The bits of the pattern's own conditions."""
    ids: Int64s
    """-1 for events that no pattern can take."""
    rows: pl.DataFrame
    """A batch of events, among others these."""
    places: Int64s
    """Which of the rows they are."""
    keys: int


@dataclass(slots=True)
class Found:
    """What some events, or the passing of time, brought."""

    matches: MatchTable | None = None
    timed_out: MatchTable | None = None
    codes: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    """The keys for which the passing of time brought something, which the state must know; what ended in silence ends
    again after a restart."""


class Held(NamedTuple):
    """A partial match as it is saved: its key's code, its state, the time of its first event, and its events."""

    code: int
    state: int
    start: int
    steps: list[int]
    ids: list[int]


@dataclass(slots=True)
class HeldTable:
    """Partial matches as columns: per partial match what `Held` has, per event its step and id, one after another."""

    codes: Int64s
    states: Int64s
    starts: Int64s
    sizes: Int64s
    """How many events each has."""
    steps: Int64s
    ids: Int64s

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[Held]:
        ends = np.cumsum(self.sizes)
        facts = zip(self.codes.tolist(), self.states.tolist(), self.starts.tolist(), strict=True)
        places = zip((ends - self.sizes).tolist(), ends.tolist(), strict=True)
        for (code, state, start), (first, end) in zip(facts, places, strict=True):
            yield Held(code, state, start, self.steps[first:end].tolist(), self.ids[first:end].tolist())

    @staticmethod
    def of(held: Sequence[Held]) -> HeldTable:
        """From single partial matches."""
        return HeldTable(
            _column(item.code for item in held),
            _column(item.state for item in held),
            _column(item.start for item in held),
            _column(len(item.ids) for item in held),
            _column(chain.from_iterable(item.steps for item in held)),
            _column(chain.from_iterable(item.ids for item in held)),
        )

    @staticmethod
    def together(tables: Sequence[HeldTable]) -> HeldTable:
        """One after the other."""
        return _joined(tables)


class Partials(Protocol):
    """The partial matches of one pattern, for all keys, and what moves them."""

    pattern: Pattern
    every_event: bool
    """Whether events that no condition accepts matter."""
    takes_any: bool
    """Whether it can take an event that none of its plain conditions accepts."""

    @property
    def dropped(self) -> int:
        """Partial matches ended because their key had too many."""

    @property
    def alive(self) -> int:
        """How many partial matches there are."""

    def advance(self, events: Offered) -> Found:
        """Takes events in time order."""

    def expire(self, watermark: int, *, looks: bool) -> Found:
        """Ends the partial matches that no event from `watermark` on can complete.

        Args:
            looks: a look through all keys is worth it now; else only what brings something has to end.
        """

    def keys_alive(self, keys: int) -> npt.NDArray[np.bool_]:
        """For each code below `keys`, whether it has partial matches."""

    def referenced(self) -> Int64s:
        """The ids of all events that partial matches hold."""

    def renumber(self, new_code: Int64s, keys: int) -> None:
        """Gives keys new codes: `new_code[old]`, or -1 for keys that have nothing here."""

    def held(self, codes: Int64s) -> HeldTable:
        """The partial matches of these keys, for the state: oldest first per key."""

    def put(self, held: Held, last: int, keys: int) -> None:
        """Takes back a partial match, after those that its key has; `last` is the time of its last event."""

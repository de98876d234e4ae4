"""Several patterns over keyed events in time order: shared conditions, keys and event store.

Patterns that are a line of steps run in the sequence engine's kernel, all others in the general engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from thalweg.cep.found import Match
from thalweg.cep.general.partials import GeneralPartials
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence import saved
from thalweg.cep.sequence.conditions import MASK, Conditions
from thalweg.cep.sequence.events import EventStore
from thalweg.cep.sequence.keys import KeyCodes
from thalweg.cep.sequence.matches import TRIGGER, MatchTable, match_rows
from thalweg.cep.sequence.partials import PartialMatches
from thalweg.cep.sequence.slots import linear_steps
from thalweg.expressions import Row, iter_rows
from thalweg.records import Int64s
from thalweg.streams.batch import TIMESTAMP

Partials = PartialMatches | GeneralPartials


@dataclass(slots=True)
class Results:
    """Rows of matches, and of partial matches that timed out; None where there are none."""

    matches: pl.DataFrame | None
    timed_out: pl.DataFrame | None


class PatternEngine:
    """Takes events with `__ts` and `__mask`, sorted by time; gives matches.

    Cost per event: a few nanoseconds in the kernel for those with a bit set, nothing for the rest. State: the partial
    matches and the events they hold.

    Args:
        timeouts: whether partial matches that time out are wanted; then all patterns run in the general engine.
    """

    def __init__(
        self, patterns: Sequence[Pattern], conditions: Conditions, keys: Sequence[str], *, timeouts: bool = False
    ) -> None:
        self.patterns = list(patterns)
        self.keys = list(keys)
        self.codes = KeyCodes(keys)
        self.store = EventStore()
        self.partials: list[Partials] = [self._partials_of(p, conditions, timeouts) for p in patterns]
        self.every_event = any(partials.every_event for partials in self.partials)
        """Whether events that no condition accepts matter: a strict step ends on any event of the key."""
        self._takes_any = any(isinstance(p, GeneralPartials) and p.takes_any for p in self.partials)
        self.keeps_changes = True
        """False where nobody takes snapshots: else keys that changed would wait for one for ever."""
        self._touched = np.zeros(0, np.bool_)
        """By key code: whether its partial matches may have changed since the last snapshot."""
        self._looked = 0
        self._look_at = _WORTH_A_LOOK

    def _partials_of(self, pattern: Pattern, conditions: Conditions, timeouts: bool) -> Partials:
        steps = linear_steps(pattern)
        if steps is None or timeouts:
            return GeneralPartials(pattern, conditions.bit_of, self._event, timeouts=timeouts)
        return PartialMatches(pattern, steps, [conditions.bit_of(step.condition) for step in steps])

    def _event(self, event: int) -> Row:
        return next(iter_rows(self.store.get(np.array([event]))))

    # -- events

    def advance(self, rows: pl.DataFrame | None, watermark: int) -> Results:
        """Takes events before `watermark`, then lets its passing end what it ends."""
        matches: list[pl.DataFrame] = []
        timed_out: list[pl.DataFrame] = []
        if rows is not None and rows.height:
            self._process(rows, matches, timed_out)
        self._expire(watermark, matches, timed_out)
        self._tidy(watermark)
        return Results(_in_order(matches), _in_order(timed_out))

    def _process(self, rows: pl.DataFrame, matches: list[pl.DataFrame], timed_out: list[pl.DataFrame]) -> None:
        masks = rows.get_column(MASK).to_numpy().astype(np.uint64, copy=False)
        useful = np.ones(rows.height, np.bool_) if self._takes_any else masks != 0
        codes = self.codes.of(rows, useful)
        if codes.min(initial=0) < 0:  # events that can't begin a match, of keys that have no partial match
            known = codes >= 0
            rows, codes, masks, useful = rows.filter(known), codes[known], masks[known], useful[known]
        times = rows.get_column(TIMESTAMP).to_numpy().astype(np.int64, copy=False)
        events = rows.drop(MASK)
        ids = np.full(rows.height, -1, np.int64)
        ids[useful] = self.store.add(events if useful.all() else events.filter(useful))
        self._touch(codes)
        for number, partials in enumerate(self.partials):
            if isinstance(partials, PartialMatches):
                table = partials.advance(codes, times, masks, ids, len(self.codes))
                if len(table):
                    matches.append(self._rows(number, table))
            else:
                found = partials.advance(codes, times, masks, ids, events)
                self._add(number, found.matches, matches)
                self._add(number, found.timed_out, timed_out)

    def _expire(self, watermark: int, matches: list[pl.DataFrame], timed_out: list[pl.DataFrame]) -> None:
        for number, partials in enumerate(self.partials):
            if isinstance(partials, GeneralPartials):
                found = partials.expire(watermark)
                self._touch(np.array(found.codes, dtype=np.int64))
                self._add(number, found.matches, matches)
                self._add(number, found.timed_out, timed_out)

    def _add(self, number: int, found: Sequence[Match], frames: list[pl.DataFrame]) -> None:
        if found:
            frames.append(self._rows(number, MatchTable.of(found)))

    def _rows(self, number: int, table: MatchTable) -> pl.DataFrame:
        return match_rows(self.patterns[number], self.patterns, table, self.store, self.keys)

    def _touch(self, codes: Int64s) -> None:
        if not self.keeps_changes:
            return
        if len(self._touched) < len(self.codes):
            more = max(len(self.codes), 2 * len(self._touched)) - len(self._touched)
            self._touched = np.concatenate([self._touched, np.zeros(more, np.bool_)])
        self._touched[codes] = True

    # -- what has ended

    def _tidy(self, watermark: int) -> None:
        """Forgets what no later event can complete, the events it held and keys that have nothing left.

        The look through all keys comes when event time has come a quarter of the shortest `within` further, or the keys
        have doubled: so each key costs a constant share.
        """
        limits = [p.within for p in self.patterns if p.within is not None]
        looks = bool(limits) and watermark >= self._looked + max(min(limits) // 4, 1)
        if looks or len(self.codes) >= self._look_at:
            self._looked = watermark
            for partials in self.partials:
                if isinstance(partials, PartialMatches):
                    partials.expire(watermark)
            self._forget_keys()
            self._look_at = max(_WORTH_A_LOOK, 2 * len(self.codes))
        self.store.trim(self._referenced, now=looks)

    def _forget_keys(self) -> None:
        alive = np.zeros(len(self.codes), np.bool_)
        for partials in self.partials:
            alive |= partials.keys_alive(len(alive))
        known = self._touched[: len(alive)]
        alive[: len(known)] |= known  # their end is still to be told to the next snapshot
        renumbered = self.codes.keep(alive)
        if renumbered is not None:
            for partials in self.partials:
                partials.renumber(renumbered, len(self.codes))
            touched = renumbered[np.flatnonzero(self._touched)]
            self._touched = np.zeros(len(self.codes), np.bool_)
            self._touched[touched] = True

    def _referenced(self) -> Int64s:
        return np.unique(np.concatenate([p.referenced() for p in self.partials]))

    @property
    def alive(self) -> int:
        """Partial matches of all patterns."""
        return sum(p.alive for p in self.partials)

    # -- state

    def changes(self, *, full: bool) -> pl.DataFrame | None:
        """The partial matches of the keys touched since the last call (or of all); None: nothing changed.

        See `saved` for the form.
        """
        touched = np.arange(len(self.codes)) if full else np.flatnonzero(self._touched)
        self._touched = np.zeros(len(self.codes), np.bool_)
        if not len(touched):
            return None
        held = [(number, item) for number, p in enumerate(self.partials) for item in p.held(touched)]
        frames = [saved.rows_of(held, self.patterns, self.store, self.keys)] if held else []
        if not full:
            idle = np.setdiff1d(touched, np.array([item.code for _, item in held], dtype=np.int64))
            if len(idle):
                frames.append(saved.gone(self.codes.values()[idle] if self.keys else pl.DataFrame(), len(idle)))
        return pl.concat(frames, how="diagonal_relaxed") if frames else None

    def restore(self, frames: Sequence[pl.DataFrame]) -> None:
        """Takes back what `changes` gave, oldest first: of each key the newest frame counts."""
        restored = saved.read(frames, self.patterns, self.store, self.keys)
        if restored is None:
            return
        codes = self.codes.of(restored.rows)
        for number, item, last in restored.partials:
            self.partials[number].put(item._replace(code=int(codes[item.code])), last, len(self.codes))


def _in_order(frames: list[pl.DataFrame]) -> pl.DataFrame | None:
    """By the time at which each match became certain, those that time alone completed first."""
    if not frames:
        return None
    together = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical_relaxed")
    return together.sort(TIMESTAMP, TRIGGER, maintain_order=True).drop(TRIGGER)


_WORTH_A_LOOK = 2_048

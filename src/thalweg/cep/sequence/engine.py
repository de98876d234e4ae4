"""Several patterns over keyed events in time order: shared conditions, keys and event store.

Patterns that are a line of steps run in the sequence engine's kernel, all others in the general engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from thalweg.cep.found import Found, MatchTable, Offered, Partials
from thalweg.cep.general.compiled import CompiledPartials
from thalweg.cep.general.partials import GeneralPartials
from thalweg.cep.pattern import Pattern, asks_match
from thalweg.cep.sequence import saved
from thalweg.cep.sequence.conditions import MASK, Conditions, PatternBits, any_bit, masks_of
from thalweg.cep.sequence.events import EventStore
from thalweg.cep.sequence.keys import KeyCodes
from thalweg.cep.sequence.matches import MatchSchemas, match_rows
from thalweg.cep.sequence.partials import PartialMatches
from thalweg.cep.sequence.slots import linear_steps
from thalweg.expressions import Row, iter_rows
from thalweg.records import Int64s
from thalweg.streams.batch import OFFSET, PARTITION, SOURCE, TIMESTAMP, gathered, stacked, without

Tables = list[tuple[Pattern, MatchTable]]


@dataclass(slots=True)
class Results:
    """Rows of matches, and of partial matches that timed out; None where there are none."""

    matches: pl.DataFrame | None
    timed_out: pl.DataFrame | None


@dataclass(frozen=True)
class Limits:
    """What an engine is asked for beyond matches."""

    timeouts: bool = False
    """Whether partial matches that time out are wanted; then no pattern runs in the sequence engine."""
    most: int | None = None
    """How many partial matches a key may have, by pattern; beyond, the oldest are ended, and counted."""


NO_LIMITS = Limits()


class PatternEngine:
    """Takes events with `__ts` and `__mask`, sorted by time; gives matches.

    Cost per event: a few nanoseconds in the kernel for those with a bit set, nothing for the rest. State: the partial
    matches and the events they hold.
    """

    def __init__(
        self, patterns: Sequence[Pattern], conditions: Conditions, keys: Sequence[str], limits: Limits = NO_LIMITS
    ) -> None:
        self.keys = list(keys)
        self.limits = limits
        self.codes = KeyCodes(keys)
        self.store = EventStore()
        self.keeps_changes = True
        """False where nobody takes snapshots: else keys that changed would wait for one for ever."""
        self._touched = np.zeros(0, np.bool_)
        """By key code: whether its partial matches may have changed since the last snapshot."""
        self._looked = 0
        self._look_at = _WORTH_A_LOOK
        self.patterns = list(patterns)
        self._schemas = MatchSchemas(patterns, keys)
        self._bits = [conditions.of_pattern(pattern) for pattern in patterns]
        self.partials = [self._partials_of(p, bits) for p, bits in zip(self.patterns, self._bits, strict=True)]

    def _partials_of(self, pattern: Pattern, bits: PatternBits) -> Partials:
        limits = self.limits
        if asks_match(pattern.steps):
            return GeneralPartials(pattern, bits.bit_of, self._event, timeouts=limits.timeouts, most=limits.most)
        steps = linear_steps(pattern)
        if steps is None or limits.timeouts or limits.most is not None:
            return CompiledPartials(pattern, bits.bit_of, len(bits.bits), timeouts=limits.timeouts, most=limits.most)
        return PartialMatches(pattern, steps, [bits.bit_of(step.condition) for step in steps])

    def _event(self, event: int) -> Row:
        return next(iter_rows(self.store.get(np.array([event]))))

    @property
    def every_event(self) -> bool:
        """Whether events that no condition accepts matter: a strict step ends on any event of the key."""
        return any(partials.every_event for partials in self.partials)

    # -- patterns that come and go

    def change(self, patterns: Sequence[Pattern], conditions: Conditions) -> None:
        """Goes on with other patterns. Those that stay, or have the same structure, keep their partial matches."""
        old = {pattern.id: partials for pattern, partials in zip(self.patterns, self.partials, strict=True)}
        bits = [conditions.of_pattern(pattern) for pattern in patterns]
        partials = []
        for pattern, own in zip(patterns, bits, strict=True):
            before = old.get(pattern.id)
            if before is not None and before.pattern is pattern:
                partials.append(old.pop(pattern.id))
                continue
            partials.append(self._partials_of(pattern, own))
            if before is not None and before.pattern.fingerprint() == pattern.fingerprint():
                self._hand_over(before, partials[-1])
        for gone in old.values():  # the state is to forget what they held
            self._touch(np.flatnonzero(gone.keys_alive(len(self.codes))))
        self.patterns, self._bits, self.partials = list(patterns), bits, partials
        self._schemas = MatchSchemas(patterns, self.keys)

    def _hand_over(self, before: Partials, after: Partials) -> None:
        for held in before.held(np.arange(len(self.codes))):
            last = self.store.get(np.array(held.ids[-1:])).get_column(TIMESTAMP)[0]
            after.put(held, last, len(self.codes))

    # -- events

    def advance(self, rows: pl.DataFrame | None, watermark: int) -> Results:
        """Takes events before `watermark`, then lets its passing end what it ends."""
        matches: Tables = []
        timed_out: Tables = []
        if rows is not None and rows.height:
            self._process(rows, matches, timed_out)
        looks = self._worth_a_look(watermark)
        for number, partials in enumerate(self.partials):
            found = partials.expire(watermark, looks=looks)
            self._touch(found.codes)
            self._add(number, found, matches, timed_out)
        results = Results(self._rows(matches), self._rows(timed_out))
        if looks:
            self._looked = watermark
            self._forget_keys()
            self._look_at = max(_WORTH_A_LOOK, 2 * len(self.codes))
        self.store.trim(self._referenced, now=looks)
        return results

    def _process(self, rows: pl.DataFrame, matches: Tables, timed_out: Tables) -> None:
        masks = masks_of(rows)
        takes_any = any(partials.takes_any for partials in self.partials)
        useful = np.ones(rows.height, np.bool_) if takes_any else any_bit(masks)
        codes = self.codes.of(rows, useful)
        events = without(rows, MASK, PARTITION, OFFSET, SOURCE)  # where they came from has put them in order
        if codes.min(initial=0) < 0:  # events that can't begin a match, of keys that have no partial match
            known = codes >= 0
            events = gathered(events, np.flatnonzero(known))
            codes, masks, useful = codes[known], masks[known], useful[known]
        times = events.get_column(TIMESTAMP).to_numpy().astype(np.int64)
        ids = np.full(events.height, -1, np.int64)
        ids[useful] = self.store.add(events if useful.all() else gathered(events, np.flatnonzero(useful)))
        self._touch(codes)
        everything = np.arange(events.height)
        for number, (partials, bits) in enumerate(zip(self.partials, self._bits, strict=True)):
            places = everything if partials.every_event else bits.rows(masks)
            if len(places):
                own = bits.of(masks, places)
                offered = Offered(codes[places], times[places], own, ids[places], events, places, len(self.codes))
                self._add(number, partials.advance(offered), matches, timed_out)

    def _add(self, number: int, found: Found, matches: Tables, timed_out: Tables) -> None:
        if found.matches is not None:
            matches.append((self.patterns[number], found.matches))
        if found.timed_out is not None:
            timed_out.append((self.patterns[number], found.timed_out))

    def _rows(self, found: Tables) -> pl.DataFrame | None:
        return match_rows(found, self._schemas, self.store, self.keys) if found else None

    def _touch(self, codes: Int64s) -> None:
        if not self.keeps_changes:
            return
        if len(self._touched) < len(self.codes):
            more = max(len(self.codes), 2 * len(self._touched)) - len(self._touched)
            self._touched = np.concatenate([self._touched, np.zeros(more, np.bool_)])
        self._touched[codes] = True

    # -- what has ended

    def _worth_a_look(self, watermark: int) -> bool:
        """Whether to look through all keys for what no later event can complete.

        The look comes when event time has come a quarter of the shortest `within` further, or the keys have doubled: so
        each key costs a constant share.
        """
        limits = [p.within for p in self.patterns if p.within is not None]
        due = bool(limits) and watermark >= self._looked + max(min(limits) // 4, 1)
        return due or len(self.codes) >= self._look_at

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
        return np.concatenate([np.empty(0, np.int64), *(p.referenced() for p in self.partials)])

    @property
    def alive(self) -> int:
        """Partial matches of all patterns."""
        return sum(p.alive for p in self.partials)

    @property
    def dropped(self) -> int:
        """Partial matches that were ended because their key had too many."""
        return sum(p.dropped for p in self.partials)

    # -- state

    def changes(self, *, full: bool) -> pl.DataFrame | None:
        """The partial matches of the keys touched since the last call (or of all); None: nothing changed.

        See `saved` for the form.
        """
        touched = np.arange(len(self.codes)) if full else np.flatnonzero(self._touched)
        self._touched = np.zeros(len(self.codes), np.bool_)
        if not len(touched):
            return None
        held = [(pattern, p.held(touched)) for pattern, p in zip(self.patterns, self.partials, strict=True)]
        held = [(pattern, table) for pattern, table in held if len(table)]
        frames = [saved.rows_of(held, self.store, self.keys)] if held else []
        if not full:
            idle = np.setdiff1d(touched, np.concatenate([touched[:0], *(table.codes for _, table in held)]))
            if len(idle):
                keys = self.codes.values_of(idle) if self.keys else pl.DataFrame()
                frames.append(saved.gone(keys, len(idle), frames[0] if frames else None))
        return stacked(frames) if frames else None

    def restore(self, frames: Sequence[pl.DataFrame]) -> None:
        """Takes back what `changes` gave, oldest first: of each key the newest frame counts."""
        restored = saved.read(frames, self.patterns, self.store, self.keys) if frames else None
        if restored is None:
            return
        codes = self.codes.of(restored.rows)
        for number, item, last in restored.partials:
            self.partials[number].put(item._replace(code=int(codes[item.code])), last, len(self.codes))


_WORTH_A_LOOK = 2_048

"""Several patterns over keyed events in time order: shared conditions, keys and event store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.conditions import MASK, Conditions
from thalweg.cep.sequence.events import EventStore
from thalweg.cep.sequence.keys import KeyCodes
from thalweg.cep.sequence.matches import match_rows
from thalweg.cep.sequence.partials import PartialMatches
from thalweg.records import Int64s
from thalweg.streams.batch import TIMESTAMP

PLACE, ORDER, PATTERN, START = "__place", "__order", "__pattern", "__start"


class PatternEngine:
    """Takes events with `__ts` and `__mask`, sorted by time; gives matches.

    Cost per event: a few nanoseconds in the kernel for those with a bit set, nothing for the rest. State: the partial
    matches and the events they hold.
    """

    def __init__(self, patterns: Sequence[Pattern], conditions: Conditions, keys: Sequence[str]) -> None:
        self.patterns = list(patterns)
        self.keys = list(keys)
        self.codes = KeyCodes(keys)
        self.store = EventStore()
        self.partials = [PartialMatches(p, bits) for p, bits in zip(patterns, conditions.bits, strict=True)]
        self.every_event = any(p.strict for p in self.partials)
        """A strict step ends on any event of the key, so events without a bit matter too."""
        self._touched: set[int] = set()
        self._expired = 0

    def process(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """Advances all patterns over these events; yields the matches of each pattern as rows."""
        codes = self.codes.of(rows)
        times = rows.get_column(TIMESTAMP).to_numpy().astype(np.int64, copy=False)
        masks = rows.get_column(MASK).to_numpy().astype(np.uint64, copy=False)
        ids = self._stored(rows, masks)
        self._touched.update(np.unique(codes).tolist())
        for pattern, partials in zip(self.patterns, self.partials, strict=True):
            found = partials.advance(codes, times, masks, ids, len(self.codes))
            if len(found):
                yield match_rows(pattern, self.patterns, found, self.store, self.keys)
        self.store.trim(self._referenced)

    def _stored(self, rows: pl.DataFrame, masks: np.ndarray) -> Int64s:  # type: ignore[type-arg]
        """Ids of the events; only those that a match can hold are kept."""
        useful = masks != 0
        ids = np.full(rows.height, -1, np.int64)
        ids[useful] = self.store.add(rows.drop(MASK) if useful.all() else rows.filter(pl.Series(useful)).drop(MASK))
        return ids

    def _referenced(self) -> Int64s:
        return np.unique(np.concatenate([p.referenced() for p in self.partials]))

    def expire(self, watermark: int) -> None:
        """Ends what no later event can complete. Looks through all keys only when event time has come a quarter of the
        shortest `within` further, so that each key costs a constant share."""
        limits = [p.within for p in self.patterns if p.within is not None]
        if not limits or watermark < self._expired + max(min(limits) // 4, 1):
            return
        self._expired = watermark
        for partials in self.partials:
            partials.expire(watermark)
        alive = np.zeros(len(self.codes), np.bool_)
        for partials in self.partials:
            keys = partials.keys_alive()[: len(alive)]
            alive[: len(keys)] |= keys
        for code in self._touched:
            if code < len(alive):
                alive[code] = True  # its end is still to be told to the next snapshot
        renumbered = self.codes.keep(alive)
        if renumbered is not None:
            for partials in self.partials:
                partials.renumber(renumbered, len(self.codes))
            self._touched = {int(renumbered[code]) for code in self._touched}
        self.store.trim(self._referenced)

    @property
    def alive(self) -> int:
        """Partial matches of all patterns."""
        return sum(p.alive for p in self.partials)

    # -- state

    def changes(self, *, full: bool) -> pl.DataFrame | None:
        """The partial matches of the keys touched since the last call (or of all), one row per event they hold; a key that
        has none left has one row with `__place` -1. None: nothing changed."""
        touched = np.array(sorted(range(len(self.codes)) if full else self._touched), dtype=np.int64)
        self._touched = set()
        if not len(touched) or not self.store.next_id:
            return None
        frames = [self._partial_rows(number, touched) for number in range(len(self.patterns))]
        held = [frame for frame in frames if frame is not None]
        if full:
            return pl.concat(held, how="diagonal_relaxed") if held else None
        busy = np.unique(np.concatenate([p.of_keys(touched)[0] for p in self.partials]))
        idle = np.setdiff1d(touched, busy)
        if len(idle):
            held.append(self._gone(idle))
        return pl.concat(held, how="diagonal_relaxed") if held else None

    def _partial_rows(self, number: int, touched: Int64s) -> pl.DataFrame | None:
        codes, start, events = self.partials[number].of_keys(touched)
        if not len(codes):
            return None
        order, place = np.nonzero(events >= 0)
        rows = self.store.get(events[order, place])
        return rows.select(
            *(name for name in rows.columns if name != "__id"),
            pl.lit(number, pl.Int64).alias(PATTERN),
            pl.Series(ORDER, order.astype(np.int64)),
            pl.Series(PLACE, place.astype(np.int64)),
            pl.Series(START, start[order]),
        )

    def _gone(self, idle: Int64s) -> pl.DataFrame:
        keys = self.codes.frame(idle, self._key_schema)
        height = len(idle)
        return (
            keys.with_columns(pl.Series(PLACE, [-1] * height, dtype=pl.Int64))
            if self.keys
            else pl.DataFrame({PLACE: pl.Series([-1] * height, dtype=pl.Int64)})
        )

    _key_schema: pl.Schema = pl.Schema()

    def remember_types(self, schema: pl.Schema) -> None:
        """Notes the types of the key columns, for keys that have no events left."""
        self._key_schema = pl.Schema({key: schema[key] for key in self.keys})

    def restore(self, frames: Sequence[pl.DataFrame]) -> None:
        """Takes back what `changes` gave, oldest first: of each key the newest frame counts."""
        numbered = [frame.with_columns(pl.lit(n, pl.Int64).alias("__frame")) for n, frame in enumerate(frames)]
        rows = pl.concat(numbered, how="diagonal_relaxed")
        newest = pl.col("__frame").max()
        last = newest.over(self.keys) if self.keys else newest
        rows = rows.filter((pl.col("__frame") == last) & (pl.col(PLACE) >= 0))
        if not rows.height:
            return
        rows = rows.sort(PATTERN, "__frame", ORDER, PLACE)
        self.remember_types(rows.schema)
        codes = self.codes.of(rows)
        ids = self.store.add(rows.drop(PATTERN, ORDER, PLACE, START, "__frame"))
        facts = rows.select(PATTERN, "__frame", ORDER, PLACE, START)
        current: tuple[int, int, int] | None = None
        held: list[int] = []
        starts: dict[tuple[int, int, int], tuple[int, int, list[int]]] = {}
        for row, (pattern, frame, order, _, start) in enumerate(facts.iter_rows()):
            name = (pattern, frame, order)
            if name != current:
                current, held = name, []
                starts[name] = (int(codes[row]), start, held)
            held.append(int(ids[row]))
        for (pattern, _, _), (code, start, events) in sorted(starts.items(), key=lambda item: (item[0][0], item[1][1])):
            self.partials[pattern].put(code, start, events, len(self.codes))

"""`Detect`: patterns inside a running job.

Events wait until the operator's watermark has passed them, then go through the automaton in the order (time, partition,
offset): so matches do not depend on how events were batched. A row behind its own partition's watermark is late.

State: waiting events (a frame per batch), the partial matches of the keys that changed, how far events were let go,
and the patterns that were changed while the job ran.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import polars as pl

from thalweg.cep.changes import Change, frame_of, read
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.conditions import MASK, Booleans, Conditions, Masks, any_bit, with_masks
from thalweg.cep.sequence.engine import NO_LIMITS, Limits, PatternEngine, Results
from thalweg.cep.sequence.matches import match_schema
from thalweg.cep.sequence.warm_up import warm_up
from thalweg.cep.waiting import WaitingEvents, clock_of, still_waiting
from thalweg.records import Int64s
from thalweg.streams.batch import (
    DEAD,
    INGESTED,
    KEY_GROUP,
    LATE,
    LATENESS,
    MIN_TIME,
    TIMESTAMP,
    WATERMARK,
    Batch,
    Watermark,
    gathered,
    with_column,
    without,
)
from thalweg.streams.engine.dead_letters import dead_letters, row_error
from thalweg.streams.operator import Memory, Operator, State, StateDelta
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.state.key_groups import warm_up as warm_up_key_groups
from thalweg.streams.windows import TimeSemantics

_CLOCK, _PARTIALS, _PATTERNS, _WAITING = "clock", "partials", "patterns", "waiting@"
TIMEOUT = "timeout"
"""The port of partial matches whose time has run out."""


class LivePatterns(Protocol):
    """Patterns that may change while a job runs (a `PatternMatcher`)."""

    def current(self) -> tuple[int, tuple[Pattern, ...]]:
        """A number that grows with every change, and the patterns."""

    def changes(self) -> list[Change]:
        """How they differ from those with which the job began."""

    def recover(self, changes: Sequence[Change]) -> None:
        """Makes the changes that an earlier run made."""


@dataclass(frozen=True)
class Ways:
    """How a `Detect` works."""

    limits: Limits = NO_LIMITS
    time: TimeSemantics = TimeSemantics.EVENT_TIME
    topics: Sequence[str] = ()
    schema: pl.Schema | None = None
    """Of the events; None where it can't be known before data comes."""
    live: LivePatterns | None = None
    on_match: Callable[[pl.DataFrame], None] | None = None
    on_timeout: Callable[[pl.DataFrame], None] | None = None


class Detect(Operator):
    """Finds the matches of its patterns, per key, in event time; or, by the clock, as events come."""

    def __init__(
        self,
        operator_id: str,
        patterns: Sequence[Pattern],
        keys: Sequence[str],
        conditions: Conditions,
        ways: Ways | None = None,
    ) -> None:
        super().__init__(operator_id)
        self.ways = ways or Ways()
        self.conditions = conditions
        self.keys = list(keys)
        self.patterns = list(patterns)
        self.engine = PatternEngine(patterns, conditions, keys, self.ways.limits)
        self.released = MIN_TIME
        self._by_event_time = self.ways.time is TimeSemantics.EVENT_TIME
        self._saved = MIN_TIME
        self._waiting = WaitingEvents()
        self._version = self._saved_version = self.ways.live.current()[0] if self.ways.live is not None else 0

    def warm_up(self) -> None:
        warm_up()
        warm_up_key_groups()

    # -- patterns that come and go

    def keep_up(self) -> None:
        """Goes on with the patterns as they are now: they change between two batches."""
        if self.ways.live is None:
            return
        version, patterns = self.ways.live.current()
        if version == self._version:
            return
        self.conditions = Conditions(patterns, self.ways.schema)
        self._waiting.change(lambda rows: with_masks(rows, self.conditions.masks(rows)[0]))
        self.engine.change(patterns, self.conditions)
        self.patterns, self._version = list(patterns), version

    # -- events

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.keep_up()
        frame = batch.frame
        self.account.received += frame.height
        if self._by_event_time:
            behind = self._behind(frame)
            if behind.max(initial=0) > 0:
                late = behind > 0
                yield self._late(frame.filter(late), behind[late])
                frame = frame.filter(~late)
        if not frame.height:
            return
        masks, failed = self.conditions.masks(frame)
        matters = np.ones(len(masks), np.bool_) if self.engine.every_event else any_bit(masks)
        if failed:
            errors = [row_error(row, error) for row, error in sorted(failed.items())]
            self.account.dead += len(errors)
            yield Batch(dead_letters(frame, errors, self.id, self.ways.topics), DEAD)
            matters[list(failed)] = False
        kept = int(matters.sum())
        self.account.absorbed += kept
        self.account.filtered += frame.height - kept - len(failed)
        if kept:
            yield from self._take(frame, masks, matters)

    def _take(self, frame: pl.DataFrame, masks: Masks, matters: Booleans) -> Iterator[Batch]:
        if matters.all():
            rows = with_masks(frame, masks)
        else:
            places = np.flatnonzero(matters)
            rows = with_masks(gathered(frame, places), masks[places])
        if self._by_event_time:
            self._waiting.add(without(rows, WATERMARK, INGESTED))
            return
        stamped = without(self._by_clock(rows), WATERMARK, INGESTED)
        self.released = max(self.released, cast(int, stamped.get_column(TIMESTAMP)[-1]))
        yield from self._told(self.engine.advance(stamped, self.released))

    def _by_clock(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows with the time at which they are here, or at which the source read them; it never goes back."""
        if self.ways.time is TimeSemantics.PROCESSING_TIME:
            return rows.with_columns(pl.lit(max(self.clock, self.released), pl.Int64).alias(TIMESTAMP))
        return rows.with_columns(pl.max_horizontal(INGESTED, pl.lit(self.released)).cum_max().alias(TIMESTAMP))

    def _behind(self, frame: pl.DataFrame) -> Int64s:
        """How far each row is behind its own partition's watermark, or the operator's where that went on without it."""
        boundary: Int64s | int = self.released
        if WATERMARK in frame.columns:
            boundary = np.maximum(frame.get_column(WATERMARK).to_numpy(), self.released)
        behind: Int64s = boundary - frame.get_column(TIMESTAMP).to_numpy()
        return behind

    def _late(self, rows: pl.DataFrame, behind: Int64s) -> Batch:
        self.account.late += rows.height
        return Batch(rows.with_columns(pl.Series(LATENESS, behind)), LATE)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        self.keep_up()
        now = watermark.event_time if self._by_event_time else watermark.clock
        if now <= self.released:
            return
        self.released = now
        rows = self._waiting.release(now) if self._by_event_time else None
        yield from self._told(self.engine.advance(rows, now))

    def _told(self, found: Results) -> Iterator[Batch]:
        if found.matches is not None:
            if self.ways.on_match is not None:
                self.ways.on_match(found.matches)
            yield Batch(found.matches)
        if found.timed_out is not None:
            if self.ways.on_timeout is not None:
                self.ways.on_timeout(found.timed_out)
            yield Batch(found.timed_out, TIMEOUT)

    # -- state

    def memory(self) -> Memory:
        events, waiting = self.engine.store, self._waiting
        return Memory(events.rows + self.engine.alive + waiting.rows, events.bytes + waiting.bytes)

    def snapshot(self, *, full: bool = False) -> StateDelta:
        self.keep_up()
        gone, waiting = self._waiting.changes(full=full)
        puts = [(f"{_WAITING}{n}", self._grouped(without(rows, MASK))) for n, rows in waiting]
        drops = [f"{_WAITING}{number}" for number in gone]
        if self.ways.live is not None and (full or self._version != self._saved_version):
            changed = self.ways.live.changes()
            drops += [] if full else [_PATTERNS]
            puts += [(_PATTERNS, frame_of(changed))] if changed else []
            self._saved_version = self._version
        partials = self.engine.changes(full=full)
        if partials is not None:
            puts.append((_PARTIALS, self._grouped(partials)))
        if full or puts or self.released != self._saved:
            if not full:
                drops.append(_CLOCK)
            self._saved = self.released
            puts.append((_CLOCK, clock_of(self.released, self._waiting.batches)))
        return StateDelta(drops=drops, puts=puts, full=full)

    def _grouped(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self.keys:
            return frame.with_columns(pl.lit(0, pl.UInt16).alias(KEY_GROUP))
        return with_column(frame, key_groups(frame, self.keys))

    def restore(self, state: State) -> None:
        if self.ways.live is not None and (kept := read(state.get(_PATTERNS, ()))):
            self.ways.live.recover(kept)
            self.keep_up()
            self._saved_version = self._version
        # Key groups that come from several workers may have been let go to different times.
        clocks = [frame.select(KEY_GROUP, "released", "batches") for frame in state.get(_CLOCK, ())]
        if clocks:
            clock = pl.concat(clocks).group_by(KEY_GROUP).max()
            self.released = self._saved = cast(int, clock.get_column("released").min())
            self._waiting.batches = cast(int, clock.get_column("batches").max())
        for name, frames in state.items():
            if clocks and name.startswith(_WAITING):
                rows = pl.concat(frames, how="diagonal_relaxed")
                self._waiting.put(int(name.removeprefix(_WAITING)), self._still_waiting(rows, clock))
        partials = [frame.drop(KEY_GROUP) for frame in state.get(_PARTIALS, ()) if frame.height]
        if partials:
            self.engine.restore(partials)

    def _still_waiting(self, rows: pl.DataFrame, clock: pl.DataFrame) -> pl.DataFrame:
        """Those of the saved rows that were not let go; their conditions are asked anew."""
        rows = still_waiting(rows, clock)
        return with_masks(rows, self.conditions.masks(rows)[0])

    def match_schema(self, events: pl.Schema) -> pl.Schema:
        """The columns of its matches."""
        return match_schema(self.patterns, self.keys, events)

"""`Detect`: patterns inside a running job.

Events wait until the operator's watermark has passed them, then go through the automaton in the order (time, partition,
offset): so matches do not depend on how events were batched. A row behind its own partition's watermark is late.

State: waiting events (a frame per batch), the partial matches of the keys that changed, how far events were let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.conditions import MASK, Conditions
from thalweg.cep.sequence.engine import PatternEngine
from thalweg.cep.sequence.matches import match_schema
from thalweg.cep.sequence.partials import warm_up
from thalweg.streams.batch import (
    DEAD,
    KEY_GROUP,
    LATE,
    LATE_WINDOW_END,
    LATENESS,
    MIN_TIME,
    OFFSET,
    PARTITION,
    TIMESTAMP,
    WATERMARK,
    Batch,
    Watermark,
)
from thalweg.streams.engine.dead_letters import RowError, dead_letters
from thalweg.streams.operator import Operator, State, StateDelta
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.state.key_groups import warm_up as warm_up_key_groups

_CLOCK, _PARTIALS, _WAITING = "clock", "partials", "waiting@"
TIMEOUT = "timeout"
"""The port of partial matches whose time has run out."""


class Detect(Operator):
    """Finds the matches of its patterns, per key, in event time."""

    def __init__(
        self,
        operator_id: str,
        patterns: Sequence[Pattern],
        keys: Sequence[str],
        conditions: Conditions,
        topics: Sequence[str] = (),
        on_match: Callable[[pl.DataFrame], None] | None = None,
        on_timeout: Callable[[pl.DataFrame], None] | None = None,
        *,
        timeouts: bool = False,
    ) -> None:
        super().__init__(operator_id)
        self.conditions = conditions
        self.keys = list(keys)
        self.patterns = list(patterns)
        self.engine = PatternEngine(patterns, conditions, keys, timeouts=timeouts or on_timeout is not None)
        self.topics = topics
        self.released = MIN_TIME
        self._saved = MIN_TIME
        self._on_match, self._on_timeout = on_match, on_timeout
        self._waiting: dict[int, pl.DataFrame] = {}
        self._new: dict[int, pl.DataFrame] = {}
        self._durable: set[int] = set()
        self._drops: list[int] = []
        self._batches = 0

    def warm_up(self) -> None:
        warm_up()
        warm_up_key_groups()

    # -- events

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = batch.frame
        self.account.received += frame.height
        late = self._late(frame)
        if late is not None:
            yield late
            frame = frame.filter(self._in_time(frame))
        if not frame.height:
            return
        masks, failed = self.conditions.masks(frame)
        if failed:
            errors: list[RowError] = [(row, type(e).__name__, str(e), {}) for row, e in sorted(failed.items())]
            self.account.dead += len(errors)
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)
        matters = np.ones(len(masks), np.bool_) if self.engine.every_event else masks != 0
        matters[list(failed)] = False
        kept = int(matters.sum())
        self.account.absorbed += kept
        self.account.filtered += frame.height - kept - len(failed)
        if kept:
            self._wait(frame.with_columns(pl.Series(MASK, masks)).filter(pl.Series(matters)))

    def _boundary(self, frame: pl.DataFrame) -> pl.Expr:
        """The time before which a row is late: its own partition's watermark, never less than what was let go."""
        released = pl.lit(self.released, pl.Int64)
        return pl.max_horizontal(WATERMARK, released) if WATERMARK in frame.columns else released

    def _in_time(self, frame: pl.DataFrame) -> pl.Expr:
        return pl.col(TIMESTAMP) >= self._boundary(frame)

    def _late(self, frame: pl.DataFrame) -> Batch | None:
        late = frame.filter(~self._in_time(frame))
        if not late.height:
            return None
        self.account.late += late.height
        lateness = (self._boundary(frame) - pl.col(TIMESTAMP)).alias(LATENESS)
        return Batch(late.with_columns(pl.col(TIMESTAMP).alias(LATE_WINDOW_END), lateness), LATE)

    def _wait(self, rows: pl.DataFrame) -> None:
        self._batches += 1
        self._waiting[self._batches] = self._new[self._batches] = rows

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if watermark.event_time <= self.released:
            return
        self.released = watermark.event_time
        found = self.engine.advance(self._release(), self.released)
        if found.matches is not None:
            if self._on_match is not None:
                self._on_match(found.matches)
            yield Batch(found.matches)
        if found.timed_out is not None:
            if self._on_timeout is not None:
                self._on_timeout(found.timed_out)
            yield Batch(found.timed_out, TIMEOUT)

    def _release(self) -> pl.DataFrame | None:
        """The waiting events before the watermark, in order."""
        ready = []
        for number, rows in list(self._waiting.items()):
            due = rows.filter(pl.col(TIMESTAMP) < self.released)
            if not due.height:
                continue
            ready.append(due)
            if due.height == rows.height:
                self._forget(number)
            else:
                self._waiting[number] = rows.filter(pl.col(TIMESTAMP) >= self.released)
                if number in self._new:
                    self._new[number] = self._waiting[number]
        if not ready:
            return None
        rows = ready[0] if len(ready) == 1 else pl.concat(ready, how="diagonal_relaxed")
        order = [name for name in (TIMESTAMP, PARTITION, OFFSET) if name in rows.columns]
        rows = rows.sort(order, maintain_order=True)
        return rows.drop(WATERMARK, strict=False)

    def _forget(self, number: int) -> None:
        del self._waiting[number]
        self._new.pop(number, None)
        if number in self._durable:
            self._durable.discard(number)
            self._drops.append(number)

    # -- state

    def snapshot(self, *, full: bool = False) -> StateDelta:
        puts = [(f"{_WAITING}{n}", self._grouped(f)) for n, f in (self._waiting if full else self._new).items()]
        drops = [] if full else [f"{_WAITING}{number}" for number in self._drops]
        self._durable.update(self._waiting if full else self._new)
        self._new, self._drops = {}, []
        partials = self.engine.changes(full=full)
        if partials is not None:
            puts.append((_PARTIALS, self._grouped(partials)))
        if full or self.released != self._saved:
            if not full:
                drops.append(_CLOCK)
            self._saved = self.released
            clock = {
                KEY_GROUP: pl.Series([0], dtype=pl.UInt16),
                "released": [self.released],
                "batches": [self._batches],
            }
            puts.append((_CLOCK, pl.DataFrame(clock)))
        return StateDelta(drops=drops, puts=puts, full=full)

    def _grouped(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self.keys:
            return frame.with_columns(pl.lit(0, pl.UInt16).alias(KEY_GROUP))
        return frame.with_columns(key_groups(frame, self.keys))

    def restore(self, state: State) -> None:
        for frame in state.get(_CLOCK, ()):
            self.released = max(self.released, *frame["released"].to_list())
            self._batches = max(self._batches, *frame["batches"].to_list())
        self._saved = self.released
        for name, frames in state.items():
            if name.startswith(_WAITING):
                number = int(name.removeprefix(_WAITING))
                rows = pl.concat(frames, how="diagonal_relaxed").drop(KEY_GROUP)
                rows = rows.filter(pl.col(TIMESTAMP) >= self.released)
                self._durable.add(number)
                self._waiting[number] = rows
        partials = [frame.drop(KEY_GROUP) for frame in state.get(_PARTIALS, ()) if frame.height]
        if partials:
            self.engine.restore(partials)

    def match_schema(self, events: pl.Schema) -> pl.Schema:
        """The columns of its matches."""
        return match_schema(self.patterns, self.keys, events)

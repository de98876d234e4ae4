"""`Detect`: patterns inside a running job.

Events wait until the operator's watermark has passed them, then go through the automaton in the order (time, partition,
offset): so matches do not depend on how events were batched. A row behind its own partition's watermark is late.

State: waiting events (a frame per batch), the partial matches of the keys that changed, how far events were let go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import polars as pl

from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.conditions import MASK, Conditions
from thalweg.cep.sequence.engine import PatternEngine
from thalweg.cep.sequence.matches import match_schema
from thalweg.cep.sequence.partials import warm_up
from thalweg.records import Int64s
from thalweg.streams.batch import (
    DEAD,
    INGESTED,
    KEY_GROUP,
    LATE,
    LATENESS,
    MIN_TIME,
    OFFSET,
    PARTITION,
    SOURCE,
    TIMESTAMP,
    WATERMARK,
    Batch,
    Watermark,
)
from thalweg.streams.engine.dead_letters import dead_letters, row_error
from thalweg.streams.operator import Operator, State, StateDelta
from thalweg.streams.state.key_groups import KEY_GROUPS, key_groups
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
        self._spans: dict[int, tuple[int, int]] = {}
        """The first and last event time of each waiting frame."""
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
        behind = self._behind(frame)
        if behind.max(initial=0) > 0:
            late = behind > 0
            yield self._late(frame.filter(late), behind[late])
            frame = frame.filter(~late)
        if not frame.height:
            return
        masks, failed = self.conditions.masks(frame)
        matters = np.ones(len(masks), np.bool_) if self.engine.every_event else masks != 0
        if failed:
            errors = [row_error(row, error) for row, error in sorted(failed.items())]
            self.account.dead += len(errors)
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)
            matters[list(failed)] = False
        kept = int(matters.sum())
        self.account.absorbed += kept
        self.account.filtered += frame.height - kept - len(failed)
        if kept:
            rows = frame.with_columns(pl.Series(MASK, masks)).drop(WATERMARK, INGESTED, strict=False)
            self._wait(rows if kept == rows.height else rows.filter(matters))

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

    def _wait(self, rows: pl.DataFrame) -> None:
        self._batches += 1
        self._waiting[self._batches] = self._new[self._batches] = rows
        times = rows.get_column(TIMESTAMP)
        self._spans[self._batches] = cast(int, times.min()), cast(int, times.max())

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
        for number, (first, last) in list(self._spans.items()):
            if first >= self.released:
                continue
            rows = self._waiting[number]
            if last < self.released:
                ready.append(rows)
                self._forget(number)
                continue
            due = (rows.get_column(TIMESTAMP) < self.released).to_numpy()
            ready.append(rows.filter(due))
            rest = self._waiting[number] = rows.filter(~due)
            self._spans[number] = cast(int, rest.get_column(TIMESTAMP).min()), last
            if number in self._new:
                self._new[number] = rest
        if not ready:
            return None
        rows = ready[0] if len(ready) == 1 else pl.concat(ready, how="diagonal_relaxed")
        order = [name for name in (TIMESTAMP, SOURCE, PARTITION, OFFSET) if name in rows.columns]
        return rows.sort(order, maintain_order=True)

    def _forget(self, number: int) -> None:
        del self._waiting[number], self._spans[number]
        self._new.pop(number, None)
        if number in self._durable:
            self._durable.discard(number)
            self._drops.append(number)

    # -- state

    def snapshot(self, *, full: bool = False) -> StateDelta:
        waiting = self._waiting if full else self._new
        puts = [(f"{_WAITING}{n}", self._grouped(rows.drop(MASK))) for n, rows in waiting.items()]
        drops = [] if full else [f"{_WAITING}{number}" for number in self._drops]
        self._durable.update(waiting)
        self._new, self._drops = {}, []
        partials = self.engine.changes(full=full)
        if partials is not None:
            puts.append((_PARTIALS, self._grouped(partials)))
        if full or puts or self.released != self._saved:
            if not full:
                drops.append(_CLOCK)
            self._saved = self.released
            groups = pl.int_range(KEY_GROUPS, dtype=pl.UInt16, eager=True).alias(KEY_GROUP)
            clock = groups.to_frame().with_columns(released=pl.lit(self.released), batches=pl.lit(self._batches))
            puts.append((_CLOCK, clock))
        return StateDelta(drops=drops, puts=puts, full=full)

    def _grouped(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self.keys:
            return frame.with_columns(pl.lit(0, pl.UInt16).alias(KEY_GROUP))
        return frame.with_columns(key_groups(frame, self.keys))

    def restore(self, state: State) -> None:
        # Key groups that come from several workers may have been let go to different times.
        clocks = [frame.select(KEY_GROUP, "released", "batches") for frame in state.get(_CLOCK, ())]
        if clocks:
            clock = pl.concat(clocks).group_by(KEY_GROUP).max()
            self.released = self._saved = cast(int, clock.get_column("released").min())
            self._batches = cast(int, clock.get_column("batches").max())
        for name, frames in state.items():
            if clocks and name.startswith(_WAITING):
                number = int(name.removeprefix(_WAITING))
                self._durable.add(number)
                self._wait_again(number, pl.concat(frames, how="diagonal_relaxed"), clock)
        partials = [frame.drop(KEY_GROUP) for frame in state.get(_PARTIALS, ()) if frame.height]
        if partials:
            self.engine.restore(partials)

    def _wait_again(self, number: int, rows: pl.DataFrame, clock: pl.DataFrame) -> None:
        """Takes back waiting events, those that were not let go; their conditions are asked anew."""
        rows = rows.join(clock, on=KEY_GROUP, how="left", maintain_order="left")
        rows = rows.filter(pl.col(TIMESTAMP) >= pl.col("released")).drop(KEY_GROUP, "released", "batches")
        if not rows.height:
            self._drops.append(number)
            self._durable.discard(number)
            return
        masks, _ = self.conditions.masks(rows)
        self._waiting[number] = rows.with_columns(pl.Series(MASK, masks))
        times = rows.get_column(TIMESTAMP)
        self._spans[number] = cast(int, times.min()), cast(int, times.max())

    def match_schema(self, events: pl.Schema) -> pl.Schema:
        """The columns of its matches."""
        return match_schema(self.patterns, self.keys, events)

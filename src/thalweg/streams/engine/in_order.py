"""Events in the order of their times.

State: the events that the watermark has not passed, in a keyed columnar index. Cost per event: one insert, and its
share of sorting what is released together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.batch import TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.engine.join_base import TimedOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.keyed_rows import KeyedRows, warm_up


class InOrder(TimedOperator):
    """Passes each event on, unchanged, once the watermark is past its time; of equal times the first to come first."""

    def __init__(self, operator_id: str, keys: Sequence[str]) -> None:
        super().__init__(operator_id)
        self.waiting = KeyedRows("waiting", keys, bucket=100)

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        rows, late = self.split_late(batch.frame, pl.col(TIMESTAMP) + 1)
        if late is not None:
            yield late
        if rows.height:
            self.account.absorbed += rows.height
            times = np.ascontiguousarray(rows[TIMESTAMP].to_numpy())
            self.waiting.add(rows, self.waiting.keys(rows), times)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if not self.advance(watermark):
            return
        slots = self.waiting.due(self.closed - 1)
        if len(slots):
            rows = self.waiting.read(slots)
            self.waiting.remove(slots, due=True)
            yield self.result(rows.with_columns(pl.col(TIMESTAMP).alias(WATERMARK)))

    def memory(self) -> Memory:
        return self.waiting.memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        forgotten = self.waiting.forgotten
        return self.combine(self.waiting.snapshot(full=full), forgotten=forgotten, full=full)

    def restore(self, state: State) -> None:
        self.restore_progress(state)
        self.waiting.restore(state, after=self.closed - 1)

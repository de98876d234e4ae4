"""The global window: one group per key for all time, whose result is a changelog. State: see `window_slots`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.aggregate import AggregatePlan
from thalweg.streams.batch import CHANGE, MIN_TIME, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.engine.window_base import EFFECTIVE
from thalweg.streams.engine.window_slots import Slots, SlotWindowOperator
from thalweg.streams.state.row_store import SLOT
from thalweg.streams.state.session_index import SessionIndex
from thalweg.streams.windows import TimeSemantics

SENT = "__sent"
"""Saved state, Boolean: whether the key's result has been sent on; and `__unsent`: whether it has changed since."""
UNSENT = "__unsent"

_FOR_EVER = 2**61


class GlobalWindowOperator(SlotWindowOperator):
    """Aggregates per key over all time. No row is late.

    After each batch, once the watermark has been told, every key whose result changed gives one row: its key columns,
    aggregates and `__op`, "insert" for a new key and "update" for a known one. `__ts` is the key's latest event time.
    The rows in between depend on how events were batched; the last one of each key does not.
    """

    flags = (SENT, UNSENT)

    def __init__(
        self, operator_id: str, keys: Sequence[str], plan: AggregatePlan, time: TimeSemantics = TimeSemantics.EVENT_TIME
    ) -> None:
        # A session whose gap is longer than time: one window per key, found by the same index.
        super().__init__(operator_id, SessionIndex(_FOR_EVER), keys, plan, time, idle_flag=False)
        self._sent = np.zeros(0, dtype=bool)
        self._unsent = np.zeros(0, dtype=bool)
        self._news: list[Slots] = []

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        self.account.absorbed += len(batch)
        if batch:
            before = len(self._changed)
            self.take(self.timed(batch.frame).with_columns(pl.lit(MIN_TIME, dtype=pl.Int64).alias(EFFECTIVE)))
            self._grow()
            self._news += self._changed[before:]
            for slots in self._changed[before:]:
                self._unsent[slots] = True
        return iter(())

    def _grow(self) -> None:
        more = self.index.capacity - len(self._sent)
        if more > 0:
            self._sent = np.append(self._sent, np.zeros(more, dtype=bool))
            self._unsent = np.append(self._unsent, np.zeros(more, dtype=bool))

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        self.advance(watermark)
        if not self._news:
            return
        slots = self.distinct.of(*self._news)
        self._news = []
        changes = self._changes(slots)
        self._sent[slots] = True
        self._unsent[slots] = False
        yield changes

    def _changes(self, slots: Slots) -> Batch:
        rows = self.finished(slots)
        slots = rows[SLOT].to_numpy()
        known = pl.Series(CHANGE, self._sent[slots])
        rows = rows.hstack([known, pl.Series(TIMESTAMP, self.index.last[slots])]).with_columns(
            pl.when(CHANGE).then(pl.lit("update")).otherwise(pl.lit("insert")).alias(CHANGE)
        )
        columns = [*self.keys, *self.plan.aggregates, CHANGE, TIMESTAMP, pl.col(TIMESTAMP).alias(WATERMARK)]
        frame = (rows.sort(self.keys) if self.keys else rows).select(columns)
        self.account.emitted += frame.height
        return Batch(frame)

    def query(self, keys: pl.DataFrame | None) -> pl.DataFrame:
        """A row per key with the current results."""
        from thalweg.streams.engine.window_queries import of_slots

        return of_slots(self, keys, bounds=False)

    def labelled(self, slots: Slots, *, gone: bool) -> pl.DataFrame:
        flags = {SENT: self._sent[slots], UNSENT: self._unsent[slots]}
        return super().labelled(slots, gone=gone).hstack([pl.Series(name, of) for name, of in flags.items()])

    def restored(self, windows: pl.DataFrame) -> None:
        self._grow()
        slots = windows[SLOT].to_numpy()
        self._sent[slots] = windows[SENT].to_numpy()
        self._unsent[slots] = windows[UNSENT].to_numpy()
        if self._unsent.any():
            self._news = [slots[self._unsent[slots]]]

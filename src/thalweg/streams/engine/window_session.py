"""Session windows: events of one key with pauses shorter than a gap. State: see `window_slots`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from thalweg.streams.aggregate import AggregatePlan
from thalweg.streams.batch import MIN_TIME, TIMESTAMP, Batch, Watermark
from thalweg.streams.engine.waiting_rows import WaitingRows
from thalweg.streams.engine.window_base import EFFECTIVE, WINDOW_END, WINDOW_START
from thalweg.streams.engine.window_slots import Slots, SlotWindowOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.row_store import SLOT
from thalweg.streams.state.session_index import SessionIndex
from thalweg.streams.windows import SessionWindow, TimeSemantics


class SessionWindowOperator(SlotWindowOperator):
    """Aggregates per key and session.

    A row joins the sessions of its key that are open by its own watermark and nearer than the gap; several become
    one. It is late iff there is none and its watermark has reached its time plus the gap.

    With a longest length, rows wait until the watermark has passed them, and go into sessions in order of time: only so
    does the result not depend on the order of arrival. A row behind its own watermark is then late.
    """

    def __init__(
        self,
        operator_id: str,
        window: SessionWindow,
        keys: Sequence[str],
        plan: AggregatePlan,
        time: TimeSemantics = TimeSemantics.EVENT_TIME,
        *,
        idle_flag: bool = False,
    ) -> None:
        index = SessionIndex(window.gap, window.max_length)
        super().__init__(operator_id, index, keys, plan, time, idle_flag=idle_flag)
        self.window = window
        self.waiting = WaitingRows("waiting", self.keys, window.gap)
        """Rows that wait for the watermark; only where sessions have a longest length."""

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        if not batch:
            return
        frame = self.with_effective(self.timed(batch.frame))
        late = self.take(frame) if self.window.max_length is None else self._hold(frame)
        count = int(late.sum())
        self.account.absorbed += len(batch) - count
        if count:
            self.account.late += count
            # With a longest length it would have had to come before the watermark passed it.
            patience = self.window.gap if self.window.max_length is None else 1
            yield self.late_batch(frame.filter(late), pl.col(TIMESTAMP) + patience, batch.frame.columns)

    def _hold(self, frame: pl.DataFrame) -> pl.Series:
        late = frame[TIMESTAMP] < frame[EFFECTIVE]
        needed = dict.fromkeys([*self.keys, *sorted(self.plan.columns), TIMESTAMP])
        self.waiting.hold(frame.filter(~late).select(*needed))
        return late

    def _release(self) -> None:
        """Takes the waiting rows that the watermark has passed."""
        rows = self.waiting.release(self.closed)
        if rows is not None:
            self.take(rows.with_columns(pl.lit(MIN_TIME, dtype=pl.Int64).alias(EFFECTIVE)))

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if not self.advance(watermark):
            return
        if self.window.max_length is not None:
            self._release()
        due = self.index.due(self.closed)
        if len(due):
            results = self.result(self._results(due), watermark)
            self.index.close(due)
            self.bury(due)
            yield results

    def _results(self, slots: Slots) -> pl.DataFrame:
        results = self.finished(slots)
        slots = results[SLOT].to_numpy()
        bounds = {WINDOW_START: self.index.start[slots], WINDOW_END: self.index.ends(slots)}
        return results.hstack([pl.Series(name, times) for name, times in bounds.items()])

    def query(self, keys: pl.DataFrame | None) -> pl.DataFrame:
        """A row per key and open session with the results so far."""
        from thalweg.streams.engine.window_queries import of_slots

        return of_slots(self, keys, bounds=True)

    def memory(self) -> Memory:
        return super().memory() + self.waiting.log.memory()

    def other_state(self, full: bool) -> list[StateDelta]:
        return [self.waiting.log.snapshot(full=full)]

    def restore(self, state: State) -> None:
        self.waiting.log.restore(state)
        super().restore(state)

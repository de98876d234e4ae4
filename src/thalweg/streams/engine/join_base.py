"""What all join operators share: how far time has come, who is late, and the account."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from thalweg.streams.batch import (
    INGESTED,
    LATE,
    MIN_TIME,
    OFFSET,
    PARTITION,
    SOURCE,
    Batch,
    Watermark,
)
from thalweg.streams.engine.lateness import judged_by, late_facts
from thalweg.streams.engine.saved_progress import SavedProgress
from thalweg.streams.operator import Operator, State, StateDelta
from thalweg.streams.plan.join_columns import JoinColumns

LEFT, RIGHT = 0, 1
"""The input ports of a join."""

_ORIGIN = (INGESTED, PARTITION, OFFSET, SOURCE)
"""Reserved columns that are not kept in state."""


class TimedOperator(Operator):
    """The base of operators that hold rows and judge them by event time.

    Who is late, and what is joined, depends neither on batches nor on how the inputs mix: see `lateness`.

    Args:
        behind: how far the operator's results may lie behind its watermark, ms; readers see a watermark that much less.
    """

    def __init__(self, operator_id: str, behind: int = 0) -> None:
        super().__init__(operator_id)
        self.behind = behind
        self.closed = MIN_TIME
        self._progress = SavedProgress()
        self._given = False
        """Whether results have come out since the last snapshot."""

    def kept(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows as they go into state."""
        origin = [name for name in _ORIGIN if name in frame.columns]
        return frame.drop(origin) if origin else frame

    def judge(self, frame: pl.DataFrame) -> pl.Expr:
        """The watermark that each row is judged by."""
        return judged_by(frame, self.closed)

    def split_late(self, frame: pl.DataFrame, end: pl.Expr) -> tuple[pl.DataFrame, Batch | None]:
        """Rows that are in time, and a batch for the late port of those whose `end` the watermark has reached."""
        facts = frame.select(first=end.min(), highest=self.judge(frame).max())
        if not frame.height or facts.item(0, "first") > facts.item(0, "highest"):
            return frame, None
        own = self.judge(frame)
        late = frame.filter(end <= own)
        if not late.height:
            return frame, None
        self.account.late += late.height
        return frame.filter(end > own), Batch(late.with_columns(late_facts(end, own)), LATE)

    def advance(self, watermark: Watermark) -> bool:
        """Takes the watermark; true where it has moved."""
        if watermark.event_time <= self.closed:
            return False
        self.closed = watermark.event_time
        return True

    def output_watermark(self, watermark: Watermark) -> Watermark:
        return Watermark(watermark.event_time - self.behind, watermark.clock, watermark.idle_closed)

    def result(self, frame: pl.DataFrame) -> Batch:
        """Rows for the main port."""
        self.account.emitted += frame.height
        self._given = True
        return Batch(frame)

    # -- state

    def combine(
        self, puts: Sequence[tuple[str, pl.DataFrame]], *, drops: Sequence[str] = (), forgotten: bool, full: bool
    ) -> StateDelta:
        """The change of state with how far time has come and the account.

        Args:
            forgotten: rows that were saved have been let go by time alone.
        """
        changed = bool(puts or drops) or forgotten or self._given
        self._given = False
        progress = self._progress.change(self.closed, self.account, changed=changed, full=full)
        return StateDelta(drops=[*drops, *progress.drops], puts=[*puts, *progress.puts], full=full)

    def restore_progress(self, state: State) -> None:
        """Takes back how far time had come, and the account."""
        self.closed = max(self.closed, self._progress.restore(state, self.account, self.id))


class JoinOperator(TimedOperator):
    """The base of joins of two streams."""

    def __init__(self, operator_id: str, columns: JoinColumns, behind: int) -> None:
        super().__init__(operator_id, behind)
        self.columns = columns

    def received(self, batch: Batch, port: int) -> pl.DataFrame:
        """Books a batch and takes note of its columns."""
        self.account.received += len(batch)
        self.columns.see(batch.frame, right=port == RIGHT)
        return batch.frame

"""What all window operators share: their clock, who is late, and the form of a result row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import polars as pl

from thalweg.streams.aggregate import AggregatePlan
from thalweg.streams.aggregate.monoid import COMPUTED
from thalweg.streams.batch import (
    INGESTED,
    LATE,
    MIN_TIME,
    TIMESTAMP,
    WATERMARK,
    Batch,
    Watermark,
)
from thalweg.streams.engine.lateness import judged_by, late_facts
from thalweg.streams.engine.saved_progress import SavedProgress
from thalweg.streams.operator import Operator, State, StateDelta
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.windows import TimeSemantics

WINDOW_START = "window_start"
WINDOW_END = "window_end"
IDLE_CLOSED = "idle_closed"
"""Boolean result column of jobs that close quiet streams by the clock: the window was closed that way."""
EFFECTIVE = "__effective"
"""The watermark that a row is judged by: its own, or the operator's where an idle input let that run ahead."""


class WindowOperator(Operator):
    """The base of the window operators.

    `closed` says how far windows have been closed: the watermark in event time, the job's clock otherwise. A row is
    late for a window iff its own partition's watermark, or `closed`, has reached the window's end. The second can only
    happen after an idle partition was left out of the minimum: otherwise own watermark >= minimum.
    """

    def __init__(
        self,
        operator_id: str,
        keys: Sequence[str],
        plan: AggregatePlan,
        time: TimeSemantics,
        *,
        idle_flag: bool = False,
    ) -> None:
        super().__init__(operator_id)
        self.keys = list(keys)
        self.plan = plan
        self.time = time
        self.idle_flag = idle_flag
        self.drops_late = False
        self.closed = MIN_TIME
        self._progress = SavedProgress()
        self._given = False
        """Whether results have come out since the last snapshot."""

    def route_late(self, on_late: str | None) -> None:
        """What becomes of rows that are too late: "dead-letter", "side", "drop"; None: as the app says."""
        self.drops_late = on_late == "drop"
        self.late_letters = on_late != "side"

    def timed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The frame with `__ts` and `__wm` by the operator's own time.

        Processing time is the job's clock; ingestion time the row's `__ingested`, or the clock by which windows
        were closed where that is later (the row waited in a queue): rows are never late by either.
        """
        if self.time is TimeSemantics.EVENT_TIME:
            return frame
        never_late = pl.lit(MIN_TIME, dtype=pl.Int64).alias(WATERMARK)
        if self.time is TimeSemantics.PROCESSING_TIME:
            now = max(self.clock, self.closed)
            return frame.with_columns(pl.lit(now, dtype=pl.Int64).alias(TIMESTAMP), never_late)
        return frame.with_columns(pl.max_horizontal(INGESTED, pl.lit(self.closed)).alias(TIMESTAMP), never_late)

    def highest_watermark(self, frame: pl.DataFrame) -> int:
        """The largest watermark that any row of the frame is judged by."""
        highest = frame[WATERMARK].max() if WATERMARK in frame.columns else None
        return self.closed if highest is None else max(self.closed, cast(int, highest))

    def with_effective(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Adds the watermark that each row is judged by, as `__effective`."""
        return frame.with_columns(judged_by(frame, self.closed).alias(EFFECTIVE))

    def late_batch(self, rows: pl.DataFrame, end: pl.Expr, columns: Iterable[str]) -> Batch:
        """Rows for the late port: as they came, with the end of their last window and how late they were."""
        if self.drops_late:
            return Batch(rows.clear(), LATE)
        kept = [name for name in columns if not name.startswith(COMPUTED)]
        return Batch(rows.select(*kept, *late_facts(end, pl.col(EFFECTIVE))), LATE)

    def advance(self, watermark: Watermark) -> bool:
        """Takes the clock; true where windows may have to close."""
        now = watermark.event_time if self.time is TimeSemantics.EVENT_TIME else watermark.clock
        if now <= self.closed:
            return False
        self.closed = now
        return True

    def result(self, rows: pl.DataFrame, watermark: Watermark) -> Batch:
        """Result rows in their public form and a fixed order: keys, window_start, window_end, aggregates, times.

        `__ts` is the window's last millisecond, and `__wm` the same: by the order of windows, no earlier result comes
        after it.
        """
        last = pl.col(WINDOW_END) - 1
        flag = [pl.lit(watermark.idle_closed).alias(IDLE_CLOSED)] if self.idle_flag else []
        frame = rows.sort(WINDOW_END, *self.keys, WINDOW_START).select(
            *self.keys,
            WINDOW_START,
            WINDOW_END,
            *self.plan.aggregates,
            *flag,
            last.alias(TIMESTAMP),
            last.alias(WATERMARK),
        )
        self.account.emitted += frame.height
        self._given = True
        return Batch(frame)

    def key_groups(self, frame: pl.DataFrame) -> pl.Series:
        """The key group of every row."""
        return key_groups(frame, self.keys)

    def combine(self, deltas: Sequence[StateDelta], *, full: bool) -> StateDelta:
        """The deltas of the operator's logs as one, with how far windows are closed and the account."""
        drops = [name for delta in deltas for name in delta.drops]
        puts = [put for delta in deltas for put in delta.puts]
        changed = bool(drops or puts) or self._given
        self._given = False
        progress = self._progress.change(self.closed, self.account, changed=changed, full=full)
        return StateDelta(drops=[*drops, *progress.drops], puts=[*puts, *progress.puts], full=full)

    def restore_progress(self, state: State) -> None:
        """Takes back how far windows were closed, and the account: late events stay counted."""
        self.closed = max(self.closed, self._progress.restore(state, self.account, self.id))

"""Tumbling and sliding windows: one pre-aggregation per batch, one merge per close.

State: a frame log of partial rows per slice (`AlignedWindow`), before it the groups that have had events since the last
commit (`HotGroups`), and how far windows are closed. Cost per event: a few kernels, or one vectorised group-by where an
aggregate needs it, whatever the size and slide; per close: a merge of the window's partial rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.aggregate import AggregatePlan, Table, warm_up
from thalweg.streams.batch import TIMESTAMP, Batch, Watermark, with_column
from thalweg.streams.engine import hot_groups
from thalweg.streams.engine.hot_groups import MOST, HotGroups
from thalweg.streams.engine.window_base import EFFECTIVE, WINDOW_END, WINDOW_START, WindowOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.frame_log import FrameLog
from thalweg.streams.windows import AlignedWindow, TimeSemantics

SLICE = "__slice"
"""The end of the slice that an event falls into."""
FIRST = "__first"
"""The first window end at which a partial row counts: later than its slice's own for rows late for some windows."""


class AlignedWindowOperator(WindowOperator):
    """Aggregates per key and aligned window."""

    def __init__(
        self,
        operator_id: str,
        window: AlignedWindow,
        keys: Sequence[str],
        plan: AggregatePlan,
        time: TimeSemantics = TimeSemantics.EVENT_TIME,
        *,
        idle_flag: bool = False,
    ) -> None:
        super().__init__(operator_id, keys, plan, time, idle_flag=idle_flag)
        self.window = window
        self._overlapping = window.overlapping
        self._group = [*keys, FIRST] if self._overlapping else [*keys]
        self.logs = [self._log(table) for table in plan.tables]
        self._hot = HotGroups(plan.tables[0].parts, keys, FIRST if self._overlapping else None)

    def settle(self) -> None:
        """Gives the frame log what the last events have added."""
        for pane, rows in self._hot.take():
            self.logs[0].append(pane, rows)

    def _log(self, table: Table) -> FrameLog:
        return FrameLog(
            table.name, lambda frames: self.plan.merge(table, frames, self._group), self.key_groups, self.keys
        )

    def warm_up(self) -> None:
        warm_up()
        hot_groups.warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        if not batch:
            return
        frame = self.timed(batch.frame)
        earliest, latest = int(frame[TIMESTAMP].min()), int(frame[TIMESTAMP].max())  # type: ignore[arg-type]
        if self._is_simple(frame, earliest, latest):
            self._absorb_into(self.window.slice_end(earliest), frame)
            return
        events, late = self._assign(frame, earliest, latest)
        if events.height:
            self._absorb(events)
        if late is not None:
            self.account.late += late.height
            yield self.late_batch(late, self._last_end(), batch.frame.columns)

    def _is_simple(self, frame: pl.DataFrame, earliest: int, latest: int) -> bool:
        """Whether all events are in one slice and none is late: most small batches of a stream that is up to date."""
        window = self.window
        if window.gaps or not self.keys or window.slice_end(earliest) != window.slice_end(latest):
            return False
        return self.highest_watermark(frame) < window.first_end(earliest)

    def _absorb_into(self, pane: int, events: pl.DataFrame) -> None:
        """Takes events of one slice, which need no columns that say so."""
        self.account.absorbed += events.height
        first = self.window.first_end(pane - 1)
        events = self.plan.with_inputs(events)
        for table, log in self._not_in_place(events, np.array([pane]), np.array([first])):
            rows = self.plan.prepare_table(table, events, self.keys)
            if self._overlapping:
                rows = with_column(rows, pl.repeat(first, rows.height, dtype=pl.Int64, eager=True).alias(FIRST))
            log.append(pane, rows)

    def _not_in_place(self, events: pl.DataFrame, slices: Int64s, firsts: Int64s) -> Iterable[tuple[Table, FrameLog]]:
        """Adds events to the groups that are updated in place; returns the tables that are left to a group-by."""
        if len(self._hot) > MOST or not self._hot.takes(events):
            self.settle()
        tables = list(zip(self.plan.tables, self.logs, strict=True))
        return tables[1:] if self._hot.add(events, slices, firsts) else tables

    def _assign(self, frame: pl.DataFrame, earliest: int, latest: int) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """Gives events their slice; splits off those that are late for all their windows."""
        window = self.window
        frame = frame.with_columns(self._slices(earliest, latest))
        gaps = window.gaps
        if self.highest_watermark(frame) < window.first_end(earliest) and not gaps:
            return frame, None
        frame = self.with_effective(frame)
        if gaps:
            whole = frame.height
            frame = frame.filter(pl.col(TIMESTAMP) < self._last_end())
            self.account.filtered += whole - frame.height
        on_time = self._last_end() > pl.col(EFFECTIVE)
        late = frame.filter(~on_time)
        if late.height:
            frame = frame.filter(on_time)
        if self._overlapping:
            open_end = pl.max_horizontal(FIRST, self.window.first_end_of(pl.col(EFFECTIVE)))
            frame = frame.with_columns(open_end.alias(FIRST))
        return frame, late if late.height else None

    def _slices(self, earliest: int, latest: int) -> list[pl.Expr]:
        """The slice's end and, where windows overlap, its first window end. One slice for all is worth a look."""
        window, time = self.window, pl.col(TIMESTAMP)
        if window.slice_end(earliest) == window.slice_end(latest):
            end: pl.Expr = pl.lit(window.slice_end(earliest), dtype=pl.Int64)
            first: pl.Expr = pl.lit(window.first_end(earliest), dtype=pl.Int64)
        else:
            end, first = window.slice_end_of(time), window.first_end_of(time)
        return [end.alias(SLICE), first.alias(FIRST)] if self._overlapping else [end.alias(SLICE)]

    def _last_end(self) -> pl.Expr:
        return self.window.last_end_of(pl.col(TIMESTAMP))

    def _absorb(self, events: pl.DataFrame) -> None:
        self.account.absorbed += events.height
        slices = events[SLICE].to_numpy()
        firsts = events[FIRST].to_numpy() if self._overlapping else slices
        events = self.plan.with_inputs(events)
        for table, log in self._not_in_place(events, slices, firsts):
            log.append_split(SLICE, self.plan.prepare_table(table, events, [*self._group, SLICE]))

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        before = self.closed
        if not self.advance(watermark):
            return
        if self._hot.lowest <= self.closed:
            self.settle()
        ends = self._closing(before, self.closed)
        for start in range(0, len(ends), _WINDOWS_AT_ONCE):
            results = self._results(ends[start : start + _WINDOWS_AT_ONCE])
            if results.height:
                yield self.result(results, watermark)
        if ends:
            self._drop(self.closed)

    def _closing(self, before: int, closed: int) -> list[int]:
        """The ends in (before, closed] of windows that hold slices."""
        window = self.window
        ends: set[int] = set()
        for pane in self.logs[0].panes():
            if pane > closed:
                continue
            ends.update(window.ends_of_slice(pane, before, closed))
        return sorted(ends)

    def _results(self, ends: Sequence[int]) -> pl.DataFrame:
        group = [*self.keys, WINDOW_END]
        merged = []
        for table, log in zip(self.plan.tables, self.logs, strict=True):
            members = self._members(log, ends)
            merged.append(self.plan.merge(table, members, group) if members else None)
        results = self.plan.finish(merged, group)
        starts = self.window.starts_of(results[WINDOW_END].to_numpy())
        return results.with_columns(pl.Series(WINDOW_START, starts, dtype=pl.Int64))

    def _members(self, log: FrameLog, ends: Sequence[int]) -> list[pl.DataFrame]:
        """The partial rows of each window, with its end as a column."""
        members = []
        for pane in log.panes():
            mine = [end for end in ends if self.window.holds(pane, end)]
            if mine:
                labels = pl.DataFrame({WINDOW_END: mine}, schema={WINDOW_END: pl.Int64})
                members += [self._labelled(rows, labels) for rows in log.frames(pane)]
        return members

    def _labelled(self, rows: pl.DataFrame, ends: pl.DataFrame) -> pl.DataFrame:
        """Partial rows once for each window that they count in."""
        if ends.height == 1:
            labelled = rows.with_columns(pl.lit(ends.item(), dtype=pl.Int64).alias(WINDOW_END))
        else:
            labelled = rows.join(ends, how="cross")
        return labelled.filter(pl.col(FIRST) <= pl.col(WINDOW_END)).drop(FIRST) if self._overlapping else labelled

    def _drop(self, closed: int) -> None:
        for log in self.logs:
            for pane in [pane for pane in log.panes() if self.window.last_end(pane - 1) <= closed]:
                log.drop(pane)

    def query(self, keys: pl.DataFrame | None) -> pl.DataFrame:
        """A row per key and open window with the results so far."""
        from thalweg.streams.engine.window_queries import of_aligned

        return of_aligned(self, keys)

    def memory(self) -> Memory:
        return sum((log.memory() for log in self.logs), self._hot.memory())

    def snapshot(self, *, full: bool = False) -> StateDelta:
        self.settle()
        return self.combine([log.snapshot(full=full) for log in self.logs], full=full)

    def restore(self, state: State) -> None:
        for log in self.logs:
            log.restore(state)
        self.restore_progress(state)


_WINDOWS_AT_ONCE = 64
"""Bounds the memory of a close when the watermark leaps over many windows."""

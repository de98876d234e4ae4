"""Triggered windows on a grid of time, of all time, and sessions: how events find their windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from thalweg.streams.aggregate import AggregatePlan
from thalweg.streams.batch import MAX_TIME, MIN_TIME, TIMESTAMP, Batch
from thalweg.streams.engine.window_base import EFFECTIVE, WINDOW_END
from thalweg.streams.engine.window_panes import Merged, Taken
from thalweg.streams.engine.window_slots import LAST, Slots, contiguous
from thalweg.streams.engine.window_triggered import OPERATOR_WATERMARK, ROW, TriggeredWindowOperator, columns_of
from thalweg.streams.plan.panes import Panes
from thalweg.streams.state.row_store import SLOT
from thalweg.streams.state.session_index import SessionIndex
from thalweg.streams.triggers import _facts as facts
from thalweg.streams.windows import AlignedWindow, GlobalWindow, SessionWindow, TimeSemantics

GLOBAL_END = MAX_TIME
"""Where the global window ends: never."""


class TriggeredAlignedOperator(TriggeredWindowOperator):
    """Tumbling, sliding and global windows: an event goes to every window that holds it.

    The index has one entry per key and window, as a session of one millisecond at the window's end.
    """

    def __init__(
        self,
        operator_id: str,
        window: AlignedWindow | GlobalWindow,
        keys: Sequence[str],
        plan: AggregatePlan,
        time: TimeSemantics,
        panes: Panes,
        *,
        idle_flag: bool = False,
    ) -> None:
        super().__init__(operator_id, SessionIndex(1), keys, plan, time, panes, idle_flag=idle_flag)
        self.window = window

    def starts_of(self, slots: Slots, ends: Slots) -> Slots:
        if isinstance(self.window, GlobalWindow):
            return np.full(len(ends), -GLOBAL_END, dtype=np.int64)
        return self.window.starts_of(ends)

    def identify(self, rows: pl.DataFrame) -> tuple[Slots, Slots]:
        from thalweg.streams.triggers._kernel import with_ends

        ends = contiguous(rows[WINDOW_END]) if WINDOW_END in rows.columns else contiguous(rows[LAST]) + 1
        a, b = with_ends(*super().identify(rows), ends)
        return a, b

    def process(self, rows: pl.DataFrame) -> Iterator[Batch]:
        from thalweg.streams.triggers._kernel import BEGUN, CELLS, PANES, in_windows

        events = self._in_windows(rows)
        number = events.height
        self.index.make_room(number)
        self.room()
        times, watermarks = self._times(events)
        slots, cells, created = (np.empty(number, dtype=np.int64) for _ in range(3))
        job = self.asking(2 * number, number)
        in_windows(
            *(job, self.index.arrays(), *self.identify(events), contiguous(events[WINDOW_END]), times, watermarks),
            *(contiguous(events[EFFECTIVE]) - self.panes.lateness, slots, cells, created),
        )
        created = created[: job.go[BEGUN]]
        self.index.schedule_new(slots[created])
        if len(created):
            self.names.write(self.named(events, created, slots))
        log = job.log[: job.go[PANES]]
        if not self.panes.each and number:
            log = np.concatenate([log, self.asked_once(slots, int(watermarks[-1]))])
        log[:, facts.START] = self.starts_of(log[:, facts.SLOT], log[:, facts.STOP])
        late = self._book(rows, events, slots)
        yield from self.give(Taken(self.in_cells(events, cells), job.cells[: job.go[CELLS]]), log)
        if late.height:
            yield self.late_batch(late, self._last_end(), columns_of(late))

    def _in_windows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A row for each event and window that holds it, with the number of the event."""
        needed = rows[self.needed].hstack([pl.Series(ROW, np.arange(rows.height, dtype=np.uint32))])
        if isinstance(self.window, GlobalWindow):
            return needed.hstack([pl.Series(WINDOW_END, np.full(rows.height, GLOBAL_END, dtype=np.int64))])
        return self.window.in_windows(needed, TIMESTAMP, WINDOW_END)

    def _times(self, events: pl.DataFrame) -> tuple[Slots, Slots]:
        """When the events happened, and where the watermark stood before them."""
        if isinstance(self.window, GlobalWindow):
            watermarks = np.full(events.height, MIN_TIME, dtype=np.int64)
        else:
            watermarks = contiguous(events[OPERATOR_WATERMARK])
        return contiguous(events[TIMESTAMP]), watermarks

    def _last_end(self) -> pl.Expr:
        if isinstance(self.window, GlobalWindow):
            return pl.lit(GLOBAL_END, dtype=pl.Int64)
        return self.window.last_end_of(pl.col(TIMESTAMP))

    def _book(self, rows: pl.DataFrame, events: pl.DataFrame, slots: Slots) -> pl.DataFrame:
        """Corrects the account, by which all rows are absorbed; returns those that are late for all their windows."""
        numbers = events[ROW].to_numpy()
        first = np.flatnonzero(np.append(True, numbers[1:] != numbers[:-1])) if len(slots) else numbers
        outside = rows.height - len(first)
        if not outside and not (slots < 0).any():
            return rows.clear()
        best, worst = (of.reduceat(slots, first) if len(slots) else slots for of in (np.maximum, np.minimum))
        ignored = int(((best < 0) & (worst < -1)).sum())
        late = numbers[first[(best == -1) & (worst == -1)]]
        self.account.absorbed -= outside + ignored + len(late)
        self.account.filtered += outside + ignored
        self.account.late += len(late)
        return rows[pl.Series(late)]


class TriggeredSessionOperator(TriggeredWindowOperator):
    """Sessions. Where several become one, so do their triggers' states, and what was told of them is taken back."""

    moving = True

    def __init__(
        self,
        operator_id: str,
        window: SessionWindow,
        keys: Sequence[str],
        plan: AggregatePlan,
        time: TimeSemantics,
        panes: Panes,
        *,
        idle_flag: bool = False,
    ) -> None:
        super().__init__(operator_id, SessionIndex(window.gap), keys, plan, time, panes, idle_flag=idle_flag)
        self.window = window

    def starts_of(self, slots: Slots, ends: Slots) -> Slots:
        starts: Slots = self.index.start[slots]
        return starts

    def process(self, rows: pl.DataFrame) -> Iterator[Batch]:
        from thalweg.streams.triggers._kernel import in_sessions

        number = rows.height
        self.index.make_room(number)
        self.room()
        keys = self.identify(rows)
        times, watermarks = contiguous(rows[TIMESTAMP]), contiguous(rows[OPERATOR_WATERMARK])
        horizons = contiguous(rows[EFFECTIVE]) - self.panes.lateness
        slots, cells, created = (np.empty(number, dtype=np.int64) for _ in range(3))
        events = rows[self.needed]
        begin = 0
        while begin < number:
            gone = np.empty(self.index.used + number, dtype=np.int64)
            job = self.asking(2 * (number - begin) + len(self.index) + 1, number - begin)
            stop = in_sessions(
                *(job, self.index.arrays(), *keys, times, watermarks, horizons, begin, slots, cells),
                *(created, gone),
            )
            part = slice(begin, stop)
            once = not self.panes.each and stop == number
            yield from self._settle(
                *(job, events[part], slots[part], cells[part], created - begin, gone),
                int(watermarks[-1]) if once else None,
            )
            begin = stop
        yield from self._late(rows, slots)

    def _settle(
        self,
        job: Any,
        events: pl.DataFrame,
        slots: Slots,
        cells: Slots,
        created: Slots,
        gone: Slots,
        watermark: int | None,
    ) -> Iterator[Batch]:
        """Contents, names and index after the events of one go. `watermark`: the triggers are asked now, with that."""
        from thalweg.streams.triggers._kernel import BEGUN, CELLS, MERGED, PANES

        created, gone = created[: job.go[BEGUN]], gone[: job.go[MERGED]].copy()
        log = job.log[: job.go[PANES]]
        if watermark is not None:
            log = np.concatenate([log, self.asked_once(slots, watermark)])
        self.index.schedule_new(slots[created])
        if len(created):
            born = self.named(events, created, slots).filter(pl.col(SLOT) >= 0)
            self.names.write(born.unique(SLOT, keep="first"))
        taken = Taken(self.in_cells(events, cells), job.cells[: job.go[CELLS]])
        yield from self.give(taken, log, None, Merged(gone, self.index.merged_into(gone)))
        self.bury(gone)

    def _late(self, rows: pl.DataFrame, slots: Slots) -> Iterator[Batch]:
        late = np.flatnonzero(slots == -1)
        ignored = int((slots < -1).sum())
        self.account.absorbed -= len(late) + ignored
        self.account.filtered += ignored
        self.account.late += len(late)
        if len(late):
            yield self.late_batch(rows[pl.Series(late)], pl.col(TIMESTAMP) + self.window.gap, columns_of(rows))

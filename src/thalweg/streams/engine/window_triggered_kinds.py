"""Triggered windows on a grid of time, of all time, and sessions: how events find their windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.aggregate import AggregatePlan
from thalweg.streams.batch import MAX_TIME, MIN_TIME, TIMESTAMP, Batch
from thalweg.streams.engine.window_base import EFFECTIVE, WINDOW_END
from thalweg.streams.engine.window_panes import ROUND
from thalweg.streams.engine.window_slots import LAST, Slots, contiguous
from thalweg.streams.engine.window_triggered import OPERATOR_WATERMARK, ROW, TriggeredWindowOperator, columns_of
from thalweg.streams.plan.panes import Panes
from thalweg.streams.state.row_store import SLOT
from thalweg.streams.state.session_index import SessionIndex, identities
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

    def index_keys(self, rows: pl.DataFrame) -> pl.DataFrame:
        end = pl.col(WINDOW_END) if WINDOW_END in rows.columns else (pl.col(LAST) + 1).alias(WINDOW_END)
        return rows.select(*self.keys, end)

    def process(self, rows: pl.DataFrame) -> Iterator[Batch]:
        rows = rows.with_row_index(ROW)
        events = self._in_windows(rows)
        ends = contiguous(events[WINDOW_END])
        horizons = contiguous(events[EFFECTIVE]) - self.panes.lateness
        given = self.index.assign(self.index_keys(events), ends - 1, horizons)
        self.room()
        self._begin(given.slots[given.created], ends[given.created])
        born = events.select(*self.keys, pl.Series(SLOT, given.slots))[given.created]
        self.names.write(born.unique(SLOT))
        slots, rounds, log = self._asked(events, given.slots)
        events = events.with_columns(pl.Series(SLOT, slots), pl.Series(ROUND, rounds))
        late = self._book(rows, events)
        log[:, facts.START] = self.starts_of(log[:, facts.SLOT], log[:, facts.STOP])
        yield from self.give(events.filter(pl.col(SLOT) >= 0), log)
        if late.height:
            yield self.late_batch(late, self._last_end(), columns_of(late))

    def _in_windows(self, rows: pl.DataFrame) -> pl.DataFrame:
        """A row for each event and window that holds it."""
        if isinstance(self.window, GlobalWindow):
            return rows.with_columns(pl.lit(GLOBAL_END, dtype=pl.Int64).alias(WINDOW_END))
        return self.window.in_windows(rows, TIMESTAMP, WINDOW_END)

    def _last_end(self) -> pl.Expr:
        if isinstance(self.window, GlobalWindow):
            return pl.lit(GLOBAL_END, dtype=pl.Int64)
        return self.window.last_end_of(pl.col(TIMESTAMP))

    def _begin(self, slots: Slots, ends: Slots) -> None:
        self.facts[slots] = 0
        self.facts[slots, facts.END] = ends
        self.facts[slots, facts.HOLD] = facts.NO_HOLD
        self._turns[slots] = 0

    def _asked(self, events: pl.DataFrame, given: Slots) -> tuple[Slots, Slots, Slots]:
        from thalweg.streams.triggers._kernel import in_windows

        slots, rounds = given.copy(), np.zeros(len(given), dtype=np.int64)
        job = self.asking(2 * len(slots))
        times, watermarks = contiguous(events[TIMESTAMP]), contiguous(events[OPERATOR_WATERMARK])
        if isinstance(self.window, GlobalWindow):
            watermarks = np.full(len(slots), MIN_TIME, dtype=np.int64)
        number = in_windows(job, slots, times, watermarks, rounds)
        log: Slots = job.log[:number]
        if not self.panes.each and len(slots):
            touched = np.unique(slots[slots >= 0])
            log = np.concatenate([log, self.ask_now(touched, at_end=False, watermark=int(watermarks[-1]))])
        return slots, rounds, log

    def _book(self, rows: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
        """Corrects the account, by which all rows are absorbed; returns those that are late for all their windows."""
        best = events.group_by(ROW).agg(pl.col(SLOT).max().alias("best"), pl.col(SLOT).min().alias("worst"))
        outside = rows.height - best.height
        ignored = best.filter((pl.col("best") < 0) & (pl.col("worst") < -1)).height
        late = best.filter((pl.col("best") == -1) & (pl.col("worst") == -1))
        self.account.absorbed -= outside + ignored + late.height
        self.account.filtered += outside + ignored
        self.account.late += late.height
        return rows.join(late.select(ROW), on=ROW, how="semi").sort(ROW) if late.height else rows.clear()


class TriggeredSessionOperator(TriggeredWindowOperator):
    """Sessions. Where several become one, so do their triggers' states, and what was told of them is taken back."""

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
        a, b = identities(rows.select(self.keys), number)
        times, watermarks = contiguous(rows[TIMESTAMP]), contiguous(rows[OPERATOR_WATERMARK])
        horizons = contiguous(rows[EFFECTIVE]) - self.panes.lateness
        slots, rounds = np.full(number, -1, dtype=np.int64), np.zeros(number, dtype=np.int64)
        counts = np.zeros(3, dtype=np.int64)
        begin = 0
        while begin < number:
            created = np.empty(number - begin, dtype=np.int64)
            gone = np.empty(self.index.used + number, dtype=np.int64)
            job = self.asking(2 * (number - begin) + len(self.index) + 1)
            stop = in_sessions(
                *(job, self.index.arrays(), a, b, times, watermarks, horizons, begin, slots, rounds),
                *(created, gone, counts),
            )
            part = slice(begin, stop)
            placed = rows[part].with_columns(pl.Series(SLOT, slots[part]), pl.Series(ROUND, rounds[part]))
            log = job.log[: counts[2]]
            if not self.panes.each and stop == number:
                touched = np.unique(slots[part][slots[part] >= 0])
                log = np.concatenate([log, self.ask_now(touched, at_end=False, watermark=int(watermarks[-1]))])
            yield from self._settle(placed, log, created[: counts[0]] - begin, gone[: counts[1]].copy())
            begin = stop
        yield from self._late(rows.with_columns(pl.Series(SLOT, slots)))

    def _settle(self, placed: pl.DataFrame, log: Slots, created: Slots, gone: Slots) -> Iterator[Batch]:
        """Contents, names and index after the events of one go."""
        self.index.schedule_new(np.unique(contiguous(placed[SLOT])))
        if len(created):
            born = placed.select(*self.keys, SLOT)[created].filter(pl.col(SLOT) >= 0)
            self.names.write(born.unique(SLOT, keep="first"))
        yield from self.give(placed.filter(pl.col(SLOT) >= 0), log, None, gone, self.index.merged_into(gone))
        self.bury(gone)

    def _late(self, rows: pl.DataFrame) -> Iterator[Batch]:
        late = rows.filter(pl.col(SLOT) == -1)
        ignored = int((rows[SLOT] < -1).sum())
        self.account.absorbed -= late.height + ignored
        self.account.filtered += ignored
        self.account.late += late.height
        if late.height:
            yield self.late_batch(late, pl.col(TIMESTAMP) + self.window.gap, columns_of(late))

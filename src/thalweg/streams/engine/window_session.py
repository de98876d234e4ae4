"""Session windows: events of one key with pauses shorter than a gap.

State: an index of open sessions by key (`SessionIndex`) and one run of partial rows per session (`RowStore`). Cost per
event: one probe and one vectorised pre-aggregation; per batch, reading and rewriting the sessions it touches; per
close, reading the sessions that end. Neither depends on how many sessions are open.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.aggregate import AggregatePlan, Table
from thalweg.streams.batch import KEY_GROUP, MIN_TIME, TIMESTAMP, Batch, Watermark
from thalweg.streams.engine.window_base import EFFECTIVE, WINDOW_END, WINDOW_START, WindowOperator
from thalweg.streams.operator import State, StateDelta
from thalweg.streams.state.frame_log import FrameLog
from thalweg.streams.state.row_store import SLOT, RowStore
from thalweg.streams.state.session_index import Assignment, SessionIndex
from thalweg.streams.windows import SessionWindow, TimeSemantics

SESSION = "__session"
"""Saved state: a session's serial number, unique within its key."""
GONE = "__gone"
"""Saved state: the session was closed or merged into another."""
START, LAST = "__start", "__last"

_SESSIONS = "sessions"
_PANE = "__pane"
_TURN = "__turn"


class SessionWindowOperator(WindowOperator):
    """Aggregates per key and session.

    A row joins the sessions of its key that are open by its own watermark and nearer than the gap; several become
    one. It is late iff there is none and its watermark has reached its time plus the gap.
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
        super().__init__(operator_id, keys, plan, time, idle_flag=idle_flag)
        self.window = window
        self.index = SessionIndex(window.gap, window.max_length)
        self.names = RowStore()
        """The key columns of each session, one row each."""
        self.stores = [RowStore() for _ in plan.tables]
        self._changed: list[npt.NDArray[np.int64]] = []
        self._durable = np.zeros(0, dtype=bool)
        self._gone: list[pl.DataFrame] = []
        self.pending = FrameLog("pending", lambda frames: pl.concat(frames, how="diagonal_relaxed"), self.key_groups)
        """Rows that wait for the watermark, by time; only where sessions have a longest length."""

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        if not batch:
            return
        frame = self.with_effective(self.timed(batch.frame))
        late = self._hold(frame) if self.window.max_length is not None else self._take(frame)
        self.account.absorbed += len(batch)
        if late.any():
            rows = frame.filter(late)
            self.account.absorbed -= rows.height
            self.account.late += rows.height
            yield self.late_batch(rows, pl.col(TIMESTAMP) + self.window.gap, batch.frame.columns)

    def _hold(self, frame: pl.DataFrame) -> pl.Series:
        """Keeps rows until the watermark has passed them: only in order of time are longest sessions well defined.

        Returns which rows are late: behind their own watermark.
        """
        late = frame[TIMESTAMP] < frame[EFFECTIVE]
        pane = (pl.col(TIMESTAMP) // self.window.gap).alias(_PANE)
        needed = dict.fromkeys([*self.keys, *sorted(self.plan.columns), TIMESTAMP])
        self.pending.append_split(_PANE, frame.filter(~late).select(*needed, pane))
        return late

    def _release(self) -> None:
        """Takes the rows that the watermark has passed, in order of time."""
        ready = []
        for pane in [pane for pane in self.pending.panes() if pane * self.window.gap < self.closed]:
            rows = pl.concat(self.pending.frames(pane), how="diagonal_relaxed")
            self.pending.drop(pane)
            ready.append(rows.filter(pl.col(TIMESTAMP) < self.closed))
            self.pending.append(pane, rows.filter(pl.col(TIMESTAMP) >= self.closed))
        if ready:
            rows = pl.concat(ready, how="diagonal_relaxed").sort(TIMESTAMP)
            self._take(rows.with_columns(pl.lit(MIN_TIME, dtype=pl.Int64).alias(EFFECTIVE)))

    def _take(self, frame: pl.DataFrame) -> pl.Series:
        """Puts rows into sessions, in order of arrival; returns which are late."""
        if not frame.height:
            return pl.Series([], dtype=pl.Boolean)
        times, watermarks = _contiguous(frame[TIMESTAMP]), _contiguous(frame[EFFECTIVE])
        given = self.index.assign(frame.select(self.keys), times, watermarks)
        for store in (self.names, *self.stores):
            store.reserve(self.index.capacity)
        if len(self._durable) < self.index.capacity:
            self._durable = np.append(self._durable, np.zeros(self.index.capacity - len(self._durable), dtype=bool))
        touched = np.unique(given.slots[given.slots >= 0])
        if len(touched):
            self._absorb(frame.with_columns(pl.Series(SLOT, given.slots)), touched, given)
        return pl.Series(given.slots < 0)

    def _absorb(self, frame: pl.DataFrame, touched: npt.NDArray[np.int64], given: Assignment) -> None:
        prepared = self.plan.prepare(frame.filter(pl.col(SLOT) >= 0), [SLOT])
        for table, store, fresh in zip(self.plan.tables, self.stores, prepared, strict=True):
            held = self._held(store, touched, given)
            store.write(fresh if held is None else self.plan.merge(table, [held, fresh], [SLOT]))
        # A session that began in this batch may have been merged since; its events then bear the other's slot.
        self.names.write(frame[given.created].select(*self.keys, SLOT).unique(SLOT, keep="first"))
        self._bury(given.gone)
        self._changed.append(touched)

    def _held(self, store: RowStore, touched: npt.NDArray[np.int64], given: Assignment) -> pl.DataFrame | None:
        """What is kept for the touched sessions and for those that were merged into them, under their new slot."""
        held = store.read(np.concatenate([touched, given.gone]))
        if held is None or not len(given.gone):
            return held
        renamed = pl.Series(SLOT, held[SLOT].replace(given.gone, given.into))
        return held.with_columns(renamed)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if not self.advance(watermark):
            return
        if self.window.max_length is not None:
            self._release()
        due = self.index.due(self.closed)
        if len(due):
            yield self.result(self._results(due), watermark)
            self.index.close(due)
            self._bury(due)

    def _results(self, slots: npt.NDArray[np.int64]) -> pl.DataFrame:
        finished = self.plan.finish([store.read(slots) for store in self.stores], [SLOT])
        bounds = {SLOT: slots, WINDOW_START: self.index.start[slots], WINDOW_END: self.index.ends(slots)}
        results = finished.join(pl.DataFrame(bounds), on=SLOT)
        return results.join(self._names_of(slots), on=SLOT)

    def _names_of(self, slots: npt.NDArray[np.int64]) -> pl.DataFrame:
        names = self.names.read(slots)
        assert names is not None, "open sessions have names"
        return names

    def _bury(self, slots: npt.NDArray[np.int64]) -> None:
        """Forgets sessions; those that were saved are remembered as gone until the next snapshot."""
        if not len(slots):
            return
        saved = slots[self._durable[slots]]
        if len(saved):
            self._gone.append(self._labelled(saved, gone=True))
            self._durable[saved] = False
        for store in (self.names, *self.stores):
            store.free(slots)
        self.index.release(slots)

    def _labelled(self, slots: npt.NDArray[np.int64], *, gone: bool) -> pl.DataFrame:
        """Key columns, serial, bounds and whether it is gone: the saved form of sessions, with `__slot`."""
        index = self.index
        labels = pl.DataFrame(
            {
                SLOT: slots,
                SESSION: index.serial[slots],
                START: index.start[slots],
                LAST: index.last[slots],
                GONE: np.full(len(slots), gone),
            }
        )
        return labels.join(self._names_of(slots), on=SLOT).select(*self.keys, SLOT, SESSION, START, LAST, GONE)

    def snapshot(self, *, full: bool = False) -> StateDelta:
        slots = self.index.alive(np.unique(np.concatenate(self._changed)) if self._changed and not full else None)
        if not self._changed and not full:
            slots = slots[:0]
        puts = [] if full else [(_SESSIONS, self._grouped(gone.drop(SLOT))) for gone in self._gone]
        if len(slots):
            labels = self._labelled(slots, gone=False)
            for table, store in zip(self.plan.tables, self.stores, strict=True):
                rows = store.read(slots)
                if rows is not None:
                    saved = labels.join(rows, on=SLOT).drop(SLOT)
                    puts.append((self._name(table), self._grouped(saved)))
            self._durable[slots] = True
        self._changed, self._gone = [], []
        deltas = [StateDelta(puts=puts), self.pending.snapshot(full=full)]
        return self.combine(deltas, full=full)

    def _name(self, table: Table) -> str:
        return _SESSIONS if table is self.plan.tables[0] else f"{_SESSIONS}/{table.name}"

    def _grouped(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.with_columns(self.key_groups(rows))

    def restore(self, state: State) -> None:
        identity = [*self.keys, SESSION]
        sessions = _latest(state.get(_SESSIONS, ()), identity)
        if sessions is not None:
            sessions = sessions.filter(~pl.col(GONE))
            slots = self.index.restore(
                sessions.select(self.keys), *(_contiguous(sessions[name]) for name in (START, LAST, SESSION))
            )
            for store in (self.names, *self.stores):
                store.reserve(self.index.capacity)
            self._durable = np.zeros(self.index.capacity, dtype=bool)
            self._durable[slots] = True
            placed = sessions.select(*identity, pl.Series(SLOT, slots))
            self.names.write(placed.drop(SESSION))
            for table, store in zip(self.plan.tables, self.stores, strict=True):
                rows = _latest(state.get(self._name(table), ()), identity)
                if rows is not None:
                    rows = rows.drop(START, LAST, GONE)
                    store.write(rows.join(placed, on=identity, nulls_equal=True).drop(identity))
        self.pending.restore(state)
        self.restore_clock(state)


def _latest(frames: Sequence[pl.DataFrame], identity: Sequence[str]) -> pl.DataFrame | None:
    """Of each session the rows of the last frame that has it: a saved session supersedes what was saved before."""
    if not frames:
        return None
    numbered = [frame.drop(KEY_GROUP).with_columns(pl.lit(i).alias(_TURN)) for i, frame in enumerate(frames)]
    rows = pl.concat(numbered, how="diagonal_relaxed")
    last = rows.group_by(identity).agg(pl.col(_TURN).max())
    return rows.join(last, on=[*identity, _TURN], how="semi", nulls_equal=True).drop(_TURN)


def _contiguous(series: pl.Series) -> npt.NDArray[np.int64]:
    return np.ascontiguousarray(series.to_numpy(), dtype=np.int64)

"""Windows with a trigger: panes before, at and after the watermark, with late events still counted for a while.

State: as in `window_slots`, and for each window a row of facts (`triggers._facts`). Cost per event: one probe and one
step of the trigger in a kernel, one vectorised pre-aggregation; per pane: reading and merging the window's partial
rows. Nothing depends on how many windows are open.

Events are held until the watermark has been told, which the engine does after each batch: only then is it known where
the operator's watermark stood before each of them. It is the least of the watermarks of this and all later rows, and of
the one told; so the panes do not depend on where batches were cut.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import StateError
from thalweg.streams.aggregate import AggregatePlan
from thalweg.streams.batch import CHANGE, KEY_GROUP, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.engine.window_base import EFFECTIVE, IDLE_CLOSED, WINDOW_END, WINDOW_START
from thalweg.streams.engine.window_panes import ROUND, Contents
from thalweg.streams.engine.window_slots import FACT, Slots, SlotWindowOperator, contiguous
from thalweg.streams.operator import State, StateDelta
from thalweg.streams.plan.panes import PANE_COLUMNS, Panes
from thalweg.streams.state.due_queue import NEVER, DueQueue
from thalweg.streams.state.row_store import SLOT
from thalweg.streams.state.session_index import SessionIndex
from thalweg.streams.triggers import _facts as facts
from thalweg.streams.triggers.program import CLOCK, compile_trigger
from thalweg.streams.windows import TimeSemantics

OPERATOR_WATERMARK = "__operator_wm"
ROW = "__row"
_NO: Slots = np.zeros(0, dtype=np.int64)
_WAITING = "waiting"
_ORDER = "__order"


class TriggeredWindowOperator(SlotWindowOperator):
    """The base: events that wait, asking the triggers, panes out, windows let go."""

    def __init__(
        self,
        operator_id: str,
        index: SessionIndex,
        keys: Sequence[str],
        plan: AggregatePlan,
        time: TimeSemantics,
        panes: Panes,
        *,
        idle_flag: bool = False,
    ) -> None:
        super().__init__(operator_id, index, keys, plan, time, idle_flag=idle_flag)
        self.panes = panes
        self.program = compile_trigger(panes.trigger)
        self.contents = Contents(plan, self.stores, accumulating=panes.accumulating)
        self.facts = np.zeros((0, facts.WIDTH + len(self.program.kind)), dtype=np.int64)
        self._clocks = facts.WIDTH + np.flatnonzero(self.program.kind == CLOCK)
        self._turns = np.zeros(0, dtype=np.int64)
        self._ends, self._alarms = DueQueue(), DueQueue()
        self._types: dict[str, pl.DataType] = {}
        self._waiting: list[pl.DataFrame] = []
        self._waiting_saved = False

    def warm_up(self) -> None:
        from thalweg.streams.triggers._kernel import warm_up

        super().warm_up()
        warm_up(self.program)

    # -- what subclasses know of their windows

    @abstractmethod
    def process(self, rows: pl.DataFrame) -> Iterator[Batch]:
        """Takes rows with `__ts`, `__effective`, `__operator_wm`; yields panes and late rows."""

    @abstractmethod
    def starts_of(self, slots: Slots, ends: Slots) -> Slots:
        """When these windows begin."""

    def query(self, keys: pl.DataFrame | None) -> pl.DataFrame:
        """A row per key and open window with what its next pane would give now."""
        from thalweg.streams.engine.window_queries import of_triggered

        return of_triggered(self, keys)

    # -- rows and time

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        self.account.absorbed += len(batch)
        if batch:
            self._waiting.append(self.with_effective(self.timed(batch.frame)))
        return iter(())

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        self.clock = max(self.clock, watermark.clock)
        if self._waiting:
            rows, self._waiting = pl.concat(self._waiting, how="diagonal_relaxed"), []
            yield from self.process(self._with_operator_watermark(rows, self._told(watermark)))
        if self.advance(watermark):
            yield from self._at_ends(watermark)
        if len(self._clocks):
            yield from self._at_alarms(watermark)
        gone = self.index.due(self.closed - self.panes.lateness)
        if len(gone):
            self.index.close(gone)
            self.bury(gone)

    def _told(self, watermark: Watermark) -> int:
        now = watermark.event_time if self.time is TimeSemantics.EVENT_TIME else watermark.clock
        return max(self.closed, now)

    def _with_operator_watermark(self, rows: pl.DataFrame, told: int) -> pl.DataFrame:
        own = contiguous(rows[EFFECTIVE])
        least = np.minimum.accumulate(own[::-1])[::-1]
        return rows.with_columns(pl.Series(OPERATOR_WATERMARK, np.clip(least, self.closed, told)))

    def _at_ends(self, watermark: Watermark) -> Iterator[Batch]:
        slots = self._ends.due(self.closed)
        over = self.facts[slots, facts.END] <= self.closed
        self._schedule_ends(slots[~over])
        if over.any():
            yield from self.give(None, self.ask_now(slots[over], at_end=True), watermark)

    def _at_alarms(self, watermark: Watermark) -> Iterator[Batch]:
        slots = self._alarms.due(self.clock)
        if len(slots):
            yield from self.give(None, self.ask_now(slots, at_end=False), watermark)

    def _schedule_ends(self, slots: Slots) -> None:
        """A session that grows is looked at when it would have ended, and moved on."""
        new = slots[(self.facts[slots, facts.ARMED] == 1) & (self._ends.at[slots] == NEVER)]
        self._ends.set(new, self.facts[new, facts.END])

    def _schedule_alarms(self, slots: Slots) -> None:
        slots = slots[self.facts[slots, facts.FINISHED] == 0]
        if len(self._clocks) and len(slots):
            times = self.facts[np.ix_(slots, self._clocks)]
            self._alarms.lower(slots, np.where(times == 0, NEVER, times).min(axis=1))

    def bury(self, slots: Slots) -> None:
        for queue in (self._ends, self._alarms):
            queue.set(slots, np.full(len(slots), NEVER))
        super().bury(slots)

    # -- asking

    def asking(self, entries: int) -> Any:
        """What the kernels get, with room for so many panes."""
        from thalweg.streams.triggers._automaton import scratch
        from thalweg.streams.triggers._kernel import Asking

        log = np.empty((entries, facts.LOG_WIDTH), dtype=np.int64)
        marks, fired = scratch(self.program)
        how = self.panes
        return Asking(self.program, self.facts, self._turns, marks, fired, log, self.clock, how.time_code, how.each)

    def ask_now(self, slots: Slots, *, at_end: bool, watermark: int | None = None) -> Slots:
        """Asks these windows' triggers now; returns the log of panes."""
        from thalweg.streams.triggers._kernel import at_moment

        job = self.asking(len(slots))
        starts = self.starts_of(slots, self.facts[slots, facts.END])
        number = at_moment(job, slots, starts, self.closed if watermark is None else watermark, at_end)
        log: Slots = job.log[:number]
        return log

    def room(self) -> None:
        """Room in all arrays for as many windows as the index may hold."""
        self._reserve()
        more = self.index.capacity - len(self.facts)
        if more > 0:
            self.facts = np.concatenate([self.facts, np.zeros((more, self.facts.shape[1]), dtype=np.int64)])
            self._turns = np.append(self._turns, np.zeros(more, dtype=np.int64))
            self._ends.reserve(len(self.facts))
            self._alarms.reserve(len(self.facts))

    # -- panes

    def give(
        self,
        events: pl.DataFrame | None,
        log: Slots,
        watermark: Watermark | None = None,
        gone: Slots = _NO,
        into: Slots = _NO,
    ) -> Iterator[Batch]:
        """Takes events (with `__slot`, `__round`) and gives the panes of the log as rows."""
        touched = [log[:, facts.SLOT], into, *([] if events is None else [events[SLOT].unique().to_numpy()])]
        slots = self.index.alive(np.unique(np.concatenate(touched)).astype(np.int64))
        fires = pl.DataFrame({SLOT: log[:, facts.SLOT], ROUND: log[:, facts.ROUND]})
        taken_back = self._taken_back(gone)
        results = [one for one in self.contents.take(events, fires, gone, into) if one is not None]
        for store in self.stores:
            store.free(slots[self.facts[slots, facts.FINISHED] == 1])
        self._turns[slots] = 0
        self._changed.append(slots)
        self._schedule_ends(slots)
        self._schedule_alarms(slots)
        rows = self._rows(log, results, watermark, taken_back)
        if rows.height:
            self.account.emitted += rows.height
            yield Batch(rows)

    def _rows(
        self, log: Slots, results: Sequence[pl.DataFrame], watermark: Watermark | None, taken_back: pl.DataFrame | None
    ) -> pl.DataFrame:
        frames = [] if taken_back is None else [taken_back]
        if len(log):
            panes = self._with_results(log, results)
            if watermark is not None:
                panes = panes.sort(WINDOW_END, *self.keys, WINDOW_START, _ORDER)
            frames += self._changes(panes) if self.panes.changes else [panes]
        if not frames:
            return pl.DataFrame()
        idle_closed = watermark is not None and watermark.idle_closed
        return self._public(pl.concat(frames, how="diagonal_relaxed"), idle_closed)

    def _with_results(self, log: Slots, results: Sequence[pl.DataFrame]) -> pl.DataFrame:
        panes = self._told_of(log)
        if results:
            found = pl.concat(results, how="diagonal_relaxed")
            self._types.update((name, found.schema[name]) for name in self.plan.aggregates)
            panes = panes.join(found, on=[SLOT, ROUND], how="left")
        names = self._names_of(np.unique(log[:, facts.SLOT]))
        return panes.with_columns(self._empty(panes.columns)).join(names, on=SLOT, how="left").sort(_ORDER)

    def _empty(self, known: Sequence[str]) -> list[pl.Expr]:
        """What panes without an event say."""
        return [
            pl.col(name).fill_null(one.empty) if name in known else pl.lit(one.empty, self._types.get(name)).alias(name)
            for name, one in self.plan.aggregates.items()
            if one.empty is not None or name not in known
        ]

    def _told_of(self, log: Slots) -> pl.DataFrame:
        stop = log[:, facts.STOP]
        return pl.DataFrame(
            {
                SLOT: log[:, facts.SLOT],
                ROUND: log[:, facts.ROUND],
                _ORDER: np.arange(len(log)),
                WINDOW_START: log[:, facts.START],
                WINDOW_END: stop,
                PANE_COLUMNS[0]: log[:, facts.NUMBER],
                PANE_COLUMNS[1]: log[:, facts.LATER_NUMBER],
                PANE_COLUMNS[2]: np.array(facts.TIMINGS, dtype=object)[log[:, facts.TIMING]],
                PANE_COLUMNS[3]: log[:, facts.FINAL] == 1,
                TIMESTAMP: log[:, facts.TIME],
            },
            schema_overrides={PANE_COLUMNS[2]: pl.String},
        )

    def _public(self, rows: pl.DataFrame, idle_closed: bool) -> pl.DataFrame:
        bounds = [WINDOW_START, WINDOW_END] if self.panes.bounded else []
        flag = [pl.lit(idle_closed).alias(IDLE_CLOSED)] if self.idle_flag else []
        change = [CHANGE] if self.panes.changes else []
        names: list[str | pl.Expr] = [
            *self.keys,
            *bounds,
            *self.plan.aggregates,
            *PANE_COLUMNS,
            *flag,
            *change,
            TIMESTAMP,
        ]
        return rows.select(*names, pl.col(TIMESTAMP).alias(WATERMARK))

    def _changes(self, panes: pl.DataFrame) -> list[pl.DataFrame]:
        """Panes as changes: the first of a window inserts, later ones update; a session that has grown moves."""
        slots = panes[SLOT].to_numpy()
        known = self.facts[slots]
        sent = pl.when(pl.lit(pl.Series(known[:, facts.SENT] == 1)))
        before = [
            pl.coalesce(
                pl.col(name).shift(1).over(SLOT, order_by=_ORDER),
                sent.then(pl.lit(pl.Series(known[:, column]))),
            ).alias(f"{name}:before")
            for name, column in ((WINDOW_START, facts.SENT_START), (WINDOW_END, facts.SENT_END))
        ]
        rows = panes.with_columns(before)
        first = pl.col(f"{WINDOW_END}:before").is_null()
        same = (pl.col(f"{WINDOW_END}:before") == pl.col(WINDOW_END)) & (
            pl.col(f"{WINDOW_START}:before") == pl.col(WINDOW_START)
        )
        rows = rows.with_columns(
            pl.when(first | ~same).then(pl.lit("insert")).otherwise(pl.lit("update")).alias(CHANGE)
        )
        moved = rows.filter(~first & ~same).select(
            *self.keys,
            _ORDER,
            TIMESTAMP,
            pl.col(f"{WINDOW_START}:before").alias(WINDOW_START),
            pl.col(f"{WINDOW_END}:before").alias(WINDOW_END),
            pl.lit("delete").alias(CHANGE),
        )
        last = panes.group_by(SLOT).agg(pl.col(WINDOW_START, WINDOW_END).sort_by(_ORDER).last())
        told = last[SLOT].to_numpy()
        self.facts[told, facts.SENT] = 1
        self.facts[told, facts.SENT_START] = last[WINDOW_START].to_numpy()
        self.facts[told, facts.SENT_END] = last[WINDOW_END].to_numpy()
        if not moved.height:
            return [rows]
        both = pl.concat([moved.with_columns(__after=0), rows.with_columns(__after=1)], how="diagonal_relaxed")
        return [both.sort(_ORDER, "__after")]

    def _taken_back(self, gone: Slots) -> pl.DataFrame | None:
        """Deletes of what was told of windows that have been merged into others."""
        told = gone[self.facts[gone, facts.SENT] == 1] if self.panes.changes else _NO
        if not len(told):
            return None
        rows = {
            SLOT: told,
            WINDOW_START: self.facts[told, facts.SENT_START],
            WINDOW_END: self.facts[told, facts.SENT_END],
            TIMESTAMP: self.facts[told, facts.SENT_END] - 1,
        }
        nothing = [pl.lit(None).alias(name) for name in (*self.plan.aggregates, *PANE_COLUMNS)]
        named = pl.DataFrame(rows).join(self._names_of(told), on=SLOT)
        return named.with_columns(*nothing, pl.lit("delete").alias(CHANGE))

    # -- state

    def labelled(self, slots: Slots, *, gone: bool) -> pl.DataFrame:
        saved = self.facts[slots]
        columns = {f"{FACT}{i}": saved[:, i] for i in range(saved.shape[1])}
        return super().labelled(slots, gone=gone).join(pl.DataFrame({SLOT: slots, **columns}), on=SLOT)

    def restored(self, windows: pl.DataFrame) -> None:
        self.room()
        names = [name for name in windows.columns if name.startswith(FACT)]
        if len(names) != self.facts.shape[1]:
            raise StateError(f"{self.id}: the saved windows are those of another trigger; give the step a new uid")
        slots = windows[SLOT].to_numpy()
        self.facts[slots] = windows.select(names).to_numpy()
        self._schedule_ends(slots)
        self._schedule_alarms(slots)

    def other_state(self, full: bool) -> list[StateDelta]:
        drops = (_WAITING,) if self._waiting_saved and not full else ()
        self._waiting_saved = bool(self._waiting)
        if not self._waiting:
            return [StateDelta(drops=drops)] if drops else []
        rows = pl.concat(self._waiting, how="diagonal_relaxed")
        return [StateDelta(drops=drops, puts=[(_WAITING, rows.with_columns(self.key_groups(rows)))])]

    def restore(self, state: State) -> None:
        self._waiting = [frame.drop(KEY_GROUP) for frame in state.get(_WAITING, ())]
        self._waiting_saved = bool(self._waiting)
        super().restore(state)


def columns_of(rows: pl.DataFrame) -> list[str]:
    """The columns of late rows that they came with."""
    return [name for name in rows.columns if name not in (EFFECTIVE, OPERATOR_WATERMARK, ROW, SLOT)]

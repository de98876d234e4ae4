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
from thalweg.streams.engine.window_panes import CELL, ROUND, Contents, Merged, Taken
from thalweg.streams.engine.window_slots import FACT, Slots, SlotWindowOperator, contiguous
from thalweg.streams.engine.window_told import Before, Told
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.plan.panes import PANE_COLUMNS, Panes
from thalweg.streams.state.due_queue import NEVER, DueQueue
from thalweg.streams.state.row_store import SLOT
from thalweg.streams.state.session_index import SessionIndex
from thalweg.streams.state.slot_table import records
from thalweg.streams.triggers import _facts as facts
from thalweg.streams.triggers.program import CLOCK, KIND, compile_trigger
from thalweg.streams.windows import TimeSemantics

OPERATOR_WATERMARK = "__operator_wm"
ROW = "__row"
_WAITING = "waiting"
_ORDER = "__order"
_AFTER = "__after"
_TIMINGS = pl.Series(facts.TIMINGS)
_CHANGES = pl.Series(["insert", "update"])
_FIRST_STATE = facts.WIDTH + 3
_TOLD = [f"{FACT}{n}" for n in range(facts.WIDTH, _FIRST_STATE)]
"""What is saved of what has been told: whether something, and for which bounds."""


class TriggeredWindowOperator(SlotWindowOperator):
    """The base: events that wait, asking the triggers, panes out, windows let go."""

    moving = False
    """Whether a window's bounds can change."""

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
        self.contents = Contents(plan, self.stores, self.distinct, accumulating=panes.accumulating)
        # Half cache lines: a row, which is read for each event, then lies in as few of them as can be.
        self.facts = records(0, -(-(facts.WIDTH + len(self.program) + facts.SCRATCH) // 4) * 4)
        self._sent = Told(moving=self.moving) if panes.changes else None
        self._clocks = facts.WIDTH + np.flatnonzero(self.program[:, KIND] == CLOCK)
        self._ends, self._alarms = DueQueue(), DueQueue()
        self._types: dict[str, pl.DataType] = {}
        wanted = (*keys, *sorted(plan.columns), TIMESTAMP, EFFECTIVE, OPERATOR_WATERMARK)
        self.needed = list(dict.fromkeys(wanted))
        """The columns of events that are read."""
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
            waiting, self._waiting = self._waiting, []
            rows = waiting[0] if len(waiting) == 1 else pl.concat(waiting, how="diagonal_relaxed")
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
        # Eager, here as below: with_columns is a query, which costs more than what it does.
        return rows.hstack([pl.Series(OPERATOR_WATERMARK, np.clip(least, self.closed, told))])

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
        if self._sent is not None:
            self._sent.forget(slots)
        super().bury(slots)

    # -- asking

    def asking(self, panes: int, events: int = 0) -> Any:
        """What the kernels get, with room for so many panes and events."""
        from thalweg.streams.triggers import _kernel
        from thalweg.streams.triggers._automaton import scratch

        log, cells = (np.empty(shape, dtype=np.int64) for shape in ((panes, facts.LOG_WIDTH), (events, 2)))
        go = np.zeros(_kernel.GO_WIDTH, dtype=np.int64)
        go[_kernel.CLOCK], go[_kernel.PANE_TIME] = self.clock, self.panes.time_code
        go[_kernel.EACH] = self.panes.each
        return _kernel.Asking(self.program, self.facts, scratch(self.program), log, cells, go)

    def ask_now(self, slots: Slots, *, at_end: bool, watermark: int | None = None) -> Slots:
        """Asks these windows' triggers now; returns the log of panes."""
        from thalweg.streams.triggers._kernel import PANES, at_moment

        job = self.asking(len(slots))
        starts = self.starts_of(slots, self.facts[slots, facts.END])
        at_moment(job, slots, starts, self.closed if watermark is None else watermark, at_end)
        log: Slots = job.log[: job.go[PANES]]
        return log

    def asked_once(self, slots: Slots, watermark: int) -> Slots:
        """Asks the triggers of the windows that events went to, once for all events; returns the log of panes."""
        return self.ask_now(np.sort(self.distinct.of(slots)), at_end=False, watermark=watermark)

    def in_cells(self, events: pl.DataFrame, cells: Slots) -> pl.DataFrame:
        """The events that count in a window, with their cell."""
        marked = events.hstack([pl.Series(CELL, cells)])
        return marked.filter(pl.col(CELL) >= 0) if (cells < 0).any() else marked

    def named(self, events: pl.DataFrame, rows: Slots, slots: Slots) -> pl.DataFrame:
        """The key columns of some events with their `__slot`."""
        return pl.DataFrame([*(events[name].gather(rows) for name in self.keys), pl.Series(SLOT, slots[rows])])

    def room(self) -> None:
        """Room in all arrays for as many windows as the index may hold."""
        self._reserve()
        if self.index.capacity > len(self.facts):
            more = records(self.index.capacity, self.facts.shape[1])
            used = min(self.index.used, len(self.facts))
            more[:used] = self.facts[:used]
            self.facts = more
            self._ends.reserve(len(self.facts))
            self._alarms.reserve(len(self.facts))
        if self._sent is not None:
            self._sent.reserve(len(self.facts))

    # -- panes

    def give(
        self, taken: Taken | None, log: Slots, watermark: Watermark | None = None, merged: Merged | None = None
    ) -> Iterator[Batch]:
        """Takes events into the contents of windows and gives the panes of the log as rows."""
        merged = merged or Merged.nothing()
        touched = [log[:, facts.SLOT], merged.into, *([] if taken is None else [taken.cells[:, facts.CELL_SLOT]])]
        slots = self.index.alive(self.distinct.of(*touched))
        taken_back = self._taken_back(merged.gone)
        results = self.contents.take(taken, log[:, facts.SLOT], log[:, facts.ROUND], merged)
        for store in self.stores:
            store.free(slots[self.facts[slots, facts.FINISHED] == 1])
        self.facts[slots, facts.TURNS] = 0
        self.facts[slots, facts.CELL] = -1
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
            if self._sent is not None:
                panes = self._with_changes(panes, self._sent.tell(log))
            frames.append(self._ordered(panes, watermark))
        if not frames:
            return pl.DataFrame()
        idle_closed = watermark is not None and watermark.idle_closed
        return self._public(pl.concat(frames, how="diagonal_relaxed"), idle_closed)

    def _ordered(self, panes: pl.DataFrame, watermark: Watermark | None) -> pl.DataFrame:
        """By window and key where time has passed; else, and where windows have moved, as the panes were given."""
        if watermark is None or _AFTER in panes.columns:
            return panes
        return panes.sort(WINDOW_END, *self.keys, WINDOW_START, _ORDER)

    def _with_results(self, log: Slots, results: Sequence[pl.DataFrame]) -> pl.DataFrame:
        panes = self._told_of(log)
        if results:
            found = pl.concat(results, how="diagonal_relaxed")
            self._types.update((name, found.schema[name]) for name in self.plan.aggregates)
            panes = panes.join(found, on=[SLOT, ROUND], how="left", maintain_order="left")
        panes = panes.with_columns(self._empty(panes.columns))
        return panes.hstack(self._key_columns(log[:, facts.SLOT]))

    def _empty(self, known: Sequence[str]) -> list[pl.Expr]:
        """What panes without an event say."""
        return [
            pl.col(name).fill_null(one.empty) if name in known else pl.lit(one.empty, self._types.get(name)).alias(name)
            for name, one in self.plan.aggregates.items()
            if one.empty is not None or name not in known
        ]

    def _told_of(self, log: Slots) -> pl.DataFrame:
        return pl.DataFrame(
            {
                SLOT: log[:, facts.SLOT],
                ROUND: log[:, facts.ROUND],
                _ORDER: np.arange(len(log)),
                WINDOW_START: log[:, facts.START],
                WINDOW_END: log[:, facts.STOP],
                PANE_COLUMNS[0]: log[:, facts.NUMBER],
                PANE_COLUMNS[1]: log[:, facts.LATER_NUMBER],
                PANE_COLUMNS[2]: _TIMINGS.gather(log[:, facts.TIMING]),
                PANE_COLUMNS[3]: log[:, facts.FINAL] == 1,
                TIMESTAMP: log[:, facts.TIME],
            }
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

    def _with_changes(self, panes: pl.DataFrame, before: Before) -> pl.DataFrame:
        """Panes as changes: the first of a window inserts, later ones update; a session that has grown moves.

        Rows that take back what was told of a window that has moved come before the pane; then there is `_AFTER`.
        """
        sent, moved = before.sent, before.moved
        rows = panes.with_columns(_CHANGES.gather((sent & ~moved).astype(np.int64)).alias(CHANGE))
        if not moved.any():
            return rows
        bounds = [pl.Series(WINDOW_START, before.start[moved]), pl.Series(WINDOW_END, before.end[moved])]
        back = panes.filter(moved).select(*self.keys, _ORDER, TIMESTAMP).hstack(bounds)
        back = back.with_columns(pl.lit("delete").alias(CHANGE), pl.lit(0).alias(_AFTER))
        both = pl.concat([back, rows.with_columns(pl.lit(1).alias(_AFTER))], how="diagonal_relaxed")
        return both.sort(_ORDER, _AFTER)

    def _taken_back(self, gone: Slots) -> pl.DataFrame | None:
        """Deletes of what was told of windows that have been merged into others."""
        if self._sent is None or not len(gone):
            return None
        told, start, end = self._sent.standing(gone)
        if not len(told):
            return None
        rows = pl.DataFrame({WINDOW_START: start, WINDOW_END: end, TIMESTAMP: end - 1})
        nothing = [pl.lit(None).alias(name) for name in (*self.plan.aggregates, *PANE_COLUMNS)]
        return rows.hstack(self._key_columns(told)).with_columns(*nothing, pl.lit("delete").alias(CHANGE))

    # -- state

    def memory(self) -> Memory:
        return super().memory() + Memory(0, self.facts.nbytes + (0 if self._sent is None else self._sent.bytes))

    def labelled(self, slots: Slots, *, gone: bool) -> pl.DataFrame:
        labels = super().labelled(slots, gone=gone)
        if gone:
            return labels
        saved = dict(zip(self._saved_names(), self.facts[slots].T, strict=False))
        if self._sent is not None:
            saved.update(zip(_TOLD, self._sent.saved(slots), strict=False))
        return labels.hstack([pl.Series(name, values) for name, values in saved.items()])

    def _saved_names(self) -> list[str]:
        """What the columns of facts are saved as that are saved; `_TOLD` come between them."""
        return [f"{FACT}{n}" for n in (*range(facts.WIDTH), *(_FIRST_STATE + n for n in range(len(self.program))))]

    def restored(self, windows: pl.DataFrame) -> None:
        self.room()
        if not windows.height:
            return
        names = self._saved_names()
        saved = {name for name in windows.columns if name.startswith(FACT)}
        if saved.difference(_TOLD) != set(names):
            raise StateError(f"{self.id}: the saved windows are those of another trigger; give the step a new uid")
        slots = windows[SLOT].to_numpy()
        self.facts[slots, : len(names)] = windows.select(names).to_numpy()
        self.facts[slots, facts.TURNS], self.facts[slots, facts.CELL] = 0, -1
        if self._sent is not None:
            self._sent.restore(slots, windows, _TOLD)
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

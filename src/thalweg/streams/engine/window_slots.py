"""The state of windows that live per key rather than on a grid of time: sessions and the global window.

State: an index of open windows by key (`SessionIndex`) and one run of partial rows per window (`RowStore`). A batch
costs one probe per event, one vectorised pre-aggregation, and reading and rewriting the windows that it touches; a
close costs reading those that end. Neither depends on how many are open.

Saved as: "sessions", one row per window with its partial results, and "sessions/<table>" for itemised aggregates. What
is saved of a window supersedes what was saved of it before; `__gone` marks one that was closed or merged.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.aggregate import AggregatePlan, Table
from thalweg.streams.aggregate import warm_up as warm_up_sums
from thalweg.streams.aggregate.group_store import GroupStore
from thalweg.streams.aggregate.plan import ITEM
from thalweg.streams.batch import KEY_GROUP, TIMESTAMP, only, without
from thalweg.streams.engine.window_base import EFFECTIVE, WindowOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.row_store import SLOT, RowStore
from thalweg.streams.state.session_index import Assignment, SessionIndex, warm_up
from thalweg.streams.state.slot_table import Distinct, identities
from thalweg.streams.windows import TimeSemantics

Slots = npt.NDArray[np.int64]

SESSION = "__session"
"""A window's serial number, unique within its key."""
GONE = "__gone"
START, LAST = "__start", "__last"
FACT = "__fact"
"""What the names of columns begin with that a subclass saves of each window."""

_SESSIONS = "sessions"
_TURN = "__turn"


class SlotWindowOperator(WindowOperator):
    """The base of session and global windows: rows into slots, slots into results and snapshots."""

    flags: Sequence[str] = ()
    """The columns that a subclass adds in `labelled`."""

    def __init__(
        self,
        operator_id: str,
        index: SessionIndex,
        keys: Sequence[str],
        plan: AggregatePlan,
        time: TimeSemantics,
        *,
        idle_flag: bool,
    ) -> None:
        super().__init__(operator_id, keys, plan, time, idle_flag=idle_flag)
        self.index = index
        self.names = RowStore()
        """The key columns of each window, one row each."""
        self.stores = [GroupStore(table) for table in plan.tables]
        self.distinct = Distinct()
        self._changed: list[Slots] = []
        self._durable = np.zeros(0, dtype=bool)
        self._gone: list[pl.DataFrame] = []

    def warm_up(self) -> None:
        warm_up()
        warm_up_sums()

    def take(self, frame: pl.DataFrame) -> pl.Series:
        """Puts rows with `__ts` and `__effective` into windows, in order of arrival; returns which are late."""
        if not frame.height:
            return pl.Series([], dtype=pl.Boolean)
        times, watermarks = contiguous(frame[TIMESTAMP]), contiguous(frame[EFFECTIVE])
        given = self.index.assign(self.identify(frame), times, watermarks)
        self._reserve()
        late = given.slots < 0
        if not late.all():
            self._absorb(frame.hstack([pl.Series(SLOT, given.slots)]), given)  # eager: with_columns is a query
        return pl.Series(late)

    def identify(self, rows: pl.DataFrame) -> tuple[Slots, Slots]:
        """What tells windows apart in the index: two hashes of each row."""
        return identities(only(rows, self.keys), rows.height)

    def _absorb(self, frame: pl.DataFrame, given: Assignment) -> None:
        events = frame.filter(pl.col(SLOT) >= 0) if given.slots.min() < 0 else frame
        events = self.plan.with_inputs(events)
        slots = contiguous(events[SLOT])
        touched = self.distinct.of(slots)
        for table, store in zip(self.plan.tables, self.stores, strict=True):
            if store.decide(events):
                store.add(slots, events)
                store.unite(given.gone, given.into)
            else:
                fresh = self.plan.prepare_table(table, events, [SLOT])
                held = self._held(store, touched, given)
                store.write(fresh if held is None else self.plan.merge(table, [held, fresh], [SLOT]))
        if len(given.created):
            # A window that began in this batch may have been merged since; its events then bear the other's slot.
            born = frame.select(*self.keys, SLOT)[given.created]
            self.names.write(born.unique(SLOT, keep="first"))
        self.bury(given.gone)
        self._changed.append(touched)

    def _held(self, store: GroupStore, touched: Slots, given: Assignment) -> pl.DataFrame | None:
        """What is kept for the touched windows and for those that were merged into them, under their new slot."""
        if not len(given.gone):
            return store.read(touched)
        held = store.read(np.concatenate([touched, given.gone]))
        return None if held is None else held.with_columns(pl.Series(SLOT, held[SLOT].replace(given.gone, given.into)))

    def finished(self, slots: Slots) -> pl.DataFrame:
        """The aggregates of these windows with their key columns and `__slot`."""
        results = self.plan.finish([store.read(slots) for store in self.stores], [SLOT])
        return results.hstack(self._key_columns(results[SLOT].to_numpy()))

    def bury(self, slots: Slots) -> None:
        """Forgets windows; those that were saved are remembered as gone until the next snapshot."""
        if not len(slots):
            return
        saved = slots[self._durable[slots]]
        if len(saved):
            self._gone.append(self.labelled(saved, gone=True))
            self._durable[saved] = False
        self.names.free(slots)
        for store in self.stores:
            store.free(slots)
        self.index.release(slots)

    def labelled(self, slots: Slots, *, gone: bool) -> pl.DataFrame:
        """What is saved of windows beside their partial results, with `__slot`; in the order of `slots`."""
        index = self.index
        labels = {SLOT: slots, SESSION: index.serial[slots], START: index.start[slots], LAST: index.last[slots]}
        flags = pl.Series(GONE, np.full(len(slots), gone))
        return pl.DataFrame([*self._key_columns(slots), *(pl.Series(name, of) for name, of in labels.items()), flags])

    def _names_of(self, slots: Slots) -> pl.DataFrame:
        """The key columns of open windows with `__slot`, in the order of `slots`."""
        return self.names.in_order(slots)

    def _key_columns(self, slots: Slots) -> list[pl.Series]:
        return only(self._names_of(slots), self.keys).get_columns()

    def _reserve(self) -> None:
        capacity = self.index.capacity
        self.names.reserve(capacity)
        for store in self.stores:
            store.reserve(capacity)
        if len(self._durable) < capacity:
            self._durable = np.append(self._durable, np.zeros(capacity - len(self._durable), dtype=bool))

    def memory(self) -> Memory:
        stores = sum((store.memory() for store in self.stores), self.names.memory())
        return stores + Memory(0, self.index.memory())

    def snapshot(self, *, full: bool = False) -> StateDelta:
        puts = [] if full else [(_SESSIONS, self._grouped(gone.drop(SLOT))) for gone in self._gone]
        slots = self._unsaved(full)
        if len(slots):
            labels = self.labelled(slots, gone=False)
            for table, store in zip(self.plan.tables, self.stores, strict=True):
                puts.append((self._name(table), self._grouped(self._with_rows(labels, table, store).drop(SLOT))))
            self._durable[slots] = True
        self._changed, self._gone = [], []
        return self.combine([StateDelta(puts=puts), *self.other_state(full)], full=full)

    def _with_rows(self, labels: pl.DataFrame, table: Table, store: GroupStore) -> pl.DataFrame:
        """With partial results. A window without any is saved too: it exists, and what was saved before is void."""
        slots = labels[SLOT].to_numpy()
        if not table.items and store.has(slots).all():
            return labels.hstack(without(store.in_order(slots), SLOT).get_columns())
        rows = store.read(slots)
        return labels if rows is None else labels.join(rows, on=SLOT, how="left")

    def other_state(self, full: bool) -> list[StateDelta]:
        """What a subclass saves besides."""
        return []

    def _unsaved(self, full: bool) -> Slots:
        if full:
            return self.index.alive()
        if not self._changed:
            return np.zeros(0, dtype=np.int64)
        return self.index.alive(self.distinct.of(*self._changed))

    def _name(self, table: Table) -> str:
        return _SESSIONS if table is self.plan.tables[0] else f"{_SESSIONS}/{table.name}"

    def _grouped(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows.hstack([self.key_groups(rows)])

    def restore(self, state: State) -> None:
        identity = [*self.keys, SESSION]
        windows = _latest(state.get(_SESSIONS, ()), identity)
        if windows is not None:
            windows = windows.filter(~pl.col(GONE))
            slots = self.index.restore(
                self.identify(windows), *(contiguous(windows[name]) for name in (START, LAST, SESSION))
            )
            self._reserve()
            self._durable[slots] = True
            placed = windows.with_columns(pl.Series(SLOT, slots))
            self.names.write(placed.select(*self.keys, SLOT))
            self.restored(placed)
            for table, store in zip(self.plan.tables, self.stores, strict=True):
                rows = _latest(state.get(self._name(table), ()), identity)
                if rows is not None:
                    columns = [n for n in rows.columns if n not in self._labels() and not n.startswith(FACT)]
                    rows = rows.select(columns).join(placed.select(*identity, SLOT), on=identity, nulls_equal=True)
                    store.write(_filled(rows.drop(identity), table))
        self.restore_progress(state)

    def _labels(self) -> set[str]:
        """What is saved beside a window's partial results and is not part of them."""
        # Earlier versions could save them twice, the second time as "…_right".
        return {START, LAST, GONE, *self.flags, *(f"{flag}_right" for flag in self.flags)}

    def restored(self, windows: pl.DataFrame) -> None:
        """Lets a subclass take back what it added in `labelled`; `windows` has `__slot`."""


def _latest(frames: Sequence[pl.DataFrame], identity: Sequence[str]) -> pl.DataFrame | None:
    """Of each window the rows of the last frame that has it."""
    if not frames:
        return None
    numbered = [frame.drop(KEY_GROUP).with_columns(pl.lit(i).alias(_TURN)) for i, frame in enumerate(frames)]
    rows = pl.concat(numbered, how="diagonal_relaxed")
    last = rows.group_by(identity).agg(pl.col(_TURN).max())
    return rows.join(last, on=[*identity, _TURN], how="semi", nulls_equal=True).drop(_TURN)


def _filled(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Without the windows that were saved to say that they hold nothing."""
    if table.items:
        return rows.filter(pl.col(ITEM).is_not_null()) if ITEM in rows.columns else rows.clear()
    parts = [name for name in rows.columns if name != SLOT]
    return rows.filter(pl.any_horizontal(pl.col(parts).is_not_null())) if parts else rows.clear()


def contiguous(series: pl.Series) -> Slots:
    """An Int64 series as an array that kernels take."""
    return np.ascontiguousarray(series.to_numpy(), dtype=np.int64)

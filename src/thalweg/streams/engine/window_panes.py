"""The contents of panes, worked out for many at once: which partial rows each of them holds, and what then is left.

An event that came after r panes of its window (in one go of the operator) bears round r; pane r of the window holds
the rounds up to r (accumulating) or r alone (discarding), what was kept of the window before counting as round 0.
Events are added up by *cell*: a window and a round. So what panes cost follows their number, not that of the events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.aggregate import AggregatePlan, Table
from thalweg.streams.aggregate.group_store import GroupStore
from thalweg.streams.batch import stacked, without
from thalweg.streams.state.row_store import SLOT, Int64s
from thalweg.streams.state.slot_table import Distinct
from thalweg.streams.triggers._facts import CELL_ROUND, CELL_SLOT

ROUND = "__round"
CELL = "__cell"
_PANE = "__pane"
_A_STEP = 80_000
"""What a step of a few queries costs, in partial rows that are repeated."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Events that have been put into windows."""

    events: pl.DataFrame
    """With their cell as `__cell`."""
    cells: Int64s
    """A row per cell: slot and round. Several cells of one window and round are added up where `gone` says so."""

    def of_events(self, fact: int) -> Int64s:
        """The slot or the round of each event."""
        facts: Int64s = self.cells[self.events.get_column(CELL).to_numpy(), fact]
        return facts

    def part(self, windows: Int64s, *, inside: bool) -> Taken | None:
        """The events that went into these windows, or the others."""
        mine = np.isin(self.cells[:, CELL_SLOT], windows, invert=not inside)
        events = self.events.filter(mine[self.events.get_column(CELL).to_numpy()])
        return Taken(events, self.cells) if events.height else None


@dataclass(frozen=True, slots=True)
class Merged:
    """Windows that were merged away before any pane: `gone[i]` is now part of `into[i]`."""

    gone: Int64s
    into: Int64s

    def __len__(self) -> int:
        return len(self.gone)

    def part(self, windows: Int64s) -> Merged:
        """What went into these windows."""
        mine = np.isin(self.into, windows)
        return Merged(self.gone[mine], self.into[mine])

    @classmethod
    def nothing(cls) -> Merged:
        """No window was."""
        return cls(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


class Contents:
    """The partial rows of all windows, by slot.

    Args:
        plan: the aggregates.
        stores: one per table of the plan.
        distinct: tells slots apart.
        accumulating: whether a pane holds all events so far or only those since the pane before.
    """

    def __init__(
        self, plan: AggregatePlan, stores: Sequence[GroupStore], distinct: Distinct, *, accumulating: bool
    ) -> None:
        self.plan = plan
        self.stores = stores
        self._distinct = distinct
        self.accumulating = accumulating

    def take(self, taken: Taken | None, slots: Int64s, rounds: Int64s, merged: Merged) -> list[pl.DataFrame]:
        """Takes events and gives the results of panes.

        Args:
            taken: the events; None: there are none.
            slots: the window of each pane.
            rounds: which of the window's panes it is.
            merged: what became of windows in between.

        Returns:
            Frames of results by `__slot` and `__round`; a pane without contents is missing.
        """
        if taken is not None:
            taken = Taken(self.plan.with_inputs(taken.events), taken.cells) if taken.events.height else None
        touched = [slots, merged.into, *([] if taken is None else [taken.cells[:, CELL_SLOT]])]
        windows = self._distinct.of(*touched)
        several = self._distinct.of(slots[rounds > 0])
        results = []
        if len(several):
            fires = pl.DataFrame({SLOT: slots, ROUND: rounds}).filter(np.isin(slots, several))
            theirs = None if taken is None else taken.part(several, inside=True)
            results.append(self._many(theirs, several, fires, merged.part(several)))
            windows, slots = (of[~np.isin(of, several)] for of in (windows, slots))
            taken, merged = None if taken is None else taken.part(several, inside=False), merged.part(windows)
        if len(windows):
            panes = [self._one_each(*of, taken, windows, slots, merged) for of in self._tables()]
            results.append(self._finished(panes, [SLOT]))
        return [one for one in results if one is not None]

    def _tables(self) -> list[tuple[Table, GroupStore]]:
        return list(zip(self.plan.tables, self.stores, strict=True))

    def _by_cell(self, table: Table, taken: Taken | None) -> pl.DataFrame | None:
        """Partial rows with `__slot` and `__round`."""
        if taken is None or not taken.events.height:
            return None
        rows = self.plan.prepare_table(table, taken.events, [CELL])
        if not rows.height:
            return None
        cells = taken.cells[rows[CELL].to_numpy()]
        labels = [pl.Series(SLOT, cells[:, CELL_SLOT]), pl.Series(ROUND, cells[:, CELL_ROUND])]
        return without(rows, CELL).hstack(labels)

    def _finished(self, panes: Sequence[pl.DataFrame | None], group: list[str]) -> pl.DataFrame | None:
        first = panes[0]
        if first is None or not first.height:
            return None
        results = self.plan.finish(panes, group)
        return results if ROUND in group else results.with_columns(pl.lit(0, dtype=pl.Int64).alias(ROUND))

    # -- at most one pane of each window: the usual case

    def _one_each(
        self,
        table: Table,
        store: GroupStore,
        taken: Taken | None,
        windows: Int64s,
        slots: Int64s,
        merged: Merged,
    ) -> pl.DataFrame | None:
        if store.in_place if taken is None else store.decide(taken.events):
            return self._in_place(store, taken, slots, merged)
        fresh = self._by_cell(table, taken)
        held = _moved(store.read(np.concatenate([windows, merged.gone])), merged)
        early, later = _split(fresh)
        before = self._together(table, [held, early], merged)
        if before is None:
            self._keep(store, later)
            return None
        if not len(slots):
            self._keep(store, before)
            return None
        firing = np.isin(before[SLOT].to_numpy(), slots)
        pane = before if firing.all() else before.filter(firing)
        if not self.accumulating:
            store.free(slots)
            self._keep(store, _stacked([before.filter(~firing), later]))
        elif fresh is not None or len(merged):
            self._keep(store, self._together(table, [before, later], merged))
        return pane

    def _in_place(self, store: GroupStore, taken: Taken | None, slots: Int64s, merged: Merged) -> pl.DataFrame | None:
        """The same where partial rows are arrays: what came before a pane is added, the pane read, the rest added."""
        store.unite(merged.gone, merged.into)
        if taken is not None:
            early = taken.of_events(CELL_ROUND) == 0
            self._add(store, taken, early)
        pane = store.read(slots)
        if not self.accumulating:
            store.free(slots)
        if taken is not None:
            self._add(store, taken, ~early)
        return pane

    def _add(self, store: GroupStore, taken: Taken, which: npt.NDArray[np.bool_]) -> None:
        if not which.any():
            return
        slots = taken.of_events(CELL_SLOT)
        if which.all():
            store.add(slots, taken.events)
        else:
            store.add(slots[which], taken.events.filter(which))

    def _together(self, table: Table, parts: Sequence[pl.DataFrame | None], merged: Merged) -> pl.DataFrame | None:
        """One row per slot (and item) of parts that each have one, unless windows were merged."""
        rows = [one for one in parts if one is not None and one.height]
        if not rows:
            return None
        return rows[0] if len(rows) == 1 and not len(merged) else self.plan.merge(table, rows, [SLOT])

    def _keep(self, store: GroupStore, rows: pl.DataFrame | None) -> None:
        if rows is not None:
            store.write(rows)

    # -- several panes of a window

    def _many(self, taken: Taken | None, windows: Int64s, fires: pl.DataFrame, merged: Merged) -> pl.DataFrame | None:
        last = int(fires[ROUND].max())  # type: ignore[arg-type]
        step = rounds_at_once(last, fires.height)
        panes: list[pl.DataFrame | None] = []
        for table, store in self._tables():
            new = self._by_cell(table, taken)
            rest = _moved(store.read(np.concatenate([windows, merged.gone])), merged)
            found = []
            for low in range(0, last + 2, step):
                within = pl.col(ROUND).is_between(low, low + step - 1)
                held = None if rest is None else rest.with_columns(pl.lit(low, dtype=pl.Int64).alias(ROUND))
                some = [one for one in (held, None if new is None else new.filter(within)) if one is not None]
                pane, rest = self._cut(table, [part for part in some if part.height], fires.filter(within))
                found.append(pane)
            panes.append(_stacked(found))
            store.free(windows)
            self._keep(store, rest)
        return self._finished(panes, [SLOT, ROUND])

    def _cut(
        self, table: Table, rows: Sequence[pl.DataFrame], fires: pl.DataFrame
    ) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
        """What the panes hold, by slot and round, and what stays, by slot."""
        if not rows:
            return None, None
        if not fires.height:
            return None, self.plan.merge(table, [one.drop(ROUND) for one in rows], [SLOT])
        if not self.accumulating:
            whole = self.plan.merge(table, rows, [SLOT, ROUND])
            pane = whole.join(fires, on=[SLOT, ROUND], how="semi")
            rest = whole.join(fires, on=[SLOT, ROUND], how="anti").drop(ROUND)
            return pane, rest if rest.height else None
        whole = rows[0] if len(rows) == 1 else pl.concat(rows, how="diagonal_relaxed")
        each = fires.select(SLOT, pl.col(ROUND).alias(_PANE)).join(whole, on=SLOT)
        each = each.filter(pl.col(ROUND) <= pl.col(_PANE)).drop(ROUND).rename({_PANE: ROUND})
        rest = self.plan.merge(table, [whole.drop(ROUND)], [SLOT])
        return self.plan.merge(table, [each], [SLOT, ROUND]), rest


def rounds_at_once(rounds: int, panes: int) -> int:
    """How many panes of each window are worked out together.

    What an accumulating pane holds is repeated for each later one of its step, and each step has its queries: the
    number at which both cost the same.

    >>> rounds_at_once(60, 60_000), rounds_at_once(10_000, 10_000)
    (8, 256)
    """
    return max(8, min(256, isqrt(_A_STEP * rounds // panes)))


def _split(fresh: pl.DataFrame | None) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
    """What came before the windows' panes, and what came after."""
    if fresh is None:
        return None, None
    after = fresh[ROUND] > 0
    if not after.any():
        return without(fresh, ROUND), None
    return without(fresh.filter(~after), ROUND), without(fresh.filter(after), ROUND)


def _moved(rows: pl.DataFrame | None, merged: Merged) -> pl.DataFrame | None:
    """Rows of windows that were merged away under the slot of what they are part of."""
    if rows is None or not len(merged):
        return rows
    return rows.with_columns(pl.Series(SLOT, rows[SLOT].replace(merged.gone, merged.into)))


def _stacked(parts: Sequence[pl.DataFrame | None]) -> pl.DataFrame | None:
    rows = [one for one in parts if one is not None and one.height]
    return stacked(rows) if rows else None

"""The contents of panes, worked out for many at once: which partial rows each of them holds, and what then is left.

An event that came after r panes of its window (in one go of the operator) bears round r; pane r of the window holds
the rounds up to r (accumulating) or r alone (discarding), what was kept of the window before counting as round 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from thalweg.streams.aggregate import AggregatePlan, Table
from thalweg.streams.state.row_store import SLOT, Int64s, RowStore

ROUND = "__round"
_PANE = "__pane"
BLOCK = 64
"""Panes of one window that are worked out at a time: accumulating panes are repeated for each later one."""


class Contents:
    """The partial rows of all windows, by slot.

    Args:
        plan: the aggregates.
        stores: one per table of the plan.
        accumulating: whether a pane holds all events so far or only those since the pane before.
    """

    def __init__(self, plan: AggregatePlan, stores: Sequence[RowStore], *, accumulating: bool) -> None:
        self.plan = plan
        self.stores = stores
        self.accumulating = accumulating

    def take(
        self, events: pl.DataFrame | None, fires: pl.DataFrame, gone: Int64s, into: Int64s
    ) -> list[pl.DataFrame | None]:
        """Takes events and gives the panes' results.

        Args:
            events: with `__slot` and `__round`; None: there are none.
            fires: `__slot` and `__round` of each pane.
            gone: windows that were merged away before any pane, `into[i]` each.

        Returns:
            Frames of results by `__slot` and `__round`; a pane without contents is missing.
        """
        results = []
        last = int(fires[ROUND].max()) if fires.height else 0  # type: ignore[arg-type]
        for low in range(0, last + 2, BLOCK):
            within = pl.col(ROUND).is_between(low, low + BLOCK - 1)
            some = None if events is None else events.filter(within)
            results.append(self._block(some, fires.filter(within), gone, into, low))
            gone = into = np.zeros(0, dtype=np.int64)
        return results

    def _block(
        self, events: pl.DataFrame | None, fires: pl.DataFrame, gone: Int64s, into: Int64s, low: int
    ) -> pl.DataFrame | None:
        slots = [one[SLOT].unique().to_numpy() for one in (events, fires) if one is not None and one.height]
        touched = np.unique(np.concatenate([*slots, into])).astype(np.int64)
        if not len(touched):
            return None
        group = [SLOT, ROUND]
        fresh = [None for _ in self.stores] if events is None or not events.height else self.plan.prepare(events, group)
        panes: list[pl.DataFrame | None] = []
        for table, store, new in zip(self.plan.tables, self.stores, fresh, strict=True):
            held = self._held(store, touched, gone, into, low)
            rows = [one for one in (held, new) if one is not None and one.height]
            pane, rest = self._cut(table, rows, fires)
            panes.append(pane)
            store.free(touched)
            if rest is not None:
                store.write(rest)
        if not fires.height or panes[0] is None or not panes[0].height:
            return None
        return self.plan.finish(panes, group)

    def _held(self, store: RowStore, touched: Int64s, gone: Int64s, into: Int64s, low: int) -> pl.DataFrame | None:
        held = store.read(np.concatenate([touched, gone]))
        if held is None:
            return None
        moved = held[SLOT].replace(gone, into) if len(gone) else held[SLOT]
        return held.with_columns(pl.Series(SLOT, moved), pl.lit(low, dtype=pl.Int64).alias(ROUND))

    def _cut(
        self, table: Table, rows: Sequence[pl.DataFrame], fires: pl.DataFrame
    ) -> tuple[pl.DataFrame | None, pl.DataFrame | None]:
        """What the panes hold, by slot and round, and what stays, by slot."""
        if not rows:
            return None, None
        if not fires.height:
            return None, self._merged(table, rows, [SLOT])
        if not self.accumulating:
            whole = self._merged(table, rows, [SLOT, ROUND])
            pane = whole.join(fires, on=[SLOT, ROUND], how="semi")
            rest = whole.join(fires, on=[SLOT, ROUND], how="anti").drop(ROUND)
            return pane, rest if rest.height else None
        whole = rows[0] if len(rows) == 1 else pl.concat(rows, how="diagonal_relaxed")
        each = fires.select(SLOT, pl.col(ROUND).alias(_PANE)).join(whole, on=SLOT)
        each = each.filter(pl.col(ROUND) <= pl.col(_PANE)).drop(ROUND).rename({_PANE: ROUND})
        return self._merged(table, [each], [SLOT, ROUND]), self._merged(table, [whole], [SLOT])

    def _merged(self, table: Table, rows: Sequence[pl.DataFrame], group: list[str]) -> pl.DataFrame:
        kept = [one if ROUND in group else one.drop(ROUND) for one in rows]
        return self.plan.merge(table, kept, group)

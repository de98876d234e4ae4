"""What windows hold so far, for `app.query`: the results that they would give now, without closing them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from thalweg.streams.batch import TIMESTAMP
from thalweg.streams.engine.window_base import WINDOW_END, WINDOW_START
from thalweg.streams.querying import matching
from thalweg.streams.state.row_store import SLOT

if TYPE_CHECKING:
    from thalweg.streams.engine.window_aligned import AlignedWindowOperator
    from thalweg.streams.engine.window_slots import SlotWindowOperator
    from thalweg.streams.engine.window_triggered import TriggeredWindowOperator


def of_aligned(operator: AlignedWindowOperator, keys: pl.DataFrame | None) -> pl.DataFrame:
    """A row per key and open window."""
    operator.settle()
    window, plan = operator.window, operator.plan
    ends: set[int] = set()
    for pane in operator.logs[0].panes():
        ends.update(window.ends_of_slice(pane, operator.closed, window.last_end(pane - 1)))
    group = [*operator.keys, WINDOW_END]
    merged = []
    for table, log in zip(plan.tables, operator.logs, strict=True):
        members = [matching(rows, keys) for rows in operator._members(log, sorted(ends))]
        merged.append(plan.merge(table, members, group) if members else None)
    if merged[0] is None:
        return empty(operator.keys, [WINDOW_START, WINDOW_END, *plan.aggregates])
    results = plan.finish(merged, group)
    results = results.with_columns(pl.Series(WINDOW_START, window.starts_of(results[WINDOW_END].to_numpy())))
    ordered = results.sort(WINDOW_END, *operator.keys)
    return ordered.select(*operator.keys, WINDOW_START, WINDOW_END, *plan.aggregates)


def of_slots(operator: SlotWindowOperator, keys: pl.DataFrame | None, *, bounds: bool) -> pl.DataFrame:
    """A row per key and open session, or per key of a global window."""
    slots = operator.index.alive()
    ends = [WINDOW_START, WINDOW_END] if bounds else []
    if len(slots) and keys is not None:
        slots = matching(operator._names_of(slots), keys)[SLOT].to_numpy()
    if not len(slots):
        return empty(operator.keys, [*ends, *operator.plan.aggregates])
    facts = {SLOT: slots, TIMESTAMP: operator.index.last[slots]}
    if bounds:
        facts |= {WINDOW_START: operator.index.start[slots], WINDOW_END: operator.index.ends(slots)}
    results = operator.finished(slots).join(pl.DataFrame(facts), on=SLOT).sort(*operator.keys, TIMESTAMP)
    return results.select(*operator.keys, *ends, *operator.plan.aggregates)


def of_triggered(operator: TriggeredWindowOperator, keys: pl.DataFrame | None) -> pl.DataFrame:
    """A row per key and open window: all of it so far or, where panes are discarded, what came since the last one."""
    columns = [WINDOW_START, WINDOW_END, *operator.plan.aggregates]
    slots = operator.index.alive()
    slots = slots[operator.stores[0].has(slots)]
    if len(slots) and keys is not None:
        slots = matching(operator._names_of(slots), keys)[SLOT].to_numpy()
    if not len(slots):
        return empty(operator.keys, columns)
    ends = operator.index.ends(slots)
    facts = {SLOT: slots, WINDOW_START: operator.starts_of(slots, ends), WINDOW_END: ends}
    results = operator.finished(slots).join(pl.DataFrame(facts), on=SLOT)
    return results.sort(WINDOW_END, *operator.keys).select(*operator.keys, *columns)


def empty(keys: list[str], columns: list[str]) -> pl.DataFrame:
    """No results; what their types would be is not known without any."""
    return pl.DataFrame(schema=dict.fromkeys([*keys, *columns], pl.Null()))

"""A filter over rows that change by key: a row that turns from true to false is taken back.

State: the rows that fulfil the predicate, in a keyed columnar index. Cost: a search per change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.batch import CHANGE, Batch, Watermark
from thalweg.streams.engine.changing_rows import DELETE, INSERT, UPDATE, Changes, Changing, ChangingRows
from thalweg.streams.engine.join_base import TimedOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.keyed_rows import warm_up


class ChangingFilter(TimedOperator):
    """Passes the changes of rows that fulfil the predicate, in the terms of those: insert, update, delete."""

    def __init__(self, operator_id: str, keys: Sequence[str], predicate: pl.Expr) -> None:
        super().__init__(operator_id)
        self.predicate = predicate
        self.rows = ChangingRows("rows", keys, Changing(tuple(keys)), nulls_equal=True)

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        self.account.absorbed += len(batch)
        if not batch:
            return
        keeps = self.predicate.fill_null(False)
        change = pl.when(keeps).then(CHANGE).otherwise(pl.lit(DELETE)).alias(CHANGE)
        changes = self.rows.changes(self.kept(batch.frame).with_columns(change))
        self.rows.apply(changes)
        found = told(self.rows, changes)
        if found.height:
            yield self.result(found)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        self.advance(watermark)
        return iter(())

    def memory(self) -> Memory:
        return self.rows.rows.memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        return self.combine(self.rows.rows.snapshot(full=full), forgotten=False, full=full)

    def restore(self, state: State) -> None:
        self.restore_progress(state)
        self.rows.restore(state, self.closed)


def told(rows: ChangingRows, changes: Changes) -> pl.DataFrame:
    """What goes and what comes, as changes of keys: rows with `__op`."""
    old, new = rows.rows.identify(changes.old), rows.rows.identify(changes.new)
    again, stays = np.isin(new.first, old.first), np.isin(old.first, new.first)
    op = pl.Series(CHANGE, np.where(again, UPDATE, INSERT).astype(object), dtype=pl.String)
    gone = changes.old.filter(pl.Series(~stays)).with_columns(pl.lit(DELETE).alias(CHANGE))
    return pl.concat([gone, changes.new.with_columns(op)], how="diagonal_relaxed")

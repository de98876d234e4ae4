"""A filter over rows that change by key: a row that turns from true to false is taken back.

State: the rows that fulfil the predicate, in a keyed columnar index. Cost: a search per change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from thalweg.streams.batch import CHANGE, Batch
from thalweg.streams.engine.changing_rows import DELETE, Changing
from thalweg.streams.engine.keyed_changes import KeyedChanges, told


class ChangingFilter(KeyedChanges):
    """Passes the changes of rows that fulfil the predicate, in the terms of those: insert, update, delete."""

    def __init__(self, operator_id: str, keys: Sequence[str], predicate: pl.Expr) -> None:
        super().__init__(operator_id, keys, Changing(tuple(keys)))
        self.predicate = predicate

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.book(batch)
        if not frame.height:
            return
        keeps = self.predicate.fill_null(False)
        change = pl.when(keeps).then(CHANGE).otherwise(pl.lit(DELETE)).alias(CHANGE)
        changes = self.rows.changes(frame.with_columns(change))
        self.rows.apply(changes)
        found = told(self.rows, changes)
        if found.height:
            yield self.result(found)

"""What the operators share that keep the current rows of a changelog, and say what changes in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.batch import CHANGE, Batch, Watermark
from thalweg.streams.engine.changing_rows import DELETE, INSERT, UPDATE, Changes, Changing, ChangingRows
from thalweg.streams.engine.join_base import TimedOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.keyed_rows import warm_up


class KeyedChanges(TimedOperator):
    """The base of operators that hold the rows of their input as they are now.

    Args:
        by: the columns by which the rows are found and laid out; null is a value like any other.
        kind: what the input's changes mean.
    """

    def __init__(self, operator_id: str, by: Sequence[str], kind: Changing) -> None:
        super().__init__(operator_id)
        self.rows = ChangingRows("rows", by, kind, nulls_equal=True)

    def warm_up(self) -> None:
        warm_up()

    def book(self, batch: Batch) -> pl.DataFrame:
        """Takes note of a batch's rows, which go into state: as they do."""
        self.account.received += len(batch)
        self.account.absorbed += len(batch)
        return self.kept(batch.frame)

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

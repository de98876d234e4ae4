"""A stream as a table: the latest row of each key.

State: one row per key in a keyed columnar index. Cost per event: a search and, where it changes something, an insert.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.batch import CHANGE, RESERVED, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.engine.changing_rows import DELETE, INSERT, UPDATE, Changing, ChangingRows
from thalweg.streams.engine.join_base import TimedOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.keyed_rows import warm_up

_THERE = "__there"


class Table(TimedOperator):
    """Keeps what came last of each key, and says what has changed.

    Args:
        keys: the key columns; null is a key like any other.
        ttl: how long a row is kept that is not written again, ms of event time; then it is deleted. None: for ever.
        deleted: rows for which it is true delete their key; None: no row does (but those of a changelog).
    """

    def __init__(self, operator_id: str, keys: Sequence[str], ttl: int | None, deleted: pl.Expr | None) -> None:
        super().__init__(operator_id)
        self.keys = list(keys)
        self.ttl = ttl
        self.deleted = deleted
        self.rows = ChangingRows("rows", keys, Changing(tuple(keys)), ttl=ttl, nulls_equal=True)

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        self.account.received += len(batch)
        self.account.absorbed += len(batch)
        if not batch:
            return
        frame = self.kept(batch.frame)
        change = pl.col(CHANGE) if CHANGE in frame.columns else pl.lit(INSERT)
        if self.deleted is not None:
            change = pl.when(self.deleted.fill_null(False)).then(pl.lit(DELETE)).otherwise(change)
        frame = frame.with_columns(change.alias(CHANGE))
        told = self._told(frame)
        self.rows.apply(self.rows.changes(frame, refresh=self.ttl is not None))
        if told.height:
            yield self.result(told)

    def _told(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Every change, as what it is after those before it: who joins the table sees each version."""
        assert self.rows.rows.identities is not None
        held = self.rows.rows.identities.search(self.rows.rows.identify(frame), most=1)[1] > 0
        before = (pl.col(CHANGE) != DELETE).shift(1).over(self.keys)
        frame = frame.with_columns(before.fill_null(pl.Series(held)).alias(_THERE))
        op = pl.when(pl.col(CHANGE) == DELETE).then(pl.lit(DELETE)).when(_THERE).then(pl.lit(UPDATE))
        told = frame.with_columns(op.otherwise(pl.lit(INSERT)).alias(CHANGE))
        return told.filter(pl.col(_THERE) | (pl.col(CHANGE) != DELETE)).drop(_THERE)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if self.advance(watermark) and self.ttl is not None:
            slots = self.rows.rows.due(self.closed - self.ttl - 1)
            if len(slots):
                rows = self.rows.rows.read(slots)
                self.rows.rows.remove(slots, due=True)
                ended = pl.col(TIMESTAMP) + (self.ttl + 1)
                times = [ended.alias(TIMESTAMP), ended.alias(WATERMARK)]
                yield self.result(rows.with_columns(pl.lit(DELETE).alias(CHANGE), *times))

    def query(self, keys: pl.DataFrame | None) -> pl.DataFrame:
        """The rows of these keys (of all, where not given), as they are now: without the engine's columns."""
        held = self.rows.rows
        if keys is None:
            slots = held.alive()
        else:
            found = [slots for _, slots in held.find(held.keys(keys))]
            slots = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
        if not len(slots):
            return pl.DataFrame()
        rows = held.read(slots)
        return rows.drop([name for name in rows.columns if name in RESERVED])

    def memory(self) -> Memory:
        return self.rows.rows.memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        held = self.rows.rows
        forgotten = held.forgotten
        return self.combine(held.snapshot(full=full), forgotten=forgotten, full=full)

    def restore(self, state: State) -> None:
        self.restore_progress(state)
        self.rows.restore(state, self.closed)

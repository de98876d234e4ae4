"""Joins of rows as they are now, without bounds in time: when a row of either side changes, so does the result.

State: the current rows of both sides in keyed columnar indexes. Cost per change: a search on the other side, and a step
for each pair that it makes or takes back; nothing depends on how many rows are held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.batch import CHANGE, Batch, Watermark
from thalweg.streams.engine.changing_rows import DELETE, INSERT, Changing, ChangingRows
from thalweg.streams.engine.join_base import LEFT, RIGHT, JoinOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.plan.join_columns import How, JoinColumns
from thalweg.streams.state.keyed_rows import LABELS, warm_up
from thalweg.streams.state.row_lists import Bools, Keys


class UpdatingJoin(JoinOperator):
    """Gives pairs when both rows are there; takes back, row by row, what no longer holds.

    Args:
        kinds: of each input, what makes its rows one and the same.
        where: keeps only pairs for which it is true.
        ttl: how long rows are kept, ms of event time; what they led to stays. None: for ever.
        changelog: whether results have `__op`; without it nothing is ever taken back.
    """

    def __init__(
        self,
        operator_id: str,
        columns: JoinColumns,
        kinds: Sequence[Changing],
        *,
        where: pl.Expr | None = None,
        ttl: int | None = None,
        changelog: bool = True,
    ) -> None:
        super().__init__(operator_id, columns, 0)
        self.how = columns.how
        self.changelog = changelog
        self.where = where
        self.sides = [
            ChangingRows(name, by, kind, ttl=ttl)
            for name, by, kind in zip(("left", "right"), (columns.left_on, columns.right_on), kinds, strict=True)
        ]

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.received(batch, port)
        if not frame.height:
            return
        self.account.absorbed += frame.height
        mine = self.sides[port]
        changes = mine.changes(self.kept(frame))
        old, new = mine.rows.keys(changes.old), mine.rows.keys(changes.new)
        touched = _joined_keys(old, new)
        watched = self._watches(1 - port)
        before = mine.rows.has(touched) if watched else None
        mine.apply(changes)
        yield from self._own(changes.old, old, port, DELETE)
        if before is not None:
            after = mine.rows.has(touched)
            yield from self._partners(touched, before & ~after, port, gained=False)
            yield from self._partners(touched, after & ~before, port, gained=True)
        yield from self._own(changes.new, new, port, INSERT)

    def _watches(self, port: int) -> bool:
        """Whether results depend on the rows of this side having a partner at all."""
        return (self.how.keeps_left or self.how is How.SEMI) if port == LEFT else self.how.keeps_right

    def _own(self, rows: pl.DataFrame, keys: Keys, port: int, change: str) -> Iterator[Batch]:
        """The results of rows that come or go."""
        if not rows.height:
            return
        other = self.sides[1 - port].rows
        if not self.how.left_only:
            for probes, slots in other.find(keys):
                mine, theirs = rows[probes], other.read(slots)
                left, right = (mine, theirs) if port == LEFT else (theirs, mine)
                yield self._result(self.columns.pairs(left, right), change)
        if self._watches(port):
            met = other.has(keys)
            wanted = met if self.how is How.SEMI else ~met
            if wanted.any():
                found = self.columns.alone(rows.filter(pl.Series(wanted)), right=port == RIGHT)
                yield self._result(found, change)

    def _partners(self, touched: Keys, turned: Bools, port: int, *, gained: bool) -> Iterator[Batch]:
        """The results of the other side's rows whose first partner came, or whose last one went."""
        if not turned.any():
            return
        other = self.sides[1 - port].rows
        change = INSERT if gained == (self.how is How.SEMI) else DELETE
        for _, slots in other.find(_distinct(touched.take(turned))):
            yield self._result(self.columns.alone(other.read(slots), right=port == LEFT), change)

    def _result(self, frame: pl.DataFrame, change: str) -> Batch:
        if self.where is not None:
            frame = frame.filter(self.where)
        return self.result(frame.with_columns(pl.lit(change).alias(CHANGE)) if self.changelog else frame)

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if self.advance(watermark):
            for side in self.sides:
                side.expire(self.closed)
        return iter(())

    def memory(self) -> Memory:
        return self.sides[LEFT].rows.memory() + self.sides[RIGHT].rows.memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        forgotten = any(side.rows.forgotten for side in self.sides)
        puts = [put for side in self.sides for put in side.rows.snapshot(full=full)]
        return self.combine(puts, forgotten=forgotten, full=full)

    def restore(self, state: State) -> None:
        self.restore_progress(state)
        for port, side in enumerate(self.sides):
            for frame in state.get(side.rows.name, ())[:1]:
                self.columns.see(frame.drop(LABELS, strict=False), right=port == RIGHT)
            side.restore(state, self.closed)


def _joined_keys(one: Keys, other: Keys) -> Keys:
    if not len(one) or not len(other):
        return one if len(one) else other
    null = None
    if one.null is not None or other.null is not None:
        parts = [np.zeros(len(keys), dtype=bool) if keys.null is None else keys.null for keys in (one, other)]
        null = np.concatenate(parts)
    return Keys(np.concatenate([one.first, other.first]), np.concatenate([one.second, other.second]), null)


def _distinct(keys: Keys) -> Keys:
    """Each key once; none that is null."""
    if keys.null is not None:
        keys = keys.take(~keys.null)
    pairs = np.stack([keys.first, keys.second])
    first, second = np.unique(pairs, axis=1)
    return Keys(np.ascontiguousarray(first), np.ascontiguousarray(second), None)

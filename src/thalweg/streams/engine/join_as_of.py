"""As-of joins: each left row with the right row of its key that held at its time.

State: left rows until the watermark has passed them (then every right row that could be older has come), and of the
right rows of each key the newest that is not after the watermark, with those after it. Cost per event: one insert and
one search.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from thalweg.streams.batch import CHANGE, TIMESTAMP, Batch, Watermark
from thalweg.streams.engine.changing_rows import DELETE
from thalweg.streams.engine.join_base import LEFT, RIGHT, JoinOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.plan.join_columns import How, JoinColumns
from thalweg.streams.state.keyed_rows import LABELS, KeyedRows, warm_up
from thalweg.streams.state.row_lists import EARLIEST, Bools, Int64s
from thalweg.streams.state.time_buckets import TimeBuckets

_STEP = 100


class AsOfJoin(JoinOperator):
    """Joins with the newest right row whose time is at most the left one's. Results come in order of time.

    Args:
        tolerance: how much older the right row may be, ms.
        lateness: how far a row may be behind its watermark, ms.
    """

    def __init__(self, operator_id: str, columns: JoinColumns, tolerance: int | None, lateness: int) -> None:
        super().__init__(operator_id, columns, lateness)
        self.tolerance = tolerance
        self.lateness = lateness
        self.left = KeyedRows("left", columns.left_on, bucket=_STEP)
        self.right = KeyedRows("right", columns.right_on, bucket=_STEP)
        self._aging = None if tolerance is None else TimeBuckets(max(tolerance // 8, _STEP))

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.received(batch, port)
        if not frame.height:
            return
        rows, late = self.split_late(frame, pl.col(TIMESTAMP) + (self.lateness + 1))
        if late is not None:
            yield late
        if rows.height:
            self.account.absorbed += rows.height
            side = self.left if port == LEFT else self.right
            side.add(self.kept(rows), side.keys(rows), np.ascontiguousarray(rows[TIMESTAMP].to_numpy()))

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if not self.advance(watermark):
            return
        passed = self.closed - self.lateness
        slots = self.left.due(passed - 1)
        if len(slots):
            yield from self._answer(slots)
            self.left.remove(slots, due=True)
        self._prune(passed)

    def _answer(self, slots: Int64s) -> Iterator[Batch]:
        rows, times = self.left.read(slots), self.left.time[slots]
        # The left key's columns bear other names than the right's; identities are of values.
        low = EARLIEST if self.tolerance is None else times - self.tolerance
        met = np.zeros(len(slots), dtype=bool)
        how = self.columns.how
        for probes, found in self.right.find(self.left.keys(rows), low, times, most=1):
            partners = self.right.read(found)
            if CHANGE in partners.columns:  # what was deleted is not there
                there = (partners[CHANGE] != DELETE).fill_null(True)
                probes, partners = probes[there.to_numpy()], partners.filter(there)
            met[probes] = True
            if not how.left_only and len(probes):
                yield self.result(self.columns.pairs(rows[probes], partners, self.behind))
        wanted = {How.SEMI: met, How.ANTI: ~met, How.LEFT: ~met}.get(how)
        if wanted is not None and wanted.any():
            yield self.result(self.columns.alone(rows.filter(pl.Series(wanted)), self.behind))

    def _prune(self, passed: int) -> None:
        """Forgets the right rows that no left row to come can meet: there is a newer one that is not after it."""
        due = self.right.due(passed)
        if len(due):
            self.right.remove(self.right.superseded(due), due=True)
            due = due[~self.right.matched[due]]
            due = self._without_deletes(due)
            if self._aging is not None:
                self._aging.add(due, self.right.serial[due], self.right.time[due])
        if self._aging is not None:
            assert self.tolerance is not None
            self.right.remove(self._aging.due(passed - self.tolerance - 1, self.right.serial), due=True)

    def _without_deletes(self, due: Int64s) -> Int64s:
        """Forgets deletes that nothing newer has followed: no row is the same as a deleted one."""
        if not len(due):
            return due
        rows = self.right.read(due)
        if CHANGE not in rows.columns:
            return due
        deletes: Bools = (rows[CHANGE] == DELETE).fill_null(False).to_numpy()
        self.right.remove(due[deletes], due=True)
        kept: Int64s = due[~deletes]
        return kept

    def memory(self) -> Memory:
        return self.left.memory() + self.right.memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        forgotten = self.left.forgotten or self.right.forgotten
        puts = [*self.left.snapshot(full=full), *self.right.snapshot(full=full)]
        return self.combine(puts, forgotten=forgotten, full=full)

    def restore(self, state: State) -> None:
        self.restore_progress(state)
        passed = self.closed - self.lateness
        self.left.restore(state, after=passed - 1)
        self.right.restore(state, after=EARLIEST - 1 if self.tolerance is None else passed - self.tolerance - 1)
        for port, side in ((LEFT, self.left), (RIGHT, self.right)):
            for frame in state.get(side.name, ())[:1]:
                self.columns.see(frame.drop(LABELS, strict=False), right=port == RIGHT)

"""Lookup joins: each row with what a frame or a function has for its key. Nothing of it is durable state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.batch import DEAD, MAX_TIME, MIN_TIME, TIMESTAMP, WATERMARK, Batch
from thalweg.streams.engine.dead_letters import dead_letters, row_error
from thalweg.streams.engine.lookups import Lookup
from thalweg.streams.operator import Memory, Operator
from thalweg.streams.plan.join_columns import How, JoinColumns
from thalweg.streams.state.keyed_rows import warm_up
from thalweg.streams.state.row_lists import Int64s

_PLACE = "__place"


class LookupJoin(Operator):
    """Passes rows on in their order, with the columns that were found.

    Args:
        topics: the source topics, for dead letters.
        dead_letters: rows become dead letters where the lookup fails; without, the job stops.
    """

    def __init__(
        self, operator_id: str, columns: JoinColumns, lookup: Lookup, topics: Sequence[str], *, to_dead_letters: bool
    ) -> None:
        super().__init__(operator_id)
        self.columns = columns
        self.lookup = lookup
        self.topics = topics
        self.to_dead_letters = to_dead_letters

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = batch.frame
        self.account.received += frame.height
        if not frame.height:
            return
        self.columns.see(frame, right=False)
        names = dict(zip(self.columns.left_on, self.columns.right_on, strict=True))
        wanted = frame.select([pl.col(name).alias(to) for name, to in names.items()])
        keys = self.lookup.rows.keys(wanted)
        try:
            self.lookup.prepare(wanted, keys, self.clock)
        except Exception as error:
            if not self.to_dead_letters:
                raise
            self.account.dead += frame.height
            errors = [row_error(row, error) for row in range(frame.height)]
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)
            return
        joined = self._joined(frame, *self.lookup.found(keys))
        if joined.height:
            yield Batch(joined)

    def _joined(self, frame: pl.DataFrame, probes: Int64s, partners: pl.DataFrame) -> pl.DataFrame:
        how = self.columns.how
        met = np.zeros(frame.height, dtype=bool)
        met[probes] = True
        if how.left_only:
            return self._passed(frame.filter(pl.Series(met if how is How.SEMI else ~met)), frame.height)
        self.columns.see(partners, right=True)
        # What is found has no time of its own: the row's counts.
        always = [pl.lit(MIN_TIME).alias(TIMESTAMP), pl.lit(MAX_TIME).alias(WATERMARK)]
        found = self.columns.pairs(frame[probes], partners.with_columns(always)) if len(probes) else None
        rows = [] if found is None else [found.with_columns(pl.Series(_PLACE, probes))]
        if how is How.LEFT and not met.all():
            alone = self.columns.alone(frame.filter(pl.Series(~met)))
            rows.append(alone.with_columns(pl.Series(_PLACE, np.flatnonzero(~met))))
        passed = frame.height if how is How.LEFT else int(met.sum())
        self.account.passed += passed
        self.account.filtered += frame.height - passed
        if not rows:
            return frame.clear()
        return pl.concat(rows, how="diagonal_relaxed").sort(_PLACE, maintain_order=True).drop(_PLACE)

    def _passed(self, rows: pl.DataFrame, of: int) -> pl.DataFrame:
        self.account.passed += rows.height
        self.account.filtered += of - rows.height
        return rows

    def memory(self) -> Memory:
        return self.lookup.memory()

"""Neighbouring stateless steps as one operator: one lazy Polars query per batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from thalweg.streams.batch import DEAD, RESERVED, Batch
from thalweg.streams.engine.dead_letters import dead_letters
from thalweg.streams.engine.outputs import topics_of
from thalweg.streams.engine.steps import Step
from thalweg.streams.engine.unknown_columns import UnknownColumns
from thalweg.streams.operator import Operator, OperatorContext


class Fused(Operator):
    """Runs its steps over each batch: vectorised neighbours in one query, per-row functions between them."""

    def __init__(self, operator_id: str, steps: Sequence[Step], context: OperatorContext) -> None:
        super().__init__(operator_id)
        self.topics = topics_of(context)
        self._unknown = UnknownColumns()
        self.stages = _stages([step for step in steps if not step.changes_nothing])

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Transforms the rows; those that a per-row function failed on leave as dead letters."""
        frame = batch.frame
        reserved = [column for column in frame.columns if column in RESERVED]
        dead: list[pl.DataFrame] = []
        for stage in self.stages:
            if not frame.height:
                break
            if isinstance(stage, list):
                frame = self._query(frame, stage, reserved)
                continue
            before = frame
            frame, errors = stage.per_row(before)
            if errors:
                dead.append(dead_letters(before, errors, self.id, self.topics))
        self._book(batch.frame.height, frame.height, sum(letters.height for letters in dead))
        if frame.height:
            yield Batch(frame)
        for letters in dead:
            yield Batch(letters, DEAD)

    def _query(self, frame: pl.DataFrame, steps: Sequence[Step], reserved: Sequence[str]) -> pl.DataFrame:
        def run(rows: pl.DataFrame) -> pl.DataFrame:
            query = rows.lazy()
            for step in steps:
                query = step.lazily(query, reserved)
            return query.collect(engine="in-memory")

        try:
            return run(frame)
        except pl.exceptions.PolarsError:
            reads = frozenset(name for step in steps for name in step.reads)
            made = frozenset(name for step in steps for name in step.makes)
            return self._unknown.run(frame, reads, made, run)

    def _book(self, received: int, passed: int, dead: int) -> None:
        account = self.account
        account.received += received
        account.passed += passed
        account.dead += dead
        account.filtered += received - passed - dead


def _stages(steps: Sequence[Step]) -> list[Step | list[Step]]:
    """Groups neighbours that are vectorised."""
    stages: list[Step | list[Step]] = []
    for step in steps:
        if not step.vectorised:
            stages.append(step)
        elif stages and isinstance(stages[-1], list):
            stages[-1].append(step)
        else:
            stages.append([step])
    return stages

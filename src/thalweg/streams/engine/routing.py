"""Union and split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import polars as pl

from thalweg.streams.batch import DEAD, Batch
from thalweg.streams.engine.dead_letters import RowError, dead_letters, row_error
from thalweg.streams.engine.outputs import topics_of
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import expressions_of

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction


class Union(Operator):
    """Passes the rows of all inputs; columns that an input lacks are null."""

    def __init__(self, operator_id: str, context: OperatorContext) -> None:
        super().__init__(operator_id)
        known = [schema for schema in context.input_schemas if schema is not None]
        complete = len(known) == len(context.input_schemas)
        self.columns = {name: dtype for schema in known for name, dtype in schema.items()} if complete else {}

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Passes the rows on."""
        self.account.received += len(batch)
        self.account.passed += len(batch)
        missing = [pl.lit(None, dtype).alias(n) for n, dtype in self.columns.items() if n not in batch.frame.columns]
        yield Batch(batch.frame.with_columns(missing)) if missing else batch


class Split(Operator):
    """Sends each row to the port of the first branch whose predicate is true."""

    def __init__(self, operator_id: str, branches: Mapping[str, CompiledFunction], context: OperatorContext) -> None:
        super().__init__(operator_id)
        self.branches = branches
        self.topics = topics_of(context)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Yields one batch for each branch that gets rows."""
        rest = batch.frame
        self.account.received += rest.height
        for name, predicate in self.branches.items():
            matches, errors = _matches(rest, predicate)
            chosen = rest.filter(matches)
            self.account.passed += chosen.height
            yield Batch(chosen, name)
            if errors:
                self.account.dead += len(errors)
                yield Batch(dead_letters(rest, errors, self.id, self.topics), DEAD)
                matches = matches.scatter([row for row, *_ in errors], True)
            rest = rest.filter(~matches)
        self.account.filtered += rest.height


def _matches(frame: pl.DataFrame, predicate: CompiledFunction) -> tuple[pl.Series, list[RowError]]:
    """True for the rows that match (never null), and the rows that the predicate failed on."""
    if predicate.vectorised:
        expression = expressions_of(predicate)[0].fill_null(False)
        matches = frame.select(matches=expression).get_column("matches")
        return matches.new_from_index(0, frame.height) if matches.len() < frame.height else matches, []
    results = predicate.evaluate_rows(frame)
    failed = {row for row, _ in results.errors}
    values = [row not in failed and value is not None and bool(value) for row, value in enumerate(results.values)]
    return pl.Series("matches", values, dtype=pl.Boolean), [row_error(row, e) for row, e in results.errors]

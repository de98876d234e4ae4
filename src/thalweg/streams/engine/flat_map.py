"""Any number of rows from each row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import polars as pl

from thalweg.streams.batch import DEAD, RESERVED, Batch
from thalweg.streams.engine.dead_letters import RowError, dead_letters, row_error
from thalweg.streams.engine.outputs import topics_of
from thalweg.streams.engine.row_frames import RowFrames
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import expressions_of

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction


class FlatMap(Operator):
    """Makes records of each row: from a list column (an expression), or from what a function returns for the row.

    A row that gives no record counts as filtered.
    """

    def __init__(
        self, operator_id: str, function: CompiledFunction, schema: pl.Schema | None, context: OperatorContext
    ) -> None:
        super().__init__(operator_id)
        self.function = function
        self.topics = topics_of(context)
        self._frames = RowFrames(schema)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        """Expands the rows."""
        frame = batch.frame
        self.account.received += frame.height
        if self.function.vectorised:
            yield self._exploded(frame)
        else:
            yield from self._called(frame)

    def _exploded(self, frame: pl.DataFrame) -> Batch:
        expression = expressions_of(self.function)[0]
        name = expression.meta.output_name()
        reserved = [column for column in frame.columns if column in RESERVED]
        lists = frame.select(expression.alias(name), *reserved).filter(pl.col(name).list.len() > 0)
        self.account.passed += lists.height
        self.account.filtered += frame.height - lists.height
        rows = lists.explode(name)
        return Batch(rows.unnest(name) if isinstance(rows.schema[name], pl.Struct) else rows)

    def _called(self, frame: pl.DataFrame) -> Iterable[Batch]:
        results = self.function.evaluate_rows(frame)
        errors: list[RowError] = [row_error(row, e) for row, e in results.errors]
        failed = {row for row, *_ in errors}
        origins: list[int] = []
        records: list[object] = []
        for row, value in enumerate(results.values):
            if row in failed or value is None:
                continue
            if isinstance(value, str | bytes) or not isinstance(value, Iterable):
                message = f"flat_map returned a {type(value).__name__}; return a list of records"
                errors.append((row, "NotARecord", message, {}))
                continue
            made = list(value)
            origins += [row] * len(made)
            records += made
        rows, kept, misfits = self._frames.make(records)
        errors += _first(misfits, origins)
        dead_rows = {row for row, *_ in errors}
        whole = [place for place, record in enumerate(kept) if origins[record] not in dead_rows]
        rows, origins = rows[whole], [origins[kept[place]] for place in whole]  # a row goes as a whole or not at all
        passed = len(set(origins))
        self.account.passed += passed
        self.account.dead += len(dead_rows)
        self.account.filtered += frame.height - passed - len(dead_rows)
        reserved = frame.select([column for column in frame.columns if column in RESERVED])[origins]
        yield Batch(pl.concat([rows, reserved], how="horizontal"))
        if errors:
            yield Batch(dead_letters(frame, errors, self.id, self.topics), DEAD)


def _first(misfits: list[RowError], origins: list[int]) -> list[RowError]:
    """One error for each row whose records did not all fit."""
    first: dict[int, RowError] = {}
    for record, error_class, message, details in misfits:
        first.setdefault(origins[record], (origins[record], error_class, message, details))
    return list(first.values())

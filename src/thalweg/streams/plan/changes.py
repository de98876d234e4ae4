"""Plan nodes of distinct events and of change records."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.batch import TIMESTAMP, WATERMARK
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node


@dataclass(frozen=True, eq=False, kw_only=True)
class DistinctNode(Node):
    """Passes the first event of each combination of values."""

    columns: tuple[str, ...]
    ttl: int | None = None

    @property
    def kind(self) -> str:
        return "distinct"

    def describe(self) -> str:
        ttl = "" if self.ttl is None else f" for {self.ttl} ms"
        return f"distinct {', '.join(self.columns)}{ttl} (vectorised)"

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("distinct on a changelog: its rows are distinct by what it is keyed by; key it differently")
        return inputs[0]

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None if wanted is None else wanted | {*self.columns, TIMESTAMP, WATERMARK}

    @property
    def stateful(self) -> bool:
        return True

    def placed_by(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return (self.columns,)

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.distinct import Distinct

        return Distinct(context.operator_id, self.columns, self.ttl)


@dataclass(frozen=True, eq=False, kw_only=True)
class ChangeRecordsNode(Node):
    """Makes a changelog of change records: an operation, the row before and the row after."""

    keys: tuple[str, ...]
    """The primary key: it tells the rows of the changelog apart."""
    op: str = "op"
    before: str = "before"
    after: str = "after"

    @property
    def kind(self) -> str:
        return "changes"

    def describe(self) -> str:
        return f"changes keyed by {', '.join(self.keys)} (vectorised)"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        schema = inputs[0]
        if schema is None:
            return None
        missing = [name for name in (self.op, self.before, self.after) if name not in schema]
        if missing:
            raise PlanError(f"changes: no column {', '.join(missing)}; there are {', '.join(schema)}")
        after = schema[self.after]
        if not isinstance(after, pl.Struct):
            raise PlanError(f"changes: {self.after!r} is {after}, not a record")
        return pl.Schema({one.name: one.dtype for one in after.fields})

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("changes: its input is a changelog already")
        return Mode.CHANGELOG

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return frozenset({self.op, self.before, self.after})

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.keys

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.change_records import ChangeRecords

        return ChangeRecords(context.operator_id, self, context)

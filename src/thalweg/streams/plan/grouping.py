"""The plan node of aggregates over rows that change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate import Aggregate, AggregatePlan, to_aggregates
from thalweg.streams.batch import TIMESTAMP
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import check_columns
from thalweg.streams.plan.node import Mode, Node


@dataclass(frozen=True, eq=False, kw_only=True)
class ChangingAggregateNode(Node):
    """Aggregates the rows of a changelog as they are now, per group. The result is a changelog, keyed by the group.

    Raises:
        ConfigurationError: no aggregate, a reserved or repeated result name.
    """

    keys: tuple[str, ...]
    aggregates: Mapping[str, object]
    row_keys: tuple[str, ...]
    """The key columns of the changelog; with `whole` there are none."""
    whole: bool = False
    """Its changes are whole rows."""

    def __post_init__(self) -> None:
        aggregates = to_aggregates(self.aggregates)
        both = sorted(set(aggregates) & set(self.keys))
        if both:
            raise ConfigurationError(f"{', '.join(both)}: a key column and a result column; rename one of them")
        object.__setattr__(self, "aggregates", aggregates)

    @property
    def kind(self) -> str:
        return "group"

    @property
    def plan(self) -> AggregatePlan:
        """The aggregates, compiled."""
        aggregates: dict[str, Aggregate] = dict(self.aggregates)  # type: ignore[arg-type]
        return AggregatePlan(aggregates)

    @property
    def stateful(self) -> bool:
        return True

    def describe(self) -> str:
        by = ", ".join(self.keys) or "nothing"
        results = ", ".join(f"{name}={aggregate!r}" for name, aggregate in self.aggregates.items())
        return f"group by {by}, rows as they are now: {results} (vectorised)"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        check_columns(self.keys, inputs[0], "group_by")
        if inputs[0] is None:
            return None
        check_columns(sorted(self.plan.columns), inputs[0], "aggregate")
        events = pl.DataFrame(schema={**inputs[0], TIMESTAMP: pl.Int64()})
        group = list(self.keys) or [TIMESTAMP]
        results = self.plan.finish(self.plan.prepare(events, group), group).schema
        return pl.Schema({name: results[name] for name in (*self.keys, *self.aggregates)})

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        return Mode.CHANGELOG

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None if self.whole else self.plan.columns | {*self.keys, *self.row_keys, TIMESTAMP}

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.keys

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.changing_aggregate import ChangingAggregate
        from thalweg.streams.engine.changing_rows import Changing

        return ChangingAggregate(context.operator_id, self.keys, self.plan, Changing(self.row_keys, self.whole))

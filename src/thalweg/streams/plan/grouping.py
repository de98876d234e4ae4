"""The plan nodes of what is computed over rows that change: aggregates, filters, the first rows of groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate import Aggregate, AggregatePlan, to_aggregates
from thalweg.streams.batch import TIMESTAMP
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import check_columns, columns_of, expressions_of
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.plan.stateless import FilterNode

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction


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

    def placed_by(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return (self.keys,)

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.changing_aggregate import ChangingAggregate
        from thalweg.streams.engine.changing_rows import Changing

        return ChangingAggregate(context.operator_id, self.keys, self.plan, Changing(self.row_keys, self.whole))


@dataclass(frozen=True, eq=False, kw_only=True)
class TopNNode(Node):
    """The first `n` rows of each group, as inserts and deletes of whole rows."""

    keys: tuple[str, ...]
    n: int
    order: tuple[tuple[str, bool], ...]
    """Columns, and whether the largest comes first."""
    rank: str | None
    row_keys: tuple[str, ...] | None
    """The key columns of the input's changes; None: it only appends."""
    whole: bool = False
    gives_whole_rows = True

    @property
    def kind(self) -> str:
        return "top_n"

    @property
    def stateful(self) -> bool:
        return True

    def describe(self) -> str:
        order = ", ".join(f"{name}{' descending' if falling else ''}" for name, falling in self.order)
        by = f" of each {', '.join(self.keys)}" if self.keys else ""
        return f"top {self.n}{by} by {order} (vectorised)"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        check_columns([*self.keys, *(name for name, _ in self.order)], inputs[0], "top_n")
        if inputs[0] is None or self.rank is None:
            return inputs[0]
        if self.rank in inputs[0]:
            raise ConfigurationError(f"top_n: there is a column {self.rank!r} already; call the rank differently")
        return pl.Schema({**inputs[0], self.rank: pl.Int64()})

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        return Mode.CHANGELOG

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        if wanted is None or self.whole:
            return None
        return wanted | {*self.keys, *(name for name, _ in self.order), *(self.row_keys or ()), TIMESTAMP}

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return ()

    def placed_by(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return (self.keys,)

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.changing_rows import Changing
        from thalweg.streams.engine.top_n import TopN

        kind = Changing(self.row_keys, self.whole)
        return TopN(context.operator_id, self.keys, self.n, self.order, self.rank, kind)


@dataclass(frozen=True, eq=False, kw_only=True)
class ChangingFilterNode(Node):
    """Keeps the rows of a keyed changelog for which the predicate is true; takes back those that no longer are."""

    predicate: CompiledFunction

    @property
    def kind(self) -> str:
        return "filter"

    @property
    def stateful(self) -> bool:
        return True

    def describe(self) -> str:
        return f"filter {self.predicate.describe()}, rows as they are now"

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        read = columns_of([self.predicate])
        return None if wanted is None or read is None else wanted | read | {TIMESTAMP}

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.changing_filter import ChangingFilter

        keys = cast("tuple[str, ...]", context.options["key_columns"])
        return ChangingFilter(context.operator_id, keys, expressions_of(self.predicate)[0])


@dataclass(frozen=True, eq=False)
class WholeRowFilterNode(FilterNode):
    """Keeps the inserts and deletes of rows for which the predicate is true: both are, or neither is."""

    @property
    def kind(self) -> str:
        return "filter"

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        return inputs[0]

"""Steps that look at one row at a time. Neighbours of them run as one lazy query."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import check_types, columns_of, expressions_of
from thalweg.streams.plan.node import Mode, Node

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction
    from thalweg.streams.engine.steps import Step


@dataclass(frozen=True, eq=False)
class StatelessNode(Node):
    """A step that gives at most one row for each row. Neighbours fuse."""

    @abstractmethod
    def step(self) -> Step:
        """What the fused operator runs for this node."""

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        """Rows stay keyed as long as the key columns are there."""
        return inputs[0]

    def renamed_keys(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """What the key columns of a changelog are called afterwards, where they don't stay as they are.

        Raises:
            PlanError: a column is gone, without which nobody could tell whose change a row is.
        """
        made = self.made_columns() or {}
        names = [next((to for to, of in made.items() if _passes({key: of}, key)), None) for key in keys]
        for key, name in zip(keys, names, strict=True):
            if name is None:
                raise PlanError(
                    f"{self.kind} on a changelog stream: its rows are changes of the key {key!r}, which has to stay as "
                    "it is (or under another name)"
                )
        return tuple(name for name in names if name is not None)

    def made_columns(self) -> Mapping[str, pl.Expr] | None:
        """The columns that a row has afterwards, where it has no others and all are expressions."""
        return None

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.fused import Fused

        return Fused(context.operator_id, [self.step()], context)


@dataclass(frozen=True, eq=False)
class FilterNode(StatelessNode):
    """Keeps the rows for which the predicate is true; null counts as false."""

    predicate: CompiledFunction

    def describe(self) -> str:
        return f"filter {self.predicate.describe()}"

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return _both(wanted, columns_of([self.predicate]))

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError(
                "filter on a changelog stream: a row that changes from true to false would never be taken back; "
                "filter before the aggregate, or use a window"
            )
        return inputs[0]

    def step(self) -> Step:
        from thalweg.streams.engine.steps import FilterStep

        return FilterStep(self.predicate)


@dataclass(frozen=True, eq=False)
class MapNode(StatelessNode):
    """Makes a new record of each row."""

    function: CompiledFunction
    schema: pl.Schema | None = None
    """What a per-row function returns, where the user said so."""

    def describe(self) -> str:
        return f"map {self.function.describe()}"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if self.function.vectorised and isinstance(self.function.exprs, dict):
            return schema_after_select(inputs[0], self.function.exprs)
        return self.schema

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return columns_of([self.function])

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        """A mapped record keeps its key only where the key columns are known to be passed on as they are."""
        exprs = self.made_columns()
        return inputs[0] if exprs and all(_passes(exprs, name) for name in inputs[0]) else ()

    def made_columns(self) -> Mapping[str, pl.Expr] | None:
        exprs = self.function.exprs if self.function.vectorised else None
        return exprs if isinstance(exprs, dict) else None

    def step(self) -> Step:
        from thalweg.streams.engine.steps import MapStep

        return MapStep(self.function, self.schema)


@dataclass(frozen=True, eq=False)
class SelectNode(StatelessNode):
    """Keeps or makes the named columns and drops the others."""

    columns: Mapping[str, CompiledFunction]

    def describe(self) -> str:
        return "select " + ", ".join(_assignment(name, function) for name, function in self.columns.items())

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if not all(function.vectorised for function in self.columns.values()):
            return None
        return schema_after_select(inputs[0], _vectorised(self.columns))

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return columns_of(self.columns.values())

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        exprs = self.made_columns()
        return inputs[0] if all(_passes(exprs, name) for name in inputs[0]) else ()

    def made_columns(self) -> Mapping[str, pl.Expr]:
        return _vectorised(self.columns)

    def step(self) -> Step:
        from thalweg.streams.engine.steps import ColumnsStep

        return ColumnsStep(self.columns, keep_others=False)


@dataclass(frozen=True, eq=False)
class WithColumnsNode(StatelessNode):
    """Adds columns, or replaces those of the same name."""

    columns: Mapping[str, CompiledFunction]

    @property
    def kind(self) -> str:
        return "with_columns"

    def describe(self) -> str:
        return "with_columns " + ", ".join(_assignment(name, function) for name, function in self.columns.items())

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if inputs[0] is None or not all(function.vectorised for function in self.columns.values()):
            return None
        added = schema_after_select(inputs[0], _vectorised(self.columns))
        return None if added is None else pl.Schema({**inputs[0], **added})

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        if wanted is None:
            return None
        return _both(wanted - frozenset(self.columns), columns_of(self.columns.values()))

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return () if set(inputs[0]) & set(self.columns) else inputs[0]

    def step(self) -> Step:
        from thalweg.streams.engine.steps import ColumnsStep

        return ColumnsStep(self.columns, keep_others=True)


@dataclass(frozen=True, eq=False)
class FlatMapNode(Node):
    """Makes any number of records of each row. Not fused: its output rows have no count of their own in its input."""

    function: CompiledFunction
    schema: pl.Schema | None = None

    @property
    def kind(self) -> str:
        return "flat_map"

    def describe(self) -> str:
        return f"flat_map {self.function.describe()}"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        return self.schema

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("flat_map on a changelog stream would lose which rows belong to which key")
        return inputs[0]

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return columns_of([self.function])

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return ()

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.flat_map import FlatMap

        return FlatMap(context.operator_id, self.function, self.schema, context)


def schema_after_select(schema: pl.Schema | None, exprs: Mapping[str, pl.Expr]) -> pl.Schema | None:
    """The columns that a projection gives.

    Raises:
        PlanError: the expression can't be typed over this schema (a wrong column, or types that don't go together).
    """
    if schema is None:
        return None
    named = [expression.alias(name) for name, expression in exprs.items()]
    return check_types(named, schema, "select")


def _vectorised(columns: Mapping[str, CompiledFunction]) -> dict[str, pl.Expr]:
    return {name: expressions_of(function)[0] for name, function in columns.items() if function.vectorised}


def _passes(exprs: Mapping[str, pl.Expr], name: str) -> bool:
    expression = exprs.get(name)
    return expression is not None and expression.meta.undo_aliases().meta.eq(pl.col(name))


def _assignment(name: str, function: CompiledFunction) -> str:
    plain = function.vectorised and isinstance(function.exprs, pl.Expr) and _passes({name: function.exprs}, name)
    return name if plain else f"{name} = {function.describe()}"


def _both(first: frozenset[str] | None, second: frozenset[str] | None) -> frozenset[str] | None:
    return None if first is None or second is None else first | second

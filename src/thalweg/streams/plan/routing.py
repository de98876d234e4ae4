"""Steps that decide where rows go, or by what they are keyed, and leave the rows alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.batch import MAIN
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import columns_of
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.plan.stateless import StatelessNode, WithColumnsNode, _assignment

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction
    from thalweg.streams.engine.steps import Step


@dataclass(frozen=True, eq=False)
class KeyByNode(StatelessNode):
    """Says by which columns the rows are keyed; `computed` are made on the way.

    One worker owns all partitions, so rows need not move: with several workers this becomes an exchange.
    """

    columns: tuple[str, ...]
    computed: Mapping[str, CompiledFunction]

    @property
    def kind(self) -> str:
        return "key_by"

    def describe(self) -> str:
        return "key_by " + ", ".join(
            _assignment(name, self.computed[name]) if name in self.computed else name for name in self.columns
        )

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        return WithColumnsNode(self.computed).output_schema(inputs) if self.computed else inputs[0]

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("key_by on a changelog stream: its rows are changes of the key they already have")
        return inputs[0]

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        read = columns_of(self.computed.values())
        if wanted is None or read is None:
            return None
        return (wanted - frozenset(self.computed)) | read | (frozenset(self.columns) - frozenset(self.computed))

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.columns

    def step(self) -> Step:
        from thalweg.streams.engine.steps import ColumnsStep

        return ColumnsStep(self.computed, keep_others=True)


@dataclass(frozen=True, eq=False)
class UnionNode(Node):
    """All rows of all inputs. Its watermark is the least of theirs."""

    def describe(self) -> str:
        return f"union of {len(self.inputs)} streams"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        """The columns of all inputs; equal names must have one type."""
        merged: dict[str, pl.DataType] = {}
        for schema in inputs:
            if schema is None:
                return None
            for name, dtype in schema.items():
                if merged.setdefault(name, dtype) != dtype:
                    raise PlanError(
                        f"union: column {name!r} is {merged[name]} in one stream and {dtype} in another; "
                        "cast it with .with_columns(…) first"
                    )
        return pl.Schema(merged)

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if len(set(inputs)) > 1 or Mode.CHANGELOG in inputs:
            raise PlanError("union takes append streams only: changes of one key from two streams have no order")
        return Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return wanted

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return inputs[0] if len(set(inputs)) == 1 else ()

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.routing import Union

        return Union(context.operator_id, context)


@dataclass(frozen=True, eq=False)
class SplitNode(Node):
    """Sends each row to the port of the first predicate that is true; rows without one are filtered."""

    branches: Mapping[str, CompiledFunction]

    def describe(self) -> str:
        return "split, first match: " + ", ".join(f"{n}: {p.describe()}" for n, p in self.branches.items())

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("split on a changelog stream: a key that changes branch would never leave the old one")
        return inputs[0]

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        read = columns_of(self.branches.values())
        return None if wanted is None or read is None else wanted | read

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.routing import Split

        return Split(context.operator_id, self.branches, context)


def port_of(node: Node, index: int) -> str:
    """Which output port of its input number `index` a node reads."""
    return node.input_ports[index] if node.input_ports else MAIN

"""The plan node of joins with a frame or a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.join_columns import How, JoinColumns
from thalweg.streams.plan.node import Mode, Node


@dataclass(frozen=True, eq=False, kw_only=True)
class LookupJoinNode(Node):
    """Joins each row with what a frame or a function has for its key."""

    source: pl.DataFrame | Callable[[pl.DataFrame], Any]
    schema: pl.Schema | None
    """The columns of what is found, with the keys; None: not known."""
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    how: How
    suffix: str = "_right"
    ttl: int = 0
    cache_size: int = 100_000
    to_dead_letters: bool = False

    @property
    def kind(self) -> str:
        return "lookup"

    def describe(self) -> str:
        pairs = zip(self.left_on, self.right_on, strict=True)
        on = ", ".join(one if one == other else f"{one} = {other}" for one, other in pairs)
        if isinstance(self.source, pl.DataFrame):
            return f"{self.how} lookup on {on}: a frame of {self.source.height} rows (vectorised)"
        name = getattr(self.source, "__qualname__", type(self.source).__name__)
        return f"{self.how} lookup on {on}: {name}, answers hold for {self.ttl} ms (one call per batch)"

    def columns(self, left: pl.Schema | None) -> JoinColumns:
        """How the columns go together."""
        return JoinColumns.of(self.left_on, self.right_on, self.how, self.suffix, (left, self.schema))

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        columns = self.columns(inputs[0])
        columns.check(inputs[0], self.schema, "lookup")
        known = inputs[0] is not None and (self.schema is not None or self.how.left_only)
        return columns.schema() if known else None

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("lookup on a changelog stream: what was found may have changed when a row is taken back")
        return inputs[0]

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        if wanted is None:
            return None
        return wanted | {name.removesuffix(self.suffix) for name in wanted} | {*self.left_on}

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.join_lookup import LookupJoin
        from thalweg.streams.engine.lookups import FrameLookup, FunctionLookup, Lookup
        from thalweg.streams.engine.outputs import topics_of

        lookup: Lookup
        if isinstance(self.source, pl.DataFrame):
            lookup = FrameLookup(self.source, self.right_on)
        else:
            lookup = FunctionLookup(self.source, self.right_on, self.ttl, self.cache_size)
        columns = self.columns(context.input_schemas[0])
        topics = topics_of(context)
        return LookupJoin(context.operator_id, columns, lookup, topics, to_dead_letters=self.to_dead_letters)

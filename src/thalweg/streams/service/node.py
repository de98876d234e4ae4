"""The plan node of calls to services."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node


@dataclass(frozen=True, eq=False)
class MapAsyncNode(Node):
    """Makes a new record of each event by an async function."""

    function: Callable[[Any], Coroutine[Any, Any, Any]] = field(kw_only=True)
    concurrency: int = field(default=16, kw_only=True)
    ordered: bool = field(default=True, kw_only=True)
    timeout: int | None = field(default=None, kw_only=True)
    """ms."""
    schema: pl.Schema | None = field(default=None, kw_only=True)
    keys: tuple[str, ...] = field(default=(), kw_only=True)
    on_error: str = field(default="dead-letter", kw_only=True)

    @property
    def kind(self) -> str:
        return "map_async"

    @property
    def capacity(self) -> int:
        """How many rows may wait for their result before sources are no longer read."""
        return max(1_000, 4 * self.concurrency)

    def describe(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
        order = "in order" if self.ordered else "as they end"
        return f"map_async {name}, {self.concurrency} calls at a time, results {order}"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if self.schema is None or inputs[0] is None:
            return None
        return pl.Schema({**{name: inputs[0][name] for name in self.keys}, **self.schema})

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("map_async takes appends only: changes of one key could overtake each other")
        return inputs[0]

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.keys

    @property
    def stateful(self) -> bool:
        return True

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.service.operator import MapAsync

        return MapAsync(context.operator_id, self, context)

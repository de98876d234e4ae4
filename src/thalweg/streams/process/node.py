"""The plan node of a keyed function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.batch import MAIN
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.process.declared import State


@dataclass(frozen=True, eq=False)
class ProcessNode(Node):
    """Calls a function with every event (or frame) and timer of a key, with the key's state.

    Output: the key columns, and what the function gives. Its other ports are what it emits to by name.
    """

    function: Any = field(kw_only=True)
    states: Mapping[str, State] = field(kw_only=True)
    keys: tuple[str, ...] = field(kw_only=True)
    schemas: Mapping[str, pl.Schema] = field(default_factory=dict, kw_only=True)
    """The columns besides the key, of the ports for which they were given."""
    frames: bool = field(default=False, kw_only=True)
    on_error: str = field(default="dead-letter", kw_only=True)

    @property
    def kind(self) -> str:
        return "process"

    def describe(self) -> str:
        function = self.function
        name = getattr(function, "__qualname__", type(function).__qualname__)
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        states = f", state {', '.join(self.states)}" if self.states else ""
        return f"process {name}{by}{states} ({'frames' if self.frames else 'per row'})"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        schema = self.schemas.get(MAIN)
        if schema is None or inputs[0] is None:
            return None
        return pl.Schema({**{name: inputs[0][name] for name in self.keys}, **schema})

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("process takes appends only: put it before the step whose results change, or use a window")
        return Mode.APPEND

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.keys

    @property
    def stateful(self) -> bool:
        return True

    def signature(self) -> dict[str, Any]:
        return {"kind": self.kind, "keys": list(self.keys)}

    def build(self, context: OperatorContext) -> Operator:
        if self.frames:
            from thalweg.streams.process.batches import ProcessBatches

            return ProcessBatches(context.operator_id, self, self.keys, context)
        from thalweg.streams.process.operator import Process

        return Process(context.operator_id, self, self.keys, context)

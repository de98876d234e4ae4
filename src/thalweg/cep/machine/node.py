"""The plan node of `stream.track(machine)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import polars as pl

from thalweg.cep.machine.compiled import CompiledMachine
from thalweg.cep.machine.definition import StateMachine
from thalweg.cep.machine.operator import Track
from thalweg.cep.machine.results import INVALID, RESULT, result_schema
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node, input_schema


@dataclass(frozen=True, eq=False)
class MachineNode(Node):
    """A state machine over an append stream, an instance per key.

    Output: `machine`, the key columns, `from_state`, `to_state`, `status` ("active", "final", "error"), `trigger`
    ("timeout" for one), `since` and `at` (when the state was entered and left, Int64, ms UTC), `step` (number of the
    change), `path` (with `history`), `event` (struct; null for a timeout). Port "invalid": events that no transition
    took, with `state` and `reason`.
    """

    machine: StateMachine
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        taken = sorted(RESULT & set(self.keys))
        if taken:
            raise ConfigurationError(f"track(): the key column {taken[0]!r} has the name of a result column; rename it")

    @property
    def kind(self) -> str:
        return "track"

    def describe(self) -> str:
        compiled = CompiledMachine(self.machine, input_schema(self))
        return f"track {self.machine.id} by {', '.join(self.keys)} — {compiled.describe()}"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if not inputs or inputs[0] is None:
            return None
        CompiledMachine(self.machine, inputs[0])  # an unknown field is refused here, before anything runs
        taken = sorted(INVALID & set(inputs[0]))
        if taken:
            raise PlanError(f"track(): the events have a column {taken[0]!r}, which invalid triggers get; rename it")
        return result_schema(self.machine, self.keys, inputs[0])

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs and inputs[0] is Mode.CHANGELOG:
            raise PlanError("track: its input is a changelog; state machines take appends only")
        return Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None  # changes carry whole events

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.keys

    @property
    def stateful(self) -> bool:
        return True

    @property
    def has_effect(self) -> bool:
        """A machine with actions is an end of its own."""
        return bool(
            any(transition.action for transition in self.machine.transitions)
            or any(state.on_entry or state.on_exit for state in self.machine.states.values())
        )

    def build(self, context: OperatorContext) -> Operator:
        schema = context.input_schemas[0] if context.input_schemas else None
        topics = cast("tuple[str, ...]", context.options.get("topics", ()))
        return Track(context.operator_id, CompiledMachine(self.machine, schema), self.keys, topics, schema)

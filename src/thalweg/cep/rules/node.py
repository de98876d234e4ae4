"""The plan node of `stream.apply_rules(engine)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import polars as pl

from thalweg.cep.rules.engine import RuleEngine
from thalweg.cep.rules.evaluation import RESULT, RESULT_SCHEMA
from thalweg.cep.rules.operator import ApplyRules
from thalweg.errors import PlanError
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node, input_schema


@dataclass(frozen=True, eq=False)
class RulesNode(Node):
    """The rules of an engine over any append stream.

    Output: a row for each event and rule that fired: the event's columns, `rule`, `rule_name`, `priority`,
    `rule_version`. An effect of its own: rules with actions may come while the job runs.
    """

    engine: RuleEngine
    keys: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        return "rules"

    @property
    def has_effect(self) -> bool:
        return True

    def describe(self) -> str:
        rules = self.engine.rules
        shown = "; ".join(self._described(input_schema(self))[:10])
        return f"{len(rules)} rules: {shown}{' …' if len(rules) > 10 else ''}"

    def _described(self, schema: pl.Schema | None) -> list[str]:
        ruleset = self.engine.current
        if schema is None:
            return [f"{rule.id} ({rule.priority})" for rule in ruleset.rules]
        compiled = ruleset.check(schema)
        return [f"{r.id} ({r.priority}): {c.describe()}" for r, c in zip(ruleset.rules, compiled, strict=True)]

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if not inputs or inputs[0] is None:
            return None
        self.engine.bind(inputs[0])  # an unknown field is refused here, before anything runs
        taken = [name for name in RESULT if name in inputs[0]]
        if taken:
            raise PlanError(f"apply_rules: the events have a column {taken[0]!r}, which matches get; rename it")
        return pl.Schema({**inputs[0], **RESULT_SCHEMA})

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs and inputs[0] is Mode.CHANGELOG:
            raise PlanError("apply_rules: its input is a changelog, whose rows may be taken back")
        return Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None  # actions get whole events, and rules may change

    def build(self, context: OperatorContext) -> Operator:
        topics = cast("tuple[str, ...]", context.options.get("topics", ()))
        return ApplyRules(context.operator_id, self.engine, self.keys, topics)

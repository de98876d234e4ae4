"""The plan node of `stream.alert(manager)`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import polars as pl

from thalweg.alerts.evaluate import RuleSet
from thalweg.alerts.manager import AlertManager
from thalweg.alerts.operator import ALERT_SCHEMA, Alerting
from thalweg.errors import PlanError
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node, input_schema


@dataclass(frozen=True, eq=False)
class AlertNode(Node):
    """The rules of an alert manager over any append stream: events, window results, matches."""

    manager: AlertManager = field(kw_only=True)
    keys: tuple[str, ...] = field(default=(), kw_only=True)
    only: tuple[str, ...] | None = field(default=None, kw_only=True)
    """Ids of the rules that are about this stream; None: all of them."""

    @property
    def kind(self) -> str:
        return "alert"

    @property
    def stateful(self) -> bool:
        return any(rule.tracked for rule in self.manager.chosen(self.only))

    @property
    def has_effect(self) -> bool:
        return True

    def describe(self) -> str:
        return "alert " + RuleSet(self.manager.chosen(self.only), input_schema(self)).describe()

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if inputs and inputs[0] is not None:
            RuleSet(self.manager.chosen(self.only), inputs[0])  # an unknown field is refused before anything runs
        return ALERT_SCHEMA

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs and inputs[0] is Mode.CHANGELOG:
            raise PlanError("alert: its input is a changelog, whose rows may be taken back; alert on an append stream")
        return Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None  # alerts carry whole events

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return ()

    def build(self, context: OperatorContext) -> Operator:
        topics = cast("tuple[str, ...]", context.options.get("topics", ()))
        return Alerting(context.operator_id, self.manager, self.keys, topics, self.only)

"""The plan node that brings events into the order of their times."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.errors import PlanError
from thalweg.streams.batch import TIMESTAMP, WATERMARK
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node


@dataclass(frozen=True, eq=False, kw_only=True)
class InOrderNode(Node):
    """Holds each event until the watermark is past its time."""

    keys: tuple[str, ...]

    @property
    def kind(self) -> str:
        return "in_order"

    def describe(self) -> str:
        return "in_order: events by their time, once the watermark is past it (vectorised)"

    @property
    def stateful(self) -> bool:
        return True

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG:
            raise PlanError("in_order on a changelog stream: its rows have an order of their own")
        return inputs[0]

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None if wanted is None else wanted | {*self.keys, TIMESTAMP, WATERMARK}

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.in_order import InOrder

        return InOrder(context.operator_id, self.keys)

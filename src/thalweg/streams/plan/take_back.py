"""The plan node in front of a step that lays out the rows of a changelog by other columns than their key."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.streams.batch import TIMESTAMP
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Node


@dataclass(frozen=True, eq=False, kw_only=True)
class TakeBackNode(Node):
    """Makes a delete and an insert of an update that changes one of `columns`.

    With several workers the row's old place and its new one may be with two of them; the old one has to be told.
    """

    keys: tuple[str, ...]
    """The key of the changelog."""
    columns: tuple[str, ...]
    """What the next step lays its rows out by."""

    @property
    def kind(self) -> str:
        return "take_back"

    def describe(self) -> str:
        key = ", ".join(self.keys) or "no key"
        return f"take back rows by {key} whose {', '.join(self.columns)} changes (vectorised)"

    @property
    def stateful(self) -> bool:
        return True

    def placed_by(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return (self.keys,)

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None if wanted is None else wanted | {*self.keys, *self.columns, TIMESTAMP}

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.take_back import TakeBack

        return TakeBack(context.operator_id, self.keys, self.columns)

"""The plan node of tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from thalweg.streams.batch import TIMESTAMP, WATERMARK
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import check_columns, columns_of, expressions_of
from thalweg.streams.plan.node import Mode, Node

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction


@dataclass(frozen=True, eq=False, kw_only=True)
class TableNode(Node):
    """Keeps the latest row of each key; its output are the changes."""

    keys: tuple[str, ...]
    ttl: int | None = None
    deleted: CompiledFunction | None = None

    def describe(self) -> str:
        kept = "" if self.ttl is None else f", kept for {self.ttl} ms of event time"
        gone = "" if self.deleted is None else f", deleted by {self.deleted.describe()}"
        return f"table by {', '.join(self.keys)}: the latest row of each key{kept}{gone} (vectorised)"

    @property
    def stateful(self) -> bool:
        return True

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        check_columns(self.keys, inputs[0], "table")
        return inputs[0]

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        return Mode.CHANGELOG

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.keys

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        read = columns_of([self.deleted]) if self.deleted is not None else frozenset[str]()
        return None if wanted is None or read is None else wanted | read | {*self.keys, TIMESTAMP, WATERMARK}

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.table import Table

        deleted = expressions_of(self.deleted)[0] if self.deleted is not None else None
        return Table(context.operator_id, self.keys, self.ttl, deleted)

"""Where a plan ends: topics and subscribers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.errors import PlanError
from thalweg.formats import Format
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import close_names
from thalweg.streams.plan.node import Mode, Node


@dataclass(frozen=True, eq=False, kw_only=True)
class SinkNode(Node):
    """Writes every row to a topic."""

    topic: str
    format: str | Format = "json"
    key: str | None = None
    """The column whose text is the record key; None: the key column of the stream where it has exactly one."""
    changes: bool = False
    """Whether a changelog may come; its `__op` column is then written as a field of that name."""
    upsert: bool = False
    """Rows are written as they are now, without `__op`; a delete is a record without a value."""
    partitions: int | None = None
    """How many partitions the topic gets where it has to be made; None: the broker's default."""

    def describe(self) -> str:
        key = f" · key {self.key}" if self.key else ""
        upsert = " · deletes without a value" if self.upsert else ""
        return f"to {self.topic!r} · {self.format}{key}{upsert}"

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs[0] is Mode.CHANGELOG and not self.changes:
            raise PlanError(
                f"a changelog stream can't go to {self.topic!r}, which takes appends: "
                "give .to(…, changes=True) to write the changes with their __op, or put a window before it"
            )
        return inputs[0]

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if self.key is not None and inputs[0] is not None and self.key not in inputs[0]:
            raise PlanError(f"to {self.topic!r}: no column {self.key!r} for the key{close_names(self.key, inputs[0])}")
        return inputs[0]

    @property
    def has_effect(self) -> bool:
        return True

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.sink import Sink

        return Sink(context.operator_id, self, context)


@dataclass(frozen=True, eq=False, kw_only=True)
class SubscribeNode(Node):
    """Calls a function with every row, or with every frame."""

    function: Callable[[Any], object]
    frames: bool = False
    on_error: str = "stop"

    def describe(self) -> str:
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        return f"subscribe {name} ({'frames' if self.frames else 'rows'})"

    @property
    def has_effect(self) -> bool:
        return True

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.subscribe import Subscribe

        return Subscribe(context.operator_id, self, context)


@dataclass(frozen=True, eq=False, kw_only=True)
class CaptureNode(Node):
    """Keeps what comes, for the test driver."""

    name: str

    @property
    def has_effect(self) -> bool:
        return True

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.subscribe import Capture

        return Capture(context.operator_id, self.name, context)

"""Where a plan begins: a topic, its schema, and how time is read from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from thalweg.formats import Format
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import columns_of, expressions_of
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.watermarks import WatermarkGenerator

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceNode(Node):
    """Reads one topic."""

    topic: str
    schema: pl.Schema | None = None
    required: frozenset[str] = frozenset()
    """Fields without which an event is a dead letter (error class "MissingField")."""
    timestamp: CompiledFunction | None = None
    """Event time; None: the broker's record time."""
    timestamp_unit: str = "ms"
    watermark: WatermarkGenerator = field(default_factory=WatermarkGenerator)
    format: str | Format = "json"
    max_ahead: int | None = 3_600_000
    idle_timeout: int | None = 1_000
    close_idle_after: int | None = None
    start: str = "earliest"
    record_key: str | None = None
    """The column by which its records are in partitions; None: that is not known."""
    partitioner: str = "murmur2"
    tombstones: str = "dead-letter"
    """What a record without a value is: a "dead-letter", a "delete" of its key, or nothing ("skip")."""
    tombstone_keys: tuple[str, ...] = ()
    """The columns that the record key holds, where it is a delete."""

    @property
    def has_broker_time(self) -> bool:
        return self.timestamp is None

    def describe(self) -> str:
        time = "the broker's time" if self.timestamp is None else self.timestamp.describe()
        parts = [f"source {self.topic!r}", str(self.format), f"time: {time}"]
        parts.append(f"out of order by {self.watermark.max_out_of_orderness} ms")
        if self.close_idle_after is not None:
            parts.append(f"closed by the clock after {self.close_idle_after} ms without events")
        if self.record_key is not None:
            parts.append(f"in partitions by {self.record_key} ({self.partitioner})")
        if self.tombstones != "dead-letter":
            parts.append({"delete": "no value deletes the key", "skip": "no value: passed over"}[self.tombstones])
        return " · ".join(parts)

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        return self.schema

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        return Mode.CHANGELOG if self.tombstones == "delete" else Mode.APPEND

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.tombstone_keys

    def timestamp_columns(self) -> frozenset[str] | None:
        """The columns that event time is read from; None where that is not known."""
        return frozenset() if self.timestamp is None else columns_of([self.timestamp])

    def build(self, context: OperatorContext) -> Operator:
        from thalweg.streams.engine.source_stage import SourceStage

        return SourceStage(
            context.operator_id,
            topic=self.topic,
            timestamp=expressions_of(self.timestamp)[0] if self.timestamp is not None else None,
            unit=self.timestamp_unit,
            max_ahead=self.max_ahead,
            required=self.required,
            source_index=context.options.get("source_index"),  # type: ignore[arg-type]
            tombstones=self.tombstones,
        )

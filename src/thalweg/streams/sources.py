"""The settings of a source, checked: what `App.stream` and `App.table` are given becomes a node of the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars as pl

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.formats import Format, open_format
from thalweg.streams.engine.record_key import checked_partitioner
from thalweg.streams.engine.timestamps import UNITS
from thalweg.streams.plan.functions import check_columns, compile_for
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.watermarks import WatermarkGenerator

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction


def source_node(
    topic: str,
    *,
    schema: Any = None,
    timestamp: Any = None,
    timestamp_unit: str = "ms",
    watermark: WatermarkGenerator | Duration = 0,
    format: str | Format = "json",
    max_ahead: Duration | None = "1h",
    idle_timeout: Duration | None = "1s",
    close_idle_after: Duration | None = None,
    start: str = "earliest",
    record_key: str | None = None,
    partitioner: str | None = None,
    tombstones: str = "dead-letter",
    tombstone_keys: tuple[str, ...] = (),
) -> SourceNode:
    """Checks the settings of a source (see `App.stream`)."""
    if not topic:
        raise ConfigurationError("a stream needs the name of a topic")
    partitioner = checked_partitioner(record_key, partitioner)
    if start not in {"earliest", "latest"}:
        raise ConfigurationError(f"start is {start!r}; use 'earliest' or 'latest'")
    if timestamp_unit not in UNITS:
        raise ConfigurationError(f"timestamp_unit is {timestamp_unit!r}; use one of {', '.join(UNITS)}")
    if tombstones not in {"dead-letter", "skip"} and not (tombstones == "delete" and tombstone_keys):
        raise ConfigurationError(f"tombstones is {tombstones!r}; use 'dead-letter' or 'skip' (a table: 'delete')")
    columns, required = _schema(schema)
    if columns is None:
        columns = _known_by(format, topic)
    if record_key is not None:
        check_columns([record_key], columns, f"record_key of {topic!r}")
    return SourceNode(
        topic=topic,
        schema=columns,
        required=required,
        timestamp=_timestamp(timestamp, columns, topic),
        timestamp_unit=timestamp_unit,
        watermark=watermark if isinstance(watermark, WatermarkGenerator) else WatermarkGenerator(watermark),
        format=format,
        max_ahead=optional_duration(max_ahead, "max_ahead"),
        idle_timeout=optional_duration(idle_timeout, "idle_timeout"),
        close_idle_after=optional_duration(close_idle_after, "close_idle_after", minimum=1),
        start=start,
        record_key=record_key,
        partitioner=partitioner,
        tombstones=tombstones,
        tombstone_keys=tombstone_keys,
    )


def optional_duration(value: Duration | None, name: str, minimum: int = 0) -> int | None:
    """A duration in ms, or None."""
    return None if value is None else milliseconds(value, name=name, minimum=minimum)


def _schema(schema: Any) -> tuple[pl.Schema | None, frozenset[str]]:
    if schema is None:
        return None, frozenset()
    if isinstance(schema, pl.Schema):
        return schema, frozenset()
    from thalweg.schema import to_schema

    known = to_schema(schema)
    return known.schema, frozenset(known.required)


def _known_by(format: str | Format, topic: str) -> pl.Schema | None:
    """The columns, where the format itself knows them (a schema registry's do)."""
    ask: Callable[[str], pl.Schema | None] | None = getattr(open_format(format), "stream_schema", None)
    return None if ask is None else ask(topic)


def _timestamp(timestamp: Any, schema: pl.Schema | None, topic: str) -> CompiledFunction | None:
    if timestamp is None:
        return None
    if isinstance(timestamp, str):
        check_columns([timestamp], schema, f"timestamp of {topic!r}")
        timestamp = pl.col(timestamp)
    compiled = compile_for(timestamp, "value", schema, f"timestamp of {topic!r}")
    if not compiled.vectorised:
        raise ConfigurationError(f"timestamp of {topic!r} must be a column or an expression: {compiled.reason}")
    return compiled

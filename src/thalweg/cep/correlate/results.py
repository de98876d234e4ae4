"""Correlations as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from thalweg.cep.correlate.held import Correlated
from thalweg.cep.sequence.events import EventStore
from thalweg.records import Int64s
from thalweg.streams.batch import OFFSET, PARTITION, RESERVED, SOURCE, TIMESTAMP, WATERMARK

if TYPE_CHECKING:
    from thalweg.cep.correlate.correlator import EventCorrelator

RESULT = frozenset({"correlation", "window_start", "window_end", "count", "streams", "events", "provenance"})

PROVENANCE = pl.Struct(
    {"stream": pl.String, "topic": pl.String, "partition": pl.Int32, "offset": pl.Int64, "time": pl.Int64}
)


def event_struct(columns: Mapping[str, pl.DataType]) -> pl.Struct:
    """The type of one event of a stream with these columns."""
    return pl.Struct({name: dtype for name, dtype in columns.items() if name not in RESERVED})


def result_schema(
    correlator: EventCorrelator, keys: Mapping[str, pl.DataType], streams: Sequence[Mapping[str, pl.DataType]]
) -> pl.Schema:
    """The columns of correlations, given those of the key and of each stream."""
    events = {n: pl.List(event_struct(columns)) for n, columns in zip(correlator.streams, streams, strict=True)}
    return pl.Schema(
        {
            "correlation": pl.String(),
            **keys,
            "window_start": pl.Int64(),
            "window_end": pl.Int64(),
            "count": pl.Int64(),
            "streams": pl.List(pl.String()),
            "events": pl.Struct(events),
            "provenance": pl.List(PROVENANCE),
        }
    )


def correlation_rows(
    correlator: EventCorrelator,
    found: Correlated,
    stores: Sequence[EventStore],
    topics: Sequence[str],
    streams: Sequence[Mapping[str, pl.DataType]],
) -> pl.DataFrame:
    """One row per correlation, in the order in which they came about."""
    ends = np.cumsum(found.sizes)
    first, last = found.times[ends - found.sizes], found.times[ends - 1]
    match = np.repeat(np.arange(len(found.sizes)), found.sizes)
    lists, origins = [], []
    for number, (name, columns) in enumerate(zip(correlator.streams, streams, strict=True)):
        places = np.flatnonzero(found.streams == number)
        rows = stores[number].get(found.events[places]) if len(places) else None
        lists.append(_events(name, rows, match[places], len(found.sizes), columns))
        if rows is not None:
            origins.append(_origins(name, rows, places, topics))
    order = pl.concat(origins).sort("place").drop("place")
    names = list(correlator.streams)
    per_match = pl.DataFrame({"match": match, "number": found.streams}).unique().sort("match", "number")
    seen = per_match.group_by("match", maintain_order=True).agg(
        pl.col("number").replace_strict(list(range(len(names))), names, return_dtype=pl.String)
    )
    head = pl.Series("correlation", [correlator.id], dtype=pl.String).new_from_index(0, len(found.sizes)).to_frame()
    return head.hstack(found.keys).with_columns(
        pl.Series("window_start", first),
        pl.Series("window_end", last),
        pl.Series("count", found.sizes),
        seen.get_column("number").alias("streams"),
        pl.DataFrame(lists).to_struct("events"),
        _grouped(order.to_struct("provenance"), match),
        pl.Series(TIMESTAMP, last),
        pl.Series(WATERMARK, last),
    )


def _events(
    name: str, rows: pl.DataFrame | None, match: Int64s, matches: int, columns: Mapping[str, pl.DataType]
) -> pl.Series:
    """For each match the list of its events of one stream."""
    if rows is None:
        return pl.Series(name, [[]], dtype=pl.List(event_struct(columns))).new_from_index(0, matches)
    structs = rows.select(pl.struct([n for n in rows.columns if n not in RESERVED]).alias(name)).to_series()
    found = pl.DataFrame([pl.Series("match", match), structs]).group_by("match", maintain_order=True).agg(name)
    if found.height < matches:
        everyone = pl.DataFrame({"match": np.arange(matches)})
        found = everyone.join(found, on="match", how="left", maintain_order="left")
        found = found.with_columns(pl.col(name).fill_null(pl.lit([], dtype=pl.List(structs.dtype))))
    return found.get_column(name)


def _origins(name: str, rows: pl.DataFrame, places: Int64s, topics: Sequence[str]) -> pl.DataFrame:
    """Where the events of one stream came from, and their places among all events of the matches."""

    def column(reserved: str, dtype: pl.DataType) -> pl.Expr:
        return pl.col(reserved).cast(dtype) if reserved in rows.columns else pl.lit(None, dtype)

    topic = pl.lit(topics[0] if len(topics) == 1 else None, pl.String)
    if SOURCE in rows.columns and topics:
        topic = pl.col(SOURCE).replace_strict(
            list(range(len(topics))), list(topics), default=None, return_dtype=pl.String
        )
    return rows.select(
        pl.lit(name).alias("stream"),
        topic.alias("topic"),
        column(PARTITION, pl.Int32()).alias("partition"),
        column(OFFSET, pl.Int64()).alias("offset"),
        pl.col(TIMESTAMP).alias("time"),
        pl.Series("place", places),
    )


def _grouped(values: pl.Series, match: Int64s) -> pl.Series:
    frame = pl.DataFrame([pl.Series("match", match), values])
    return frame.group_by("match", maintain_order=True).agg(values.name).get_column(values.name)

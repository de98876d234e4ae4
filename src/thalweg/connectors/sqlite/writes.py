"""Frames as records of a topic: encoded, keyed, laid out by partition."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from thalweg.connectors.sqlite.codec import Records, headers_of, values_of
from thalweg.connectors.sqlite.topics import Topic, partitions_of
from thalweg.errors import ConfigurationError
from thalweg.records import EncodedRecords
from thalweg.streams.connector import SinkWrite

_turn = count()


def parts(topic: Topic, write: SinkWrite, values: EncodedRecords) -> Iterator[tuple[int, Records]]:
    """What each partition gets. Rows with a key go where its murmur2 says; a write without keys goes to one
    partition, the next write to the next.

    Args:
        values: the write's frame, encoded.
    """
    if write.frame.is_empty():
        return
    keys = None if write.key_column is None else key_bytes(write.frame, write.key_column)
    records = _records(write.frame, values, keys, write.timestamps, write.headers)
    if write.gone is not None and write.gone.any():
        records.values = pc.if_else(_arrow(write.gone, pa.bool_()), pa.scalar(None, pa.large_binary()), records.values)
    if topic.partitions == 1 or keys is None:
        yield next(_turn) % topic.partitions, records
        return
    if len(records) == write.frame.height:
        yield from by_key(topic, records, keys)
        return
    places = partitions_of(keys, topic.partitions).to_numpy()
    for partition in np.unique(places):
        rows = np.flatnonzero(places == partition)
        some = write.frame[rows]
        times = None if write.timestamps is None else write.timestamps[rows]
        yield int(partition), _records(some, write.encoder.encode(some), None, times, None)


def by_key(topic: Topic, records: Records, keys: pl.Series) -> Iterator[tuple[int, Records]]:
    """Records to the partitions that their keys (Binary) choose."""
    places = partitions_of(keys, topic.partitions).to_numpy()
    for partition in np.unique(places):
        yield int(partition), records.take(np.flatnonzero(places == partition))


def key_bytes(frame: pl.DataFrame, column: str) -> pl.Series:
    """The record keys: the column's text as UTF-8, binary as it is.

    Raises:
        ConfigurationError: no such column, or one that has no text (a list, a struct).
    """
    if column not in frame.columns:
        raise ConfigurationError(f"key column {column!r} is not among {', '.join(frame.columns)}")
    keys = frame[column]
    if keys.dtype.is_nested():
        raise ConfigurationError(f"key column {column!r} is {keys.dtype}; keys are text, bytes, numbers or times")
    return keys if keys.dtype == pl.Binary else keys.cast(pl.String).cast(pl.Binary)


def raw_records(
    values: Sequence[bytes | str | None],
    keys: Sequence[bytes | str | None] | None,
    timestamps: Sequence[int | None] | None,
    headers: Sequence[Mapping[str, bytes]] | None,
) -> Records:
    """Records as they are, given one by one."""
    return Records(
        pa.array([_bytes(value) for value in values], type=pa.large_binary()),
        None if keys is None else pa.array([_bytes(key) for key in keys], type=pa.large_binary()),
        None if timestamps is None else pa.array(timestamps, type=pa.int64()),
        None if headers is None else headers_of(headers),
    )


def _records(
    frame: pl.DataFrame,
    encoded: EncodedRecords,
    keys: pl.Series | None,
    timestamps: pl.Series | None,
    headers: Sequence[Mapping[str, bytes]] | None,
) -> Records:
    values = values_of(encoded)
    if len(values) != frame.height:
        # One payload for many rows (Arrow): it has no single key, and the time of its newest row.
        latest = timestamps.max() if timestamps is not None else None
        return Records(values, timestamps=None if latest is None else pa.array([latest] * len(values), type=pa.int64()))
    return Records(
        values,
        None if keys is None or keys.null_count() == len(keys) else _arrow(keys, pa.large_binary()),
        None if timestamps is None else _arrow(timestamps, pa.int64()),
        None if headers is None else headers_of(headers),
    )


def _arrow(series: pl.Series, kind: pa.DataType) -> pa.Array:
    array = series.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    return array if array.type == kind else array.cast(kind)


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value

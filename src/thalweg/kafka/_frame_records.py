"""Frames to records: payloads by an encoder; keys, times, partitions and headers from columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats import Format, open_format
from thalweg.formats.raw import RawFormat, bytes_of, payloads, row_bytes
from thalweg.kafka._header_columns import HeaderColumns
from thalweg.kafka._send_columns import Records
from thalweg.records import EncodedRecords, Int32s, Int64s

if TYPE_CHECKING:
    import pyarrow as pa

FrameLike: TypeAlias = "pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatch"
HeaderSource: TypeAlias = str | Mapping[str, str | bytes | pl.Expr]


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """Record keys, with the rows that have none."""

    records: EncodedRecords
    nulls: npt.NDArray[np.bool_] | None


def key_column(series: pl.Series) -> KeyColumn:
    """A column as record keys: text as UTF-8, binary as is, anything else as its text.

    >>> key_column(pl.Series(["ab", None, "c"])).records.offsets.tolist()
    [0, 2, 2, 3]
    """
    binary = series if series.dtype == pl.Binary else series.cast(pl.String).cast(pl.Binary)
    return KeyColumn(bytes_of(binary), series.is_null().to_numpy() if series.null_count() else None)


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Which part of a record each column is; see `KafkaProducer.send_frame`."""

    format: str | Format
    key: str | None = None
    timestamp: str | None = None
    partition: str | None = None
    headers: HeaderSource | None = None
    columns: Sequence[str] | None = None

    def records(self, data: FrameLike, topic: str) -> Records:
        """The records of a frame.

        Raises:
            ConfigurationError: columns that are missing or of a wrong type, or a format that packs rows which have
                keys, times, partitions or headers of their own.
        """
        frame = as_frame(data)
        self._check(frame)
        made = open_format(self.format, topic)
        body = frame.select(self.columns if self.columns is not None else self._payload_columns(frame))
        if not body.width:
            raise ConfigurationError("the frame has no columns to make values of")
        plain = isinstance(made, RawFormat)  # as it lies: librdkafka makes the only copy
        values = row_bytes(payloads(body)) if plain else made.encoder().encode(body)
        if len(values) != frame.height and (self.key or self.timestamp or self.partition or self.headers):
            raise ConfigurationError(
                f"the format {made.name!r} packs {frame.height} rows into {len(values)} records, so rows can't have "
                "keys, timestamps, partitions or headers of their own"
            )
        keys = None if self.key is None else key_column(frame[self.key])
        return Records(
            values=values,
            keys=None if keys is None else keys.records,
            null_keys=None if keys is None else keys.nulls,
            timestamps=None if self.timestamp is None else milliseconds_of(frame[self.timestamp]),
            partitions=None if self.partition is None else _partitions(frame[self.partition]),
            headers=None if self.headers is None else HeaderColumns.of(frame, self.headers),
            null_values=_tombstones(payloads(body)) if plain else None,
        )

    def _payload_columns(self, frame: pl.DataFrame) -> list[str]:
        """All but reserved ones and those that are only there to place the record."""
        placing = {self.partition, self.headers if isinstance(self.headers, str) else None}
        return [name for name in frame.columns if not name.startswith("__") and name not in placing]

    def _check(self, frame: pl.DataFrame) -> None:
        named = [self.key, self.timestamp, self.partition, *(self.columns or ())]
        named.append(self.headers if isinstance(self.headers, str) else None)
        missing = [name for name in named if name is not None and name not in frame.columns]
        if missing:
            raise ConfigurationError(f"the frame has no column {', '.join(missing)}; it has {', '.join(frame.columns)}")


def as_frame(data: FrameLike) -> pl.DataFrame:
    """Polars or Arrow data as a Polars frame, without a copy where that can be."""
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    frame = pl.from_arrow(data)
    if not isinstance(frame, pl.DataFrame):
        raise ConfigurationError(f"can't send {type(data).__name__}: give a Polars frame, or an Arrow table or batch")
    return frame


def milliseconds_of(series: pl.Series) -> Int64s:
    """A column of times as ms UTC; null: now.

    Raises:
        ConfigurationError: neither times nor integers.
    """
    if isinstance(series.dtype, pl.Datetime):
        return series.dt.epoch("ms").fill_null(0).to_numpy()
    if series.dtype == pl.Date:
        return series.cast(pl.Datetime("ms")).dt.epoch("ms").fill_null(0).to_numpy()
    if not series.dtype.is_integer():
        raise ConfigurationError(f"timestamps are in {series.name!r} of type {series.dtype}: give times or ms UTC")
    return series.cast(pl.Int64).fill_null(0).to_numpy()


def _partitions(series: pl.Series) -> Int32s:
    if not series.dtype.is_integer():
        raise ConfigurationError(f"partitions are in {series.name!r} of type {series.dtype}: give integers")
    return series.cast(pl.Int32).fill_null(-1).to_numpy()


def _tombstones(values: pl.Series) -> npt.NDArray[np.bool_] | None:
    """Rows without a value, which raw and text can say."""
    return values.is_null().to_numpy() if values.null_count() else None

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
from thalweg.formats.errors import UnwritableError
from thalweg.formats.raw import RawFormat, bytes_of, payloads, row_bytes
from thalweg.formats.writable import Encoded, EncodeError, encode_rows
from thalweg.kafka import _produce_api as native
from thalweg.kafka._delivery import ProduceError
from thalweg.kafka._header_columns import HeaderColumns
from thalweg.kafka._send_columns import Records
from thalweg.records import EncodedRecords, Int32s, Int64s

if TYPE_CHECKING:
    import pyarrow as pa

FrameLike: TypeAlias = "pl.DataFrame | pl.LazyFrame | pa.Table | pa.RecordBatch"
TOO_LARGE = "RecordTooLarge"
"""The error class of a record that its topic does not take."""
_NO_RECORDS = EncodedRecords(np.zeros(0, np.uint8), np.zeros(1, np.int64))
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
class FrameRecords:
    """A frame's records: record i is row `rows[i]` (None: row i); `errors` has the rows that are none."""

    frame: pl.DataFrame
    records: Records
    rows: Int64s | None
    errors: list[EncodeError]

    def too_large(self, limit: int) -> list[EncodeError]:
        """The records of more than `limit` bytes, by their rows."""
        sizes = self.records.sizes()
        found = np.flatnonzero(sizes > limit)
        rows = found if self.rows is None else self.rows[found]
        return [
            EncodeError(row, TOO_LARGE, f"the record has {size} bytes; at most {limit} are taken")
            for row, size in zip(rows.tolist(), sizes[found].tolist(), strict=True)
        ]


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """Which part of a record each column is; see `KafkaProducer.send_frame`."""

    format: str | Format
    key: str | None = None
    timestamp: str | None = None
    partition: str | None = None
    headers: HeaderSource | None = None
    columns: Sequence[str] | None = None

    def records(self, data: FrameLike, topic: str) -> FrameRecords:
        """The records of a frame; rows that the format can't write are left out and named.

        Raises:
            ConfigurationError: columns that are missing or of a wrong type, or a format that packs rows which have
                keys, times, partitions or headers of their own.
        """
        frame = given = as_frame(data)
        self._check(frame)
        made = open_format(self.format, topic)
        body = frame.select(self.columns if self.columns is not None else self._payload_columns(frame))
        if not body.width:
            raise ConfigurationError("the frame has no columns to make values of")
        plain = isinstance(made, RawFormat)  # as it lies: librdkafka makes the only copy
        encoded = Encoded(_NO_RECORDS) if plain else encode_rows(made.encoder(), body)
        values = row_bytes(payloads(body)) if plain else encoded.records
        if encoded.rows is not None:
            frame = frame[encoded.rows]
        if len(values) != frame.height and (self.key or self.timestamp or self.partition or self.headers):
            raise ConfigurationError(
                f"the format {made.name!r} packs {frame.height} rows into {len(values)} records, so rows can't have "
                "keys, timestamps, partitions or headers of their own"
            )
        keys = None if self.key is None else key_column(frame[self.key])
        records = Records(
            values=values,
            keys=None if keys is None else keys.records,
            null_keys=None if keys is None else keys.nulls,
            timestamps=None if self.timestamp is None else milliseconds_of(frame[self.timestamp]),
            partitions=None if self.partition is None else _partitions(frame[self.partition]),
            headers=None if self.headers is None else HeaderColumns.of(frame, self.headers),
            null_values=_tombstones(payloads(body)) if plain else None,
        )
        return FrameRecords(given, records, encoded.rows, encoded.errors)

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


def raise_refused(topic: str, unwritable: Sequence[EncodeError], too_large: Sequence[EncodeError], limit: int) -> None:
    """Says which rows of a frame can't be sent, if there are any.

    Raises:
        ConfigurationError: the format can't write some.
        ProduceError: some are too large.
    """
    if unwritable:
        raise UnwritableError(
            f"{len(unwritable)} rows for {topic!r} can't be written, the first is row {unwritable[0].row}: "
            f"{unwritable[0].message}; nothing was sent"
        )
    if too_large:
        some = ", ".join(str(error.row) for error in too_large[:5])
        raise ProduceError(
            f"{len(too_large)} records for {topic!r} exceed {limit} bytes (rows {some} …); nothing was sent",
            native.failure(native.MSG_SIZE_TOO_LARGE),
        )

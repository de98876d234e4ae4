"""Raw: the value of a record as it is, as bytes or as text, in a column `value`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.binary import bad_utf8, binary_column
from thalweg.formats.errors import ErrorClass
from thalweg.formats.schemas import resolve
from thalweg.records import Decoded, DecodeError, Decoder, EncodedRecords, Encoder, Int64s, RawRecords, UInt64s

VALUE = "value"


class RawFormat:
    """Bytes in a Binary column `value`; a record without a value is a null."""

    name = "raw"
    _dtype: pl.DataType = pl.Binary()

    def decoder(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> Decoder:
        """A decoder for one stream.

        Raises:
            ConfigurationError: a schema with anything but the column `value` of this format's type.
        """
        if schema is not None and resolve(schema) != {VALUE: self._dtype}:
            raise ConfigurationError(f"the format {self.name!r} has one column, {VALUE!r} of type {self._dtype}")
        wanted = None if columns is None else frozenset(columns)
        if wanted is not None and wanted - {VALUE}:
            raise ConfigurationError(f"the format {self.name!r} has one column, {VALUE!r}")
        return RawDecoder(self._dtype, wanted is None or VALUE in wanted)

    def encoder(self) -> Encoder:
        """An encoder: the value of each row; null gives an empty payload."""
        return RawEncoder()


class TextFormat(RawFormat):
    """UTF-8 text in a String column `value`."""

    name = "text"
    _dtype = pl.String()


class RawDecoder:
    """Copies values; text that is not UTF-8 is refused."""

    def __init__(self, dtype: pl.DataType, wanted: bool) -> None:
        self._dtype = dtype
        self._wanted = wanted

    def decode(self, raw: RawRecords) -> Decoded:
        """One row per record."""
        if isinstance(self._dtype, pl.Binary):
            return Decoded(self._frame(raw.value_address, raw.value_length))
        bad = bad_utf8(raw.value_address, raw.value_length)
        if not len(bad):
            return Decoded(self._frame(raw.value_address, raw.value_length))
        rows = np.delete(np.arange(len(raw), dtype=np.int64), bad)
        frame = self._frame(raw.value_address[rows], raw.value_length[rows])
        return Decoded(frame, rows, [_not_utf8(raw, int(row)) for row in bad])

    def _frame(self, addresses: UInt64s, lengths: Int64s) -> pl.DataFrame:
        if not self._wanted:
            return pl.DataFrame(height=len(lengths))
        column = binary_column(addresses, lengths, text=isinstance(self._dtype, pl.String))
        return pl.DataFrame([pl.Series(VALUE, pl.from_arrow(column), dtype=self._dtype)])


def _not_utf8(raw: RawRecords, row: int) -> DecodeError:
    try:
        (raw.value(row) or b"").decode()
    except UnicodeDecodeError as error:
        text = f"the value is not UTF-8: {error.reason} at byte {error.start}"
        return DecodeError(row, str(ErrorClass.BAD_UTF8), text)
    raise AssertionError(f"row {row} is UTF-8 after all")  # the kernel and Python must agree


class RawEncoder:
    """Writes the column `value`, or the only column there is."""

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        """The bytes of each row.

        Raises:
            ConfigurationError: no column `value` among several, or one that is neither text nor bytes.
        """
        return bytes_of(payloads(frame))


def payloads(frame: pl.DataFrame) -> pl.Series:
    """The column `value`, or the only column there is, as bytes.

    Raises:
        ConfigurationError: no column `value` among several, or one that is neither text nor bytes.
    """
    name = VALUE if VALUE in frame.columns else frame.columns[0] if frame.width == 1 else None
    if name is None or frame.schema[name] not in (pl.String, pl.Binary):
        raise ConfigurationError(f"raw output needs a column {VALUE!r} of text or bytes, not {dict(frame.schema)}")
    return frame[name].cast(pl.Binary)


@dataclass(frozen=True, slots=True)
class RowBytes:
    """n payloads where they lie: row i has `lengths[i]` bytes at `addresses[i]`, as long as `keep` lives."""

    addresses: Int64s
    lengths: Int64s
    keep: object

    def __len__(self) -> int:
        return len(self.lengths)


def row_bytes(column: pl.Series) -> RowBytes:
    """The payloads of a Binary column without a copy; null is an empty one.

    >>> row_bytes(pl.Series([b"ab", None, b"c"])).lengths.tolist()
    [2, 0, 1]
    """
    from thalweg.formats.kernels.binary import read_views

    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    buffers = array.buffers()
    bodies = np.array([0 if body is None else body.address for body in buffers[2:]], np.int64)
    addresses, lengths = np.empty(len(array), np.int64), np.empty(len(array), np.int64)
    if len(array):
        read_views(buffers[1].address + 16 * array.offset, bodies, addresses, lengths)
    if array.null_count:
        lengths[column.is_null().to_numpy()] = 0
    return RowBytes(addresses, lengths, array)


def bytes_of(column: pl.Series) -> EncodedRecords:
    """A Binary column as payloads, in Arrow's own layout; null gives an empty one.

    >>> bytes_of(pl.Series([b"ab", None, b"c"])).offsets.tolist()
    [0, 2, 2, 3]
    """
    array = column.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    if not len(array):
        return EncodedRecords(np.zeros(0, np.uint8), np.zeros(1, np.int64))
    body = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(0, np.uint8)
    return EncodedRecords(body, np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1])

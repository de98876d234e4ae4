"""Columns to JSON: one object per row, written by a kernel from the frame's own buffers."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec
import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.json.convert import TICKS
from thalweg.formats.kernels import write_json as kernel
from thalweg.records import EncodedRecords

_TYPICAL = 24
"""Bytes that a value is first guessed to take; the buffer grows where that was too little."""


class JsonEncoder:
    """Writes a frame's rows as compact JSON objects, keys in the order of the columns.

    Nulls are written as `null`, so are NaN and the infinities, which JSON lacks. Floats have the fewest digits that
    read back equal; times are ISO 8601 in UTC with milliseconds (naive ones are taken as UTC).
    """

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        """One payload per row.

        Raises:
            ConfigurationError: a column of a type that JSON has no form for.
        """
        columns = [_Column(series, first=index == 0) for index, series in enumerate(frame.iter_columns())]
        layout = np.array([column.layout for column in columns], np.int64).reshape(len(columns), kernel.FIELDS)
        rows = frame.height
        offsets = np.zeros(rows + 1, np.int64)
        per_row = sum(column.prefix_length + _TYPICAL for column in columns) + 2
        data = np.empty(rows * per_row + kernel.ROOM, np.uint8)
        done = 0
        while done < rows:
            done = kernel.write_rows(done, rows, layout, data, offsets)
            if done < rows:
                data = _grown(data, int(offsets[done]), done, rows)
        return EncodedRecords(data[: offsets[rows]], offsets)


def _grown(data: Any, used: int, done: int, rows: int) -> Any:
    """A larger buffer with the same beginning: by the size of the rows so far, and at least twice as large."""
    expected = used // max(done, 1) * rows
    larger = np.empty(max(2 * len(data), expected + expected // 8), np.uint8)
    larger[:used] = data[:used]
    return larger


class _Column:
    """One column's buffers; keeps them alive while the kernel reads them."""

    def __init__(self, series: pl.Series, *, first: bool) -> None:
        kind, prepared, extra = _prepare(series)
        array = prepared.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
        buffers = array.buffers()
        prefix = (b"{" if first else b",") + msgspec.json.encode(series.name) + b":"
        self._prefix = np.frombuffer(prefix, np.uint8)
        self.prefix_length = len(prefix)
        if kind in (kernel.TEXT, kernel.JSON):
            self._texts = np.array([0 if b is None else b.address for b in buffers[2:]] or [0], np.int64)
            extra = self._texts.ctypes.data
        self._array = array
        validity = buffers[0].address if buffers[0] is not None and array.null_count else 0
        data = buffers[1].address if buffers[1] is not None else 0
        self.layout = (kind, data, validity, array.offset, self._prefix.ctypes.data, len(prefix), extra)


def _prepare(series: pl.Series) -> tuple[int, pl.Series, int]:
    """How the kernel writes a column: (kind, the column in a form it reads, ticks per second for times)."""
    dtype = series.dtype
    if isinstance(dtype, pl.Int64):
        return kernel.SIGNED, series, 0
    if isinstance(dtype, pl.Float64):
        return kernel.DOUBLE, series, 0
    if isinstance(dtype, pl.String):
        return kernel.TEXT, series, 0
    if isinstance(dtype, pl.Boolean):
        return kernel.BOOLEAN, series, 0
    if isinstance(dtype, pl.Datetime):
        return kernel.TIME, series.to_physical(), TICKS[dtype.time_unit]
    if isinstance(dtype, pl.Duration):
        return _prepare_duration(series, dtype)
    return _prepare_rare(series)


def _prepare_duration(series: pl.Series, dtype: pl.Duration) -> tuple[int, pl.Series, int]:
    if dtype.time_unit == "ms":
        return kernel.SIGNED, series.to_physical(), 0
    return kernel.SIGNED, series.dt.total_milliseconds(), 0


def _prepare_rare(series: pl.Series) -> tuple[int, pl.Series, int]:
    dtype = series.dtype
    if isinstance(dtype, pl.UInt64):
        return kernel.UNSIGNED, series, 0
    if isinstance(dtype, pl.Int128 | pl.UInt128 | pl.Decimal):
        return kernel.JSON, series.cast(pl.String), 0
    if dtype.is_integer():
        return kernel.SIGNED, series.cast(pl.Int64), 0
    if isinstance(dtype, pl.Float32):
        return kernel.SINGLE, series, 0
    if dtype.is_float():
        return kernel.SINGLE, series.cast(pl.Float32), 0
    if isinstance(dtype, pl.Date):
        return kernel.DATE, series, 0
    if isinstance(dtype, pl.Time | pl.Enum | pl.Categorical):
        return kernel.TEXT, series.cast(pl.String), 0
    if isinstance(dtype, pl.Null):
        return kernel.TEXT, series.cast(pl.String), 0
    if isinstance(dtype, pl.Binary):
        return kernel.TEXT, series.bin.encode("base64"), 0
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        return kernel.JSON, _general(series), 0
    raise ConfigurationError(f"column {series.name!r}: {dtype} can't be written as JSON")


def _general(series: pl.Series) -> pl.Series:
    """Nested values, one at a time."""
    encode = msgspec.json.Encoder().encode
    texts = [None if value is None else encode(_plain(value)).decode() for value in series.to_list()]
    return pl.Series(series.name, texts, dtype=pl.String)


def _plain(value: Any) -> Any:
    """A nested value in the forms that columns are written in."""
    form = _FORMS.get(type(value))
    return value if form is None else form(value)


def _moment(value: datetime) -> str:
    naive = value if value.tzinfo is None else value.astimezone(UTC).replace(tzinfo=None)
    return naive.isoformat(timespec="microseconds" if naive.microsecond % 1000 else "milliseconds") + "Z"


_FORMS: dict[type, Callable[[Any], Any]] = {
    dict: lambda value: {name: _plain(part) for name, part in value.items()},
    list: lambda value: [_plain(item) for item in value],
    float: lambda value: value if isfinite(value) else None,
    bytes: lambda value: base64.b64encode(value).decode(),
    datetime: _moment,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: lambda value: value // timedelta(milliseconds=1),
    Decimal: lambda value: msgspec.Raw(str(value).encode()),
}

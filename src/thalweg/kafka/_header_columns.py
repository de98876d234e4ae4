"""Headers of many records from columns, as addresses for librdkafka: no Python object per record."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.raw import bytes_of
from thalweg.records import Int64s

_NULL_BODY = np.zeros(1, dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class HeaderColumns:
    """Row i has the headers `table[offsets[i]:offsets[i + 1]]`: (address of the name, address of the value, length)."""

    offsets: Int64s
    entries: npt.NDArray[np.int64]
    name_sizes: Int64s
    keep: object
    """What the addresses point into."""

    @classmethod
    def of(cls, frame: pl.DataFrame, source: str | Mapping[str, str | bytes | pl.Expr]) -> HeaderColumns:
        """Headers by name, or those of one column.

        Args:
            source: a column of List(Struct(key, value)), as a consumer gives it; or for each header its value for all
                records (text or bytes), or an expression for one that changes: a null leaves the header out.

        Raises:
            ConfigurationError: a column of another type.
        """
        if isinstance(source, str):
            return _of_lists(frame[source])
        values = {
            name: frame.select(value.alias("v")).to_series() if isinstance(value, pl.Expr) else _constant(value, frame)
            for name, value in source.items()
        }
        return _of_columns(values, frame.height)

    def sizes(self) -> Int64s:
        """Bytes of each row's headers."""
        total = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.entries[:, 2] + self.name_sizes + 4)])
        return np.diff(total[self.offsets])

    def table(self) -> tuple[npt.NDArray[np.int64], object]:
        return self.entries, self.keep

    def __len__(self) -> int:
        return len(self.entries)


def _constant(value: str | bytes, frame: pl.DataFrame) -> pl.Series:
    data = value.encode() if isinstance(value, str) else value
    return pl.repeat(data, frame.height, dtype=pl.Binary, eager=True)


def _of_columns(values: Mapping[str, pl.Series], rows: int) -> HeaderColumns:
    entries = np.zeros((rows, len(values), 3), dtype=np.int64)
    present = np.zeros((rows, len(values)), dtype=bool)
    sizes = np.zeros((rows, len(values)), dtype=np.int64)
    names, keep = _names(list(values))
    bodies = []
    for at, (name, column) in enumerate(values.items()):
        if len(column) != rows:
            raise ConfigurationError(f"header {name!r} has {len(column)} values for {rows} rows")
        addresses, lengths, body = _addresses(column)
        entries[:, at, 0] = names[name]
        entries[:, at, 1], entries[:, at, 2] = addresses, lengths
        present[:, at] = column.is_not_null().to_numpy()
        sizes[:, at] = len(name.encode())
        bodies.append(body)
    offsets = np.zeros(rows + 1, dtype=np.int64)
    np.cumsum(present.sum(axis=1), out=offsets[1:])
    return HeaderColumns(offsets, np.ascontiguousarray(entries[present]), sizes[present], (keep, bodies))


def _of_lists(column: pl.Series) -> HeaderColumns:
    wanted = pl.List(pl.Struct({"key": pl.String, "value": pl.Binary}))
    try:
        lists = column.cast(wanted)
    except pl.exceptions.PolarsError as error:
        raise ConfigurationError(
            f"headers are in {column.name!r} of type {column.dtype}; they need {wanted}"
        ) from error
    offsets = np.zeros(len(lists) + 1, dtype=np.int64)
    np.cumsum(lists.list.len().fill_null(0).to_numpy(), out=offsets[1:])
    pairs = lists.filter(lists.list.len().fill_null(0) > 0).explode().struct.unnest()
    keys, values = pairs["key"].fill_null(""), pairs["value"]
    distinct = keys.unique().to_list()
    names, keep = _names(distinct)
    entries = np.zeros((pairs.height, 3), dtype=np.int64)
    if pairs.height:
        entries[:, 0] = keys.replace_strict(names, return_dtype=pl.Int64).to_numpy()
    addresses, lengths, body = _addresses(values)
    entries[:, 1] = np.where(values.is_null().to_numpy(), 0, addresses)
    entries[:, 2] = lengths
    return HeaderColumns(offsets, entries, keys.str.len_bytes().cast(pl.Int64).to_numpy(), (keep, body))


def _names(names: list[str]) -> tuple[dict[str, int], object]:
    buffers = {name: ctypes.create_string_buffer(name.encode()) for name in names}
    return {name: ctypes.addressof(buffer) for name, buffer in buffers.items()}, buffers


def _addresses(column: pl.Series) -> tuple[Int64s, Int64s, object]:
    """Where each value lies, how long it is, and what keeps it there."""
    binary = column if column.dtype == pl.Binary else column.cast(pl.String).cast(pl.Binary)
    found = bytes_of(binary)
    body = found.data if len(found.data) else _NULL_BODY
    return body.ctypes.data + found.offsets[:-1], np.diff(found.offsets), body

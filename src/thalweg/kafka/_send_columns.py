"""Records as columns, and where their bytes lie."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thalweg.errors import ConfigurationError
from thalweg.formats.raw import RowBytes
from thalweg.kafka._header_columns import HeaderColumns
from thalweg.records import EncodedRecords, Int32s, Int64s

_EVERYWHERE = 1 << 62
_NONE64 = np.zeros(0, dtype=np.int64)
_EMPTY = np.zeros(1, dtype=np.uint8)
"""An address for empty payloads: a null address would make a tombstone."""


@dataclass(slots=True)
class Headers:
    """Record headers of many rows, flat: row i has `values[offsets[i]:offsets[i + 1]]`, (name, value) each."""

    offsets: Int64s
    values: Sequence[tuple[str, bytes]]

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, bytes]]) -> Headers:
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return cls(offsets, [item for row in rows for item in row.items()])

    def sizes(self) -> Int64s:
        """Bytes of each row's headers."""
        sizes = np.array([len(name.encode()) + len(value) + 4 for name, value in self.values], dtype=np.int64)
        total = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        return np.diff(total[self.offsets])

    def table(self) -> tuple[npt.NDArray[np.int64], object]:
        """For each header the address of its name, the address and the length of its value; and what keeps them."""
        names = {name: ctypes.create_string_buffer(name.encode()) for name, _ in self.values}
        body = b"".join(value for _, value in self.values) or b"\0"
        at = np.frombuffer(body, dtype=np.uint8).ctypes.data
        table = np.zeros((len(self.values), 3), dtype=np.int64)
        for row, (name, value) in zip(table, self.values, strict=True):
            row[:] = ctypes.addressof(names[name]), at, len(value)
            at += len(value)
        return table, (names, body)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class Records:
    """n records to send, as columns. None: no row has one."""

    values: EncodedRecords | RowBytes
    keys: EncodedRecords | None = None
    null_keys: npt.NDArray[np.bool_] | None = None
    timestamps: Int64s | None = None
    partitions: Int32s | None = None
    headers: Headers | HeaderColumns | None = None
    null_values: npt.NDArray[np.bool_] | None = None

    def sizes(self) -> Int64s:
        """Bytes of each record: key, value and headers."""
        values = self.values
        sizes = values.lengths if isinstance(values, RowBytes) else np.diff(values.offsets)
        if self.keys is not None:
            sizes = sizes + np.diff(self.keys.offsets)
        return sizes if self.headers is None else sizes + self.headers.sizes()

    def check(self) -> None:
        """Refuses columns that don't fit together: the kernels trust them.

        Raises:
            ConfigurationError
        """
        rows = len(self.values)
        columns: dict[str, Any] = {
            "keys": self.keys,
            "null_keys": self.null_keys,
            "timestamps": self.timestamps,
            "partitions": self.partitions,
            "null_values": self.null_values,
        }
        for name, column in columns.items():
            if column is not None and len(column) != rows:
                raise ConfigurationError(f"{name} has {len(column)} rows, values has {rows}")
        if self.headers is not None and len(self.headers.offsets) != rows + 1:
            raise ConfigurationError(f"headers has {len(self.headers.offsets) - 1} rows, values has {rows}")


@dataclass(slots=True)
class Buffer:
    """One of the two byte columns: row i is `sizes[i]` bytes at `base + offsets[i]`; all lie below `end`.

    Without `sizes` row i ends where row i + 1 begins.
    """

    base: int
    offsets: Int64s
    sizes: Int64s
    end: int
    keep: object

    @classmethod
    def of(cls, records: EncodedRecords | RowBytes | None) -> Buffer:
        if records is None:
            return cls(_EMPTY.ctypes.data, _NONE64, _NONE64, 0, _EMPTY)
        if isinstance(records, RowBytes):  # offsets from address zero
            return cls(0, records.addresses, records.lengths, _EVERYWHERE, records.keep)
        data = np.ascontiguousarray(records.data) if len(records.data) else _EMPTY
        return cls(data.ctypes.data, np.ascontiguousarray(records.offsets, dtype=np.int64), _NONE64, len(data), data)

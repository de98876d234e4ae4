"""The buffers that records are decoded into, and the Arrow arrays over them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from thalweg.formats.avro.targets import Storage
from thalweg.formats.kernels import avro_columns as table
from thalweg.formats.kernels import read_avro as kernel
from thalweg.records import Int64s

_SLACK = 32


class Part(Protocol):
    """A column, or a part of one, of any format: `index` numbers all of them in the order of `walk`."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> pl.DataType: ...
    @property
    def index(self) -> int: ...
    @property
    def storage(self) -> Storage: ...
    @property
    def size(self) -> int: ...
    @property
    def children(self) -> Sequence[Part]: ...
    @property
    def in_list(self) -> bool: ...
    @property
    def is_uuid(self) -> bool:
        """Whether sixteen bytes are a UUID's text."""

    def walk(self) -> Iterator[Part]:
        """This one and all below it."""


class Symbols(Protocol):
    """The texts of an enum."""

    @property
    def data(self) -> bytes:
        """Those of more than twelve bytes, as the column's buffer 1."""


class Buffers:
    """One batch's buffers: a row in `table` for each target, as the kernel has it.

    Args:
        top: the targets.
        rows: how many records may come.
        side: bytes for long texts, to begin with.
    """

    def __init__(self, top: Part, rows: int, side: int) -> None:
        self._targets = list(top.walk())[1:]
        self.table = np.zeros((len(self._targets), table.COLUMN_FIELDS), np.int64)
        self._data: list[npt.NDArray[np.uint8]] = []
        self._validity: list[npt.NDArray[np.uint8]] = []
        for target in self._targets:
            self._data.append(np.empty(_bytes(target, rows), np.uint8))
            self._validity.append(np.full((rows + 7) // 8 + 1, 255, np.uint8))
            if target.storage is Storage.LIST:
                self._data[-1][:8] = 0
            self.table[target.index, table.GROWS] = target.in_list
            self._enter(target, rows)
        self.side = np.empty(side + _SLACK, np.uint8)

    @property
    def side_size(self) -> int:
        return len(self.side) - _SLACK

    def _enter(self, target: Part, capacity: int) -> None:
        row = self.table[target.index]
        row[[table.KIND, table.SIZE, table.CAPACITY]] = target.storage, target.size, capacity
        row[table.DATA] = self._data[target.index].ctypes.data
        row[table.VALIDITY] = self._validity[target.index].ctypes.data

    def grow(self, room: int, used: int) -> None:
        """Makes room for a record that may bring so many values and so many bytes of text."""
        if used + room > self.side_size:
            larger = np.empty(2 * self.side_size + room + _SLACK, np.uint8)
            larger[:used] = self.side[:used]
            self.side = larger
        for target in self._targets:
            row = self.table[target.index]
            if row[table.GROWS] and row[table.COUNT] + room > row[table.CAPACITY]:
                self._grow(target, int(2 * row[table.CAPACITY]) + room)

    def _grow(self, target: Part, capacity: int) -> None:
        data, validity = self._data[target.index], self._validity[target.index]
        larger = np.empty(_bytes(target, capacity), np.uint8)
        larger[: len(data)] = data
        bits = np.full((capacity + 7) // 8 + 1, 255, np.uint8)
        bits[: len(validity)] = validity
        self._data[target.index], self._validity[target.index] = larger, bits
        self._enter(target, capacity)

    def series(self, target: Part, used: int, symbols: Mapping[int, Symbols]) -> pl.Series:
        """The finished column of a top-level target."""
        # Text of a few bytes leaves nearly all of the buffer empty: do not let the column hold on to that.
        side = self.side[:used].copy() if 2 * used < len(self.side) else self.side[:used]
        made = pl.Series(target.name, self._array(target, int(self.table[target.index, table.COUNT]), side, symbols))
        return made if made.dtype == target.dtype else made.cast(target.dtype)

    def _array(self, target: Part, length: int, side: Any, symbols: Mapping[int, Symbols]) -> Any:
        row = self.table[target.index]
        data = self._data[target.index]
        validity = pa.py_buffer(self._validity[target.index]) if row[table.NULL_COUNT] else None
        if target.storage is Storage.LIST:
            items = int(row[table.ITEMS])
            child = self._array(target.children[0], items, side, symbols)
            kind = pa.large_list(child.type)
            return pa.Array.from_buffers(kind, length, [validity, pa.py_buffer(data)], children=[child])
        if target.children:
            children = [self._array(child, length, side, symbols) for child in target.children]
            kind = pa.struct([pa.field(c.name, a.type) for c, a in zip(target.children, children, strict=True)])
            return pa.Array.from_buffers(kind, length, [validity], children=children)
        if target.storage is Storage.NOTHING:
            return pa.nulls(length)
        if target.storage is Storage.VIEW:
            return self._texts(target, length, [validity, pa.py_buffer(data), pa.py_buffer(side)], symbols)
        if isinstance(target.dtype, pl.Boolean):
            bits = np.packbits(data[:length], bitorder="little")
            return pa.Array.from_buffers(pa.bool_(), length, [validity, pa.py_buffer(bits)])
        return pa.Array.from_buffers(_arrow_type(target.dtype), length, [validity, pa.py_buffer(data)])

    def _texts(self, target: Part, length: int, buffers: list[Any], symbols: Mapping[int, Symbols]) -> Any:
        if target.index in symbols:
            buffers.append(pa.py_buffer(symbols[target.index].data))
        if target.is_uuid:
            return _uuids(pa.Array.from_buffers(pa.binary_view(), length, buffers))
        kind = pa.string_view() if isinstance(target.dtype, pl.String) else pa.binary_view()
        return pa.Array.from_buffers(kind, length, buffers)


def _bytes(target: Part, rows: int) -> int:
    return target.size * (rows + (target.storage is Storage.LIST))


def _arrow_type(dtype: pl.DataType) -> Any:
    if isinstance(dtype, pl.Decimal):
        return pa.decimal128(dtype.precision or 38, dtype.scale)
    if isinstance(dtype, pl.Datetime):
        return pa.timestamp(dtype.time_unit, dtype.time_zone)
    if isinstance(dtype, pl.Duration):
        return pa.duration(dtype.time_unit)
    return {
        pl.Int32: pa.int32(),
        pl.Int64: pa.int64(),
        pl.UInt32: pa.uint32(),
        pl.UInt64: pa.uint64(),
        pl.Float32: pa.float32(),
        pl.Float64: pa.float64(),
        pl.Date: pa.date32(),
        pl.Time: pa.time64("ns"),
    }[type(dtype)]


def _uuids(array: Any) -> Any:
    """Sixteen bytes as the text of a UUID."""
    digits = pl.Series("u", array).bin.encode("hex")
    parts = [digits.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    joined = pl.select(pl.concat_str([pl.lit(part) for part in parts], separator="-")).to_series()
    return joined.to_arrow(compat_level=pl.CompatLevel.newest())


def used_bytes(state: Int64s) -> int:
    """Bytes of the side buffer that are taken."""
    return int(state[kernel.USED])

"""The buffers that a batch is decoded into, and how they become Polars columns without a copy."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from thalweg.formats.errors import ErrorClass
from thalweg.formats.json.convert import TICKS, converter, integer_range, storage_type
from thalweg.formats.json.general import GeneralParser
from thalweg.formats.kernels import values as kinds

Int64s = npt.NDArray[np.int64]

_LARGEST_INT64 = 2**63 - 1
_TWO_64 = 2**64
_SLOT_SIZES = {kinds.SKIP: 0, kinds.NOTHING: 0, kinds.OBJECT: 0, kinds.STRING: 16, kinds.SPAN: 16}
_SHORT = 12
"""Strings of at most so many bytes stand in their view."""


class Column:
    """What the decoder knows of one column for good: its type, how the kernel reads it, how a value is converted.

    `keys` lead to the value in a record; `owner` is the object that the last of them belongs to: 0 for the record, else
    1 + the index of the column that is the object.
    """

    def __init__(
        self, *keys: str, dtype: pl.DataType, wanted: bool = True, required: bool = False, owner: int = 0
    ) -> None:
        self.keys = keys
        self.name = keys[-1]
        self.path = ".".join(keys)
        self.owner = owner
        self.dtype = dtype
        self.wanted = wanted
        self.required = required
        self.convert = converter(dtype, self.path)
        self.low, self.high = 0, 0
        self.kind = self._kind() if wanted else kinds.SKIP
        self.slot_size = _SLOT_SIZES.get(self.kind, 8)

    def _kind(self) -> int:
        dtype = self.dtype
        if dtype.is_integer() and not isinstance(dtype, pl.Int128 | pl.UInt128):
            low, high = integer_range(dtype)
            self.low, self.high = low, min(high, _LARGEST_INT64)
            return kinds.INTEGERS
        if isinstance(dtype, pl.Datetime):
            self.low = TICKS[dtype.time_unit]
            return kinds.TIME
        if isinstance(dtype, pl.Float32 | pl.Float64):
            return kinds.DOUBLE
        if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
            return kinds.STRING
        if isinstance(dtype, pl.Boolean):
            return kinds.BOOLEAN
        if isinstance(dtype, pl.Null):
            return kinds.NOTHING
        if isinstance(dtype, pl.Struct) and _has_own_columns(dtype):
            self.low = self.owner
            return kinds.OBJECT
        return kinds.DATE if isinstance(dtype, pl.Date) else kinds.SPAN


def _has_own_columns(dtype: pl.DataType) -> bool:
    """Whether an object's fields can be read as columns: no type among them that is checked only as a whole column."""
    if isinstance(dtype, pl.Struct):
        return bool(dtype.fields) and all(_has_own_columns(field.dtype) for field in dtype.fields)  # type: ignore[arg-type]
    if isinstance(dtype, pl.List):
        return _is_plain(dtype.inner)
    return _is_plain(dtype)


def _is_plain(dtype: Any) -> bool:
    if isinstance(dtype, pl.List):
        return _is_plain(dtype.inner)
    if isinstance(dtype, pl.Struct):
        return all(_is_plain(field.dtype) for field in dtype.fields)
    return dtype.is_(pl.Null) or isinstance(dtype, _PLAIN)


_PLAIN = (
    pl.Boolean, pl.String, pl.Float64, pl.Date, pl.Datetime,
    pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64,
)  # fmt: skip


def _from_objects(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    """A column of converted values. By way of Arrow: Polars makes a Series of every list on its own."""
    stored_type = storage_type(dtype)
    try:
        arrow_type = pl.Series([], dtype=stored_type).to_arrow(compat_level=pl.CompatLevel.oldest()).type
        stored = pl.Series(name, pa.array(values, arrow_type), dtype=stored_type)
    except (pa.ArrowException, pl.exceptions.PolarsError):  # types that Arrow lacks, such as Int128
        stored = pl.Series(name, values, dtype=stored_type, strict=True)
    return stored if dtype == stored_type else stored.cast(dtype)


class Slots:
    """One column's buffers for one batch: a slot per record, a validity bitmap, and strings from the general parser."""

    def __init__(self, column: Column, rows: int) -> None:
        self.column = column
        self.rows = rows
        self.data = np.empty((rows, column.slot_size // 8), np.int64)
        self.has_validity = column.slot_size > 0 or column.kind == kinds.OBJECT
        self.validity = np.full((rows + 7) // 8 + 1 if self.has_validity else 0, 255, np.uint8)
        self.extra = bytearray()
        self.objects: list[Any] = []
        self.nulls = False
        """Whether there may be nulls."""
        self.fields: list[Slots] = []
        """The columns of an object's fields."""

    def layout(self) -> tuple[int, int, int, int, int, int, int]:
        """The kernel's row for this column (fields as in `kernels.read_json`)."""
        column = self.column
        data = self.data.ctypes.data if column.slot_size else 0
        validity = self.validity.ctypes.data if self.has_validity else 0
        return column.kind, data, column.slot_size, validity, column.low, column.high, int(column.required)

    def clear(self, rows: npt.NDArray[np.intp]) -> None:
        """Voids what the kernel may have left half done in the slots of these records."""
        if self.column.slot_size == 16:
            self.data[rows] = 0
        if self.column.kind == kinds.SPAN:
            self.objects = [None] * self.rows

    def put(self, row: int, value: Any) -> None:
        """Sets one slot to a converted value."""
        kind = self.column.kind
        if kind == kinds.NOTHING:
            return
        byte, bit = row >> 3, 1 << (row & 7)
        if value is None:
            self.validity[byte] &= 255 ^ bit
            self.nulls = True
            for field in self.fields:
                field.put(row, None)
            return
        self.validity[byte] |= bit
        if kind == kinds.OBJECT:
            for field in self.fields:
                field.put(row, value[field.column.name])
        elif kind == kinds.SPAN:
            self.objects[row] = value
        elif kind == kinds.STRING:
            self.data[row] = self._view(value.encode())
        elif kind == kinds.DOUBLE:
            self.data.view(np.float64)[row, 0] = value
        else:
            self.data[row, 0] = value - _TWO_64 if value > _LARGEST_INT64 else value

    def _view(self, text: bytes) -> tuple[int, int]:
        if len(text) <= _SHORT:
            view = struct.pack("<I12s", len(text), text)
        else:
            # Buffer 1 of the column; buffer 0 is the one that the kernel filled.
            view = struct.pack("<I4sII", len(text), text[:4], 1, len(self.extra))
            self.extra += text
        first, second = struct.unpack("<qq", view)
        return first, second

    def read_spans(self, rows: Sequence[int], parser: GeneralParser) -> None:
        """Parses the values that the kernel only delimited, all in one go."""
        valid = np.unpackbits(self.validity, bitorder="little")
        present = [row for row in rows if valid[row]]
        places = self.data[present].tolist()
        values = parser.values([ctypes.string_at(address, length) for address, length in places])
        for row, value in zip(present, values, strict=True):
            self.objects[row] = value

    def series(self, side: npt.NDArray[np.uint8]) -> pl.Series:
        """The finished column, over the same memory where the type allows."""
        name, dtype = self.column.name, self.column.dtype
        if self.column.kind == kinds.SPAN:
            return _from_objects(name, self.objects, dtype)
        series = pl.Series(name, self._array(side))
        # Texts turn into categories: one that is none becomes a null, which `misfits` finds.
        return series.cast(dtype, strict=False) if isinstance(dtype, pl.Enum | pl.Categorical) else series

    def _array(self, side: npt.NDArray[np.uint8]) -> Any:
        """The column as an Arrow array."""
        kind = self.column.kind
        buffers = [pa.py_buffer(self.validity) if self.nulls else None]
        if kind == kinds.NOTHING:
            return pa.nulls(self.rows)
        if kind == kinds.SPAN:
            column = _from_objects(self.column.name, self.objects, self.column.dtype)
            return column.to_arrow(compat_level=pl.CompatLevel.newest())
        if kind == kinds.OBJECT:
            arrays = [field._array(side) for field in self.fields]
            names = [field.column.name for field in self.fields]
            struct_type = pa.struct([pa.field(n, a.type) for n, a in zip(names, arrays, strict=True)])
            return pa.Array.from_buffers(struct_type, self.rows, buffers, children=arrays)
        if kind == kinds.STRING:
            buffers += [pa.py_buffer(self.data), pa.py_buffer(side)]
            if self.extra:
                buffers.append(pa.py_buffer(bytes(self.extra)))
            return pa.Array.from_buffers(pa.string_view(), self.rows, buffers)
        if kind == kinds.BOOLEAN:
            bits = np.packbits(self.data[:, 0] != 0, bitorder="little")
            return pa.Array.from_buffers(pa.bool_(), self.rows, [*buffers, pa.py_buffer(bits)])
        values, arrow_type = self._fixed()
        return pa.Array.from_buffers(arrow_type, self.rows, [*buffers, pa.py_buffer(values)])

    def _fixed(self) -> tuple[npt.NDArray[Any], Any]:
        dtype, values = self.column.dtype, self.data.reshape(-1)
        if isinstance(dtype, pl.Datetime):
            return values, pa.timestamp(dtype.time_unit, dtype.time_zone)
        if isinstance(dtype, pl.Date):
            return values.astype(np.int32), pa.date32()
        if isinstance(dtype, pl.Float64):
            return values.view(np.float64), pa.float64()
        if isinstance(dtype, pl.Float32):
            with np.errstate(over="ignore", invalid="ignore"):  # infinities are refused after, null slots hold anything
                return values.view(np.float64).astype(np.float32), pa.float32()
        numpy_type = np.dtype(str(dtype).lower())
        return values.astype(numpy_type, copy=False), pa.from_numpy_dtype(numpy_type)

    def misfits(self, series: pl.Series) -> tuple[npt.NDArray[np.intp], ErrorClass] | None:
        """Records whose value the kernel took but the type can't hold: unknown enum categories, too large Float32s."""
        if isinstance(series.dtype, pl.Float32):
            return np.flatnonzero(series.is_infinite().fill_null(False).to_numpy()), ErrorClass.NUMBER_OUT_OF_RANGE
        if isinstance(series.dtype, pl.Enum):
            lost = series.is_null().to_numpy()
            if self.nulls:
                lost = lost & np.unpackbits(self.validity, count=self.rows, bitorder="little").astype(bool)
            return np.flatnonzero(lost), ErrorClass.WRONG_TYPE
        return None

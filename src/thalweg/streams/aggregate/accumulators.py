"""Parts as arrays that are updated in place: what `Part.prepare` and `Part.merge` do, without a query per batch.

An accumulator holds one part's values of many *cells* (a cell: one group of one pane); `add` takes a batch's column
and the cell of each row, `columns` gives partial rows in the form that `Part.prepare` gives. A batch costs a kernel
pass of a few nanoseconds per row and no hand-over to Polars' threads, which is what small batches wait for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.state.slot_table import enough

if TYPE_CHECKING:
    from thalweg.streams.aggregate.monoid import Part

Booleans = npt.NDArray[np.bool_]
Cells = slice | Int64s
"""Some cells."""

_ALL: Booleans = np.zeros(0, dtype=np.bool_)
"""All values are valid."""
_NO_RESTS = np.zeros(0)


class Accumulator(ABC):
    """One part of many cells. Its arrays begin as zeros, which stand for "nothing yet"."""

    def __init__(self, *dtypes: Any) -> None:
        self._arrays = [np.zeros(0, dtype=dtype) for dtype in dtypes]

    def reserve(self, cells: int) -> None:
        """Room for so many cells."""
        room = len(self._arrays[0])
        if cells > room:
            self._arrays = [
                np.concatenate([array, np.zeros(enough(cells, room) - room, array.dtype)]) for array in self._arrays
            ]

    def clear(self, cells: Cells) -> None:
        """Makes cells new."""
        for array in self._arrays:
            array[cells] = 0

    @property
    def bytes(self) -> int:
        """What its arrays take."""
        return sum(array.nbytes for array in self._arrays)

    @abstractmethod
    def add(self, cells: Int64s, values: pl.Series | None) -> None:
        """Adds a value per row, each to its cell."""

    @abstractmethod
    def merge(self, cells: Int64s, rows: pl.DataFrame) -> None:
        """Adds partial rows, each to its cell."""

    @abstractmethod
    def columns(self, cells: Cells) -> list[pl.Series]:
        """The part's columns of cells; copies."""


class Counter(Accumulator):
    """How many rows, or how many values."""

    def __init__(self, name: str) -> None:
        super().__init__(np.int64)
        self._name = name

    def add(self, cells: Int64s, values: pl.Series | None) -> None:
        _kernels().count(cells, _ALL if values is None else _valid(values), *self._arrays)

    def merge(self, cells: Int64s, rows: pl.DataFrame) -> None:
        _kernels().merge_counts(cells, _integers(rows.get_column(self._name)), *self._arrays)

    def columns(self, cells: Cells) -> list[pl.Series]:
        return [pl.Series(self._name, self._arrays[0][cells].copy())]


class IntegerSum(Accumulator):
    """An exact sum in two limbs."""

    def __init__(self, high: str, low: str) -> None:
        super().__init__(np.int64, np.int64)
        self._names = high, low

    def add(self, cells: Int64s, values: pl.Series | None) -> None:
        _kernels().add_integers(cells, _integers(values), *self._arrays)

    def merge(self, cells: Int64s, rows: pl.DataFrame) -> None:
        _kernels().merge_integers(cells, *(_integers(rows.get_column(name)) for name in self._names), *self._arrays)

    def columns(self, cells: Cells) -> list[pl.Series]:
        return [pl.Series(name, of[cells].copy()) for name, of in zip(self._names, self._arrays, strict=True)]


class FloatSum(Accumulator):
    """A compensated sum."""

    def __init__(self, total: str, lost: str) -> None:
        super().__init__(np.float64, np.float64)
        self._names = total, lost

    def add(self, cells: Int64s, values: pl.Series | None) -> None:
        _kernels().add_floats(cells, _floats(values), _NO_RESTS, *self._arrays)

    def merge(self, cells: Int64s, rows: pl.DataFrame) -> None:
        _kernels().add_floats(cells, *(_floats(rows.get_column(name)) for name in self._names), *self._arrays)

    def columns(self, cells: Cells) -> list[pl.Series]:
        total, lost = (array[cells] for array in self._arrays)
        with np.errstate(invalid="ignore"):
            whole = total + lost
            rest = lost - (whole - total)
        finite = np.isfinite(whole)  # infinities and NaN go as in a plain sum
        kept = np.where(finite, whole, total), np.where(finite, rest, 0.0)
        return [pl.Series(name, values) for name, values in zip(self._names, kept, strict=True)]


class Best(Accumulator):
    """The smallest or largest value, in the column's own type."""

    def __init__(self, name: str, dtype: pl.DataType, *, largest: bool) -> None:
        super().__init__(np.float64 if dtype.is_float() else np.int64, np.int8)
        self._name, self._dtype, self._largest = name, dtype, largest

    def add(self, cells: Int64s, values: pl.Series | None) -> None:
        assert values is not None
        plain = _floats(values) if self._dtype.is_float() else _integers(values)
        _kernels().extreme(cells, plain, _valid(values), self._largest, *self._arrays)

    def merge(self, cells: Int64s, rows: pl.DataFrame) -> None:
        self.add(cells, rows.get_column(self._name))

    def columns(self, cells: Cells) -> list[pl.Series]:
        best, seen = (array[cells] for array in self._arrays)
        values = _where_known(pl.Series(self._name, best.copy()), seen > 0)
        return [values if values.dtype == self._dtype else values.cast(self._dtype)]


class Spread(Accumulator):
    """Count, mean and sum of squared deviations."""

    def __init__(self, count: str, mean: str, square: str) -> None:
        super().__init__(np.int64, np.float64, np.float64)
        self._names = count, mean, square

    def add(self, cells: Int64s, values: pl.Series | None) -> None:
        assert values is not None
        _kernels().add_moments(cells, _floats(values), _valid(values), *self._arrays)

    def merge(self, cells: Int64s, rows: pl.DataFrame) -> None:
        count, *rest = (rows.get_column(name) for name in self._names)
        _kernels().merge_moments(cells, _integers(count), *map(_floats, rest), *self._arrays)

    def columns(self, cells: Cells) -> list[pl.Series]:
        count, *rest = (pl.Series(name, of[cells].copy()) for name, of in zip(self._names, self._arrays, strict=True))
        return [count, *(_where_known(one, count.to_numpy() > 0) for one in rest)]


class Accumulators:
    """All parts of partial rows."""

    def __init__(self, parts: Sequence[tuple[Part, Accumulator]]) -> None:
        self._parts = list(parts)

    @classmethod
    def of(cls, parts: Sequence[Part], events: pl.DataFrame) -> Accumulators | None:
        """Those of these parts over events of such types; None where one of them can't be kept in that way."""
        made = []
        for part in parts:
            one = part.accumulator(None if part.input is None else events.schema[part.input.column])
            if one is None:
                return None
            made.append((part, one))
        return cls(made)

    def reserve(self, cells: int) -> None:
        """Room for so many cells."""
        for _, accumulator in self._parts:
            accumulator.reserve(cells)

    def add(self, cells: Int64s, events: pl.DataFrame) -> None:
        """Adds events, each to its cell."""
        for part, accumulator in self._parts:
            accumulator.add(cells, None if part.input is None else events.get_column(part.input.column))

    def merge(self, cells: Int64s, rows: pl.DataFrame) -> None:
        """Adds partial rows, each to its cell."""
        for _, accumulator in self._parts:
            accumulator.merge(cells, rows)

    def columns(self, cells: Cells) -> list[pl.Series]:
        """The columns of cells."""
        return [column for _, accumulator in self._parts for column in accumulator.columns(cells)]

    def clear(self, cells: Cells) -> None:
        """Makes cells new."""
        for _, accumulator in self._parts:
            accumulator.clear(cells)

    @property
    def schema(self) -> dict[str, pl.DataType]:
        """Of its columns."""
        return {column.name: column.dtype for column in self.columns(slice(0, 0))}

    @property
    def bytes(self) -> int:
        """What they take."""
        return sum(accumulator.bytes for _, accumulator in self._parts)


def for_extreme(name: str, dtype: pl.DataType, *, largest: bool) -> Best | None:
    """For numbers up to 64 bits and times."""
    fits = dtype.is_float() or dtype.is_temporal() or (dtype.is_integer() and dtype not in _WIDE)
    return Best(name, dtype, largest=largest) if fits else None


def for_sum(dtype: pl.DataType, integers: tuple[str, str], floats: tuple[str, str]) -> Accumulator | None:
    """For floats and for integers up to 64 bits."""
    if dtype.is_float():
        return FloatSum(*floats)
    if dtype == pl.Boolean or (dtype.is_integer() and dtype not in _WIDE):
        return IntegerSum(*integers)
    return None


_WIDE = (pl.UInt64, pl.Int128, pl.UInt128)


def _where_known(values: pl.Series, known: Booleans) -> pl.Series:
    return values if known.all() else values.set(pl.Series(~known), None)


def _valid(values: pl.Series) -> Booleans:
    return values.is_not_null().to_numpy() if values.null_count() else _ALL


def _integers(values: pl.Series | None) -> Int64s:
    """As Int64; nulls are 0."""
    assert values is not None
    physical = values.to_physical() if values.dtype.is_temporal() else values
    plain: Int64s = _plain(physical, pl.Int64(), 0)
    return plain


def _floats(values: pl.Series | None) -> npt.NDArray[np.float64]:
    """As Float64; nulls are 0."""
    assert values is not None
    plain: npt.NDArray[np.float64] = _plain(values, pl.Float64(), 0.0)
    return plain


def _plain(values: pl.Series, dtype: pl.DataType, nothing: object) -> Any:
    if values.dtype != dtype:
        values = values.cast(dtype)
    if values.null_count():
        values = values.fill_null(nothing)
    return np.ascontiguousarray(values.to_numpy())


def _kernels() -> Any:
    from thalweg.streams.aggregate import _accumulate

    return _accumulate

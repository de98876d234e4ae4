"""Aggregates that keep rows per key and item: quantile sketches, exact quantiles, distinct counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate.monoid import Input, Itemised, ItemRows
from thalweg.streams.aggregate.parts import Rows

_LARGEST = math.log(1.7976931348623157e308)
_SMALLEST = math.log(2.2250738585072014e-308)


class Quantile(Itemised):
    """A quantile within a relative error: DDSketch rows (bucket, count), merged by adding counts.

    Bucket i > 0 holds values in (g**(i-1), g**i], g = (1 + error) / (1 - error), shifted so that buckets sort as
    their values do; values below 2.3e-308 in magnitude are zero. The result is within `error`, relatively, of the
    sample of rank floor(q * (n - 1)). Nulls and NaN are ignored; infinities have buckets of their own. The sketch
    has at most 1 + 2 * 1419 / ln(g) rows per key whatever the data (142,000 for 1 %), typically some hundred.

    Source: Masson, Rim, Lee: DDSketch, VLDB 2019.
    """

    dtype = pl.Float64()

    def __init__(self, input: Input, q: float, *, error: float = 0.01) -> None:
        if not 0 <= q <= 1:
            raise ConfigurationError(f"quantile {q!r} must lie between 0 and 1")
        if not 0 < error < 1:
            raise ConfigurationError(f"relative error {error!r} must lie between 0 and 1")
        self.item, self.q, self.error = input, float(q), float(error)
        self.inputs = (input,)
        self.table = f"quantiles({input.text}, {self.error!r})"
        self.rows = Rows()
        self.parts = (self.rows,)
        self._log_gamma = math.log1p(2 * error / (1 - error))
        # The bucket of the smallest normal double becomes 1; infinities come after the largest one.
        self._shift = 1 - math.ceil(_SMALLEST / self._log_gamma)
        self._infinity = math.ceil(_LARGEST / self._log_gamma) + self._shift + 1

    def describe(self) -> str:
        return f"quantile({self.item.label}, {self.q:g}, error={self.error:g})"

    def bucket(self, values: pl.Series) -> pl.Expr:
        if not (values.dtype.is_numeric() or values.dtype == pl.Null):
            raise ConfigurationError(f"no quantiles of {self.item.column!r}: it is {values.dtype}, not a number")
        value = pl.col(self.item.column).cast(pl.Float64)
        size = value.abs()
        index = (size.log() / self._log_gamma).ceil() + self._shift
        magnitude = pl.when(size < 2.2250738585072014e-308).then(0.0).otherwise(index.clip(1.0, self._infinity))
        signed = pl.when(value < 0).then(-magnitude).otherwise(magnitude)
        return pl.when(value.is_not_nan()).then(signed).cast(pl.Int32)

    def finish(self, rows: ItemRows) -> pl.Series:
        places = _places(rows, rows.parts[self.rows.name], self.q)
        bucket = rows.items.to_numpy()[_at_rank(rows, rows.parts[self.rows.name], np.floor(places))]
        # The middle of a bucket in the sense of relative error: 2 g**i / (g + 1).
        index = np.abs(bucket.astype(np.float64)) - self._shift
        with np.errstate(over="ignore"):
            middle = np.minimum(np.exp(index * self._log_gamma + math.log1p(-self.error)), np.finfo(np.float64).max)
        size = np.where(bucket == 0, 0.0, np.where(np.abs(bucket) >= self._infinity, np.inf, middle))
        return pl.Series(np.where(bucket < 0, -size, size))


class ExactQuantile(Itemised):
    """The exact quantile: rows (value, count), so state grows with the distinct values. Linear interpolation.

    Equal to `numpy.quantile` (method "linear"). Nulls and NaN are ignored.
    """

    dtype = pl.Float64()

    def __init__(self, input: Input, q: float) -> None:
        if not 0 <= q <= 1:
            raise ConfigurationError(f"quantile {q!r} must lie between 0 and 1")
        self.item, self.q = input, float(q)
        self.inputs = (input,)
        self.table = f"values({input.text})"
        self.rows = Rows()
        self.parts = (self.rows,)

    def describe(self) -> str:
        return f"quantile({self.item.label}, {self.q:g}, exact)"

    def bucket(self, values: pl.Series) -> pl.Expr:
        if not (values.dtype.is_numeric() or values.dtype == pl.Null):
            raise ConfigurationError(f"no quantiles of {self.item.column!r}: it is {values.dtype}, not a number")
        # Adding 0.0 makes -0.0 and 0.0 one value.
        return (pl.col(self.item.column).cast(pl.Float64) + 0.0).fill_nan(None)

    def finish(self, rows: ItemRows) -> pl.Series:
        counts, values = rows.parts[self.rows.name], rows.items.to_numpy()
        places = _places(rows, counts, self.q)
        whole = np.floor(places)
        below = values[_at_rank(rows, counts, whole)]
        above = values[_at_rank(rows, counts, np.ceil(places))]
        share = places - whole
        with np.errstate(invalid="ignore"):
            return pl.Series(np.where(below == above, below, below * (1 - share) + above * share))


class Distinct(Itemised):
    """How many different values, exactly; nulls are not counted. State grows with the distinct values."""

    dtype = pl.Int64()
    empty = 0

    def __init__(self, input: Input) -> None:
        self.item = input
        self.inputs = (input,)
        self.table = f"distinct({input.text})"

    def describe(self) -> str:
        return f"count_distinct({self.item.label})"

    def bucket(self, values: pl.Series) -> pl.Expr:
        column = pl.col(self.item.column)
        return column + 0.0 if values.dtype.is_float() else column

    def finish(self, rows: ItemRows) -> pl.Series:
        return pl.Series(rows.lengths)


def _places(rows: ItemRows, counts: pl.Series, q: float) -> Any:
    """Per key the place q * (n - 1) of the quantile among its n samples."""
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(rows.lengths)[:-1]])
    return q * (np.add.reduceat(counts.to_numpy(), starts) - 1)


def _at_rank(rows: ItemRows, counts: pl.Series, ranks: Any) -> Any:
    """Per key the row that holds the sample of a rank (from 0)."""
    from thalweg.streams.aggregate._sums import row_of_rank

    return row_of_rank(counts.to_numpy(), rows.lengths, ranks.astype(np.int64))

"""The parts that scalar aggregates are made of: counts, exact and compensated sums, extremes, moments."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.records import Int64s
from thalweg.streams.aggregate.accumulators import Accumulator, Counter, Spread, for_extreme, for_sum
from thalweg.streams.aggregate.monoid import Input, Part
from thalweg.streams.batch import with_column

_LIMB = 2**32
_SAFE = 2**62


class Rows(Part):
    """How many events."""

    def __init__(self) -> None:
        super().__init__("rows", None)

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        return [pl.len().cast(pl.Int64).alias(self.name)]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return [pl.col(self.name).sum()]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)

    def accumulator(self, dtype: pl.DataType | None) -> Accumulator:
        return Counter(self.name)


class NonNull(Part):
    """How many events have a value."""

    def __init__(self, input: Input) -> None:
        super().__init__("count", input)
        self.column = input.column

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        whole = values is not None and not values.null_count()
        counted = pl.len() if whole else pl.col(self.column).count()
        return [counted.cast(pl.Int64).alias(self.name)]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return [pl.col(self.name).sum()]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)

    def accumulator(self, dtype: pl.DataType | None) -> Accumulator:
        return Counter(self.name)


class Extreme(Part):
    """The smallest or largest value of any ordered type; nulls are ignored, and NaN unless there is nothing else."""

    def __init__(self, input: Input, *, largest: bool) -> None:
        super().__init__("max" if largest else "min", input)
        self.column = input.column
        self.largest = largest

    def _of(self, column: str) -> pl.Expr:
        expr = pl.col(column)
        return (expr.max() if self.largest else expr.min()).alias(self.name)

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        return [self._of(self.column)]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return [self._of(self.name)]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)

    def accumulator(self, dtype: pl.DataType | None) -> Accumulator | None:
        return None if dtype is None else for_extreme(self.name, dtype, largest=self.largest)


class Sum(Part):
    """The sum of the values, exact for integers, booleans and decimals, compensated for floats.

    Integers are kept as two limbs (`high * 2**32 + low`), which can't overflow; floats as value and correction. A
    column that turns from integers to floats has both, and the sum is theirs together. An empty sum is 0.

    Float bound (Sum2 of Ogita, Rump and Oishi): |result - exact| <= u |exact| + (n u)**2 * sum|x|, u = 1.1e-16, for
    every split and order of merging. A million values agree within 1e-9 relative while sum|x| / |sum x| < 8e10.
    """

    def __init__(self, input: Input) -> None:
        super().__init__("sum", input)
        self.column = input.column
        self.high, self.low = f"{self.name}.high", f"{self.name}.low"
        self.float, self.lost = f"{self.name}.float", f"{self.name}.lost"
        self.decimal = f"{self.name}.decimal"
        self._filled = f"__sum:{input.text}"
        self._split = (f"__high:{input.text}", f"__low:{input.text}")

    def before(self, values: pl.Series | None) -> list[pl.Expr]:
        assert values is not None
        column = pl.col(self.column)
        if values.dtype.is_float():
            if values.dtype == pl.Float64 and not values.null_count():
                return []
            return [column.cast(pl.Float64).fill_null(0.0).alias(self._filled)]
        if not _safe(values):
            high = column // _LIMB
            low = column - high * _LIMB
            return [high.cast(pl.Int64).alias(self._split[0]), low.cast(pl.Int64).alias(self._split[1])]
        return []

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        assert values is not None
        column, dtype = pl.col(self.column), values.dtype
        if dtype.is_float():
            whole = dtype == pl.Float64 and not values.null_count()
            return [(column if whole else pl.col(self._filled)).alias(self.float)]
        if dtype.is_decimal():
            return [column.sum().alias(self.decimal)]
        if dtype in (pl.Boolean, pl.Null):
            return [column.cast(pl.Int64).sum().alias(self.low)]
        if not dtype.is_integer() or dtype in (pl.Int128, pl.UInt128):
            raise ConfigurationError(f"can't add up {self.column!r}: it is {dtype}, not a number")
        if _safe(values):
            small = column if dtype == pl.Int64 else column.cast(pl.Int64)
            return [small.sum().alias(self.low)]
        return [pl.col(self._split[0]).sum().alias(self.high), pl.col(self._split[1]).sum().alias(self.low)]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        kept = [pl.col(name).sum() for name in (self.high, self.low, self.decimal) if name in present]
        if self.float in present:
            kept += [pl.col(self.float).fill_null(0.0), pl.col(self.lost).fill_null(0.0)]
        return kept

    def settle(self, frame: pl.DataFrame) -> pl.DataFrame:
        new: list[pl.Series] = []
        if isinstance(frame.schema.get(self.float), pl.List):
            new += self._compensate(frame)
        if self.low in frame.columns:
            # Carry what exceeds the lower limb, so that sums of limbs never overflow.
            low = frame[self.low].fill_null(0)
            carry = low // _LIMB
            high = frame[self.high].fill_null(0) + carry if self.high in frame.columns else carry
            new += [high.alias(self.high), (low - carry * _LIMB).alias(self.low)]
        for column in new:
            frame = with_column(frame, column)
        return frame

    def _compensate(self, frame: pl.DataFrame) -> list[pl.Series]:
        from thalweg.streams.aggregate._sums import compensated

        values, lengths = flat(frame[self.float])
        low = flat(frame[self.lost])[0] if self.lost in frame.columns else np.zeros(0)
        total, lost = compensated(values, low, lengths)
        return [pl.Series(self.float, total), pl.Series(self.lost, lost)]

    def accumulator(self, dtype: pl.DataType | None) -> Accumulator | None:
        return None if dtype is None else for_sum(dtype, (self.high, self.low), (self.float, self.lost))

    def beyond(self, groups: pl.DataFrame) -> int:
        """In how many groups the sum needs more than 64 bits."""
        if self.high not in groups.columns or self.float in groups.columns:
            return 0
        return int((~groups[self.high].fill_null(0).is_between(-(2**31), 2**31 - 1)).sum())

    def integer(self, present: frozenset[str]) -> pl.Expr:
        """The sum as Int64; null where it doesn't fit in 64 bits."""
        high = pl.col(self.high).fill_null(0)
        fits = high.is_between(-(2**31), 2**31 - 1)
        return pl.when(fits).then(pl.when(fits).then(high).otherwise(0) * _LIMB + pl.col(self.low).fill_null(0))

    def value(self, present: frozenset[str]) -> pl.Expr:
        if self.decimal in present:
            return pl.col(self.decimal)
        if self.float in present:
            return self.approximate(present)
        return self.integer(present)

    def approximate(self, present: frozenset[str]) -> pl.Expr:
        """The sum as Float64, within one rounding of what is kept."""
        if self.decimal in present:
            return pl.col(self.decimal).cast(pl.Float64)
        total = pl.lit(0.0)
        if self.low in present:
            high = pl.col(self.high).fill_null(0).cast(pl.Float64)
            total = high * float(_LIMB) + pl.col(self.low).fill_null(0).cast(pl.Float64)
        if self.float in present:
            total = total + (pl.col(self.float).fill_null(0.0) + pl.col(self.lost).fill_null(0.0))
        return total


class Moments(Part):
    """Mean and sum of squared deviations, merged by Chan, Golub and LeVeque's formula (1979)."""

    def __init__(self, input: Input) -> None:
        super().__init__("moments", input)
        self.column = input.column
        self.count, self.mean, self.square = (f"{self.name}.{what}" for what in ("count", "mean", "square"))

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        if values is None or not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
            raise ConfigurationError(f"no variance of {self.column!r}: it is not a number")
        column = pl.col(self.column).cast(pl.Float64)
        count = column.count().cast(pl.Int64)
        return [
            count.alias(self.count),
            column.mean().alias(self.mean),
            (column.var(ddof=0) * count).alias(self.square),
        ]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        count, mean, square = pl.col(self.count), pl.col(self.mean), pl.col(self.square)
        total = pl.when(count.sum() > 0).then((count * mean).sum() / count.sum())
        spread = square.sum() + (count * (mean - total) ** 2).sum()
        return [count.sum(), total.alias(self.mean), spread.alias(self.square)]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.square)

    def accumulator(self, dtype: pl.DataType | None) -> Accumulator | None:
        numeric = dtype is not None and (dtype.is_numeric() or dtype == pl.Boolean)
        return Spread(self.count, self.mean, self.square) if numeric else None


class Values(Part):
    """All values that are not null, as a list in no particular order; or each of them once."""

    def __init__(self, input: Input, *, distinct: bool = False) -> None:
        super().__init__("different" if distinct else "values", input)
        self.column = input.column
        self.distinct = distinct

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        return [self._kept(pl.col(self.column).drop_nulls()).alias(self.name)]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return [self._kept(pl.col(self.name).explode().drop_nulls())]

    def _kept(self, values: pl.Expr) -> pl.Expr:
        return values.unique() if self.distinct else values

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)


def _safe(values: pl.Series) -> bool:
    """No sum over these values can leave 63 bits."""
    if not values.dtype.is_integer() or not len(values):
        return True
    low, high = values.min(), values.max()
    return low is None or max(abs(int(low)), abs(int(high))) * len(values) < _SAFE  # type: ignore[arg-type]


def flat(lists: pl.Series) -> tuple[npt.NDArray[np.float64], Int64s]:
    """The values of lists of Float64 one after the other, and the length of each list; no null among either."""
    array = lists.to_arrow()  # its buffers as they are: `explode` and `list.len` cost a query each
    offsets = array.offsets.to_numpy()
    return array.values.to_numpy()[offsets[0] : offsets[-1]], np.diff(offsets)


def warm_up() -> None:
    """Compiles (or loads from the cache) the kernel, so that the first window doesn't wait for it."""
    from thalweg.streams.aggregate._sums import compensated

    compensated(np.ones(2), np.zeros(0), np.array([2], dtype=np.int64))

"""Aggregates of two values: covariance, correlation, and the least-squares line."""

from __future__ import annotations

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate.monoid import Input, Part, Scalar


class PairMoments(Part):
    """Means, sums of squared deviations and of their products, over the events that have both values.

    Merged by the formula of Chan, Golub and LeVeque (1979), extended to products as in Pébay (2008): no difference of
    large sums is taken, so that x around 1.7e9 loses no digits.
    """

    _FIELDS = ("count", "x", "y", "xx", "yy", "xy")

    def __init__(self, y: Input, x: Input) -> None:
        super().__init__("pairs", y)
        self.name = f"pairs({y.text}, {x.text})"
        self.y_column, self.x_column = y.column, x.column
        self.count, self.x, self.y, self.xx, self.yy, self.xy = (f"{self.name}.{field}" for field in self._FIELDS)

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        if values is None or not (values.dtype.is_numeric() or values.dtype in (pl.Boolean, pl.Null)):
            raise ConfigurationError(f"no covariance of {self.y_column!r}: it is not a number")
        both = pl.col(self.x_column).is_not_null() & pl.col(self.y_column).is_not_null()
        x = pl.col(self.x_column).cast(pl.Float64).filter(both)
        y = pl.col(self.y_column).cast(pl.Float64).filter(both)
        dx, dy = x - x.mean(), y - y.mean()
        return [
            both.sum().cast(pl.Int64).alias(self.count),
            x.mean().alias(self.x),
            y.mean().alias(self.y),
            (dx * dx).sum().alias(self.xx),
            (dy * dy).sum().alias(self.yy),
            (dx * dy).sum().alias(self.xy),
        ]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        count = pl.col(self.count)
        total = count.sum()
        # Deviations from the first mean, not sums of means: these would round at the size of the values.
        mean_x, mean_y = (_mean(pl.col(name), count) for name in (self.x, self.y))
        dx, dy = pl.col(self.x) - mean_x, pl.col(self.y) - mean_y
        return [
            total.alias(self.count),
            mean_x.alias(self.x),
            mean_y.alias(self.y),
            (pl.col(self.xx).sum() + (count * dx * dx).sum()).alias(self.xx),
            (pl.col(self.yy).sum() + (count * dy * dy).sum()).alias(self.yy),
            (pl.col(self.xy).sum() + (count * dx * dy).sum()).alias(self.xy),
        ]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.xy)


def _mean(means: pl.Expr, counts: pl.Expr) -> pl.Expr:
    first = means.drop_nulls().first()
    return pl.when(counts.sum() > 0).then(first + ((means - first) * counts).sum() / counts.sum())


class _Paired(Scalar):
    """Keeps pair moments of y and x."""

    def __init__(self, y: Input, x: Input) -> None:
        self.inputs = (y, x)
        self.moments = PairMoments(y, x)
        self.parts = (self.moments,)

    @property
    def of(self) -> str:
        """Both inputs, for `explain()`."""
        return f"{self.inputs[0].label}, {self.inputs[1].label}"


class Covariance(_Paired):
    """The covariance, with `ddof` taken from the count in the divisor."""

    def __init__(self, y: Input, x: Input, *, ddof: int = 1) -> None:
        super().__init__(y, x)
        self.ddof = ddof

    def describe(self) -> str:
        return f"covariance({self.of})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        divisor = pl.col(self.moments.count) - self.ddof
        return pl.when(divisor > 0).then(pl.col(self.moments.xy) / divisor)


class Correlation(_Paired):
    """Pearson's correlation; null where a value does not vary."""

    def describe(self) -> str:
        return f"correlation({self.of})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        spread = (pl.col(self.moments.xx) * pl.col(self.moments.yy)).sqrt()
        return pl.when(spread > 0).then(pl.col(self.moments.xy) / spread)


class Regression(_Paired):
    """The least-squares line of y on x and what belongs to it, as a struct."""

    def describe(self) -> str:
        return f"regression({self.of})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        m = self.moments
        count, x, y, xx, yy, xy = (pl.col(name) for name in (m.count, m.x, m.y, m.xx, m.yy, m.xy))
        slope = pl.when(xx > 0).then(xy / xx)
        fit = pl.when((xx > 0) & (yy > 0)).then(xy * xy / (xx * yy)).when((xx > 0) & (count > 0)).then(1.0)
        some = pl.when(count > 0)
        return pl.struct(
            slope.alias("slope"),
            (y - slope * x).alias("intercept"),
            fit.alias("r2"),
            count.alias("count"),
            x.alias("mean_x"),
            y.alias("mean_y"),
            some.then(xx).alias("sxx"),
            some.then(yy).alias("syy"),
            some.then(xy).alias("sxy"),
        )

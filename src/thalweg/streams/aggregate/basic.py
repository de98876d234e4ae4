"""The scalar aggregates: count, sum, average, min, max, variance and standard deviation."""

from __future__ import annotations

import polars as pl

from thalweg.streams.aggregate.monoid import Input, Scalar
from thalweg.streams.aggregate.parts import Extreme, Moments, NonNull, Rows, Sum, Values


class Count(Scalar):
    """How many events, or how many of them have a value."""

    empty = 0

    def __init__(self, input: Input | None = None) -> None:
        self.inputs = () if input is None else (input,)
        self.part = Rows() if input is None else NonNull(input)
        self.parts = (self.part,)

    def describe(self) -> str:
        return f"count({self.inputs[0].label if self.inputs else ''})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return self.part.value(present)


class Total(Scalar):
    """The sum: Int64 for integers and booleans, Float64 for floats, the column's own scale for decimals."""

    def __init__(self, input: Input) -> None:
        self.inputs = (input,)
        self.sum, self.count = Sum(input), NonNull(input)
        self.parts = (self.sum, self.count)

    def describe(self) -> str:
        return f"sum({self.inputs[0].label})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return pl.when(self.count.value(present) > 0).then(self.sum.value(present))


class Average(Scalar):
    """The arithmetic mean, Float64."""

    def __init__(self, input: Input) -> None:
        self.inputs = (input,)
        self.sum, self.count = Sum(input), NonNull(input)
        self.parts = (self.sum, self.count)

    def describe(self) -> str:
        return f"average({self.inputs[0].label})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        count = self.count.value(present)
        return pl.when(count > 0).then(self.sum.approximate(present) / count)


class Extremum(Scalar):
    """The smallest or the largest value, in the column's own type."""

    def __init__(self, input: Input, *, largest: bool) -> None:
        self.inputs = (input,)
        self.part = Extreme(input, largest=largest)
        self.parts = (self.part,)

    def describe(self) -> str:
        return f"{self.part.kind}({self.inputs[0].label})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return self.part.value(present)


class Variance(Scalar):
    """Variance or standard deviation, with `ddof` taken from the count in the divisor."""

    def __init__(self, input: Input, *, ddof: int = 1, root: bool = False) -> None:
        self.inputs = (input,)
        self.moments = Moments(input)
        self.parts = (self.moments,)
        self.ddof, self.root = ddof, root

    def describe(self) -> str:
        return f"{'stddev' if self.root else 'variance'}({self.inputs[0].label})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        divisor = pl.col(self.moments.count) - self.ddof
        variance = self.moments.value(present) / divisor
        return pl.when(divisor > 0).then(variance.sqrt() if self.root else variance)


class Collect(Scalar):
    """All values as a list, sorted, so that it does not depend on the order of arrival; or each value once."""

    def __init__(self, input: Input, *, distinct: bool = False) -> None:
        self.inputs = (input,)
        self.part = Values(input, distinct=distinct)
        self.parts = (self.part,)

    def describe(self) -> str:
        return f"collect{'_distinct' if self.part.distinct else ''}({self.inputs[0].label})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return self.part.value(present).list.sort()

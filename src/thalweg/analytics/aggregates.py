"""The aggregates that `.aggregate(name=…)` takes.

Each takes what it reads as a column name, an expression (`col("a") * 2`) or a function of the event
(`lambda e: e.a * 2`). Nulls are ignored by all; where no event of a group has a value the result is null (SQL's rule,
also for sums), but counts are 0. NaN is a value like any other in sums and averages (the result is NaN); min and max
ignore it unless there is nothing else; quantiles ignore it.
"""

from __future__ import annotations

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate import (
    Aggregate,
    ApproxDistinct,
    Average,
    Collect,
    Count,
    Distinct,
    ExactQuantile,
    Extremum,
    Quantile,
    TopItems,
    Total,
    Variance,
    to_input,
)


def count(value: object = None) -> Aggregate:
    """How many events; with `value`, how many of them have one (are not null there). Int64.

    >>> count(), count("amount")
    (count(), count(amount))
    """
    return Count() if value is None else Count(to_input(value))


def sum_(value: object) -> Aggregate:
    """The sum: Int64, exact, for integers and booleans (null and a warning beyond 64 bits); Float64, compensated, for
    floats; the column's own scale for decimals.

    >>> sum_("amount")
    sum(amount)
    """
    return Total(to_input(value))


def average(value: object) -> Aggregate:
    """The arithmetic mean, Float64, from an exact (integers) or compensated (floats) sum.

    >>> average("amount")
    average(amount)
    """
    return Average(to_input(value))


def min_(value: object) -> Aggregate:
    """The smallest value, in the column's own type: numbers, text, times.

    >>> min_("amount")
    min(amount)
    """
    return Extremum(to_input(value), largest=False)


def max_(value: object) -> Aggregate:
    """The largest value, in the column's own type: numbers, text, times.

    >>> max_("amount")
    max(amount)
    """
    return Extremum(to_input(value), largest=True)


def percentile(value: object, p: float, *, error: float = 0.01, exact: bool = False) -> Aggregate:
    """The p-th percentile, p from 0 to 100, Float64; several of one value share one sketch.

    By default within `error` (relative) of the sample of rank floor(p / 100 * (n - 1)), from a DDSketch, whose size
    does not grow with the events. `exact=True` interpolates linearly as `numpy.percentile` does and keeps every
    distinct value.

    Raises:
        ConfigurationError: p outside 0–100, or between 0 and 1 (meant as a quantile? use `quantile`).

    >>> percentile("latency", 95)
    quantile(latency, 0.95, error=0.01)
    """
    if not 0 <= p <= 100:
        raise ConfigurationError(f"percentile {p!r} must lie between 0 and 100")
    if 0 < p < 1:
        raise ConfigurationError(f"percentile {p!r} is below 1: use percentile(…, {p * 100:g}) or quantile(…, {p!r})")
    return quantile(value, p / 100, error=error, exact=exact)


def quantile(value: object, q: float, *, error: float = 0.01, exact: bool = False) -> Aggregate:
    """The same as `percentile`, with q from 0 to 1.

    >>> quantile("latency", 0.999, exact=True)
    quantile(latency, 0.999, exact)
    """
    return ExactQuantile(to_input(value), q) if exact else Quantile(to_input(value), q, error=error)


def count_distinct(value: object) -> Aggregate:
    """How many different values, exactly; nulls are not counted. Int64. State grows with the distinct values.

    >>> count_distinct("user")
    count_distinct(user)
    """
    return Distinct(to_input(value))


def approx_distinct(value: object, *, precision: int = 14) -> Aggregate:
    """About how many different values, by HyperLogLog; nulls are not counted. Int64.

    The standard error is 1.04 / sqrt(2**precision): 0.8 % with 14. State is at most 2**precision small rows per key,
    however many values there are.

    >>> approx_distinct("user")
    approx_distinct(user)
    """
    return ApproxDistinct(to_input(value), precision)


def top_k(value: object, k: int) -> Aggregate:
    """The k most frequent values, as a list of structs of value and count; equal counts go by the smaller value.

    Exact, so state grows with the distinct values; nulls are not counted.

    >>> top_k("page", 3)
    top_k(page, 3)
    """
    return TopItems(to_input(value), k)


def variance(value: object, *, ddof: int = 1) -> Aggregate:
    """The variance, Float64, with n - ddof in the divisor; null where that is not above 0.

    >>> variance("amount")
    variance(amount)
    """
    return Variance(to_input(value), ddof=ddof)


def stddev(value: object, *, ddof: int = 1) -> Aggregate:
    """The standard deviation, Float64, with n - ddof in the divisor; null where that is not above 0.

    >>> stddev("amount")
    stddev(amount)
    """
    return Variance(to_input(value), ddof=ddof, root=True)


def collect(value: object, *, distinct: bool = False) -> Aggregate:
    """All values that are not null, as a sorted list; each once with `distinct`. State grows with the events (values).

    >>> collect("amount"), collect("amount", distinct=True)
    (collect(amount), collect_distinct(amount))
    """
    return Collect(to_input(value), distinct=distinct)

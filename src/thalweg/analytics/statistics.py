"""Aggregates of two values, of bits and truth, of an order: `covariance`, `regression`, `bit_or`, `first` and others.

Events in which a value is missing are left out. Where none is left the result is null.
"""

from __future__ import annotations

from thalweg.streams.aggregate import (
    Aggregate,
    BitAggregate,
    Correlation,
    Covariance,
    Extremum,
    FirstOrLast,
    MovingAverage,
    Regression,
    to_input,
)
from thalweg.streams.aggregate.monoid import Input
from thalweg.streams.batch import TIMESTAMP


def covariance(y: object, x: object, *, ddof: int = 1) -> Aggregate:
    """The covariance of two values, Float64, with n - ddof in the divisor (0: of the population).

    >>> covariance("price", "volume")
    covariance(price, volume)
    """
    return Covariance(to_input(y), to_input(x), ddof=ddof)


def correlation(y: object, x: object) -> Aggregate:
    """Pearson's correlation of two values, Float64; null where one of them does not vary.

    >>> correlation("price", "volume")
    correlation(price, volume)
    """
    return Correlation(to_input(y), to_input(x))


def regression(y: object, x: object) -> Aggregate:
    """The least-squares line of y on x: a struct of slope, intercept, r2, count, mean_x, mean_y, sxx, syy, sxy.

    >>> regression("price", "volume")
    regression(price, volume)
    """
    return Regression(to_input(y), to_input(x))


def first(value: object, *, by: object = None) -> Aggregate:
    """The first value by event time, or at the smallest `by`; of several there the smallest one.

    >>> first("price"), first("name", by="rank")
    (first(price), first(name, by=rank))
    """
    return FirstOrLast(to_input(value), _place(by), last=False)


def last(value: object, *, by: object = None) -> Aggregate:
    """The last value by event time, or at the largest `by`; of several there the largest one.

    >>> last("price")
    last(price)
    """
    return FirstOrLast(to_input(value), _place(by), last=True)


def moving_average(value: object, events: int, *, by: object = None) -> Aggregate:
    """The mean of the newest values, Float64: of the last so many events of the window by event time (or by `by`).

    >>> moving_average("price", 20)
    moving_average(price, 20)
    """
    return MovingAverage(to_input(value), _place(by), events)


def bit_and(value: object) -> Aggregate:
    """Bitwise and over whole numbers, in their own type.

    >>> bit_and("flags")
    bit_and(flags)
    """
    return BitAggregate(to_input(value), "and")


def bit_or(value: object) -> Aggregate:
    """Bitwise or over whole numbers, in their own type.

    >>> bit_or("flags")
    bit_or(flags)
    """
    return BitAggregate(to_input(value), "or")


def bit_xor(value: object) -> Aggregate:
    """Bitwise exclusive or over whole numbers, in their own type.

    >>> bit_xor("flags")
    bit_xor(flags)
    """
    return BitAggregate(to_input(value), "xor")


def all_true(condition: object) -> Aggregate:
    """Whether a condition is true for all events that have it. Boolean.

    >>> all_true("ok")
    min(ok)
    """
    return Extremum(to_input(condition), largest=False)


def any_true(condition: object) -> Aggregate:
    """Whether a condition is true for any event. Boolean.

    >>> any_true("ok")
    max(ok)
    """
    return Extremum(to_input(condition), largest=True)


def _place(by: object) -> Input:
    import polars as pl

    return Input(pl.col(TIMESTAMP), TIMESTAMP, frozenset({TIMESTAMP})) if by is None else to_input(by)

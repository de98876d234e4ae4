"""Traced arithmetic: exact integers, Python's division, no value where Python raises."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import polars as pl

from thalweg.expressions.values import (
    EXACT_FLOAT,
    INT64_MAX,
    INT64_MIN,
    INT128_MAX,
    INT128_MIN,
    Kind,
    NeedsTypes,
    Untraceable,
    Value,
    kind_of,
    strict,
)

Operand = Value | object
FOLD: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
"""Python's arithmetic."""


def arithmetic(symbol: str, left: Operand, right: Operand) -> Value:
    """`left symbol right` where at least one is traced.

    Raises:
        Untraceable: Python and Polars may differ here.
    """
    kinds = kind_of(left), kind_of(right)
    if Kind.UNKNOWN in kinds:
        raise NeedsTypes(f"arithmetic ({symbol})")
    if kinds == (Kind.STR, Kind.STR) and symbol == "+":
        return strict(text(left) + text(right), Kind.STR, left, right, dtype=pl.String())
    if not (kinds[0].numeric and kinds[1].numeric):
        raise Untraceable(f"{kinds[0].value} {symbol} {kinds[1].value} is left to Python")
    if kinds == (Kind.INT, Kind.INT) and symbol != "/":
        return _integers(symbol, left, right)
    return _floats(symbol, left, right)


def _floats(symbol: str, left: Operand, right: Operand) -> Value:
    if symbol in ("//", "%"):
        raise Untraceable(f"{symbol} of floats is left to Python: engines differ in the last digit")
    if symbol == "**":
        raise Untraceable("** of floats is left to Python; write x * x")
    a, b = as_float(left), as_float(right)
    if symbol != "/":
        return strict(FOLD[symbol](a, b), Kind.FLOAT, left, right, dtype=pl.Float64())
    if not isinstance(right, Value):
        if right == 0:
            raise Untraceable("division by zero is left to Python")
        return strict(a / b, Kind.FLOAT, left, dtype=pl.Float64())
    return strict(pl.when(b != 0).then(a / b), Kind.FLOAT, may_fail=True, dtype=pl.Float64())


def _integers(symbol: str, left: Operand, right: Operand) -> Value:
    if symbol == "**":
        return _power(left, right)
    low, high = _result_bounds(symbol, left, right)
    ends = [bound for value in (left, right) for bound in bounds(value)]
    if min(low, *ends) >= INT64_MIN and max(high, *ends) <= INT64_MAX:
        width: pl.DataType = pl.Int64()
    elif low >= INT128_MIN and high <= INT128_MAX:
        width = pl.Int128()
    else:
        raise Untraceable("integers of more than 128 bits are left to Python")
    a, b = as_integer(left, width), as_integer(right, width)
    # Polars floors and gives null for a divisor of zero, where Python raises.
    divides = symbol in ("//", "%") and bounds(right)[0] <= 0 <= bounds(right)[1]
    expr = FOLD[symbol](a, b)
    return strict(expr, Kind.INT, left, right, may_fail=divides, dtype=width, low=low, high=high)


def _result_bounds(symbol: str, left: Operand, right: Operand) -> tuple[int, int]:
    a, b = bounds(left), bounds(right)
    if symbol == "%":
        return min(0, b[0] + 1), max(0, b[1] - 1)
    if symbol == "//":
        divisors = {d for d in (*b, -1, 1) if d != 0 and b[0] <= d <= b[1]}
        if not divisors:
            raise Untraceable("division by zero is left to Python")
        ends = [x // d for x in a for d in divisors]
    else:
        ends = [FOLD[symbol](x, y) for x in a for y in b]
    return min(ends), max(ends)


def _power(base: Operand, exponent: Operand) -> Value:
    if not isinstance(base, Value) or isinstance(exponent, Value) or exponent not in (1, 2, 3, 4):
        raise Untraceable("** with such an exponent is left to Python")
    result = base
    for _ in range(1, int(str(exponent))):
        result = _integers("*", result, base)
    if result is base:
        return _integers("+", base, 0)
    return result


def negative(value: Value) -> Value:
    """`-value`."""
    if value.kind is Kind.FLOAT:
        return strict(-as_float(value), Kind.FLOAT, value, dtype=pl.Float64())
    if value.kind is Kind.INT:
        return _integers("-", 0, value)
    if value.kind is Kind.UNKNOWN:
        raise NeedsTypes("arithmetic (-)")
    raise Untraceable(f"- of {value.kind.value} is left to Python")


def absolute(value: Value) -> Value:
    """`abs(value)`."""
    if value.kind is Kind.FLOAT:
        return strict(as_float(value).abs(), Kind.FLOAT, value, dtype=pl.Float64())
    if value.kind is Kind.INT:
        high = max(abs(value.low), abs(value.high))
        width: pl.DataType = pl.Int64() if high <= INT64_MAX else pl.Int128()
        expr = as_integer(value, width).abs()
        return strict(expr, Kind.INT, value, dtype=width, low=0, high=high)
    if value.kind is Kind.UNKNOWN:
        raise NeedsTypes("abs()")
    raise Untraceable(f"abs() of {value.kind.value} is left to Python")


def bounds(value: Operand) -> tuple[int, int]:
    """The smallest and the largest integer that the operand can be."""
    if isinstance(value, Value):
        return value.low, value.high
    assert isinstance(value, int)
    return value, value


def as_integer(value: Operand, width: pl.DataType) -> pl.Expr:
    """The operand as an expression of this integer type, which holds all its values."""
    if not isinstance(value, Value):
        return pl.lit(value, dtype=width)
    return value.expr if value.dtype == width else value.expr.cast(width)


def as_float(value: Operand) -> pl.Expr:
    """The operand as 64-bit floats, rounded as Python rounds an int in mixed arithmetic."""
    if isinstance(value, Value):
        return value.expr if value.dtype == pl.Float64 else value.expr.cast(pl.Float64)
    assert isinstance(value, int | float)
    if isinstance(value, int) and not -EXACT_FLOAT <= value <= EXACT_FLOAT:
        raise Untraceable("an integer beyond 2**53 in float arithmetic is left to Python")
    return pl.lit(float(value), dtype=pl.Float64)


def text(value: Operand) -> pl.Expr:
    """The operand as strings."""
    if isinstance(value, Value):
        return value.expr if value.dtype in (None, pl.String) else value.expr.cast(pl.String)
    return pl.lit(value, dtype=pl.String)

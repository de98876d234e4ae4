"""Traced comparisons: as Python has them for None, NaN, and integers against floats."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from thalweg.expressions.arithmetic import Operand, as_integer, text
from thalweg.expressions.values import (
    EXACT_FLOAT,
    INT64_MAX,
    INT64_MIN,
    Kind,
    NeedsTypes,
    Null,
    Untraceable,
    Value,
    any_raised,
    kind_of,
    strict,
)

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
COMPARISONS = frozenset(_OPERATORS)
_MIRRORED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def compare(symbol: str, left: Operand, right: Operand) -> Value:
    """`left symbol right` where at least one is traced.

    Raises:
        Untraceable: Python and Polars may differ here.
    """
    if not isinstance(left, Value):
        return compare(_MIRRORED[symbol], right, left)
    if right is None and symbol in ("==", "!="):
        result = is_none(left)
        return result if symbol == "==" else _inverted(result)
    if symbol not in ("==", "!="):
        return strict(_plain(symbol, left, right), Kind.BOOL, left, right, dtype=pl.Boolean())
    return _equality(symbol, left, right)


def _equality(symbol: str, left: Value, right: Operand) -> Value:
    plain = _plain("==", left, right)
    operands = [v for v in (left, right) if isinstance(v, Value) and v.null is not Null.NEVER]
    more: dict[str, Any] = {"dtype": pl.Boolean()}
    if all(v.null is Null.RAISED for v in operands):
        result = strict(plain, Kind.BOOL, left, right, **more)
        return result if symbol == "==" else _inverted(result)
    # None equals None and nothing else. Where one side is never None, a filter may as well take null for false.
    test = plain if len(operands) < 2 and symbol == "==" else None
    both_none = pl.lit(False)
    if len(operands) == 2:
        both_none = operands[0].expr.is_null() & operands[1].expr.is_null()
    exact = plain.fill_null(both_none)
    raised = any_raised(left, right)
    if raised is not None:
        exact = pl.when(~raised).then(exact)
    null = Null.NEVER if raised is None else Null.RAISED
    if symbol == "==":
        return Value(exact, Kind.BOOL, null=null, test=test, **more)
    return Value(~exact, Kind.BOOL, null=null, **more)


def _inverted(value: Value) -> Value:
    return Value(~value.expr, Kind.BOOL, pl.Boolean(), value.null, value.raised)


def is_none(value: Value) -> Value:
    """`value is None`."""
    expr = value.expr.is_null()
    raised = any_raised(value)
    if raised is not None:
        expr = pl.when(~raised).then(expr)
    return Value(expr, Kind.BOOL, pl.Boolean(), Null.NEVER if raised is None else Null.RAISED)


def _plain(symbol: str, left: Value, right: Operand) -> pl.Expr:
    """The comparison of two values that are there; null where one is not."""
    kinds = left.kind, kind_of(right)
    if isinstance(right, float) and math.isnan(right):
        raise Untraceable("a comparison with NaN is left to Python")
    if left.kind is Kind.UNKNOWN or kinds[1] is Kind.UNKNOWN:
        return _unknown(symbol, left, right)
    if kinds[0].numeric and kinds[1].numeric:
        return _numbers(symbol, left, right)
    if symbol == "==" and {Kind.STR} < {*kinds} and kinds[0] in _OF_A_KIND and kinds[1] in _OF_A_KIND:
        return pl.when(left.expr.is_not_null()).then(pl.lit(False))  # unequal, whatever they are
    if kinds[0] is not kinds[1]:
        raise Untraceable(f"{kinds[0].value} {symbol} {kinds[1].value} is left to Python")
    if left.kind is Kind.STR:
        return _apply(symbol, text(left), text(right))
    if left.kind is Kind.BOOL:
        if symbol not in ("==", "!="):
            raise Untraceable("an order of bools is left to Python")
        return _apply(symbol, left.expr, right.expr if isinstance(right, Value) else pl.lit(right))
    if left.kind in (Kind.BYTES, Kind.DATE, Kind.DURATION, Kind.DATETIME):
        return _moments(symbol, left, right)
    raise Untraceable(f"a comparison of {left.kind.value} is left to Python")


_OF_A_KIND = frozenset({Kind.STR, Kind.INT, Kind.FLOAT, Kind.BOOL, Kind.BYTES})


def _apply(symbol: str, left: pl.Expr, right: pl.Expr) -> pl.Expr:
    result: pl.Expr = _OPERATORS[symbol](left, right)
    return result


def _unknown(symbol: str, left: Value, right: Operand) -> pl.Expr:
    """A column of unknown type against a constant: right for each type, or refused by Polars, loudly."""
    if isinstance(right, Value) or left.kind is not Kind.UNKNOWN:
        raise NeedsTypes("a comparison of columns")
    if isinstance(right, str) or (isinstance(right, bool) and symbol in ("==", "!=")):
        if isinstance(right, bool):
            # Against a bool alone, Polars would take a number for one; `&` refuses it.
            return (left.expr & pl.lit(True)) == pl.lit(right)
        return _apply(symbol, left.expr, pl.lit(right, dtype=pl.String))
    if isinstance(right, bool) or not isinstance(right, int | float):
        raise NeedsTypes(f"a comparison with {kind_of(right).value}")
    if abs(right) >= EXACT_FLOAT and not math.isinf(right):
        raise NeedsTypes("a comparison with a number beyond 2**53")
    # Against a 64-bit float, a 32-bit float keeps its value and an integer beyond 2**53 stays on its side of the
    # constant. NaN is above infinity for Polars; `is_not_nan` would refuse bools.
    result = _apply(symbol, left.expr, pl.lit(float(right), dtype=pl.Float64))
    return result & (left.expr <= pl.lit(math.inf)) if symbol in (">", ">=") else result


def _numbers(symbol: str, left: Value, right: Operand) -> pl.Expr:
    left_int, right_int = left.kind is Kind.INT, kind_of(right) is Kind.INT
    if left_int and right_int:
        return _integers(symbol, left, right)
    if left_int and isinstance(right, Value) and not _fits_float(left):
        return _integer_with_float(symbol, left, right)
    if right_int and isinstance(right, Value) and not _fits_float(right):
        return _integer_with_float(_MIRRORED[symbol], right, left)
    a, b = _float(left), _float(right)
    a_nan = None if left_int else a
    b_nan = b if isinstance(right, Value) and not right_int else None
    return _without_nan(symbol, a_nan, b_nan, _apply(symbol, a, b))


def _integers(symbol: str, left: Value, right: Operand) -> pl.Expr:
    if not isinstance(right, Value) and left.dtype is not None and left.low <= _int(right) <= left.high:
        return _apply(symbol, left.expr, pl.lit(right, dtype=left.dtype))
    if isinstance(right, Value) and right.dtype == left.dtype:
        return _apply(symbol, left.expr, right.expr)
    ends = (left.low, left.high, *((right.low, right.high) if isinstance(right, Value) else (_int(right),)))
    small = min(ends) >= INT64_MIN and max(ends) <= INT64_MAX
    width: pl.DataType = pl.Int64() if small else pl.Int128()
    if not isinstance(right, Value) and not -(2**127) <= _int(right) < 2**127:
        raise Untraceable("integers of more than 128 bits are left to Python")
    return _apply(symbol, as_integer(left, width), as_integer(right, width))


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _fits_float(value: Value) -> bool:
    return value.low >= -EXACT_FLOAT and value.high <= EXACT_FLOAT


def _float(value: Operand) -> pl.Expr:
    if isinstance(value, Value):
        return value.expr if value.dtype == pl.Float64 else value.expr.cast(pl.Float64)
    assert isinstance(value, int | float)
    if not math.isinf(value) and abs(value) >= EXACT_FLOAT:
        raise Untraceable("a comparison of integers and floats beyond 2**53 is left to Python")
    return pl.lit(float(value), dtype=pl.Float64)


def _integer_with_float(symbol: str, integer: Value, number: Value) -> pl.Expr:
    """Exact where the integer has more digits than a float: equal floats decide by their integers."""
    rounded, other = integer.expr.cast(pl.Float64), _float(number)
    tie = rounded == other
    digits = _apply(symbol, integer.expr.cast(pl.Int128), other.cast(pl.Int128, strict=False))
    result = pl.when(tie).then(digits).otherwise(_apply(symbol, rounded, other))
    return _without_nan(symbol, None, other, result)


def _without_nan(symbol: str, left: pl.Expr | None, right: pl.Expr | None, result: pl.Expr) -> pl.Expr:
    """Python's NaN is not even equal to itself; Polars' is, and is above all numbers. The operands: where floats."""
    # `result > nan` is `result & ~nan`, but null where either is.
    if symbol in (">", ">=") and left is not None:
        return result > left.is_nan()
    if symbol in ("<", "<=") and right is not None:
        return result > right.is_nan()
    if symbol == "==" and left is not None and right is not None:
        return result > left.is_nan()
    return result


def _moments(symbol: str, left: Value, right: Operand) -> pl.Expr:
    """Dates, datetimes, durations and bytes: of the same type, or a constant."""
    if isinstance(right, Value):
        if right.dtype != left.dtype:
            raise Untraceable(f"a comparison of {left.dtype} and {right.dtype} is left to Python")
        _refuse_wall_clock(left)
        return _apply(symbol, left.expr, right.expr)
    # Microseconds, because the constant may be finer than the column.
    if isinstance(right, datetime):
        zone = getattr(left.dtype, "time_zone", None)
        _refuse_wall_clock(left)
        if (right.tzinfo is None) != (zone is None) or str(right.tzinfo or "UTC") != "UTC":
            raise Untraceable("a comparison with a datetime of another zone is left to Python")
        unit = pl.Datetime("us", zone)
        return _apply(symbol, left.expr.cast(unit), pl.lit(right.replace(tzinfo=None)).cast(unit))
    if isinstance(right, timedelta):
        return _apply(symbol, left.expr.cast(pl.Duration("us")), pl.lit(right, dtype=pl.Duration("us")))
    return _apply(symbol, left.expr, pl.lit(right))


def _refuse_wall_clock(value: Value) -> None:
    if getattr(value.dtype, "time_zone", None) not in (None, "UTC"):
        raise Untraceable("datetimes of one local zone are left to Python, which compares their wall clocks")

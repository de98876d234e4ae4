"""Traced logic: `& | ^ ~` as Python has them for bools (both sides count), `and or not if` as Python branches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import polars as pl

from thalweg.expressions.arithmetic import Operand, as_integer, bounds
from thalweg.expressions.values import (
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

BITWISE = frozenset("&|^")


def bitwise(symbol: str, left: Operand, right: Operand) -> Value:
    """`left symbol right`: of bools, or of integers. None raises on either side."""
    kinds = kind_of(left), kind_of(right)
    if kinds == (Kind.INT, Kind.INT):
        return _bits(symbol, left, right)
    if any(kind not in (Kind.BOOL, Kind.UNKNOWN) for kind in kinds):
        raise Untraceable(f"{kinds[0].value} {symbol} {kinds[1].value} is left to Python")
    a, b = _bool(left), _bool(right)
    if symbol == "^":
        return strict(a.expr ^ b.expr, Kind.BOOL, a, b, dtype=pl.Boolean())
    never = a.null is b.null is Null.NEVER
    # Comparisons of bools give null where either side is null. Polars' own `&` and `|` don't: false & null is false.
    if symbol == "&":
        exact = a.expr & b.expr if never else a.expr > ~b.expr
        return strict(exact, Kind.BOOL, a, b, dtype=pl.Boolean(), test=a.as_test & b.as_test)
    exact = a.expr | b.expr if never else a.expr >= ~b.expr
    return strict(exact, Kind.BOOL, a, b, dtype=pl.Boolean(), test=_either(a, b) if not never else None)


def _either(a: Value, b: Value) -> pl.Expr | None:
    """`a | b` for a filter: where one side can't raise, the other alone decides whether the whole has."""
    if a.null is Null.NEVER:
        a, b = b, a
    return None if b.null is not Null.NEVER else a.expr | (b.expr & a.expr.is_not_null())


def _bits(symbol: str, left: Operand, right: Operand) -> Value:
    ends = [*bounds(left), *bounds(right)]
    if min(ends) < INT64_MIN or max(ends) > INT64_MAX:
        raise Untraceable("bits of integers beyond 64 bits are left to Python")
    a, b = as_integer(left, pl.Int64()), as_integer(right, pl.Int64())
    expr = a & b if symbol == "&" else a | b if symbol == "|" else a ^ b
    return strict(expr, Kind.INT, left, right, dtype=pl.Int64())


def _bool(value: Operand) -> Value:
    if not isinstance(value, Value):
        return Value(pl.lit(value), Kind.BOOL, pl.Boolean(), Null.NEVER)
    if value.kind is Kind.UNKNOWN:
        # A bool, or Polars refuses: `&` of a number and a bool is an error.
        return replace(value, expr=value.expr & pl.lit(True), kind=Kind.BOOL, dtype=pl.Boolean(), field=False)
    return value


def invert(value: Value) -> Value:
    """`~value`: of a bool its opposite (Python's own would be -1 or -2, which both count as true)."""
    if value.kind is Kind.INT and value.low >= INT64_MIN and value.high <= INT64_MAX:
        return strict(~as_integer(value, pl.Int64()), Kind.INT, value, dtype=pl.Int64())
    if value.kind not in (Kind.BOOL, Kind.UNKNOWN):
        raise Untraceable(f"~ of {value.kind.value} is left to Python")
    operand = _bool(value)
    return strict(~operand.expr, Kind.BOOL, operand, dtype=pl.Boolean())


def truth(value: Value) -> Value:
    """`bool(value)`; None is false."""
    if value.kind is Kind.UNKNOWN:
        value = _bool(value)
    if value.kind is Kind.BOOL and value.null in (Null.NEVER, Null.RAISED):
        return value
    test = _has_content(value)
    exact = test if value.null in (Null.NEVER, Null.RAISED) else test.fill_null(False)
    if value.null is Null.MIXED:
        exact = pl.when(~value.has_raised()).then(exact)
    null = {Null.NONE: Null.NEVER, Null.MIXED: Null.RAISED}.get(value.null, value.null)
    return Value(exact, Kind.BOOL, pl.Boolean(), null, test=test)


def _has_content(value: Value) -> pl.Expr:
    if value.kind is Kind.BOOL:
        return value.as_test
    if value.kind.numeric:
        return value.expr != 0
    if value.kind is Kind.STR:
        return value.expr.cast(pl.String) != ""
    if value.kind is Kind.LIST:
        return value.expr.list.len() > 0
    if value.kind in (Kind.DATETIME, Kind.DATE):
        return value.expr.is_not_null()
    raise Untraceable(f"the truth of {value.kind.value} is left to Python")


def negated(value: Value) -> Value:
    """`not value`."""
    operand = truth(value)
    return Value(~operand.expr, Kind.BOOL, pl.Boolean(), operand.null)


def both(left: Value, right: Value) -> Value:
    """`left and right`, both bools: the right side counts only where the left one is true."""
    a, b = _known_bool(left), _known_bool(right)
    test = a.as_test & b.as_test
    if a.null is Null.NEVER:
        return Value(a.expr & b.expr, Kind.BOOL, pl.Boolean(), b.null, _where(a.expr, b), test=test)
    if a.null is Null.RAISED:
        null, raised = _joined(a, b, None if b.null is not Null.MIXED else a.expr.fill_null(False))
        return Value(pl.when(a.expr).then(b.expr).otherwise(a.expr), Kind.BOOL, pl.Boolean(), null, raised, test=test)
    true = a.expr.fill_null(False)
    null, raised = _joined(a, b, true)
    return Value(pl.when(true).then(b.expr).otherwise(a.expr), Kind.BOOL, pl.Boolean(), null, raised, test=test)


def either(left: Value, right: Value) -> Value:
    """`left or right`, both bools: the right side counts only where the left one is not true."""
    a, b = _known_bool(left), _known_bool(right)
    if a.null is Null.NEVER:
        return Value(a.expr | b.expr, Kind.BOOL, pl.Boolean(), b.null, _where(~a.expr, b), test=a.expr | b.as_test)
    true = a.expr.fill_null(False)
    expr = pl.when(true).then(pl.lit(True))
    raised = any_raised(a)
    chosen = expr.otherwise(b.expr) if raised is None else expr.when(~raised).then(b.expr)
    # A left side that is None passes on to the right one: the result's nulls are those of the right side, or raised.
    null = b.null
    if raised is not None:
        null = Null.RAISED if b.null in (Null.NEVER, Null.RAISED) else Null.MIXED
    condition = None
    if null is Null.MIXED:
        right_raised = any_raised(b)
        condition = pl.lit(False) if raised is None else raised
        if right_raised is not None:
            condition = condition | (~true & right_raised)
    return Value(chosen, Kind.BOOL, pl.Boolean(), null, condition)


def _known_bool(value: Value) -> Value:
    if value.kind is Kind.UNKNOWN:
        return _bool(value)
    if value.kind is not Kind.BOOL:
        raise Untraceable(f"and/or of {value.kind.value} is left to Python, where the result is one of the operands")
    return value


def _where(condition: pl.Expr, value: Value) -> pl.Expr | None:
    """When a value that counts only where `condition` (never null) holds has raised; for `Null.MIXED`."""
    return condition & value.has_raised() if value.null is Null.MIXED else None


def _joined(a: Value, b: Value, b_counts: pl.Expr | None) -> tuple[Null, pl.Expr | None]:
    """The nulls of `a and b`, where b counts under a condition that is never null."""
    kinds = {a.null, b.null} - {Null.NEVER}
    if len(kinds) == 1 and Null.MIXED not in kinds:
        return kinds.pop(), None
    raised = any_raised(a)
    if b.raises:
        counts = a.expr.fill_null(False) if b_counts is None else b_counts
        condition = counts & b.has_raised()
        raised = condition if raised is None else raised | condition
    assert raised is not None
    return Null.MIXED, raised


def choose(condition: Value, then: Operand, otherwise: Operand) -> Value:
    """`then if condition else otherwise`, both of one kind."""
    test = truth(condition)
    a, b = _of_one_kind(_branch(then, otherwise), _branch(otherwise, then))
    chosen = pl.when(test.expr.fill_null(False)) if test.raises else pl.when(test.expr)
    expr = chosen.then(a.expr).otherwise(b.expr)
    raised: pl.Expr | None = None
    if test.raises:
        raised = test.has_raised()
        expr = pl.when(~raised).then(expr)
    true = test.expr.fill_null(False)
    for value, taken in ((a, true), (b, ~true)):
        if value.raises:
            condition_ = taken & value.has_raised()
            raised = condition_ if raised is None else raised | condition_
    nones = any(v.null in (Null.NONE, Null.MIXED) for v in (a, b))
    null = (Null.MIXED if nones else Null.RAISED) if raised is not None else Null.NONE if nones else Null.NEVER
    return Value(
        expr, a.kind, a.dtype, null, raised if null is Null.MIXED else None, min(a.low, b.low), max(a.high, b.high)
    )


def _branch(value: Operand, other: Operand) -> Value:
    if isinstance(value, Value):
        return value
    if value is None and other is not None:
        shape = _branch(other, None)
        if shape.dtype is None:
            raise NeedsTypes("a choice")
        return replace(shape, expr=pl.lit(None, dtype=shape.dtype), null=Null.NONE, raised=None, test=None, field=False)
    kind = kind_of(value)
    types: dict[Kind, Callable[[], pl.DataType]] = {
        Kind.BOOL: pl.Boolean, Kind.INT: pl.Int64, Kind.FLOAT: pl.Float64, Kind.STR: pl.String,
    }  # fmt: skip
    if kind not in types:
        raise Untraceable(f"a choice of {kind.value} is left to Python")
    low, high = bounds(value) if kind is Kind.INT else (INT64_MIN, INT64_MAX)
    if low < INT64_MIN or high > INT64_MAX:
        raise Untraceable("integers beyond 64 bits are left to Python")
    dtype = types[kind]()
    return Value(pl.lit(value, dtype=dtype), kind, dtype, Null.NEVER, low=low, high=high)


def _of_one_kind(a: Value, b: Value) -> tuple[Value, Value]:
    if Kind.UNKNOWN in (a.kind, b.kind):
        raise NeedsTypes("a choice")
    if a.kind is not b.kind:
        raise Untraceable(f"a choice of {a.kind.value} or {b.kind.value} is left to Python")
    if a.dtype == b.dtype:
        return a, b
    common: dict[Kind, pl.DataType] = {Kind.FLOAT: pl.Float64(), Kind.STR: pl.String()}
    if a.kind is Kind.INT:
        small = min(a.low, b.low) >= INT64_MIN and max(a.high, b.high) <= INT64_MAX
        common[Kind.INT] = pl.Int64() if small else pl.Int128()
    if a.kind not in common:
        raise Untraceable(f"a choice of {a.dtype} or {b.dtype} is left to Python")
    dtype = common[a.kind]
    return tuple(replace(v, expr=v.expr.cast(dtype), dtype=dtype, field=False) for v in (a, b))  # type: ignore[return-value]

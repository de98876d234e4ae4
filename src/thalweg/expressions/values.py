"""What tracing works on: a column expression, what Python would take its values for, and what its nulls mean.

A traced function must give what Python would have given for each row. Python has no null: a null field is `None`,
which equals nothing but itself, is false, and raises `TypeError` in arithmetic and order comparisons. An event for
which the function raises so has no result: null. Polars' nulls propagate by other rules, so each value carries what its
nulls stand for, and the operations keep to one invariant: where Python would have raised, the value is null.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import polars as pl

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INT128_MIN, INT128_MAX = -(2**127), 2**127 - 1
EXACT_FLOAT = 2**53
"""Up to here each integer is a float of its own."""


class Untraceable(Exception):
    """The function, or this use of a value, can't run over columns; the message says why, for `explain()`."""


class NeedsTypes(Untraceable):
    """It could, were the columns' types known."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} needs the columns' types; give the stream a schema")


class Kind(Enum):
    """What Python takes a value for."""

    BOOL = "a bool"
    INT = "an int"
    FLOAT = "a float"
    STR = "a str"
    BYTES = "bytes"
    DATETIME = "a datetime"
    DATE = "a date"
    DURATION = "a timedelta"
    LIST = "a list"
    STRUCT = "a nested record"
    OPAQUE = "a value of another type"
    UNKNOWN = "a value of unknown type"

    @property
    def numeric(self) -> bool:
        return self in (Kind.INT, Kind.FLOAT)


class Null(Enum):
    """What a null of a traced value stands for."""

    NEVER = "there is none"
    NONE = "Python has None there"
    RAISED = "Python has raised"
    MIXED = "either; `raised` tells them apart"


@dataclass(frozen=True, slots=True)
class Value:
    """A traced value."""

    expr: pl.Expr
    kind: Kind
    dtype: pl.DataType | None = None
    null: Null = Null.NONE
    raised: pl.Expr | None = None
    """For `Null.MIXED`: true where Python has raised, never null."""
    low: int = INT64_MIN
    high: int = INT64_MAX
    """For `Kind.INT`: bounds that no value leaves."""
    test: pl.Expr | None = None
    """For `Kind.BOOL`: a cheaper form, good where null and false come to the same (a filter)."""
    field: bool = False
    """It is a column, or a field of one, as it came."""

    @property
    def raises(self) -> bool:
        return self.null in (Null.RAISED, Null.MIXED)

    def has_raised(self) -> pl.Expr:
        """True where Python has raised; never null. Only where `raises`."""
        if self.null is Null.MIXED:
            assert self.raised is not None
            return self.raised
        return self.expr.is_null()

    @property
    def as_test(self) -> pl.Expr:
        return self.expr if self.test is None else self.test


def column(name: str, dtype: pl.DataType | None) -> Value:
    """A field of the event."""
    return of_dtype(pl.col(name), dtype, Null.NONE, None)


def of_dtype(expr: pl.Expr, dtype: pl.DataType | None, null: Null, raised: pl.Expr | None) -> Value:
    """A field of this Polars type."""
    kind = _kind(dtype)
    low, high = INT64_MIN, INT64_MAX
    if kind is Kind.INT and dtype is not None:
        low, high = _bounds(dtype)
    return Value(expr, kind, dtype, null, raised, low, high, field=True)


def _kind(dtype: pl.DataType | None) -> Kind:
    if dtype is None:
        return Kind.UNKNOWN
    if dtype == pl.Boolean:
        return Kind.BOOL
    if dtype.is_integer():
        return Kind.INT
    if dtype in (pl.Float32, pl.Float64):
        return Kind.FLOAT
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return Kind.STR
    if isinstance(dtype, pl.Datetime):
        return Kind.OPAQUE if dtype.time_unit == "ns" else Kind.DATETIME  # Python's datetime drops nanoseconds
    if isinstance(dtype, pl.Duration):
        return Kind.OPAQUE if dtype.time_unit == "ns" else Kind.DURATION
    simple = {pl.Binary: Kind.BYTES, pl.Date: Kind.DATE, pl.List: Kind.LIST, pl.Struct: Kind.STRUCT}
    return next((kind for type_, kind in simple.items() if isinstance(dtype, type_)), Kind.OPAQUE)


def _bounds(dtype: pl.DataType) -> tuple[int, int]:
    name = str(dtype)
    bits = int(name.lstrip("UInt"))
    return (0, 2**bits - 1) if name.startswith("U") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def strict(expr: pl.Expr, kind: Kind, *operands: Value | object, may_fail: bool = False, **more: Any) -> Value:
    """The result of an operation that raises on None: null where an operand is null.

    Args:
        expr: must be null wherever an operand is.
        kind: of the result.
        operands: traced values; constants among them don't matter.
        may_fail: it may be null by itself, where Python raises (division by zero).
        more: further fields of the `Value`.
    """
    never = not may_fail and all(not isinstance(v, Value) or v.null is Null.NEVER for v in operands)
    return Value(expr, kind, null=Null.NEVER if never else Null.RAISED, **more)


def settled(value: Value) -> Value:
    """The same value, null also in its type's own form: what leaves the function as a column.

    Integers are computed exactly, beyond 64 bits where need be; a result that does not fit is null.
    """
    if value.kind is Kind.INT and value.dtype == pl.Int128 and not value.field:
        return replace(value, expr=value.expr.cast(pl.Int64, strict=False), dtype=pl.Int64())
    return value


def any_raised(*values: Value | object) -> pl.Expr | None:
    """True where one of the values has raised; None where none can."""
    conditions = [v.has_raised() for v in values if isinstance(v, Value) and v.raises]
    result: pl.Expr | None = None
    for condition in conditions:
        result = condition if result is None else result | condition
    return result


def kind_of(value: Value | object) -> Kind:
    """What Python takes a traced value or a constant for."""
    from datetime import date, datetime, timedelta

    if isinstance(value, Value):
        return value.kind
    kinds = {
        bool: Kind.BOOL, int: Kind.INT, float: Kind.FLOAT, str: Kind.STR, bytes: Kind.BYTES,
        datetime: Kind.DATETIME, date: Kind.DATE, timedelta: Kind.DURATION,
    }  # fmt: skip
    return kinds.get(type(value), Kind.OPAQUE)

"""Traced methods and attributes: only those that mean the same in Python and in Polars."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import polars as pl

from thalweg.expressions.arithmetic import Operand, text
from thalweg.expressions.comparisons import compare, is_none
from thalweg.expressions.logic import bitwise
from thalweg.expressions.values import (
    EXACT_FLOAT,
    Kind,
    NeedsTypes,
    Null,
    Untraceable,
    Value,
    any_raised,
    kind_of,
    of_dtype,
    strict,
)

_WHITESPACE = (
    "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + ("\u2028\u2029\u202f\u205f\u3000")
)
"""What `str.strip` removes; Polars leaves the four separators from U+001C on."""

EXPRESSION_STYLE = frozenset({"is_in", "is_between", "is_null", "is_not_null"})
"""Methods that Python values don't have: a function that uses them must be traced."""


def attribute(value: Value, name: str) -> Value:
    """`value.name`: a field of a nested record, or a part of a datetime."""
    if name.startswith("__"):
        raise Untraceable(f"{name} is left to Python")
    if value.kind in (Kind.STRUCT, Kind.UNKNOWN):
        return subfield(value, name)
    if value.kind in (Kind.DATETIME, Kind.DATE) and name in _PARTS:
        if value.kind is Kind.DATE and name not in ("year", "month", "day"):
            raise Untraceable(f"a date has no {name}")
        low, high = _PARTS[name]
        part = getattr(value.expr.dt, name)().cast(pl.Int64)
        return strict(part, Kind.INT, value, dtype=pl.Int64(), low=low, high=high)
    raise Untraceable(f".{name} of {value.kind.value} is left to Python")


_PARTS = {
    "year": (1, 9999), "month": (1, 12), "day": (1, 31),
    "hour": (0, 23), "minute": (0, 59), "second": (0, 59), "microsecond": (0, 999_999),
}  # fmt: skip


def subfield(value: Value, name: str) -> Value:
    """A field of a nested record; of None it raises."""
    dtype = None
    if value.kind is Kind.STRUCT:
        assert isinstance(value.dtype, pl.Struct)
        found = next((field.dtype for field in value.dtype.fields if field.name == name), None)
        if found is None:
            raise Untraceable(f"the nested record has no field {name!r}")
        dtype = found() if isinstance(found, type) else found
    elif value.kind is not Kind.UNKNOWN:
        raise Untraceable(f"{value.kind.value} has no fields")
    expr = value.expr.struct.field(name)
    if value.null is Null.NEVER:
        return of_dtype(expr, dtype, Null.NONE, None)
    return of_dtype(expr, dtype, Null.MIXED, value.expr.is_null())


def part_of_text(value: Value, start: object, stop: object) -> Value:
    """`value[start:stop]` of a string, from the front."""
    if value.kind is Kind.UNKNOWN:
        raise NeedsTypes("a slice")
    if value.kind is not Kind.STR or not (start is None or _is_count(start)) or not (stop is None or _is_count(stop)):
        raise Untraceable("such a slice is left to Python")
    first = start if isinstance(start, int) else 0
    length = None if not isinstance(stop, int) else max(stop - first, 0)
    return strict(text(value).str.slice(first, length), Kind.STR, value, dtype=pl.String())


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**31


def length(value: Value) -> Value:
    """`len(value)`."""
    if value.kind is Kind.UNKNOWN:
        raise NeedsTypes("len()")
    if value.kind is Kind.STR:
        expr = text(value).str.len_chars()
    elif value.kind is Kind.BYTES:
        expr = value.expr.bin.size("b")
    elif value.kind is Kind.LIST:
        expr = value.expr.list.len()
    else:
        raise Untraceable(f"len() of {value.kind.value} is left to Python")
    return strict(expr.cast(pl.Int64), Kind.INT, value, dtype=pl.Int64(), low=0, high=2**32)


def contains(container: Value, item: Operand) -> Value:
    """`item in container`, for a string and a part of it."""
    if kind_of(item) is not Kind.STR:
        raise Untraceable(f"{kind_of(item).value} `in` a field is left to Python")
    if container.kind is Kind.UNKNOWN and isinstance(item, Value):
        raise NeedsTypes("`in`")
    if container.kind not in (Kind.STR, Kind.UNKNOWN):
        raise Untraceable(f"`in` {container.kind.value} is left to Python")
    found = text(container).str.contains(text(item), literal=True)
    return strict(found, Kind.BOOL, container, item, dtype=pl.Boolean())


def member(value: Value, items: Collection[object]) -> Value:
    """`value in items`, for constants of one type; None only equals None."""
    present = [item for item in items if item is not None]
    kinds = {kind_of(item) for item in present}
    if len(kinds) > 1 or not kinds <= {Kind.STR, Kind.INT, Kind.FLOAT}:
        raise Untraceable("`in` values of several types is left to Python")
    if value.kind is Kind.UNKNOWN and kinds != {Kind.STR}:
        raise NeedsTypes("`in`")
    if value.kind is not Kind.UNKNOWN and kinds and value.kind not in kinds:
        raise Untraceable(f"{value.kind.value} `in` values of another type is left to Python")
    found = _is_in(value, present)
    exact = found.fill_null(any(item is None for item in items))
    raised = any_raised(value)
    if raised is not None:
        exact = pl.when(~raised).then(exact)
    null = Null.NEVER if raised is None else Null.RAISED
    return Value(exact, Kind.BOOL, pl.Boolean(), null, test=found if len(present) == len(items) else None)


def _is_in(value: Value, items: list[Any]) -> pl.Expr:
    if not items:
        return pl.when(value.expr.is_not_null()).then(pl.lit(False))
    if value.kind is Kind.INT:
        items = [item for item in items if value.low <= item <= value.high]
        if not items:
            return pl.when(value.expr.is_not_null()).then(pl.lit(False))
        return _among(value.expr, items, value.dtype)
    if value.kind is Kind.FLOAT:
        if any(item != item or abs(item) >= EXACT_FLOAT for item in items):
            raise Untraceable("`in` such floats is left to Python")
        return _among(value.expr.cast(pl.Float64), items, pl.Float64())
    return _among(text(value), items, pl.String())


def _among(expr: pl.Expr, items: list[Any], dtype: pl.DataType | None) -> pl.Expr:
    assert dtype is not None
    return expr.is_in(pl.lit(items, dtype=pl.List(dtype)))


def method(value: Value, name: str, arguments: tuple[Operand, ...]) -> Value:
    """`value.name(*arguments)`."""
    if name in EXPRESSION_STYLE:
        return _expression_style(value, name, arguments)
    if value.kind is Kind.UNKNOWN and name not in _PREFIXES:
        raise NeedsTypes(f".{name}()")
    if value.kind in (Kind.STR, Kind.UNKNOWN) and name in _PREFIXES:
        return _prefix(value, name, arguments)
    if value.kind is Kind.STR and name in _STRINGS:
        return _string(value, name, arguments)
    if value.kind in (Kind.DATETIME, Kind.DATE) and name in ("weekday", "isoweekday") and not arguments:
        day = value.expr.dt.weekday().cast(pl.Int64) - (1 if name == "weekday" else 0)
        return strict(day, Kind.INT, value, dtype=pl.Int64(), low=0, high=7)
    raise Untraceable(f".{name}() of {value.kind.value} is left to Python")


def _expression_style(value: Value, name: str, arguments: tuple[Operand, ...]) -> Value:
    if name in ("is_null", "is_not_null") and not arguments:
        result = is_none(value)
        return result if name == "is_null" else Value(~result.expr, Kind.BOOL, pl.Boolean(), result.null)
    if name == "is_between" and len(arguments) == 2:
        return bitwise("&", compare(">=", value, arguments[0]), compare("<=", value, arguments[1]))
    if name == "is_in" and len(arguments) == 1 and isinstance(arguments[0], tuple | list | set | frozenset):
        items = arguments[0]
        if not any(isinstance(item, Value) for item in items):
            result = member(value, list(items))
            if value.null is not Null.NEVER:  # as the expression has it: null is in nothing
                found = _is_in(value, [item for item in items if item is not None])
                result = strict(found, Kind.BOOL, value, dtype=pl.Boolean())
            return result
    raise Untraceable(f"such a call of .{name}() can't be traced")


_PREFIXES = frozenset({"startswith", "endswith"})


def _prefix(value: Value, name: str, arguments: tuple[Operand, ...]) -> Value:
    wanted = arguments[0] if len(arguments) == 1 else None
    parts = wanted if isinstance(wanted, tuple) and wanted else (wanted,)
    if not all(isinstance(part, str) for part in parts):
        raise Untraceable(f".{name}() is traced for constant strings only")
    strings = text(value).str
    find = strings.starts_with if name == "startswith" else strings.ends_with
    expr = find(str(parts[0]))
    for part in parts[1:]:
        expr = expr | find(str(part))
    return strict(expr, Kind.BOOL, value, dtype=pl.Boolean())


def _characters(arguments: tuple[Any, ...]) -> str:
    return arguments[0] if arguments and arguments[0] is not None else _WHITESPACE


_STRINGS: dict[str, tuple[int, int, Callable[[Any, tuple[Any, ...]], pl.Expr]]] = {
    # `upper` is missing: Polars knows capitals of letters that Python's older Unicode tables have without one.
    "lower": (0, 0, lambda s, _: s.to_lowercase()),
    "strip": (0, 1, lambda s, a: s.strip_chars(_characters(a))),
    "lstrip": (0, 1, lambda s, a: s.strip_chars_start(_characters(a))),
    "rstrip": (0, 1, lambda s, a: s.strip_chars_end(_characters(a))),
    "removeprefix": (1, 1, lambda s, a: s.strip_prefix(a[0])),
    "removesuffix": (1, 1, lambda s, a: s.strip_suffix(a[0])),
    "replace": (2, 2, lambda s, a: s.replace_all(a[0], a[1], literal=True)),
}


METHODS = EXPRESSION_STYLE | _PREFIXES | frozenset(_STRINGS) | {"weekday", "isoweekday"}


def _string(value: Value, name: str, arguments: tuple[Operand, ...]) -> Value:
    fewest, most, build = _STRINGS[name]
    if not fewest <= len(arguments) <= most or not all(isinstance(a, str) for a in arguments):
        raise Untraceable(f".{name}() is traced for constant strings only")
    if "" in arguments[:1]:
        raise Untraceable(f".{name}('') is left to Python")
    return strict(build(text(value).str, arguments), Kind.STR, value, dtype=pl.String())

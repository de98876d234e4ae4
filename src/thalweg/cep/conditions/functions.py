"""The functions and methods of textual conditions: names and meanings of CEL, where CEL has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

import polars as pl

from thalweg.cep.conditions.kinds import Kind
from thalweg.cep.conditions.syntax import Place

if TYPE_CHECKING:
    from thalweg.cep.conditions.compiler import Compiler, Value

Make: TypeAlias = Callable[["Compiler", Sequence["Value"], Place], "Value"]


def _value(expr: pl.Expr, dtype: pl.DataType, place: Place) -> Value:
    from thalweg.cep.conditions.compiler import Value

    return Value(expr, dtype, place)


def _texts(compiler: Compiler, values: Sequence[Value], what: str) -> list[pl.Expr]:
    """The expressions of some texts; what is null in every event is a text that is null."""
    for value in values:
        compiler.need(value, Kind.TEXT, what)
    return [
        pl.lit(None, pl.String) if value.kind is Kind.NULL
        else value.expr.cast(pl.String) if isinstance(value.dtype, pl.Categorical | pl.Enum)
        else value.expr
        for value in values
    ]  # fmt: skip


def _starts_with(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    text, start = _texts(compiler, values, "startsWith() takes texts: each")
    return _value(text.str.starts_with(start), pl.Boolean(), place)


def _ends_with(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    text, end = _texts(compiler, values, "endsWith() takes texts: each")
    return _value(text.str.ends_with(end), pl.Boolean(), place)


def _contains(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    if values[0].kind is Kind.LIST:
        return _value(values[0].expr.list.contains(values[1].expr), pl.Boolean(), place)
    text, part = _texts(compiler, values, "contains() takes texts: each")
    return _value(text.str.contains(part, literal=True), pl.Boolean(), place)


def _matches(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    text, _ = _texts(compiler, values, "matches() takes texts: each")
    pattern = values[1]
    if not isinstance(pattern.literal, str):
        raise compiler.error("the pattern of matches() has to be a constant", pattern.place)
    # Polars' regular expressions run in linear time: no pattern can hang. It says itself what it can't read.
    expr = text.str.contains(pattern.literal)
    try:
        pl.Series([""]).to_frame("a").select(pl.col("a").str.contains(pattern.literal))
    except pl.exceptions.PolarsError as error:
        reason = re.sub(r"\s+", " ", str(error))
        raise compiler.error(f"not a regular expression: {reason}", pattern.place) from None
    return _value(expr, pl.Boolean(), place)


def _size(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    value = values[0]
    if value.kind is Kind.LIST:
        return _value(value.expr.list.len().cast(pl.Int64), pl.Int64(), place)
    [text] = _texts(compiler, values, "what size() measures")
    return _value(text.str.len_chars().cast(pl.Int64), pl.Int64(), place)


def _lower(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    [text] = _texts(compiler, values, "lower() takes a text: it")
    return _value(text.str.to_lowercase(), pl.String(), place)


def _upper(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    [text] = _texts(compiler, values, "upper() takes a text: it")
    return _value(text.str.to_uppercase(), pl.String(), place)


def _trim(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    [text] = _texts(compiler, values, "trim() takes a text: it")
    return _value(text.str.strip_chars(), pl.String(), place)


def _has(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    return _value(values[0].expr.is_not_null(), pl.Boolean(), place)


def _abs(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    compiler.need(values[0], Kind.NUMBER, "what abs() takes")
    return replace(values[0], expr=values[0].expr.abs(), constant=False)


def _cast(dtype: pl.DataType) -> Make:
    def make(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
        if values[0].kind in (Kind.LIST, Kind.RECORD, Kind.TIME):
            raise compiler.error(f"{values[0].kind} can't be converted", values[0].place)
        return _value(values[0].expr.cast(dtype, strict=False), dtype, place)

    return make


def _timestamp(compiler: Compiler, values: Sequence[Value], place: Place) -> Value:
    return timestamp_of(compiler, values[0])


def timestamp_of(compiler: Compiler, value: Value) -> Value:
    """A constant ISO 8601 text as a time; without a zone it is UTC."""
    if not (value.constant and isinstance(value.literal, str)):
        raise compiler.error("timestamp() takes a constant text, such as '2026-01-31T12:00:00Z'", value.place)
    try:
        read = datetime.fromisoformat(value.literal)
    except ValueError:
        raise compiler.error(f"{value.literal!r} is no time; write it as 2026-01-31T12:00:00Z", value.place) from None
    aware = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    return _value(pl.lit(aware), pl.Datetime("us", "UTC"), value.place)


_Function: TypeAlias = tuple[int, int, Make]
"""Least and most arguments (without the object of a method), and what makes it."""

METHODS: dict[str, _Function] = {
    "startsWith": (1, 1, _starts_with),
    "endsWith": (1, 1, _ends_with),
    "contains": (1, 1, _contains),
    "matches": (1, 1, _matches),
    "size": (0, 0, _size),
    "lower": (0, 0, _lower),
    "upper": (0, 0, _upper),
    "trim": (0, 0, _trim),
}

FUNCTIONS: dict[str, _Function] = {
    "has": (1, 1, _has),
    "size": (1, 1, _size),
    "abs": (1, 1, _abs),
    "int": (1, 1, _cast(pl.Int64())),
    "double": (1, 1, _cast(pl.Float64())),
    "string": (1, 1, _cast(pl.String())),
    "timestamp": (1, 1, _timestamp),
}

__all__ = ["FUNCTIONS", "METHODS", "timestamp_of"]

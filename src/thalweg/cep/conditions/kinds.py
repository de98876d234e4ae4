"""The kinds of values that textual conditions tell apart."""

from __future__ import annotations

from enum import StrEnum

import polars as pl


class Kind(StrEnum):
    """What a value is, as errors say it."""

    BOOL = "true or false"
    NUMBER = "a number"
    TEXT = "a text"
    TIME = "a time"
    LIST = "a list"
    RECORD = "a record"
    NULL = "null"
    OTHER = "something else"
    UNKNOWN = "unknown"


def kind_of(dtype: pl.DataType | None) -> Kind:
    """The kind of a column's type; `UNKNOWN` where there is none."""
    if dtype is None:
        return Kind.UNKNOWN
    if dtype == pl.Boolean:
        return Kind.BOOL
    if dtype == pl.Null:
        return Kind.NULL
    if dtype.is_numeric():
        return Kind.NUMBER
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return Kind.TEXT
    if isinstance(dtype, pl.Datetime | pl.Date):
        return Kind.TIME
    if isinstance(dtype, pl.List | pl.Array):
        return Kind.LIST
    return Kind.RECORD if isinstance(dtype, pl.Struct) else Kind.OTHER

"""Parsed messages to columns: field by field, each in one pass over all messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import polars as pl

from thalweg.formats.errors import ErrorClass
from thalweg.kafka.schema_registry.protobuf_types import value_of

Failures = dict[int, tuple[ErrorClass, str]]
"""By message: why a value of it can't be in a column."""


def frame_of(messages: Sequence[Any], descriptor: Any, schema: pl.Schema) -> tuple[pl.DataFrame, Failures]:
    """The messages as rows, and which of them have a value that no column can hold (their rows are in the frame too).

    Args:
        schema: the wanted fields and their types.
    """
    failures: Failures = {}
    fields = descriptor.fields_by_name
    columns = [_series(messages, fields[name], dtype, failures) for name, dtype in schema.items()]
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=len(messages)), failures


def _series(messages: Sequence[Any], field: Any, dtype: pl.DataType, failures: Failures) -> pl.Series:
    try:
        return pl.Series(field.name, _quickly(messages, field), dtype=dtype)
    except (OverflowError, TypeError, ValueError):  # a time out of range, or text that is not UTF-8: which message?
        return pl.Series(field.name, _carefully(messages, field, failures), dtype=dtype)


def _quickly(messages: Iterable[Any], field: Any) -> list[Any]:
    if field.is_repeated or field.message_type is not None:
        return [value_of(message, field) for message in messages]
    get: Callable[[Any], Any] = attrgetter(field.name)
    if field.enum_type is not None:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        if not field.has_presence:
            return [names.get(number) or str(number) for number in map(get, messages)]
        return [value_of(message, field) for message in messages]
    if not field.has_presence:
        return list(map(get, messages))
    name = field.name
    return [get(message) if message.HasField(name) else None for message in messages]


def _carefully(messages: Iterable[Any], field: Any, failures: Failures) -> list[Any]:
    found: list[Any] = []
    for row, message in enumerate(messages):
        try:
            found.append(value_of(message, field))
        except UnicodeDecodeError as error:
            failures.setdefault(row, (ErrorClass.BAD_UTF8, f"field {field.name!r}: {error.reason}"))
            found.append(None)
        except (OverflowError, ValueError) as error:
            failures.setdefault(row, (ErrorClass.NUMBER_OUT_OF_RANGE, f"field {field.name!r}: {error}"))
            found.append(None)
    return found

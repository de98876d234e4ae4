"""Schemas from what users have: dataclasses, msgspec structs, pydantic models, mappings of types."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, Union, get_args, get_origin

import polars as pl

from thalweg.errors import ConfigurationError

_PLAIN: dict[Any, pl.DataType] = {
    str: pl.String(),
    int: pl.Int64(),
    float: pl.Float64(),
    bool: pl.Boolean(),
    bytes: pl.Binary(),
    datetime: pl.Datetime("ms", "UTC"),
    date: pl.Date(),
    time: pl.Time(),
    timedelta: pl.Duration("ms"),
    Decimal: pl.Decimal(38, 9),
}
_NONE = type(None)


@dataclass(frozen=True)
class StreamSchema:
    """The columns of a stream, and which of them an event must have (not null, not missing)."""

    schema: pl.Schema
    required: frozenset[str] = frozenset()


def to_schema(given: Any) -> StreamSchema:
    """Reads a schema.

    A field is required if its type takes no None and it has no default. `int` is Int64, `float` Float64, `datetime`
    milliseconds in UTC, `Decimal` has 9 decimal places, an `Enum` or `Literal` of texts is a String; nested classes are
    Structs, `list[…]` is a List.

    Args:
        given: a dataclass, msgspec Struct or pydantic model (the class), a mapping of names to Python or Polars types
            (then nothing is required), a `polars.Schema`, or a `StreamSchema`.

    Raises:
        ConfigurationError: none of these, or a type that has no column type; it names the field.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Reading:
    ...     sensor_id: str
    ...     value: float
    ...     note: str | None = None
    >>> found = to_schema(Reading)
    >>> dict(found.schema)
    {'sensor_id': String, 'value': Float64, 'note': String}
    >>> sorted(found.required)
    ['sensor_id', 'value']
    """
    if isinstance(given, StreamSchema):
        return given
    if isinstance(given, Mapping):
        return StreamSchema(pl.Schema({name: data_type(kind, str(name)) for name, kind in given.items()}))
    fields = _fields_of(given)
    if fields is None:
        raise ConfigurationError(
            f"schema {given!r}: give a dataclass, a msgspec Struct, a pydantic model, or a mapping such as "
            "{'value': float}"
        )
    columns: dict[str, pl.DataType] = {}
    required = set()
    for name, kind, has_default in fields:
        columns[name] = data_type(kind, f"{given.__name__}.{name}")
        if not has_default and not _takes_none(kind):
            required.add(name)
    return StreamSchema(pl.Schema(columns), frozenset(required))


def data_type(kind: Any, where: str) -> pl.DataType:
    """The column type of a Python or Polars type; `where` is named in the error."""
    if isinstance(kind, pl.DataType):
        return kind
    if isinstance(kind, type) and issubclass(kind, pl.DataType):
        return kind()
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin = get_origin(kind)
    if origin is typing.Annotated:
        return data_type(get_args(kind)[0], where)
    if origin in (Union, types.UnionType):
        return _of_union(kind, where)
    if origin is Literal:
        return _common({type(value) for value in get_args(kind)}, kind, where)
    if origin in (list, tuple, set, frozenset) or kind in (list, tuple):
        return _list(kind, where)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _common({type(member.value) for member in kind}, kind, where)
    fields = _fields_of(kind)
    if fields is not None:
        return pl.Struct({name: data_type(inner, f"{where}.{name}") for name, inner, _ in fields})
    if isinstance(kind, type) and issubclass(kind, str):
        return pl.String()
    raise ConfigurationError(
        f"{where} has type {kind!r}, for which there is no column type; use str, int, float, bool, bytes, datetime, "
        "date, Decimal, list[…], a nested class, or a Polars type"
    )


def _of_union(kind: Any, where: str) -> pl.DataType:
    members = [member for member in get_args(kind) if member is not _NONE]
    if set(members) == {int, float}:
        return pl.Float64()
    if len(members) != 1:
        raise ConfigurationError(f"{where} may be of several types ({kind}); a column has one")
    return data_type(members[0], where)


def _common(kinds: set[type], kind: Any, where: str) -> pl.DataType:
    kinds.discard(_NONE)
    if len(kinds) != 1:
        raise ConfigurationError(f"{where}: the values of {kind!r} are of several types; a column has one")
    return data_type(kinds.pop(), where)


def _list(kind: Any, where: str) -> pl.DataType:
    inner = [argument for argument in get_args(kind) if argument is not Ellipsis]
    if len(set(inner)) != 1:
        raise ConfigurationError(f"{where} has type {kind!r}; say what is in it, such as list[str]")
    return pl.List(data_type(inner[0], f"{where}[…]"))


def _takes_none(kind: Any) -> bool:
    if get_origin(kind) is typing.Annotated:
        return _takes_none(get_args(kind)[0])
    return kind is _NONE or (get_origin(kind) in (Union, types.UnionType) and _NONE in get_args(kind))


_Field = tuple[str, Any, bool]


def _fields_of(kind: Any) -> list[_Field] | None:
    """(name in the event, type, has a default) of a class with fields; None for other things."""
    if not isinstance(kind, type):
        return None
    for reader in (_of_dataclass, _of_msgspec, _of_pydantic):
        fields = reader(kind)
        if fields is not None:
            return list(fields)
    return None


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        raise ConfigurationError(f"the types of {kind.__name__} can't be resolved: {error}") from error


def _of_dataclass(kind: type) -> Iterator[_Field] | None:
    if not dataclasses.is_dataclass(kind):
        return None
    hints, missing = _hints(kind), dataclasses.MISSING
    return (
        (f.name, hints[f.name], f.default is not missing or f.default_factory is not missing)
        for f in dataclasses.fields(kind)
    )


def _of_msgspec(kind: type) -> Iterator[_Field] | None:
    import msgspec

    if not issubclass(kind, msgspec.Struct):
        return None
    hints = _hints(kind)
    return ((f.encode_name, hints[f.name], not f.required) for f in msgspec.structs.fields(kind))


def _of_pydantic(kind: type) -> Iterator[_Field] | None:
    fields: Mapping[str, Any] | None = getattr(kind, "model_fields", None)
    is_required: Callable[[Any], bool] | None = getattr(next(iter((fields or {}).values()), None), "is_required", None)
    if fields is None or (fields and is_required is None):
        return None
    return ((info.alias or name, info.annotation, not info.is_required()) for name, info in fields.items())

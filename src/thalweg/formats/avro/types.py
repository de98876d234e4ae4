"""Which column an Avro type becomes, and which Avro type a column."""

from __future__ import annotations

from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.avro.schema import (
    Array,
    AvroType,
    Enumeration,
    Fixed,
    Logical,
    Map,
    Primitive,
    Record,
    Reference,
    label,
)

VALUE = "value"
"""The column of a schema that is no record."""
KEY = "key"
"""Maps are lists of structs with `key` and `value`."""

_PRIMITIVE: dict[str, pl.DataType] = {
    "null": pl.Null(),
    "boolean": pl.Boolean(),
    "int": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "bytes": pl.Binary(),
    "string": pl.String(),
}
_LOGICAL: dict[str, pl.DataType] = {
    "date": pl.Date(),
    "time-millis": pl.Time(),
    "time-micros": pl.Time(),
    "timestamp-millis": pl.Datetime("ms", "UTC"),
    "timestamp-micros": pl.Datetime("us", "UTC"),
    "timestamp-nanos": pl.Datetime("ns", "UTC"),
    "local-timestamp-millis": pl.Datetime("ms"),
    "local-timestamp-micros": pl.Datetime("us"),
    "local-timestamp-nanos": pl.Datetime("ns"),
    "uuid": pl.String(),
    "duration": pl.Binary(),
}


def column_type(node: AvroType) -> pl.DataType:
    """The column type of an Avro type.

    A union with null is its other branch; one of several other branches is a Struct with a field for each, of which one
    is not null. An enum is text, a map a List of Structs with `key` and `value`, a record within itself JSON text.

    >>> column_type(Union((Primitive("null"), Array(Primitive("int")))))
    List(Int32)
    """
    if isinstance(node, Primitive | Fixed):
        logical = node.logical
        if logical is not None:
            return pl.Decimal(logical.precision, logical.scale) if logical.name == "decimal" else _LOGICAL[logical.name]
        return pl.Binary() if isinstance(node, Fixed) else _PRIMITIVE[node.kind]
    if isinstance(node, Enumeration | Reference):
        return pl.String()
    if isinstance(node, Array):
        return pl.List(column_type(node.items))
    if isinstance(node, Map):
        return pl.List(pl.Struct({KEY: pl.String(), VALUE: column_type(node.values)}))
    if isinstance(node, Record):
        return pl.Struct({f.name: column_type(f.type) for f in node.fields}) if node.fields else pl.Null()
    others = [branch for branch in node.branches if not is_null(branch)]
    if not others:
        return pl.Null()
    if len(others) == 1:
        return column_type(others[0])
    return pl.Struct({name: column_type(b) for name, b in zip(branch_names(others), others, strict=True)})


def columns_of(node: AvroType) -> dict[str, pl.DataType]:
    """The columns of a schema: a record's fields, else one column `value`."""
    if isinstance(node, Record):
        return {f.name: column_type(f.type) for f in node.fields}
    return {VALUE: column_type(node)}


def is_null(node: AvroType) -> bool:
    return isinstance(node, Primitive) and node.kind == "null"


def branch_names(branches: list[AvroType]) -> list[str]:
    """Short names of a union's branches; full ones where two short ones are the same."""
    short = [label(branch) for branch in branches]
    return [
        getattr(branch, "name", name) if short.count(name) > 1 else name
        for name, branch in zip(short, branches, strict=True)
    ]


def avro_of(schema: dict[str, pl.DataType] | pl.Schema, name: str = "Event", namespace: str = "") -> dict[str, Any]:
    """The Avro schema (as JSON data) of a frame's columns: every field may be null and has null as default.

    Raises:
        ConfigurationError: a column that Avro has no type for.
    """
    names = _Names(namespace)
    fields = [_field(column, dtype, names) for column, dtype in schema.items()]
    record: dict[str, Any] = {"type": "record", "name": names.take(name), "fields": fields}
    return record | ({"namespace": namespace} if namespace else {})


class _Names:
    """Gives every nested record a name of its own."""

    def __init__(self, namespace: str) -> None:
        self._taken: set[str] = set()

    def take(self, wanted: str) -> str:
        base = "".join(c if c.isalnum() and c.isascii() else "_" for c in wanted)
        base = base if base and not base[0].isdigit() else f"_{base}"
        name, number = base, 1
        while name in self._taken:
            number += 1
            name = f"{base}{number}"
        self._taken.add(name)
        return name


def _field(column: str, dtype: Any, names: _Names) -> dict[str, Any]:
    found = _type(dtype, column, names)
    if found == "null":
        return {"name": column, "type": "null", "default": None}
    return {"name": column, "type": ["null", found], "default": None}


_PLAIN: dict[type, Any] = {
    pl.Boolean: "boolean",
    pl.Int8: "int",
    pl.Int16: "int",
    pl.Int32: "int",
    pl.UInt8: "int",
    pl.UInt16: "int",
    pl.UInt32: "long",
    pl.Int64: "long",
    pl.Float32: "float",
    pl.Float64: "double",
    pl.String: "string",
    pl.Categorical: "string",
    pl.Binary: "bytes",
    pl.Null: "null",
    pl.Date: {"type": "int", "logicalType": "date"},
    pl.Time: {"type": "long", "logicalType": "time-micros"},
}
_UNITS = {"ms": "millis", "us": "micros", "ns": "nanos"}


def _type(dtype: Any, where: str, names: _Names) -> Any:
    kind = dtype if isinstance(dtype, type) else type(dtype)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(dtype, pl.Enum):
        return "string"
    if isinstance(dtype, pl.Datetime):
        local = "" if dtype.time_zone else "local-"
        return {"type": "long", "logicalType": f"{local}timestamp-{_UNITS[dtype.time_unit]}"}
    if isinstance(dtype, pl.Decimal):
        return {"type": "bytes", "logicalType": "decimal", "precision": dtype.precision or 38, "scale": dtype.scale}
    if isinstance(dtype, pl.List | pl.Array):
        inner = _type(dtype.inner, where, names)
        return {"type": "array", "items": inner if inner == "null" else ["null", inner]}
    if isinstance(dtype, pl.Struct):
        name = names.take(where)
        return {"type": "record", "name": name, "fields": [_field(f.name, f.dtype, names) for f in dtype.fields]}
    raise ConfigurationError(f"column {where!r}: Avro has no type for {dtype}; cast it before it is written")


__all__ = ["KEY", "VALUE", "Logical", "avro_of", "branch_names", "column_type", "columns_of", "is_null"]

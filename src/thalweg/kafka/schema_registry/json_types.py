"""JSON Schema and column types."""

from __future__ import annotations

from typing import Any

import polars as pl

_PLAIN: dict[str, pl.DataType] = {
    "string": pl.String(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "boolean": pl.Boolean(),
    "null": pl.Null(),
}
_TEXT: dict[str, pl.DataType] = {"date-time": pl.Datetime("us", "UTC"), "date": pl.Date()}


def columns_of(schema: Any) -> pl.Schema | None:
    """The columns of an object's schema; None where a property is of no single type (then they are inferred).

    >>> columns_of({"type": "object", "properties": {"id": {"type": "integer"}, "at": {"type": ["null", "string"]}}})
    Schema({'id': Int64, 'at': String})
    """
    dtype = _column(schema, schema if isinstance(schema, dict) else {}, 0)
    return pl.Schema({f.name: f.dtype for f in dtype.fields}) if isinstance(dtype, pl.Struct) else None


_DEEPEST = 50


def _column(schema: Any, root: dict[str, Any], depth: int) -> pl.DataType | None:
    schema = followed(schema, root)
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    for key in ("oneOf", "anyOf"):
        if key in schema:
            others = [each for each in schema[key] if each != {"type": "null"}]
            return _column(others[0], root, depth + 1) if len(others) == 1 else None
    kinds = schema.get("type", "object" if "properties" in schema else None)
    kinds = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if kind != "null"]
    if sorted(map(str, kinds)) == ["integer", "number"]:
        return pl.Float64()
    if len(kinds) != 1:
        return None
    kind = kinds[0]
    if kind == "object":
        return _struct(schema, root, depth)
    if kind == "array":
        inner = _column(schema.get("items"), root, depth + 1)
        return None if inner is None else pl.List(inner)
    if kind == "string" and schema.get("format") in _TEXT:
        return _TEXT[schema["format"]]
    return _PLAIN.get(kind)


def _struct(schema: dict[str, Any], root: dict[str, Any], depth: int) -> pl.DataType | None:
    properties = schema.get("properties")
    if not properties:
        return None  # any keys: no columns can be said
    fields = {name: _column(inner, root, depth + 1) for name, inner in properties.items()}
    if any(dtype is None for dtype in fields.values()):
        return None
    return pl.Struct({name: dtype for name, dtype in fields.items() if dtype is not None})


def followed(schema: Any, root: dict[str, Any]) -> Any:
    """What a reference within the document points to."""
    steps = 0
    while isinstance(schema, dict) and isinstance(schema.get("$ref"), str) and steps < _DEEPEST:
        steps += 1
        path = schema["$ref"]
        if not path.startswith("#/"):
            return None
        place: Any = root
        for key in path[2:].split("/"):
            place = place.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(place, dict) else None
        schema = place
    return schema


def json_schema_of(schema: pl.Schema, title: str) -> dict[str, Any]:
    """The JSON Schema (draft 7) of a frame's columns, as the JSON encoder writes them; all may be null."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": title,
        "type": "object",
        "properties": {name: _property(dtype) for name, dtype in schema.items()},
    }


def _property(dtype: Any) -> dict[str, Any]:
    if isinstance(dtype, pl.Struct):
        inner = {f.name: _property(f.dtype) for f in dtype.fields}
        return {"type": ["null", "object"], "properties": inner}
    if isinstance(dtype, pl.List | pl.Array):
        return {"type": ["null", "array"], "items": _property(dtype.inner)}
    if dtype.is_integer() or isinstance(dtype, pl.Duration):
        return {"type": ["null", "integer"]}
    if dtype.is_numeric():
        return {"type": ["null", "number"]}
    if dtype == pl.Boolean:
        return {"type": ["null", "boolean"]}
    if dtype == pl.Null:
        return {"type": "null"}
    formats = {"Datetime": "date-time", "Date": "date"}
    extra = {"format": formats[dtype.base_type().__name__]} if dtype.base_type().__name__ in formats else {}
    return {"type": ["null", "string"], **extra}

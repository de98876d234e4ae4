"""Columns from data: the first value of a field decides its type, and integers may turn into floats later.

One value, not a sample of the batch, decides: so the same records give the same columns and the same refusals however
they were batched.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from thalweg.formats.errors import MAX_COLUMNS, ErrorClass, Refused
from thalweg.formats.json.general import describe

_SCALARS: dict[type, pl.DataType] = {
    bool: pl.Boolean(),
    int: pl.Int64(),
    float: pl.Float64(),
    str: pl.String(),
    type(None): pl.Null(),
}


class _Conflict(Exception):
    """Two types that no column holds together."""


class Inference:
    """The schema so far.

    Args:
        columns: the only fields of interest; None for all. Each is a column from the start, of type Null at first.
    """

    def __init__(self, columns: frozenset[str] | None) -> None:
        self._only = columns
        self.schema: dict[str, pl.DataType] = {name: pl.Null() for name in sorted(columns or ())}

    def observe(self, record: dict[str, Any]) -> bool:
        """Takes one record in; says whether the schema changed. A record that does not fit changes nothing.

        Raises:
            Refused: a field of a type that its column can't take, or too many fields.
        """
        changes: dict[str, pl.DataType] = {}
        for name, value in record.items():
            if self._only is not None and name not in self._only:
                continue
            _check_name(name)
            known = self.schema.get(name)
            if known is not None and value is None:
                continue
            widened = self._widen(name, known, value)
            if widened != known:
                changes[name] = widened
        added = len(changes.keys() - self.schema.keys())
        if added and len(self.schema) + added > MAX_COLUMNS:
            raise Refused(
                ErrorClass.TOO_MANY_FIELDS,
                f"{added} new fields on top of {len(self.schema)}; declare a schema, or read such maps as one field",
            )
        self.schema.update(changes)
        return bool(changes)

    def _widen(self, name: str, known: pl.DataType | None, value: Any) -> pl.DataType:
        if type(value) is int and not -(2**63) <= value < 2**63 and not isinstance(known, pl.Float64):
            raise Refused(
                ErrorClass.NUMBER_OUT_OF_RANGE,
                f"field {name!r}: {describe(value)} is out of range of Int64; declare a schema with a wider type",
            )
        try:
            seen = _type_of(value)
            return seen if known is None else _union(known, seen)
        except _Conflict:
            raise Refused(
                ErrorClass.WRONG_TYPE,
                f"field {name!r}: expected {known} as in earlier records, got {describe(value)}; "
                f"declare a schema if earlier records were wrong",
            ) from None


def _check_name(name: str) -> None:
    if "\0" in name:
        raise Refused(ErrorClass.WRONG_TYPE, f"field {name!r}: no column can have a name with U+0000; declare a schema")


def _type_of(value: Any) -> pl.DataType:
    if isinstance(value, dict):
        for name in value:
            _check_name(name)
        return pl.Struct([pl.Field(name, _type_of(part)) for name, part in value.items()])
    if isinstance(value, list):
        inner: pl.DataType = pl.Null()
        for item in value:
            inner = _union(inner, _type_of(item))
        return pl.List(inner)
    return _SCALARS[type(value)]


def _union(known: pl.DataType, seen: pl.DataType) -> pl.DataType:
    """The type that holds both.

    Raises:
        _Conflict: there is none.
    """
    if known == seen or isinstance(seen, pl.Null):
        return known
    if isinstance(known, pl.Null):
        return seen
    if isinstance(known, pl.Int64 | pl.Float64) and isinstance(seen, pl.Int64 | pl.Float64):
        return pl.Float64()
    if isinstance(known, pl.List) and isinstance(seen, pl.List):
        return pl.List(_union(known.inner, seen.inner))  # type: ignore[arg-type]
    if isinstance(known, pl.Struct) and isinstance(seen, pl.Struct):
        fields = {f.name: f.dtype for f in known.fields}
        for field in seen.fields:
            before = fields.get(field.name)
            fields[field.name] = field.dtype if before is None else _union(before, field.dtype)  # type: ignore[arg-type]
        return pl.Struct([pl.Field(name, dtype) for name, dtype in fields.items()])
    raise _Conflict

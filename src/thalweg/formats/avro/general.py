"""Avro that the kernel can't read, by fastavro, a record at a time: records within themselves, items without bytes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import polars as pl

from thalweg.errors import MissingExtraError
from thalweg.formats.avro.schema import (
    MISSING,
    Array,
    AvroType,
    Enumeration,
    Fixed,
    Map,
    Primitive,
    Record,
    Reference,
    Union,
)
from thalweg.formats.avro.targets import Target
from thalweg.formats.avro.types import KEY, VALUE, branch_names, is_null
from thalweg.formats.errors import ErrorClass
from thalweg.records import Decoded, DecodeError, RawRecords

Convert = Callable[[Any], Any]


class GeneralReader:
    """Reads records by fastavro; slower by an order of magnitude.

    Raises:
        MissingExtraError: fastavro is not installed.
    """

    def __init__(self, writer: AvroType, reader: AvroType, top: Target, reason: str) -> None:
        try:
            import fastavro
        except ImportError:
            raise MissingExtraError(
                f"this Avro schema needs fastavro ({reason}): pip install 'thalweg[avro]'"
            ) from None
        self._read = fastavro.schemaless_reader
        self._writer = fastavro.parse_schema(to_json(writer))
        self._reader = fastavro.parse_schema(to_json(reader))
        self._is_record = isinstance(reader, Record)
        self._top = top
        self._converters = [_converter(_full(child)) for child in top.children]

    def decode(self, raw: RawRecords, header: int) -> Decoded:
        """As `AvroReader.decode`."""
        rows: list[int] = []
        values: list[list[Any]] = [[] for _ in self._top.children]
        errors = []
        for row in range(len(raw)):
            payload = raw.value(row)
            if payload is None or len(payload) <= header:
                name = ErrorClass.NULL_PAYLOAD if payload is None else ErrorClass.EMPTY_PAYLOAD
                errors.append(DecodeError(row, str(name), "the record has no value"))
                continue
            try:
                found = self._record(payload[header:])
            except Exception as error:  # whatever damaged bytes make of fastavro
                text = f"{type(error).__name__}: {error}"
                errors.append(DecodeError(row, str(ErrorClass.BAD_AVRO), text))
                continue
            rows.append(row)
            for column, value in zip(values, found, strict=True):
                column.append(value)
        series = [
            pl.Series(child.name, column, dtype=child.dtype, strict=True)
            for child, column in zip(self._top.children, values, strict=True)
        ]
        frame = pl.DataFrame(series) if series else pl.DataFrame(height=len(rows))
        return Decoded(frame, np.array(rows, np.int64) if errors else None, errors)

    def _record(self, payload: bytes) -> list[Any]:
        stream = io.BytesIO(payload)
        value: Any = self._read(stream, self._writer, self._reader)
        if stream.tell() != len(payload):
            raise ValueError(f"bytes are left behind the last field, at byte {stream.tell()}")
        found = value if self._is_record else {VALUE: value}
        return [
            convert(found.get(child.name)) for child, convert in zip(self._top.children, self._converters, strict=True)
        ]


def _full(target: Target) -> AvroType:
    return Union((Primitive("null"), target.node)) if target.nullable and not target.is_choice else target.node


def _converter(node: AvroType) -> Convert:
    """From fastavro's value to what the column holds."""
    if isinstance(node, Union):
        return _of_union([branch for branch in node.branches if not is_null(branch)])
    if isinstance(node, Reference):
        return lambda value: None if value is None else json.dumps(value, default=_plain)
    if isinstance(node, Array):
        item = _converter(node.items)
        return lambda value: None if value is None else [item(each) for each in value]
    if isinstance(node, Map):
        inner = _converter(node.values)
        return lambda value: None if value is None else [{KEY: k, VALUE: inner(v)} for k, v in value.items()]
    if isinstance(node, Record):
        parts = {each.name: _converter(each.type) for each in node.fields}
        return lambda value: None if value is None or not parts else {n: part(value[n]) for n, part in parts.items()}
    if getattr(node, "logical", None) is not None and node.logical.name == "uuid":  # type: ignore[union-attr]
        return lambda value: None if value is None else str(value)
    return lambda value: value


def _of_union(branches: list[AvroType]) -> Convert:
    converters = [_converter(branch) for branch in branches]
    if len(branches) == 1:
        return converters[0]
    names = branch_names(branches)

    def convert(value: Any) -> Any:
        if value is None:
            return None
        taken = next((number for number, branch in enumerate(branches) if _is_of(value, branch)), None)
        return {name: converters[n](value) if n == taken else None for n, name in enumerate(names)}

    return convert


_PYTHON: dict[str, type | tuple[type, ...]] = {
    "boolean": bool, "int": int, "long": int, "float": float, "double": float, "bytes": bytes, "string": str,
}  # fmt: skip
_PYTHON_LOGICAL: dict[str, type] = {"date": date, "uuid": UUID, "decimal": Decimal}


def _is_of(value: Any, branch: AvroType) -> bool:
    """Whether fastavro's value is of a branch; of two that could be, the first is taken."""
    logical = getattr(branch, "logical", None)
    if logical is not None:
        kind = _PYTHON_LOGICAL.get(logical.name) or (time if logical.name.startswith("time-") else datetime)
        return isinstance(value, bytes if logical.name == "duration" else kind)
    if isinstance(branch, Primitive):
        expected = _PYTHON[branch.kind]
        return isinstance(value, expected) and isinstance(value, bool) == (branch.kind == "boolean")
    if isinstance(branch, Enumeration):
        return isinstance(value, str) and value in branch.symbols
    if isinstance(branch, Fixed):
        return isinstance(value, bytes) and len(value) == branch.size
    if isinstance(branch, Record):
        return isinstance(value, dict) and value.keys() == {each.name for each in branch.fields}
    return isinstance(value, list if isinstance(branch, Array) else dict)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)


def to_json(node: AvroType, named: set[str] | None = None) -> Any:
    """A parsed schema as JSON data again: every name in full, defined where it first comes."""
    named = set() if named is None else named
    if isinstance(node, Union):
        return [to_json(branch, named) for branch in node.branches]
    if isinstance(node, Array):
        return {"type": "array", "items": to_json(node.items, named)}
    if isinstance(node, Map):
        return {"type": "map", "values": to_json(node.values, named)}
    if isinstance(node, Primitive):
        return node.kind if node.logical is None else {"type": node.kind} | _logical(node)
    if isinstance(node, Reference) or node.name in named:
        return node.name
    named.add(node.name)
    # Without a dot a name would be taken to be in the namespace of the record around it.
    namespace = {} if "." in node.name else {"namespace": ""}
    made: dict[str, Any] = {"name": node.name, **namespace, **_aliases(node.aliases)}
    if isinstance(node, Record):
        return {"type": "record", **made, "fields": [_field(each, named) for each in node.fields]}
    if isinstance(node, Fixed):
        return {"type": "fixed", **made, "size": node.size} | (_logical(node) if node.logical else {})
    default = {} if node.default is None else {"default": node.default}
    return {"type": "enum", **made, "symbols": list(node.symbols), **default}


def _field(each: Any, named: set[str]) -> dict[str, Any]:
    default = {} if each.default is MISSING else {"default": each.default}
    return {"name": each.name, "type": to_json(each.type, named), **default, **_aliases(each.aliases)}


def _aliases(aliases: Iterable[str]) -> dict[str, Any]:
    return {"aliases": sorted(aliases)} if aliases else {}


def _logical(node: Primitive | Fixed) -> dict[str, Any]:
    assert node.logical is not None
    numbers = {"precision": node.logical.precision, "scale": node.logical.scale} if node.logical.precision else {}
    return {"logicalType": node.logical.name, **numbers}

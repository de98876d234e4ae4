"""Avro schemas (specification 1.12): read from JSON into frozen nodes, names resolved."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from thalweg.errors import ConfigurationError

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
MISSING: Any = object()
"""The default of a field that has none (null is a default)."""


class AvroSchemaError(ConfigurationError):
    """Not a valid Avro schema; the message names the place."""


@dataclass(frozen=True, slots=True)
class Logical:
    """What the bytes mean beside their type: `date`, `timestamp-millis`, `decimal` … as the specification names it."""

    name: str
    precision: int = 0
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Primitive:
    """null, boolean, int, long, float, double, bytes or string."""

    kind: str
    logical: Logical | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    name: str
    size: int
    logical: Logical | None = None
    aliases: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Enumeration:
    name: str
    symbols: tuple[str, ...]
    default: str | None = None
    aliases: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Array:
    items: AvroType


@dataclass(frozen=True, slots=True)
class Map:
    values: AvroType


@dataclass(frozen=True, slots=True)
class Union:
    branches: tuple[AvroType, ...]


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: AvroType
    default: Any = field(default=MISSING, hash=False)
    aliases: frozenset[str] = frozenset()

    @property
    def has_default(self) -> bool:
        return self.default is not MISSING


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    fields: tuple[Field, ...]
    aliases: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Reference:
    """A record within itself: its type is the enclosing record of that name."""

    name: str


_Named = TypeVar("_Named", Record, Enumeration, Fixed)
AvroType = Primitive | Fixed | Enumeration | Array | Map | Union | Record | Reference
NULL = Primitive("null")


def parse(schema: Any, known: Mapping[str, AvroType] | None = None) -> AvroType:
    """Reads a schema.

    Args:
        schema: JSON text, or what `json.loads` gives of it.
        known: named types that it may refer to (of the registry's references), by full name.

    Raises:
        AvroSchemaError: not Avro; says where.

    >>> parse('{"type": "record", "name": "a.R", "fields": [{"name": "x", "type": ["null", "long"]}]}').name
    'a.R'
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            if _NAME.fullmatch(schema):  # a bare name, as `avsc` files of one primitive have it
                return _Parser(known or {}).read(schema, "", "schema")
            raise AvroSchemaError(f"the Avro schema is not JSON: {error}") from None
    return _Parser(known or {}).read(schema, "", "schema")


def named_types(root: AvroType) -> dict[str, AvroType]:
    """Every record, enum and fixed of a schema by its full name."""
    found: dict[str, AvroType] = {}
    _collect(root, found)
    return found


def _collect(node: AvroType, found: dict[str, AvroType]) -> None:
    if isinstance(node, Record | Enumeration | Fixed):
        if node.name in found:
            return
        found[node.name] = node
    if isinstance(node, Record):
        for each in node.fields:
            _collect(each.type, found)
    elif isinstance(node, Array):
        _collect(node.items, found)
    elif isinstance(node, Map):
        _collect(node.values, found)
    elif isinstance(node, Union):
        for branch in node.branches:
            _collect(branch, found)


def label(node: AvroType) -> str:
    """The short name of a type: what a branch of a union is called.

    >>> label(Record("com.example.Order", ()))
    'Order'
    """
    if isinstance(node, Primitive):
        return node.kind
    if isinstance(node, Array):
        return "array"
    if isinstance(node, Map):
        return "map"
    if isinstance(node, Union):
        return "union"
    return node.name.rpartition(".")[2]


class _Parser:
    """Knows the names defined so far, and those of the records that are being read."""

    def __init__(self, known: Mapping[str, AvroType]) -> None:
        self._named = dict(known)
        self._open: set[str] = set()

    def read(self, schema: Any, namespace: str, where: str) -> AvroType:
        if isinstance(schema, str):
            return self._by_name(schema, namespace, where)
        if isinstance(schema, list):
            return self._union(schema, namespace, where)
        if not isinstance(schema, dict) or "type" not in schema:
            raise AvroSchemaError(f"{where}: expected a type, got {schema!r:.80}")
        kind = schema["type"]
        if isinstance(kind, dict | list):  # {"type": {"type": …}}: one wrapped in another
            return self.read(kind, namespace, where)
        if kind == "array":
            return Array(self.read(_need(schema, "items", where), namespace, f"{where}[]"))
        if kind == "map":
            return Map(self.read(_need(schema, "values", where), namespace, f"{where}{{}}"))
        if kind in ("record", "error"):
            return self._record(schema, namespace, where)
        if kind == "enum":
            return self._enumeration(schema, namespace, where)
        if kind == "fixed":
            return self._fixed(schema, namespace, where)
        if kind in PRIMITIVES:
            return Primitive(kind, _logical(schema, kind))
        return self._by_name(kind, namespace, where)

    def _by_name(self, name: str, namespace: str, where: str) -> AvroType:
        if name in PRIMITIVES:
            return Primitive(name)
        full = _full_name(name, namespace)
        for candidate in (full, name):
            if candidate in self._open:
                return Reference(candidate)
            if candidate in self._named:
                return self._named[candidate]
        raise AvroSchemaError(f"{where}: there is no type {name!r} before this place")

    def _union(self, branches: list[Any], namespace: str, where: str) -> AvroType:
        read = tuple(self.read(branch, namespace, f"{where}|{number}") for number, branch in enumerate(branches))
        if any(isinstance(branch, Union) for branch in read):
            raise AvroSchemaError(f"{where}: a union can't hold another one directly")
        labels = [branch.name if isinstance(branch, Record | Enumeration | Fixed) else label(branch) for branch in read]
        if len(set(labels)) != len(labels):
            raise AvroSchemaError(f"{where}: the union has a type twice: {', '.join(labels)}")
        return Union(read)

    def _record(self, schema: dict[str, Any], namespace: str, where: str) -> Record:
        name, inner, aliases = self._name(schema, namespace, where)
        self._open.add(name)
        fields = []
        for given in _need(schema, "fields", where):
            if not isinstance(given, dict) or not isinstance(given.get("name"), str) or "type" not in given:
                raise AvroSchemaError(f"{where}: a field of {name} lacks its name or type: {given!r:.80}")
            place = f"{where}.{given['name']}"
            aliases_of = frozenset(given.get("aliases", ()))
            fields.append(
                Field(given["name"], self.read(given["type"], inner, place), given.get("default", MISSING), aliases_of)
            )
        if len({each.name for each in fields}) != len(fields):
            raise AvroSchemaError(f"{where}: record {name} has a field twice")
        self._open.discard(name)
        return self._define(name, Record(name, tuple(fields), aliases), where)

    def _enumeration(self, schema: dict[str, Any], namespace: str, where: str) -> Enumeration:
        name, _, aliases = self._name(schema, namespace, where)
        symbols = tuple(_need(schema, "symbols", where))
        if len(set(symbols)) != len(symbols) or not all(isinstance(symbol, str) for symbol in symbols):
            raise AvroSchemaError(f"{where}: the symbols of {name} are not different texts")
        default = schema.get("default")
        if default is not None and default not in symbols:
            raise AvroSchemaError(f"{where}: the default {default!r} is not a symbol of {name}")
        return self._define(name, Enumeration(name, symbols, default, aliases), where)

    def _fixed(self, schema: dict[str, Any], namespace: str, where: str) -> Fixed:
        name, _, aliases = self._name(schema, namespace, where)
        size = _need(schema, "size", where)
        if type(size) is not int or size < 0:
            raise AvroSchemaError(f"{where}: the size of {name} is {size!r}")
        return self._define(name, Fixed(name, size, _logical(schema, "fixed", size), aliases), where)

    def _name(self, schema: dict[str, Any], namespace: str, where: str) -> tuple[str, str, frozenset[str]]:
        given = _need(schema, "name", where)
        if not isinstance(given, str) or not _NAME.fullmatch(given):
            raise AvroSchemaError(f"{where}: {given!r} is not a name")
        full = _full_name(given, schema.get("namespace", namespace) or "")
        inner = full.rpartition(".")[0]
        return full, inner, frozenset(_full_name(alias, inner) for alias in schema.get("aliases", ()))

    def _define(self, name: str, node: _Named, where: str) -> _Named:
        if name in self._named and self._named[name] != node:
            raise AvroSchemaError(f"{where}: {name!r} is defined twice")
        self._named[name] = node
        return node


def _full_name(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _need(schema: dict[str, Any], key: str, where: str) -> Any:
    if key not in schema:
        raise AvroSchemaError(f"{where}: {schema.get('type')!r} lacks {key!r}")
    return schema[key]


_LOGICAL_OF = {
    "int": {"date", "time-millis"},
    "long": {
        "time-micros", "timestamp-millis", "timestamp-micros", "timestamp-nanos",
        "local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos",
    },
    "string": {"uuid"},
    "bytes": {"decimal"},
    "fixed": {"decimal", "uuid", "duration"},
}  # fmt: skip
_MOST_DIGITS = 38


def _logical(schema: dict[str, Any], kind: str, size: int = 0) -> Logical | None:
    """The logical type; one that is unknown or invalid is ignored, as the specification asks."""
    name = schema.get("logicalType")
    if not isinstance(name, str) or name not in _LOGICAL_OF.get(kind, ()):
        return None
    if name == "uuid" and kind == "fixed" and size != 16:
        return None
    if name != "decimal":
        return Logical(name)
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if type(precision) is not int or type(scale) is not int or precision < 1 or not 0 <= scale <= precision:
        return None
    # Columns hold 38 digits; a wider number stays bytes.
    return Logical(name, precision, scale) if precision <= _MOST_DIGITS else None

"""Default values in the binary form, so that a reader's default is read as any other value is."""

from __future__ import annotations

import struct
from typing import Any

from thalweg.formats.avro.schema import (
    Array,
    AvroSchemaError,
    AvroType,
    Enumeration,
    Fixed,
    Map,
    Primitive,
    Record,
    Reference,
    Union,
)


def encode_default(node: AvroType, value: Any, where: str) -> bytes:
    """The bytes of a default, given as JSON data; a union's default is of its first branch that takes it.

    Raises:
        AvroSchemaError: the value is not of the type.

    >>> encode_default(Array(Primitive("int")), [1, -1], "field")
    b'\\x04\\x02\\x01\\x00'
    """
    if isinstance(node, Union):
        return _union(node, value, where)
    if isinstance(node, Record) and isinstance(value, dict):
        return b"".join(_part(each, value, where) for each in node.fields)
    if isinstance(node, Array) and isinstance(value, list):
        return _blocks([encode_default(node.items, item, f"{where}[]") for item in value])
    if isinstance(node, Map) and isinstance(value, dict):
        return _blocks([_text(k) + encode_default(node.values, v, f"{where}{{}}") for k, v in value.items()])
    if isinstance(node, Enumeration) and value in node.symbols:
        return varint(node.symbols.index(value))
    if isinstance(node, Fixed) and isinstance(value, str) and len(value) == node.size:
        return _latin1(value, where)
    if isinstance(node, Primitive):
        return _primitive(node.kind, value, where)
    raise _wrong(node, value, where)


def varint(number: int) -> bytes:
    """A zig-zag integer of variable length.

    >>> varint(-65)
    b'\\x81\\x01'
    """
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest & ~0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _union(node: Union, value: Any, where: str) -> bytes:
    for number, branch in enumerate(node.branches):
        try:
            return varint(number) + encode_default(branch, value, where)
        except AvroSchemaError:
            continue
    raise _wrong(node, value, where)


def _part(each: Any, value: dict[str, Any], where: str) -> bytes:
    if each.name in value:
        return encode_default(each.type, value[each.name], f"{where}.{each.name}")
    if each.has_default:
        return encode_default(each.type, each.default, f"{where}.{each.name}")
    raise AvroSchemaError(f"{where}: the default lacks the field {each.name!r}")


def _blocks(items: list[bytes]) -> bytes:
    return (varint(len(items)) + b"".join(items) if items else b"") + b"\0"


def _text(text: str) -> bytes:
    data = text.encode()
    return varint(len(data)) + data


def _latin1(text: str, where: str) -> bytes:
    try:
        return text.encode("latin-1")  # the specification's form of bytes in JSON
    except UnicodeEncodeError:
        raise AvroSchemaError(f"{where}: bytes in a default are the code points 0 to 255") from None


def _primitive(kind: str, value: Any, where: str) -> bytes:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "null" and value is None:
        return b""
    if kind == "boolean" and isinstance(value, bool):
        return b"\1" if value else b"\0"
    bits = {"int": 31, "long": 63}.get(kind)
    if bits and number and value == int(value) and -(2**bits) <= value < 2**bits:
        return varint(int(value))
    if kind == "float" and number:
        return struct.pack("<f", value)
    if kind == "double" and number:
        return struct.pack("<d", value)
    if kind == "string" and isinstance(value, str):
        return _text(value)
    if kind == "bytes" and isinstance(value, str):
        data = _latin1(value, where)
        return varint(len(data)) + data
    raise _wrong(kind, value, where)


def _wrong(node: Any, value: Any, where: str) -> AvroSchemaError:
    name = node if isinstance(node, str) else "a union" if isinstance(node, Union) else type(node).__name__.lower()
    recursive = ": records within themselves can't have defaults here" if isinstance(node, Reference) else ""
    return AvroSchemaError(f"{where}: the default {value!r:.80} is not of type {name}{recursive}")

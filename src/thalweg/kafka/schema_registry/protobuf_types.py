"""Protobuf schemas compiled to descriptors, their messages as rows, and which column a field becomes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError, MissingExtraError
from thalweg.kafka.schema_registry.errors import SchemaRegistryError

_FILE = "thalweg_schema.proto"
LONGEST_DURATION = 315_576_000_000
"""Seconds: Protobuf's own limit."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Messages:
    """A compiled `.proto` file; `by_name` has every message of it, however deep, by full name."""

    file: Any
    by_name: Mapping[str, Any]


def compile_messages(text: str, imported: Mapping[str, str]) -> Messages:
    """Compiles a `.proto` file.

    Args:
        text: the file.
        imported: the other files by the name under which they are imported; Google's own are known.

    Raises:
        SchemaRegistryError: it is not valid; with the compiler's words.
        MissingExtraError: the compiler is not installed.
    """
    try:
        import grpc_tools
        from google.protobuf import descriptor_pb2, descriptor_pool
        from grpc_tools import protoc
    except ImportError:
        raise MissingExtraError("Protobuf needs its compiler: pip install 'thalweg[protobuf]'") from None
    with tempfile.TemporaryDirectory(prefix="thalweg-proto-") as name:
        folder = Path(name)
        for file, content in {**imported, _FILE: text}.items():
            place = (folder / file).resolve()
            if not place.is_relative_to(folder.resolve()):
                raise SchemaRegistryError(f"the Protobuf schema imports {file!r}, which is no file beside it")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content)
        out = folder / "descriptors"
        include = Path(grpc_tools.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{folder}", f"-I{include}", f"--descriptor_set_out={out}", "--include_imports", _FILE]
        if protoc.main(arguments) != 0:
            raise SchemaRegistryError("the Protobuf schema does not compile; the compiler has said why on stderr")
        found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for each in found.file:
        pool.Add(each)
    file = pool.FindFileByName(_FILE)
    return Messages(file, {d.full_name: d for d in _all_of(file.message_types_by_name.values())})


def _all_of(descriptors: Any) -> Iterator[Any]:
    for descriptor in descriptors:
        yield descriptor
        yield from _all_of(_declared(descriptor))


# -- which message of the file a record is


def read_index(payload: bytes, start: int) -> tuple[tuple[int, ...], int]:
    """The path to a record's message, and where its bytes begin; a single 0 stands for the first message.

    >>> read_index(b"\\x04\\x02\\x00rest", 0)
    ((1, 0), 3)

    Raises:
        ValueError: the record ends within the path.
    """
    count, place = _varint(payload, start)
    if count == 0:
        return (0,), place
    if not 0 < count <= 64:
        raise ValueError(f"a path of {count} steps")
    path = []
    for _ in range(count):
        step, place = _varint(payload, place)
        path.append(step)
    return tuple(path), place


def write_index(descriptor: Any) -> bytes:
    """The path to a message, as records begin with it."""
    path: list[int] = []
    inside = descriptor
    while inside is not None:
        parent = inside.containing_type
        siblings = inside.file.message_types_by_name.values() if parent is None else _declared(parent)
        path.insert(0, [each.full_name for each in siblings].index(inside.full_name))
        inside = parent
    if path == [0]:
        return b"\0"
    from thalweg.formats.avro.defaults import varint

    return varint(len(path)) + b"".join(varint(step) for step in path)


def message_at(messages: Messages, path: tuple[int, ...]) -> Any:
    """The message that a path leads to.

    Raises:
        IndexError: there is none.
    """
    siblings = list(messages.file.message_types_by_name.values())
    found = None
    for step in path:
        if not 0 <= step < len(siblings):
            raise IndexError(f"the schema has no message {step} there")
        found = siblings[step]
        siblings = _declared(found)
    return found


def _declared(descriptor: Any) -> list[Any]:
    """The messages within a message that its text declares: what stands for a map is not among them."""
    return [nested for nested in descriptor.nested_types if not nested.GetOptions().map_entry]


def _varint(payload: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(payload) or shift > 63:
            raise ValueError("the record ends within it")
        byte = payload[place]
        place += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return (value >> 1) ^ -(value & 1), place


# -- columns

_DEEPEST = 30


def columns_of(descriptor: Any) -> pl.Schema:
    """The columns of a message: its fields."""
    return pl.Schema({field.name: _column(field, 0) for field in descriptor.fields})


def is_wrapper(descriptor: Any) -> bool:
    """Whether a message stands for one value that may be missing: `google.protobuf.Int64Value` and its like."""
    name = descriptor.full_name
    return bool(name.startswith("google.protobuf.") and name.endswith("Value") and len(descriptor.fields) == 1)


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _column(field: Any, depth: int) -> pl.DataType:
    if _is_map(field):
        parts = {f.name: _single(f, depth) for f in field.message_type.fields}
        return pl.List(pl.Struct(parts))
    single = _single(field, depth)
    return pl.List(single) if field.is_repeated else single


def _single(field: Any, depth: int) -> pl.DataType:
    if field.message_type is None:
        return _scalars()[field.cpp_type] if field.type != field.TYPE_BYTES else pl.Binary()
    name = field.message_type.full_name
    if name in _WELL_KNOWN:
        return _WELL_KNOWN[name]
    if is_wrapper(field.message_type):
        return _single(field.message_type.fields[0], depth)
    if depth >= _DEEPEST:
        raise ConfigurationError(f"message {name} is within itself, which a column can't be")
    return pl.Struct({f.name: _column(f, depth + 1) for f in field.message_type.fields})


_WELL_KNOWN: dict[str, pl.DataType] = {
    "google.protobuf.Timestamp": pl.Datetime("us", "UTC"),
    "google.protobuf.Duration": pl.Duration("us"),
}


def _scalars() -> dict[int, pl.DataType]:
    from google.protobuf.descriptor import FieldDescriptor as F

    return {
        F.CPPTYPE_INT32: pl.Int32(),
        F.CPPTYPE_INT64: pl.Int64(),
        F.CPPTYPE_UINT32: pl.UInt32(),
        F.CPPTYPE_UINT64: pl.UInt64(),
        F.CPPTYPE_DOUBLE: pl.Float64(),
        F.CPPTYPE_FLOAT: pl.Float32(),
        F.CPPTYPE_BOOL: pl.Boolean(),
        F.CPPTYPE_ENUM: pl.String(),
        F.CPPTYPE_STRING: pl.String(),
    }


# -- values


def value_of(message: Any, field: Any) -> Any:
    """A field as a Python value; None where it is not set, and says so.

    Raises:
        OverflowError: a time that is out of range.
        UnicodeDecodeError: text that is not UTF-8.
    """
    if field.has_presence and not message.HasField(field.name):
        return None
    value = getattr(message, field.name)
    if _is_map(field):
        inner = field.message_type.fields_by_name["value"]
        return [{"key": key, "value": _value(value[key], inner)} for key in value]
    return [_value(each, field) for each in value] if field.is_repeated else _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return str(value) if known is None else known.name
    if field.message_type is None:
        # Text that is not UTF-8 comes as bytes (proto2): decoding it says so.
        return value.decode() if isinstance(value, bytes) and field.type == field.TYPE_STRING else value
    name = field.message_type.full_name
    if name == "google.protobuf.Timestamp":
        return _EPOCH + timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
    if name == "google.protobuf.Duration":
        if abs(value.seconds) > LONGEST_DURATION:
            raise OverflowError("a duration of more than 10,000 years")
        return timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)
    if is_wrapper(field.message_type):
        return value.value
    return {inner.name: value_of(value, inner) for inner in field.message_type.fields}


def set_row(message: Any, row: Mapping[str, Any]) -> None:
    """Sets a message's fields from Python values; None leaves one unset.

    Raises:
        TypeError, ValueError: a value that its field can't hold.
    """
    for name, field in message.DESCRIPTOR.fields_by_name.items():
        value = row.get(name)
        if value is None:
            continue
        if _is_map(field):
            _set_map(getattr(message, name), value, field)
        elif field.is_repeated:
            target = getattr(message, name)
            for each in value:
                if field.message_type is None:
                    target.append(each)
                else:
                    _set_message(target.add(), each, field)
        elif field.message_type is not None:
            getattr(message, name).SetInParent()
            _set_message(getattr(message, name), value, field)
        else:
            setattr(message, name, value)


def _set_map(target: Any, entries: Any, field: Any) -> None:
    inner = field.message_type.fields_by_name["value"]
    for entry in entries:
        if inner.message_type is None:
            target[entry["key"]] = entry["value"]
        else:
            _set_message(target[entry["key"]], entry["value"], inner)


def _set_message(message: Any, value: Any, field: Any) -> None:
    name = field.message_type.full_name
    if name == "google.protobuf.Timestamp":
        message.FromDatetime(value)
    elif name == "google.protobuf.Duration":
        message.FromTimedelta(value)
    elif is_wrapper(field.message_type):
        message.value = value
    else:
        set_row(message, value)

"""Schema resolution: which of a writer's types can be read as which of a reader's (specification 1.12)."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.formats.avro.schema import (
    Array,
    AvroType,
    Enumeration,
    Field,
    Fixed,
    Logical,
    Map,
    Primitive,
    Record,
    Reference,
)

_PROMOTED = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def same_or_promoted(writer: str, reader: str) -> bool:
    """Whether a primitive type reads as another one.

    >>> same_or_promoted("int", "double"), same_or_promoted("long", "int")
    (True, False)
    """
    return writer == reader or reader in _PROMOTED.get(writer, ())


def names_match(
    writer: Record | Enumeration | Fixed | Reference, reader: Record | Enumeration | Fixed | Reference
) -> bool:
    """Whether two named types are the same one: by unqualified name, or by one of the reader's aliases."""
    if _short(writer.name) == _short(reader.name):
        return True
    return writer.name in getattr(reader, "aliases", ())


def fits(writer: AvroType, reader: AvroType) -> bool:
    """Whether a writer's type (no union) can be read as a reader's (no union), seen from outside: not all the way
    down, as a record may hold anything."""
    if isinstance(writer, Primitive) and isinstance(reader, Primitive):
        return same_or_promoted(writer.kind, reader.kind) and _same_meaning(writer.logical, reader.logical)
    if isinstance(writer, Fixed) and isinstance(reader, Fixed):
        same = writer.size == reader.size and names_match(writer, reader)
        return same and _same_meaning(writer.logical, reader.logical)
    if isinstance(writer, Enumeration) and isinstance(reader, Enumeration):
        return names_match(writer, reader)
    if isinstance(writer, Record | Reference) and isinstance(reader, Record | Reference):
        return names_match(writer, reader)
    return type(writer) is type(reader) and isinstance(writer, Array | Map)


def _same_meaning(writer: Logical | None, reader: Logical | None) -> bool:
    """Bytes of a decimal mean nothing without its scale; other meanings may come and go with the same bytes."""
    for one, other in ((writer, reader), (reader, writer)):
        if one is not None and one.name == "decimal":
            return other is not None and other.name == "decimal" and one.scale == other.scale
    return True


def choose(writer: AvroType, branches: Sequence[AvroType]) -> int | None:
    """Which of a reader's branches takes a writer's type: the same type first, then the first that fits."""
    for number, branch in enumerate(branches):
        if type(branch) is type(writer) and _is_same(writer, branch):
            return number
    for number, branch in enumerate(branches):
        if fits(writer, branch):
            return number
    records = [number for number, branch in enumerate(branches) if isinstance(branch, Record)]
    # A record of another name still is one, where there is only one choice.
    return records[0] if isinstance(writer, Record) and len(records) == 1 else None


def _is_same(writer: AvroType, branch: AvroType) -> bool:
    if isinstance(writer, Primitive) and isinstance(branch, Primitive):
        return writer.kind == branch.kind and _same_meaning(writer.logical, branch.logical)
    named = Record | Enumeration | Fixed | Reference
    if isinstance(writer, named) and isinstance(branch, named):
        return writer.name == branch.name and fits(writer, branch)
    return fits(writer, branch)


def writers_field(reader: Field, writer: Record) -> Field | None:
    """The writer's field that a reader's field reads: of the same name, else of one of its aliases."""
    by_name = {each.name: each for each in writer.fields}
    if reader.name in by_name:
        return by_name[reader.name]
    return next((by_name[alias] for alias in sorted(reader.aliases) if alias in by_name), None)


def _short(name: str) -> str:
    return name.rpartition(".")[2]

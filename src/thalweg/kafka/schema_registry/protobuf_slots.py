"""The columns of a Protobuf message, as a tree in the order in which they are numbered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as made_by
from typing import Any

import polars as pl

from thalweg.formats.avro.targets import Storage
from thalweg.kafka.schema_registry.protobuf_types import is_wrapper

TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")


class NeedsLibrary(Exception):
    """The kernel can't read this message; says what stands in its way. Never reaches a user."""


@dataclass(eq=False, slots=True)
class Slot:
    """One column, or a part of one: `index` numbers all of them, -1 for the message as a whole.

    `children` are a message's fields, or a list's item.
    """

    name: str
    dtype: pl.DataType
    index: int = -1
    storage: Storage = Storage.NOTHING
    size: int = 0
    children: list[Slot] = made_by(default_factory=list)
    in_list: bool = False
    is_uuid: bool = False

    def walk(self) -> Iterator[Slot]:
        """This one and all below it, in the order of their numbers."""
        yield self
        for child in self.children:
            yield from child.walk()

    def beside(self) -> Iterator[Slot]:
        """All below it that have one value for each of its own: not what is within lists."""
        for child in self.children:
            yield child
            if child.storage is not Storage.LIST:
                yield from child.beside()


def build_slots(descriptor: Any, schema: pl.Schema) -> Slot:
    """The tree of a message's wanted columns, numbered.

    Raises:
        NeedsLibrary: a column that the kernel can't make.
    """
    top = Slot("", pl.Null())
    fields = descriptor.fields_by_name
    top.children = [_slot(fields[name], dtype, in_list=False) for name, dtype in schema.items()]
    for number, each in enumerate(list(top.walk())[1:]):
        each.index = number
    return top


def _slot(field: Any, dtype: pl.DataType, *, in_list: bool) -> Slot:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        raise NeedsLibrary(f"field {field.name!r} is a map")
    if not field.is_repeated:
        return _single(field, dtype, field.name, in_list)
    assert isinstance(dtype, pl.List)
    made = Slot(field.name, dtype, storage=Storage.LIST, size=8, in_list=in_list)
    if message is not None and is_wrapper(message):
        raise NeedsLibrary(f"field {field.name!r} is a list of wrappers")
    made.children = [_single(field, dtype.inner, "item", True)]  # type: ignore[arg-type]
    return made


def _single(field: Any, dtype: pl.DataType, name: str, in_list: bool) -> Slot:
    made = Slot(name, dtype, in_list=in_list)
    message = field.message_type
    if message is None or is_wrapper(message) or message.full_name in TIMES:
        made.storage, made.size = _storage(dtype)
        return made
    assert isinstance(dtype, pl.Struct)
    if not dtype.fields:
        raise NeedsLibrary(f"message {message.full_name} has no fields")
    types = {each.name: each.dtype for each in dtype.fields}
    made.children = [_slot(each, types[each.name], in_list=in_list) for each in message.fields]  # type: ignore[arg-type]
    return made


def _storage(dtype: pl.DataType) -> tuple[Storage, int]:
    if isinstance(dtype, pl.String | pl.Binary):
        return Storage.VIEW, 16
    if isinstance(dtype, pl.Boolean):
        return Storage.FIXED, 1
    return Storage.FIXED, 4 if isinstance(dtype, pl.Int32 | pl.UInt32 | pl.Float32) else 8

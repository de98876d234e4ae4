"""The columns that a reader's schema asks for, as a tree in the order in which they are numbered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

import polars as pl

from thalweg.formats.avro.schema import (
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
from thalweg.formats.avro.types import KEY, VALUE, branch_names, column_type, is_null


class Storage(IntEnum):
    """What a column's buffer holds; the kernel knows these numbers."""

    NOTHING = 0
    """Null only, or a struct: there is only validity."""
    FIXED = 1
    VIEW = 2
    """Arrow's 16-byte views of text or bytes."""
    LIST = 3
    """Int64 offsets into the column of the items."""


@dataclass(eq=False, slots=True)
class Target:
    """One column, or a part of one: `index` numbers all of them, -1 for the record as a whole.

    `node` is the reader's type without its null; `children` are a struct's fields, a list's item or a union's branches.
    """

    name: str
    node: AvroType
    dtype: pl.DataType
    nullable: bool
    path: str
    index: int = -1
    storage: Storage = Storage.NOTHING
    size: int = 0
    children: list[Target] = field(default_factory=list)
    in_list: bool = False

    @property
    def is_choice(self) -> bool:
        """A union of several types beside null: a struct of which one field is set."""
        return isinstance(self.node, Union)

    @property
    def is_uuid(self) -> bool:
        """Sixteen bytes, of which the column has the text."""
        return isinstance(self.node, Fixed) and isinstance(self.dtype, pl.String)

    def nulls(self) -> Iterator[int]:
        """The columns that get one null each when this one is null; a null list has no items."""
        yield self.index
        if self.storage is not Storage.LIST:
            for child in self.children:
                yield from child.nulls()

    def walk(self) -> Iterator[Target]:
        """This one and all below it, in the order of their numbers."""
        yield self
        for child in self.children:
            yield from child.walk()


def build_targets(root: AvroType, columns: Iterable[str] | None = None) -> Target:
    """The tree for a schema, numbered; its children are the columns of the frame.

    Args:
        root: the reader's schema; one that is no record gives the single column `value`.
        columns: the only ones to make; None for all.
    """
    wanted = None if columns is None else frozenset(columns)
    parts = [(f.name, f.type) for f in root.fields] if isinstance(root, Record) else [(VALUE, root)]
    top = Target("", root, pl.Null(), False, "")
    top.children = [_target(n, t, n, False) for n, t in parts if wanted is None or n in wanted]
    for number, each in enumerate(list(top.walk())[1:]):
        each.index = number
    return top


def _target(name: str, given: AvroType, path: str, in_list: bool) -> Target:
    node, nullable = _without_null(given)
    dtype = column_type(given)
    made = Target(name, node, dtype, nullable, path, in_list=in_list)
    if isinstance(node, Record):
        made.children = [_target(f.name, f.type, f"{path}.{f.name}", in_list) for f in node.fields]
    elif isinstance(node, Union):
        names = branch_names(list(node.branches))
        made.children = [_target(n, b, f"{path}.{n}", in_list) for n, b in zip(names, node.branches, strict=True)]
        for child in made.children:
            child.nullable = True
    elif isinstance(node, Array):
        made.storage, made.size = Storage.LIST, 8
        made.children = [_target("item", node.items, f"{path}[]", True)]
    elif isinstance(node, Map):
        made.storage, made.size = Storage.LIST, 8
        entry = Target("entry", node, pl.Struct(dtype.inner.fields), False, f"{path}{{}}", in_list=True)  # type: ignore[attr-defined]
        entry.children = [
            _target(KEY, Primitive("string"), f"{path}{{key}}", True),
            _target(VALUE, node.values, f"{path}{{}}", True),
        ]
        made.children = [entry]
    else:
        made.storage, made.size = _leaf(node, dtype)
    return made


def _without_null(node: AvroType) -> tuple[AvroType, bool]:
    if not isinstance(node, Union):
        return node, is_null(node)
    others = tuple(branch for branch in node.branches if not is_null(branch))
    if not others:
        return Primitive("null"), True
    nullable = len(others) < len(node.branches)
    return (others[0] if len(others) == 1 else Union(others)), nullable


def _leaf(node: AvroType, dtype: pl.DataType) -> tuple[Storage, int]:
    if isinstance(dtype, pl.Null):
        return Storage.NOTHING, 0
    if isinstance(dtype, pl.Decimal):
        return Storage.FIXED, 16
    if isinstance(node, Fixed | Enumeration | Reference) or isinstance(dtype, pl.String | pl.Binary):
        return Storage.VIEW, 16
    if isinstance(dtype, pl.Boolean):
        return Storage.FIXED, 1
    return Storage.FIXED, 4 if isinstance(dtype, pl.Int32 | pl.Float32 | pl.Date) else 8

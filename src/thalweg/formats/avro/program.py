"""A writer's and a reader's schema, resolved into the steps that the kernel runs for every record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from thalweg.formats.avro.defaults import encode_default
from thalweg.formats.avro.leaves import SKIPPED, LeafStep, describe, primitive_step, smallest
from thalweg.formats.avro.resolution import choose, fits, names_match, writers_field
from thalweg.formats.avro.schema import (
    Array,
    AvroSchemaError,
    AvroType,
    Enumeration,
    Field,
    Fixed,
    Map,
    Primitive,
    Record,
    Reference,
    Union,
    label,
)
from thalweg.formats.avro.targets import Target
from thalweg.formats.avro.types import is_null
from thalweg.formats.kernels import avro_values as why
from thalweg.formats.kernels import read_avro as kernel
from thalweg.records import Int64s


class NeedsGeneralReader(Exception):
    """The kernel can't read this schema; the message says what stands in its way. Never reaches a user."""


class SymbolViews:
    """The texts of a reader's enum as Arrow views; those of more than 12 bytes lie in `data`, the column's buffer 1."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        texts = [symbol.encode() for symbol in symbols]
        self.data = b"".join(texts)
        views = bytearray()
        start = 0
        for text in texts:
            size = len(text).to_bytes(4, "little")
            if len(text) <= 12:
                views += size + text.ljust(12, b"\0")
            else:
                views += size + text[:4] + (1).to_bytes(4, "little") + start.to_bytes(4, "little")
            start += len(text)
        self.views = np.frombuffer(bytes(views) or bytes(16), np.uint8).copy()


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """What the kernel needs, and what keeps alive the memory that its steps point to."""

    steps: Int64s
    tables: Int64s
    paths: tuple[str, ...]
    """Of each step, for messages."""
    default_bytes: int
    keep: tuple[object, ...]


def compile_program(writer: AvroType, top: Target, symbols: dict[int, SymbolViews]) -> Program:
    """Resolves a writer's schema against the reader's targets.

    What can't be resolved at all is an error here; what depends on the data (a branch of a union) fails per record.

    Args:
        symbols: the views of each enum column, by its number; filled.

    Raises:
        AvroSchemaError: the writer's schema can't be read by the reader's; says which field.
        NeedsGeneralReader: it can, but not by the kernel.
    """
    compiler = _Compiler(symbols)
    if isinstance(top.node, Record):
        if isinstance(writer, Union):
            raise AvroSchemaError("the writer's schema is a union, the reader's a record")
        compiler.fields(writer, top.node, {child.name: child for child in top.children}, "")
    else:
        compiler.value(writer, top.children[0] if top.children else None, "value")
    return compiler.finish()


class _Compiler:
    def __init__(self, symbols: dict[int, SymbolViews]) -> None:
        self._symbols = symbols
        self._steps: list[list[int]] = []
        self._paths: list[str] = []
        self._tables: list[int] = []
        self._keep: list[object] = []
        self._level = 0
        self._default_bytes = 0
        self._in_default = False

    def finish(self) -> Program:
        steps = np.array(self._steps, np.int64).reshape(len(self._steps), kernel.STEP_FIELDS)
        tables = np.array(self._tables or [0], np.int64)
        keep = (*self._keep, *self._symbols.values())
        return Program(steps, tables, tuple(self._paths), self._default_bytes, keep)

    def _step(self, op: int, path: str, column: int = -1, null: int = -1, a: int = 0, b: int = 0, c: int = 0) -> int:
        self._steps.append([op, column, null, a, b, c])
        self._paths.append(path)
        return len(self._steps) - 1

    def _table(self, values: list[int]) -> int:
        self._tables += values
        return len(self._tables) - len(values)

    def _nulls(self, targets: list[Target], path: str) -> None:
        columns = [column for target in targets for column in target.nulls()]
        if columns:
            self._step(kernel.NULLS, path, a=self._table(columns), b=len(columns))

    # -- records

    def fields(self, writer: AvroType, reader: Record, targets: dict[str, Target], path: str) -> None:
        """The fields of a record in the writer's order, then the defaults of those that the writer lacks."""
        if not isinstance(writer, Record):
            raise AvroSchemaError(f"{path or 'the record'}: written as {label(writer)}, read as record {reader.name}")
        sources = {id(found): each for each in reader.fields if (found := writers_field(each, writer)) is not None}
        for each in writer.fields:
            wanted = sources.get(id(each))
            target = None if wanted is None else targets.get(wanted.name)
            # An unwanted column is skipped as it was written, whatever the reader calls it.
            self.value(each.type, target, _join(path, each.name))
        taken = {each.name for each in sources.values()}
        for missing in reader.fields:
            if missing.name not in taken:
                self._default(missing, targets.get(missing.name), _join(path, missing.name))

    def _default(self, missing: Field, target: Target | None, path: str) -> None:
        if not missing.has_default:
            raise AvroSchemaError(f"{path}: the writer has no such field, and the reader gives it no default")
        if target is None:
            return
        if self._in_default:
            raise NeedsGeneralReader("a default within a default")
        default = encode_default(missing.type, missing.default, path)
        data = np.frombuffer(default or b"\0", np.uint8).copy()
        self._keep.append(data)
        self._default_bytes += len(default)
        self._step(kernel.DEFAULT, path, a=data.ctypes.data, b=len(default))
        self._in_default = True
        self.value(missing.type, target, path)
        self._in_default = False
        self._step(kernel.DEFAULT_END, path)

    # -- any value

    def value(self, writer: AvroType, target: Target | None, path: str) -> None:
        """One value of the writer's type into a target (None: skipped)."""
        if isinstance(writer, Union):
            self._union(writer, target, path)
            return
        if isinstance(writer, Reference):
            raise NeedsGeneralReader(f"{path}: the record {writer.name} is within itself")
        if target is None:
            self._skip(writer, path)
            return
        if is_null(writer):
            if not target.nullable and not isinstance(target.dtype, pl.Null):
                raise AvroSchemaError(f"{path}: written as null, which the reader's type does not take")
            self._nulls([target], path)
            return
        if target.is_choice:
            self._one_of(writer, target, path)
            return
        self._plain(writer, target, path)

    def _one_of(self, writer: AvroType, target: Target, path: str) -> None:
        """A value into one field of a struct of which the others are null."""
        number = choose(writer, [child.node for child in target.children])
        if number is None:
            raise AvroSchemaError(f"{path}: written as {label(writer)}, which none of the reader's types takes")
        self._step(kernel.STRUCT, path, target.index)
        self._nulls([child for at, child in enumerate(target.children) if at != number], path)
        self._plain(writer, target.children[number], path)

    def _plain(self, writer: AvroType, target: Target, path: str, null: int = -1) -> None:
        """A value that is neither a union nor null, into a target that is no choice."""
        node = target.node
        if isinstance(node, Reference):
            raise NeedsGeneralReader(f"{path}: the record {node.name} is within itself")
        if isinstance(node, Record):
            if node.fields:
                self._step(kernel.STRUCT, path, target.index)
                self.fields(writer, node, {child.name: child for child in target.children}, path)
            else:
                self._skip(writer, path)
                self._step(kernel.STRUCT, path, target.index)
        elif isinstance(node, Array) and isinstance(writer, Array):
            self._list(writer.items, target, path, null)
        elif isinstance(node, Map) and isinstance(writer, Map):
            self._map(writer.values, target, path, null)
        else:
            op, a, b, c = self._leaf(writer, target, path)
            self._step(op, path, target.index, null, a, b, c)

    # -- unions

    def _union(self, writer: Union, target: Target | None, path: str) -> None:
        nulls = [number for number, branch in enumerate(writer.branches) if is_null(branch)]
        others = [branch for branch in writer.branches if not is_null(branch)]
        if len(nulls) == 1 and len(others) == 1 and self._is_simple(others[0], target):
            if target is None:
                self._skip(others[0], path, nulls[0])
            else:
                self._plain(others[0], target, path, nulls[0])
            return
        choice = self._step(kernel.CHOICE, path, a=self._table([0] * kernel.BRANCH_FIELDS * len(writer.branches)))
        self._steps[choice][4] = len(writer.branches)
        table = self._steps[choice][3]
        jumps = []
        problems = []
        for number, branch in enumerate(writer.branches):
            self._tables[table + number * kernel.BRANCH_FIELDS] = len(self._steps)
            problem = self._branch(branch, target, path)
            problems += [problem] if problem else []
            jumps.append(self._step(kernel.JUMP, path))
        if len(problems) == len(writer.branches):
            raise AvroSchemaError(problems[0])
        for jump in jumps:
            self._steps[jump][3] = len(self._steps)

    def _is_simple(self, branch: AvroType, target: Target | None) -> bool:
        """Whether null or this type can be read in one step."""
        if isinstance(branch, Record | Reference):
            return False
        return target is None or (target.nullable and not target.is_choice)

    def _branch(self, branch: AvroType, target: Target | None, path: str) -> str | None:
        """The steps of one branch; one that the reader does not take fails where it comes, and is named."""
        before = len(self._steps), self._level, self._in_default
        try:
            self.value(branch, target, path)
        except AvroSchemaError as error:
            del self._steps[before[0] :], self._paths[before[0] :]
            self._level, self._in_default = before[1], before[2]
            reason = why.UNEXPECTED_NULL if is_null(branch) else why.NO_MATCH
            self._step(kernel.FAIL, path, a=reason)
            return str(error)
        return None

    # -- lists

    def _list(self, item: AvroType, target: Target | None, path: str, null: int) -> None:
        def body() -> None:
            self.value(item, target.children[0] if target else None, f"{path}[]")

        if smallest(item) == 0:
            raise NeedsGeneralReader(f"{path}: items may take no byte")
        self._repeat(body, target, path, null)

    def _map(self, values: AvroType, target: Target | None, path: str, null: int) -> None:
        def body() -> None:
            if target is None:
                self._skip(Primitive("string"), path)
                self.value(values, None, f"{path}{{}}")
                return
            entry = target.children[0]
            self._step(kernel.STRUCT, path, entry.index)
            self._plain(Primitive("string"), entry.children[0], path)
            self.value(values, entry.children[1], f"{path}{{}}")

        self._repeat(body, target, path, null)

    def _repeat(self, body: Callable[[], None], target: Target | None, path: str, null: int) -> None:
        if self._level == kernel.MAX_LEVELS:
            raise NeedsGeneralReader(f"{path}: more than {kernel.MAX_LEVELS} lists within each other")
        column = -1 if target is None else target.index
        level, self._level = self._level, self._level + 1
        first = self._step(kernel.LIST, path, column, null, a=level)
        item = self._step(kernel.ITEM, path, column, a=level)
        body()
        self._step(kernel.JUMP, path, a=item)
        for step in (first, item):
            self._steps[step][4] = len(self._steps)
        self._level = level

    # -- leaves

    def _skip(self, writer: AvroType, path: str, null: int = -1) -> None:
        if isinstance(writer, Record):
            for each in writer.fields:
                self.value(each.type, None, _join(path, each.name))
        elif isinstance(writer, Array):
            self._list(writer.items, None, path, null)
        elif isinstance(writer, Map):
            self._map(writer.values, None, path, null)
        elif isinstance(writer, Fixed):
            self._step(kernel.FIXED, path, null=null, a=writer.size)
        elif isinstance(writer, Enumeration):
            self._step(kernel.LONG, path, null=null)
        elif isinstance(writer, Primitive) and writer.kind != "null":
            self._step(SKIPPED[writer.kind], path, null=null)

    def _leaf(self, writer: AvroType, target: Target, path: str) -> LeafStep:
        reader = target.node
        if isinstance(reader, Enumeration) and isinstance(writer, Enumeration) and names_match(writer, reader):
            return self._enumeration(writer, reader, target)
        if not fits(writer, reader):
            raise AvroSchemaError(f"{path}: written as {describe(writer)}, which can't be read as {describe(reader)}")
        if isinstance(target.dtype, pl.Decimal):
            limit = 10 ** (target.dtype.precision or 38)
            parts = [_signed(limit & (2**64 - 1)), _signed(limit >> 64)]
            return kernel.DECIMAL, writer.size if isinstance(writer, Fixed) else -1, self._table(parts), 0
        if isinstance(writer, Fixed):
            return kernel.FIXED, writer.size, 0, 0
        assert isinstance(writer, Primitive)
        assert isinstance(reader, Primitive)
        return primitive_step(writer, reader, target.dtype)

    def _enumeration(self, writer: Enumeration, reader: Enumeration, target: Target) -> LeafStep:
        views = self._symbols.setdefault(target.index, SymbolViews(reader.symbols))
        other = -1 if reader.default is None else reader.symbols.index(reader.default)
        numbers = {symbol: number for number, symbol in enumerate(reader.symbols)}
        start = self._table([numbers.get(symbol, other) for symbol in writer.symbols])
        return kernel.ENUM, start, len(writer.symbols), views.views.ctypes.data


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name

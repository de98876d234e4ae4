"""A Protobuf message as the tables by which the kernel reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.formats.avro.program import SymbolViews
from thalweg.formats.kernels import protobuf_values as value
from thalweg.formats.kernels import read_protobuf as kernel
from thalweg.kafka.schema_registry.protobuf_slots import TIMES, NeedsLibrary, Slot, build_slots
from thalweg.kafka.schema_registry.protobuf_types import LONGEST_DURATION, is_wrapper
from thalweg.records import Int64s

_LARGEST_NUMBER = 20_000
"""Of a field: they are looked up in a table."""
_MOST_SYMBOLS = 4_096
"""Between an enum's smallest and largest number."""
_SECONDS = dict(zip(TIMES, [(-62_135_596_800, 253_402_300_799), (-LONGEST_DURATION, LONGEST_DURATION)], strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class Program:
    """What the kernel needs, and what keeps alive the memory that its tables point to."""

    top: Slot
    messages: Int64s
    fields: Int64s
    tables: Int64s
    rules: Int64s
    symbols: dict[int, SymbolViews]


def compile_program(descriptor: Any, schema: pl.Schema) -> Program:
    """The tables for a message.

    Args:
        schema: the wanted columns. Fields of others are looked at, but not kept.

    Raises:
        NeedsLibrary: the kernel can't read such a message.
    """
    compiler = _Compiler(build_slots(descriptor, schema))
    compiler.message(descriptor, compiler.top)
    return compiler.finish()


class _Compiler:
    def __init__(self, top: Slot) -> None:
        self.top = top
        count = len(list(top.walk())) - 1
        self._messages: list[list[int]] = []
        self._fields: list[list[int]] = []
        self._tables: list[int] = []
        self._rules = [[-1, kernel.OPTIONAL, 0] for _ in range(count)]
        self._symbols: dict[int, SymbolViews] = {}
        self._unwanted: dict[str, int] = {}

    def finish(self) -> Program:
        return Program(
            self.top,
            np.array(self._messages, np.int64),
            np.array(self._fields, np.int64).reshape(len(self._fields), value.FIELD_FIELDS),
            np.array(self._tables or [0], np.int64),
            np.array(self._rules, np.int64).reshape(len(self._rules), kernel.RULE_FIELDS),
            self._symbols,
        )

    def _table(self, values: list[int]) -> int:
        self._tables += values
        return len(self._tables) - len(values)

    # -- messages

    def message(self, descriptor: Any, slot: Slot | None, *, parent: int = -1, inside: bool = False) -> int:
        """The number of a message's row.

        Args:
            slot: what its fields become; None: nothing.
            parent: the column of this message, -1: it is always there.
            inside: its columns have one value for each message around it.
        """
        if slot is None and descriptor.full_name in self._unwanted:
            return self._unwanted[descriptor.full_name]
        number = len(self._messages)
        self._messages.append([0, 0, 0, -1])
        if slot is None:
            self._unwanted[descriptor.full_name] = number
        _check(descriptor)
        largest = max((field.number for field in descriptor.fields), default=0)
        numbers = [-1] * (largest + 1)
        slots = {} if slot is None else {each.name: each for each in slot.children}
        for field in descriptor.fields:
            numbers[field.number] = self._field(field, slots.get(field.name), slots, parent)
        row = self._messages[number]
        row[kernel.NUMBERS], row[kernel.LARGEST] = self._table(numbers), largest
        if slot is not None and not inside:
            own = [slot] if slot.in_list else []
            cursors = sorted((each.index for each in (*own, *slot.beside())), reverse=True)
            row[kernel.CURSORS], row[kernel.CURSOR_COUNT] = self._table(cursors), len(cursors)
        return number

    # -- fields

    def _field(self, field: Any, slot: Slot | None, siblings: dict[str, Slot], parent: int) -> int:
        row = [0] * value.FIELD_FIELDS
        number = len(self._fields)
        self._fields.append(row)
        target = slot
        row[value.COLUMN], row[value.LIST] = -1, -2 if field.is_repeated else -1
        if slot is not None:
            self._rules[slot.index][kernel.PARENT] = parent
            if field.is_repeated:
                row[value.LIST], target = slot.index, slot.children[0]
            else:
                self._rules[slot.index][kernel.PRESENCE] = _presence(field)
            row[value.COLUMN] = target.index  # type: ignore[union-attr]
        self._oneof(field, row, siblings)
        if field.message_type is not None:
            self._message_field(field, target, row)
        elif field.enum_type is not None:
            self._enum(field, target, row)
        else:
            row[value.OP], row[value.WIRE] = _scalars()[field.type]
        return number

    def _oneof(self, field: Any, row: list[int], siblings: dict[str, Slot]) -> None:
        """The wanted columns of the other members: all of them are unset by this one, wanted or not."""
        if field.containing_oneof is None:
            return
        others = [each.name for each in field.containing_oneof.fields if each.name != field.name]
        columns = [siblings[name].index for name in others if name in siblings]
        row[value.ONEOF], row[value.ONEOF_COUNT] = self._table(columns), len(columns)

    def _message_field(self, field: Any, target: Slot | None, row: list[int]) -> None:
        message = field.message_type
        row[value.WIRE] = value.BYTES_OF
        if target is not None and message.full_name in _SECONDS:
            row[value.OP] = value.TIME
            row[value.A], row[value.B] = _SECONDS[message.full_name]
        elif target is not None and is_wrapper(message):
            row[value.OP] = value.WRAPPER
            row[value.MESSAGE] = self._wrapper(message, target)
        else:
            row[value.OP] = value.NESTED
            parent = -1 if target is None else target.index
            row[value.MESSAGE] = self.message(message, target, parent=parent, inside=not field.is_repeated)

    def _wrapper(self, message: Any, target: Slot) -> int:
        """A message whose one field is the column itself."""
        number = len(self._messages)
        self._messages.append([0, 0, 0, -1])
        (field,) = message.fields
        row = [0] * value.FIELD_FIELDS
        row[value.COLUMN], row[value.LIST] = target.index, -1
        row[value.OP], row[value.WIRE] = _scalars()[field.type]
        self._fields.append(row)
        numbers = [-1] * field.number + [len(self._fields) - 1]
        self._messages[number][:2] = [self._table(numbers), field.number]
        return number

    def _enum(self, field: Any, target: Slot | None, row: list[int]) -> None:
        row[value.OP], row[value.WIRE] = value.ENUM, value.VARINT
        if target is None:
            return
        names = {number: each.name for number, each in field.enum_type.values_by_number.items()}
        first = min(names)
        span = max(names) - first + 1
        if span > _MOST_SYMBOLS:
            raise NeedsLibrary(f"enum {field.enum_type.full_name} has numbers far apart")
        symbols = self._symbols[target.index] = SymbolViews(tuple(names.values()))
        places = {number: place for place, number in enumerate(names)}
        row[value.A] = self._table([places.get(first + index, -1) for index in range(span)])
        row[value.B], row[value.ENUM_COUNT] = first, span
        row[value.C] = symbols.views.ctypes.data
        if 0 in places:
            self._rules[target.index][kernel.DEFAULT] = symbols.views.ctypes.data + 16 * places[0]


def _check(descriptor: Any) -> None:
    """Refuses what the kernel would read in another way than the library."""
    if descriptor.is_extendable:
        raise NeedsLibrary(f"message {descriptor.full_name} may be extended")
    for field in descriptor.fields:
        if field.type == field.TYPE_GROUP:
            raise NeedsLibrary(f"field {field.full_name} is a group")
        if field.number > _LARGEST_NUMBER:
            raise NeedsLibrary(f"field {field.full_name} has the number {field.number}")


def _presence(field: Any) -> int:
    if field.is_required:
        return kernel.REQUIRED
    return kernel.OPTIONAL if field.has_presence else kernel.NO_PRESENCE


def _scalars() -> dict[int, tuple[int, int]]:
    """How each type is read, and its wire type."""
    from google.protobuf.descriptor import FieldDescriptor as F

    return {
        F.TYPE_INT64: (value.WORD, value.VARINT),
        F.TYPE_UINT64: (value.WORD, value.VARINT),
        F.TYPE_INT32: (value.HALF, value.VARINT),
        F.TYPE_UINT32: (value.HALF, value.VARINT),
        F.TYPE_SINT64: (value.ZIGZAG, value.VARINT),
        F.TYPE_SINT32: (value.ZIGZAG_HALF, value.VARINT),
        F.TYPE_BOOL: (value.BOOLEAN, value.VARINT),
        F.TYPE_FIXED64: (value.EIGHT, value.FIXED64),
        F.TYPE_SFIXED64: (value.EIGHT, value.FIXED64),
        F.TYPE_DOUBLE: (value.EIGHT, value.FIXED64),
        F.TYPE_FIXED32: (value.FOUR, value.FIXED32),
        F.TYPE_SFIXED32: (value.FOUR, value.FIXED32),
        F.TYPE_FLOAT: (value.FOUR, value.FIXED32),
        F.TYPE_STRING: (value.TEXT, value.BYTES_OF),
        F.TYPE_BYTES: (value.BYTES, value.BYTES_OF),
    }

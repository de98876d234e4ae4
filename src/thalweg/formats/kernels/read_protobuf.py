"""Protobuf messages into columns: a loop over records that looks every field up by its number.

Fields come in any order, and more than once: a value is written at its column's cursor, where a later one takes its
place, and the cursors go on at the message's end, when the fields that did not come get a null or their default. A
message within a message has its columns beside those of the outer one, so that what comes of it in two parts is put
together; a repeated one has cursors of its own.

What is not plain (an unknown enum number, a group, damaged bytes …) is refused: Google's library says what it is.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels.avro_columns import (
    COLUMN_BYTES,
    COUNT,
    DATA,
    GROWS,
    ITEMS,
    KIND,
    SAVED,
    SAVED_ITEMS,
    SIZE,
    get,
    has_room,
    put,
    put_null,
    roll_back,
)
from thalweg.formats.kernels.avro_values import read_word
from thalweg.formats.kernels.compile import entry, hot, inner
from thalweg.formats.kernels.memory import load_u8, signed, store_u64
from thalweg.formats.kernels.protobuf_values import (
    BYTES_OF,
    COLUMN,
    FIELD_FIELDS,
    LAST_LEAF,
    LIST,
    MESSAGE,
    ONEOF,
    ONEOF_COUNT,
    OP,
    REFUSED,
    TIME,
    WIRE,
    WRAPPER,
    A,
    read_size,
    read_value,
    skip_value,
    store_default,
)

Int64s = npt.NDArray[np.int64]

# Columns of a message's row.
NUMBERS = 0
"""Where in the tables the fields are, by number (-1: none), and"""
LARGEST = 1
"""the largest number."""
CURSORS = 2
"""Where in the tables the columns are whose cursors go on at its end, inner ones first, and"""
CURSOR_COUNT = 3
"""how many; -1: those of the message around it."""
MESSAGE_FIELDS = 4

# Columns of a column's rules.
PARENT = 0
"""The column of the message around it; -1: it is always there."""
PRESENCE = 1
"""What is there of a field that did not come."""
DEFAULT = 2
"""Address of a default's view; 0: zeros."""
RULE_FIELDS = 3
NO_PRESENCE, OPTIONAL, REQUIRED = 0, 1, 2

MAX_DEPTH = 64
"""Messages within messages."""

# The state between calls.
NEXT = 0
USED = 1
STATE_FIELDS = 2

_RULE_BYTES = 8 * RULE_FIELDS
_FIELD_BYTES = 8 * FIELD_FIELDS
_MESSAGE_BYTES = 8 * MESSAGE_FIELDS


@inner
def _finish(message: int, tables: int, cells: int, rules: int, seen: int) -> bool:
    """The end of a message: its cursors go on. False where a required field did not come."""
    start = get(message, CURSORS)
    for index in range(start, start + get(message, CURSOR_COUNT)):
        number = get(tables, index)
        column = cells + COLUMN_BYTES * number
        rule = rules + _RULE_BYTES * number
        came = get(seen, number) != 0
        parent = get(rule, PARENT)
        is_there = parent < 0 or get(seen, parent) != 0
        kind = get(column, KIND)
        at = get(column, COUNT)
        if kind == 3 and is_there:
            store_u64(get(column, DATA) + 8 * (at + 1), get(column, ITEMS))
            put(column, COUNT, at + 1)
        elif came:
            put(seen, number, 0)
            put(column, COUNT, at + 1)
        elif is_there and get(rule, PRESENCE) == NO_PRESENCE and kind != 0:
            store_default(get(column, DATA) + get(column, SIZE) * at, get(column, SIZE), get(rule, DEFAULT))
            put(column, COUNT, at + 1)
        elif is_there and get(rule, PRESENCE) == REQUIRED:
            return False
        else:
            put_null(column)
    return True


@inner
def _choose(field: int, tables: int, cells: int, seen: int) -> bool:
    """A member of a oneof has come: the others are unset. False where that is a message, of which parts came."""
    start = get(field, ONEOF)
    for index in range(start, start + get(field, ONEOF_COUNT)):
        number = get(tables, index)
        if get(seen, number) != 0:
            if get(cells + COLUMN_BYTES * number, KIND) == 0:
                return False
            put(seen, number, 0)
    return True


@hot
def _begins(p: int, length: int, prefix: int, size: int) -> bool:
    """Whether a record of `length` bytes begins with these `size` bytes."""
    if length < size:
        return False
    for i in range(size):  # noqa: SIM110
        if load_u8(p + i) != load_u8(prefix + i):
            return False
    return True


@entry(
    "int64(Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64, int64, int64,"
    " int64[:, ::1], int64[:, ::1], int64[::1], int64[:, ::1], int64[:, ::1], int64[::1], int64[::1], int64[::1],"
    " int64, int64)"
)
def read_protobuf(
    addresses: Int64s,
    lengths: Int64s,
    header: int,
    prefix: int,
    prefix_size: int,
    messages: Int64s,
    fields: Int64s,
    tables: Int64s,
    rules: Int64s,
    columns: Int64s,
    seen: Int64s,
    refused: Int64s,
    state: Int64s,
    side: int,
    side_size: int,
) -> int:
    """Reads records from `state[NEXT]` on; those that are not for this kernel are marked in `refused`.

    Args:
        addresses: of the records, `lengths` bytes each, of which the first `header` are not looked at.
        prefix: address of the `prefix_size` bytes that come before each message.
        messages, fields, tables, rules: see `kafka.schema_registry.protobuf_program`.
        columns: one row per column (see `avro_columns`).
        seen: one number per column, 0.
        refused: one number per record, 0.
        state: which record is next, and how much of the side buffer is taken.
        side: address of the buffer for text of more than 12 bytes, `side_size` bytes.

    Returns:
        How many records are done: fewer than there are where a buffer may not have room for the next one.
    """
    places = tables.ctypes.data
    cells = columns.ctypes.data
    first_field = fields.ctypes.data
    first_message = messages.ctypes.data
    first_rule = rules.ctypes.data
    marks = seen.ctypes.data
    ends = np.zeros(MAX_DEPTH, np.int64)
    nodes = np.zeros(MAX_DEPTH, np.int64)
    grows = False
    for column in range(len(columns)):
        grows = grows or columns[column, GROWS] != 0
    for row in range(state[NEXT], len(addresses)):
        length = lengths[row] - header
        room = max(length, 0) + 1
        used = state[USED]
        if used + room > side_size or (grows and not has_room(columns, room)):
            state[NEXT] = row
            return row
        for column in range(len(columns)):
            columns[column, SAVED] = columns[column, COUNT]
            columns[column, SAVED_ITEMS] = columns[column, ITEMS]
        p = addresses[row] + header
        end = p + length
        p = p + prefix_size if _begins(p, length, prefix, prefix_size) else REFUSED
        node = first_message
        depth = 0
        while p >= 0:
            if p == end:
                if get(node, CURSOR_COUNT) >= 0 and not _finish(node, places, cells, first_rule, marks):
                    p = REFUSED
                elif depth == 0:
                    break
                else:
                    depth -= 1
                    end = ends[depth]
                    node = nodes[depth]
                continue
            p, word = read_word(p, end)
            tag = signed(word)
            number = tag >> 3
            if p < 0 or number <= 0 or tag > 0xFFFFFFFF:
                p = REFUSED
                break
            index = get(places, get(node, NUMBERS) + number) if number <= get(node, LARGEST) else -1
            if index < 0:
                p = skip_value(p, end, tag & 7)
                continue
            field = first_field + _FIELD_BYTES * index
            op = get(field, OP)
            target = get(field, COLUMN)
            column_at = cells + COLUMN_BYTES * target
            in_list = get(field, LIST)
            if tag & 7 != get(field, WIRE):
                if in_list == -1 or tag & 7 != BYTES_OF:
                    p = REFUSED  # as a field that is not known: for the library
                    break
                p, size = read_size(p, end)
                stop = p + size
                while p >= 0 and p < stop:
                    slot = 0
                    if target >= 0:
                        at = get(column_at, COUNT)
                        slot = get(column_at, DATA) + at * get(column_at, SIZE)
                        put(column_at, COUNT, at + 1)
                        listed = cells + COLUMN_BYTES * in_list
                        put(listed, ITEMS, get(listed, ITEMS) + 1)
                    p, used = read_value(p, stop, field, places, slot, side, used)
                continue
            if target >= 0 and in_list < 0:
                if get(field, ONEOF_COUNT) > 0 and not _choose(field, places, cells, marks):
                    p = REFUSED
                    break
                if op == TIME and get(marks, target) != 0:
                    p = REFUSED  # in two parts
                    break
            if op <= LAST_LEAF:
                slot = 0
                if target >= 0:
                    at = get(column_at, COUNT)
                    slot = get(column_at, DATA) + at * get(column_at, SIZE)
                    if in_list >= 0:
                        put(column_at, COUNT, at + 1)
                        listed = cells + COLUMN_BYTES * in_list
                        put(listed, ITEMS, get(listed, ITEMS) + 1)
                    else:
                        put(marks, target, 1)
                p, used = read_value(p, end, field, places, slot, side, used)
                continue
            p, size = read_size(p, end)
            if p < 0 or depth + 1 == MAX_DEPTH:
                p = REFUSED
                break
            if target >= 0:
                if in_list >= 0:
                    listed = cells + COLUMN_BYTES * in_list
                    put(listed, ITEMS, get(listed, ITEMS) + 1)
                elif op == WRAPPER and get(marks, target) == 0:
                    at = get(column_at, DATA) + get(column_at, COUNT) * get(column_at, SIZE)
                    store_default(at, get(column_at, SIZE), get(field, A))
                put(marks, target, 1)
            ends[depth] = end
            nodes[depth] = node
            depth += 1
            end = p + size
            node = first_message + _MESSAGE_BYTES * get(field, MESSAGE)
        if p < 0:
            refused[row] = 1
            roll_back(columns)
            seen[:] = 0
        else:
            state[USED] = used
    state[NEXT] = len(addresses)
    return len(addresses)

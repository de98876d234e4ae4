"""Avro records into columns: a loop over records that runs a program made from the writer's and the reader's schema.

A step of the program reads one value, or steers: a branch of a union, a block of a list, a default. A column's buffers
are written at its cursor, which goes back where its record turns out to be damaged.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels import avro_values as why
from thalweg.formats.kernels.avro_columns import (
    COLUMN_BYTES,
    COUNT,
    DATA,
    GROWS,
    ITEMS,
    SAVED,
    SAVED_ITEMS,
    SIZE,
    get,
    has_room,
    put,
    put_null,
    put_nulls,
    roll_back,
)
from thalweg.formats.kernels.avro_values import is_text, read_decimal, read_length, read_long
from thalweg.formats.kernels.compile import entry, hot
from thalweg.formats.kernels.memory import (
    load_f32,
    load_u8,
    load_u32,
    load_u64,
    move16,
    store_f32,
    store_f64,
    store_u8,
    store_u32,
    store_u64,
)
from thalweg.formats.kernels.text import write_view

Int64s = npt.NDArray[np.int64]

# Columns of the program. A leaf has a column (-1: skipped) and the branch that is null (-1: no union).
OP = 0
COLUMN = 1
NULL_BRANCH = 2
A = 3
B = 4
C = 5
STEP_FIELDS = 6

# Leaves.
LONG = 0
INT = 1
"""Four bytes; A and B: smallest and largest value."""
BOUNDED = 2
"""Eight bytes; A and B: smallest and largest value, C: times this, or (negative) divided by it."""
BOOLEAN = 3
FLOAT = 4
DOUBLE = 5
TEXT = 6
BYTES = 7
FIXED = 8
"""A: how many bytes."""
ENUM = 9
"""A: where in the tables the writer's symbols become the reader's, B: how many, C: address of the views."""
DECIMAL = 10
"""A: how many bytes, -1: their number comes first; B: where in the tables the limit is."""
LONG_TO_FLOAT = 11
LONG_TO_DOUBLE = 12
FLOAT_TO_DOUBLE = 13
LAST_LEAF = 13
# Steering.
STRUCT = 14
"""One more struct that is not null."""
NULLS = 15
"""A: where in the tables the columns are that get a null, B: how many."""
CHOICE = 16
"""A: where in the tables the branches are (`BRANCH_FIELDS` each), B: how many."""
LIST = 17
"""A: level, B: the step behind the list."""
ITEM = 18
"""The same; begins every item."""
JUMP = 19
DEFAULT = 20
"""A: address of a default value, B: its bytes; the steps until `DEFAULT_END` read it."""
DEFAULT_END = 21
FAIL = 22
"""A: why."""

_STEP_BYTES = 8 * STEP_FIELDS

BRANCH_FIELDS = 3
"""The branch's first step, where the columns are that it leaves null, and how many."""
MAX_LEVELS = 32
"""Lists within lists."""

# The state between calls.
NEXT = 0
USED = 1
"""Bytes of the side buffer."""
STATE_FIELDS = 2

# Columns of the failures.
REASON = 0
STEP = 1
PLACE = 2
FAILURE_FIELDS = 3


@hot
def _read_leaf(p: int, end: int, op: int, step: int, tables: int, slot: int, side: int, used: int) -> tuple[int, int]:
    """Reads one value into `slot` (0: nowhere): (address behind it or why not, bytes of the side buffer taken).

    `step` and `tables` are addresses.
    """
    if op in (TEXT, BYTES):
        p, length = read_length(p, end)
        if p < 0 or slot == 0:
            return p + length, used
        if op == TEXT and not is_text(p, p + length):
            return why.BAD_TEXT, used
        return p + length, write_view(slot, p, length, end, side, used)
    if op == DOUBLE:
        if end - p < 8:
            return why.TRUNCATED, used
        if slot != 0:
            store_u64(slot, load_u64(p))
        return p + 8, used
    if op in (FLOAT, FLOAT_TO_DOUBLE):
        if end - p < 4:
            return why.TRUNCATED, used
        if op == FLOAT and slot != 0:
            store_u32(slot, load_u32(p))
        elif slot != 0:
            store_f64(slot, np.float64(load_f32(p)))
        return p + 4, used
    if op == BOOLEAN:
        if p >= end:
            return why.TRUNCATED, used
        byte = load_u8(p)
        if byte > 1:
            return why.BAD_BOOLEAN, used
        if slot != 0:
            store_u8(slot, byte)
        return p + 1, used
    if op == FIXED:
        size = get(step, A)
        if end - p < size:
            return why.TRUNCATED, used
        if slot != 0:
            used = write_view(slot, p, size, end, side, used)
        return p + size, used
    if op == DECIMAL:
        size = get(step, A)
        if size < 0:
            p, size = read_length(p, end)
            if p < 0:
                return p, used
        elif end - p < size:
            return why.TRUNCATED, used
        limit = get(step, B)
        if slot != 0 and not read_decimal(p, size, slot, get(tables, limit), get(tables, limit + 1)):
            return why.OUT_OF_RANGE, used
        return p + size, used
    p, value = read_long(p, end)
    if p < 0 or slot == 0:
        return p, used
    if op == LONG:
        store_u64(slot, value)
    elif op in (INT, BOUNDED):
        if value < get(step, A) or value > get(step, B):
            return why.OUT_OF_RANGE, used
        if op == INT:
            store_u32(slot, value)
        else:
            scale = get(step, C)
            store_u64(slot, value * scale if scale > 0 else value // -scale)
    elif op == ENUM:
        if value < 0 or value >= get(step, B):
            return why.BAD_SYMBOL, used
        symbol = get(tables, get(step, A) + value)
        if symbol < 0:
            return why.UNKNOWN_SYMBOL, used
        move16(slot, get(step, C) + 16 * symbol)
    elif op == LONG_TO_DOUBLE:
        store_f64(slot, np.float64(value))
    else:
        store_f32(slot, np.float32(value))
    return p, used


@entry(
    "int64(Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64, int64[:, ::1], int64[::1],"
    " int64[:, ::1], int64[:, ::1], int64[::1], int64, int64, int64)"
)
def read_avro(
    addresses: Int64s,
    lengths: Int64s,
    header: int,
    program: Int64s,
    tables: Int64s,
    columns: Int64s,
    failures: Int64s,
    state: Int64s,
    side: int,
    side_size: int,
    default_bytes: int,
) -> int:
    """Reads records from `state[NEXT]` on; those that can't be read are marked in `failures`.

    Args:
        addresses: of the records, `lengths` bytes each, of which the first `header` are not looked at.
        program, tables: see `formats.avro.program`.
        columns: one row per column, fields as above.
        failures: one row per record, 0 at first.
        state: which record is next, and how much of the side buffer is taken.
        side: address of the buffer for text of more than 12 bytes, `side_size` bytes.
        default_bytes: of all defaults that one item can bring in.

    Returns:
        How many records are done: fewer than there are where a buffer may not have room for the next one.
    """
    steps = program.ctypes.data
    behind = steps + len(program) * _STEP_BYTES
    places = tables.ctypes.data
    cells = columns.ctypes.data
    remaining = np.zeros(MAX_LEVELS, np.int64)
    grows = False
    for column in range(len(columns)):
        grows = grows or columns[column, GROWS] != 0
    for row in range(state[NEXT], len(addresses)):
        length = lengths[row] - header
        if length < 0 or (length == 0 and behind > steps and lengths[row] == 0):
            failures[row, REASON] = why.NO_PAYLOAD if lengths[row] < 0 else why.TRUNCATED
            if lengths[row] == 0:
                failures[row, REASON] = why.EMPTY
            continue
        room = length + default_bytes * (length + 1)
        used = state[USED]
        if used + room > side_size or (grows and not has_room(columns, room)):
            state[NEXT] = row
            return row
        for column in range(len(columns)):
            columns[column, SAVED] = columns[column, COUNT]
            columns[column, SAVED_ITEMS] = columns[column, ITEMS]
        start = addresses[row] + header
        p = start
        end = start + length
        resume = p
        resume_end = end
        step = steps
        while step < behind:
            op = get(step, OP)
            number = get(step, COLUMN)
            column = cells + COLUMN_BYTES * number
            before = p
            if op <= LAST_LEAF:
                null_branch = get(step, NULL_BRANCH)
                if null_branch >= 0:
                    p, branch = read_long(p, end)
                    if p >= 0 and (branch < 0 or branch > 1):
                        p = why.BAD_BRANCH
                    if p >= 0 and branch == null_branch:
                        if number >= 0:
                            put_null(column)
                        step += _STEP_BYTES
                        continue
                if p >= 0:
                    slot = 0
                    if number >= 0:
                        at = get(column, COUNT)
                        slot = get(column, DATA) + at * get(column, SIZE)
                        put(column, COUNT, at + 1)
                    p, used = _read_leaf(p, end, op, step, places, slot, side, used)
                if p >= 0:
                    step += _STEP_BYTES
            elif op == STRUCT:
                put(column, COUNT, get(column, COUNT) + 1)
                step += _STEP_BYTES
            elif op == NULLS:
                put_nulls(cells, places, get(step, A), get(step, B))
                step += _STEP_BYTES
            elif op == CHOICE:
                p, branch = read_long(p, end)
                if p >= 0 and (branch < 0 or branch >= get(step, B)):
                    p = why.BAD_BRANCH
                if p >= 0:
                    entry_at = get(step, A) + branch * BRANCH_FIELDS
                    put_nulls(cells, places, get(places, entry_at + 1), get(places, entry_at + 2))
                    step = steps + _STEP_BYTES * get(places, entry_at)
            elif op == LIST:
                null_branch = get(step, NULL_BRANCH)
                is_null = False
                if null_branch >= 0:
                    p, branch = read_long(p, end)
                    if p >= 0 and (branch < 0 or branch > 1):
                        p = why.BAD_BRANCH
                    is_null = branch == null_branch
                if is_null and p >= 0:
                    if number >= 0:
                        put_null(column)
                    step = steps + _STEP_BYTES * get(step, B)
                else:
                    remaining[get(step, A)] = 0
                    step += _STEP_BYTES
            elif op == ITEM:
                level = get(step, A)
                is_end = False
                if remaining[level] == 0:
                    p, count = read_long(p, end)
                    if p >= 0 and count < 0:
                        count = -count  # the block's size follows, for readers that skip it
                        p, _ = read_length(p, end)
                    if p >= 0 and (count < 0 or count > end - p):
                        p = why.TRUNCATED  # an item has a byte at least
                    is_end = count == 0
                    remaining[level] = count
                if p >= 0 and is_end:
                    if number >= 0:
                        at = get(column, COUNT)
                        store_u64(get(column, DATA) + 8 * (at + 1), get(column, ITEMS))
                        put(column, COUNT, at + 1)
                    step = steps + _STEP_BYTES * get(step, B)
                elif p >= 0:
                    remaining[level] -= 1
                    if number >= 0:
                        put(column, ITEMS, get(column, ITEMS) + 1)
                    step += _STEP_BYTES
            elif op == JUMP:
                step = steps + _STEP_BYTES * get(step, A)
            elif op == DEFAULT:
                resume = p
                resume_end = end
                p = get(step, A)
                end = p + get(step, B)
                step += _STEP_BYTES
            elif op == DEFAULT_END:
                p = resume
                end = resume_end
                step += _STEP_BYTES
            else:
                p = get(step, A)
            if p < 0:
                failures[row, REASON] = p
                failures[row, STEP] = (step - steps) // _STEP_BYTES
                failures[row, PLACE] = before - start
                break
        if p >= 0 and p != end:
            failures[row, REASON] = why.TRAILING
            failures[row, PLACE] = p - start
        if failures[row, REASON] != 0:
            roll_back(columns)
        else:
            state[USED] = used
    state[NEXT] = len(addresses)
    return len(addresses)

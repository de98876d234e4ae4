"""Rows of columns to Avro: a program, made from the schema and the frame's Arrow arrays, run for every row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels.compile import entry, hot, inner
from thalweg.formats.kernels.memory import load_i64, load_u8, load_u32, load_u64, store_u8, store_u32, store_u64
from thalweg.formats.kernels.text import copy

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

# Columns of the program.
OP = 0
DATA = 1
VALIDITY = 2
"""Address of the bitmap; 0: no nulls."""
OFFSET = 3
"""Slots before the first value."""
NULL_BRANCH = 4
"""-1: no union with null."""
LEVEL = 5
"""Which list the value is an item of: 0 for the row itself."""
A = 6
B = 7
END = 8
"""The step behind a STRUCT, LIST or CHOICE, where a null goes on."""
STEP_FIELDS = 9

LONG = 0
FLOAT = 1
DOUBLE = 2
BOOLEAN = 3
BYTES = 4
"""A: address of a table of the addresses of the buffers that long values lie in."""
FIXED = 5
"""A: the same, B: how many bytes."""
DECIMAL = 6
"""A: how many bytes, -1: as few as there need be, their number first."""
STRUCT = 7
LIST = 8
"""`DATA` are offsets; the steps of an item follow."""
ITEM = 9
"""Ends every item; A: the first step of an item."""
JUMP = 10
"""A: to this step."""
CHOICE = 11
"""A: where in the tables the fields of the struct are (`CHOICE_FIELDS` each), B: how many."""
NULL = 12
"""No byte; where `NULL_BRANCH` is set, that branch."""

CHOICE_FIELDS = 4
"""Branch, validity, offset, and the first step of one field."""
MAX_LEVELS = 33

ROOM = 64
"""Bytes that are kept free: more than any value but text needs, or reads beyond its end."""
UNEXPECTED_NULL = 1
WRONG_SIZE = 2
TOO_LARGE = 3

# The state between calls.
DONE = 0
REASON = 1
STEP = 2
STATE_FIELDS = 3


@hot
def _write_long(out: int, value: int) -> int:
    rest = np.uint64(value << 1) ^ np.uint64(value >> 63)
    while rest >= np.uint64(128):
        store_u8(out, np.int64(rest & np.uint64(127)) | 128)
        rest >>= np.uint64(7)
        out += 1
    store_u8(out, np.int64(rest))
    return out + 1


@hot
def _is_valid(bitmap: int, index: int) -> bool:
    return bitmap == 0 or bool((load_u8(bitmap + (index >> 3)) >> (index & 7)) & 1)


@inner
def _write_decimal(out: int, source: int, size: int) -> int:
    """Sixteen little-endian bytes as a big-endian number; the address behind it, 0 where it needs more bytes."""
    filler = 255 if load_u8(source + 15) >= 128 else 0
    needed = 16
    while needed > 1 and load_u8(source + needed - 1) == filler:
        if (load_u8(source + needed - 2) >= 128) != (filler == 255):
            break  # the byte carries the sign
        needed -= 1
    if size < 0:
        out = _write_long(out, needed)
        size = needed
    if needed > size:
        return 0
    for _ in range(size - min(size, 16)):
        store_u8(out, filler)
        out += 1
    for index in range(min(size, 16) - 1, -1, -1):
        store_u8(out, load_u8(source + index))
        out += 1
    return out


@inner
def _chosen(tables: Int64s, start: int, count: int, at: int) -> int:
    """Where in the tables the first field of a choice is that is not null; -1: none."""
    for index in range(count):
        found = start + index * CHOICE_FIELDS
        if _is_valid(tables[found + 1], at + tables[found + 2]):
            return found
    return -1


@entry("int64(int64, int64, int64[:, ::1], int64[::1], int64, int64, uint8[::1], int64[::1], int64[::1])")
def write_avro(
    first: int,
    rows: int,
    program: Int64s,
    tables: Int64s,
    header: int,
    header_size: int,
    data: Bytes,
    offsets: Int64s,
    state: Int64s,
) -> int:
    """Writes the rows [first, rows) behind what `offsets[first]` says is taken, and their ends into `offsets`.

    Args:
        header: address of `header_size` bytes (at most 16) that begin every record.

    Returns:
        The first row for which there was no room left, or that can't be written (then `state[REASON]` says why);
        `rows` when all are written.
    """
    base = data.ctypes.data
    limit = base + len(data) - ROOM
    out = base + offsets[first]
    at = np.zeros(MAX_LEVELS, np.int64)
    stop = np.zeros(MAX_LEVELS, np.int64)
    for row in range(first, rows):
        if out + header_size > limit:
            return row
        copy(out, header, header_size)
        out += header_size
        at[0] = row
        step = 0
        while step < len(program):
            if out > limit:
                return row
            op = program[step, OP]
            if op == JUMP:
                step = program[step, A]
                continue
            level = program[step, LEVEL]
            if op == ITEM:
                at[level + 1] += 1
                if at[level + 1] < stop[level + 1]:
                    step = program[step, A]
                else:
                    store_u8(out, 0)
                    out += 1
                    step += 1
                continue
            slot = at[level] + program[step, OFFSET]
            valid = op != NULL and _is_valid(program[step, VALIDITY], slot)
            null_branch = program[step, NULL_BRANCH]
            if op == CHOICE and valid:
                found = _chosen(tables, program[step, A], program[step, B], at[level])
                valid = found >= 0
                if valid:
                    out = _write_long(out, tables[found])
                    step = tables[found + 3]
                    continue
            if not valid:
                if null_branch >= 0:
                    out = _write_long(out, null_branch)
                elif op != NULL:
                    state[REASON] = UNEXPECTED_NULL
                    state[STEP] = step
                    return row
                step = program[step, END] if op in (STRUCT, LIST, CHOICE) else step + 1
                continue
            if null_branch >= 0:
                out = _write_long(out, 1 - null_branch)
            values = program[step, DATA]
            if op == LONG:
                out = _write_long(out, load_i64(values + 8 * slot))
            elif op in (BYTES, FIXED):
                view = values + 16 * slot
                length = load_u32(view)
                if out + length > limit:
                    return row
                if op == BYTES:
                    out = _write_long(out, length)
                elif length != program[step, B]:
                    state[REASON] = WRONG_SIZE
                    state[STEP] = step
                    return row
                source = view + 4
                if length > 12:
                    source = load_i64(program[step, A] + 8 * load_u32(view + 8)) + load_u32(view + 12)
                copy(out, source, length)
                out += length
            elif op == DOUBLE:
                store_u64(out, load_u64(values + 8 * slot))
                out += 8
            elif op == FLOAT:
                store_u32(out, load_u32(values + 4 * slot))
                out += 4
            elif op == BOOLEAN:
                store_u8(out, 1 if _is_valid(values, slot) else 0)
                out += 1
            elif op == DECIMAL:
                size = program[step, A]
                if out + size > limit:
                    return row
                after = _write_decimal(out, values + 16 * slot, size)
                if after == 0:
                    state[REASON] = TOO_LARGE
                    state[STEP] = step
                    return row
                out = after
            elif op == LIST:
                inside = level + 1
                at[inside] = load_i64(values + 8 * slot)
                stop[inside] = load_i64(values + 8 * slot + 8)
                if at[inside] == stop[inside]:
                    store_u8(out, 0)
                    out += 1
                    step = program[step, END]
                    continue
                out = _write_long(out, stop[inside] - at[inside])
            step += 1
        if out > limit:
            return row
        offsets[row + 1] = out - base
    return rows

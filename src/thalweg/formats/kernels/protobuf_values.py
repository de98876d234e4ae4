"""Single values of Protobuf's wire form. Every read checks its bound first; what is not plain is refused.

A reader gives the address behind the value; a negative one means that the record is one for Google's own library.
"""

from __future__ import annotations

import numpy as np

from thalweg.formats.kernels.avro_columns import get
from thalweg.formats.kernels.avro_values import is_text, read_word, zigzag
from thalweg.formats.kernels.compile import hot, inner
from thalweg.formats.kernels.memory import load_u32, load_u64, move16, signed, store_u8, store_u32, store_u64
from thalweg.formats.kernels.text import write_view

REFUSED = -1

# Wire types.
VARINT, FIXED64, BYTES_OF, FIXED32 = 0, 1, 2, 5

# Columns of a field's row (see `read_protobuf`).
OP = 0
WIRE = 1
COLUMN = 2
"""-1: the value is only looked at, as the library would."""
LIST = 3
"""The list's column; -1: not repeated, -2: repeated, and not wanted."""
MESSAGE = 4
ONEOF = 5
"""Where in the tables the columns of the other members are, and"""
ONEOF_COUNT = 6
"""how many."""
A = 7
B = 8
C = 9
FIELD_FIELDS = 10

# Operations. Leaves:
WORD = 0
HALF = 1
"""The low 32 bits."""
ZIGZAG = 2
ZIGZAG_HALF = 3
BOOLEAN = 4
EIGHT = 5
FOUR = 6
TEXT = 7
BYTES = 8
ENUM = 9
"""A: where in the tables the numbers' symbols are, from the smallest number (B) on; C: address of the views."""
ENUM_COUNT = MESSAGE
"""How many numbers: the field has no message."""
TIME = 10
"""Seconds and nanoseconds as microseconds; A and B: the first and the last second."""
LAST_LEAF = 10
# Messages:
NESTED = 11
WRAPPER = 12
"""A message of one field, which is the column; a default (A: address of a view, 0: zeros) stands for none."""


@hot
def read_size(p: int, end: int) -> tuple[int, int]:
    """A length, and that so many bytes are there."""
    p, word = read_word(p, end)
    if p < 0:
        return REFUSED, 0
    if word > np.uint64(end - p):
        return REFUSED, 0
    return p, signed(word)


@inner
def skip_value(p: int, end: int, wire: int) -> int:
    """The address behind a value that nobody wants."""
    if wire == VARINT:
        p, _ = read_word(p, end)
        return p if p >= 0 else REFUSED
    if wire == BYTES_OF:
        p, size = read_size(p, end)
        return p + size if p >= 0 else REFUSED
    size = 8 if wire == FIXED64 else 4
    if wire not in (FIXED64, FIXED32) or end - p < size:
        return REFUSED  # a group, or no wire type
    return p + size


@inner
def _read_time(p: int, end: int, slot: int, first: int, last: int) -> int:
    """A Timestamp or Duration: seconds and nanoseconds."""
    seconds = 0
    nanos = 0
    while p < end:
        p, tag = read_word(p, end)
        if p < 0 or (tag != np.uint64(8) and tag != np.uint64(16)):
            return REFUSED
        p, word = read_word(p, end)
        if p < 0:
            return REFUSED
        if tag == np.uint64(8):
            seconds = signed(word)
        else:
            low = signed(word & np.uint64(0xFFFFFFFF))
            nanos = low - ((low & 0x80000000) << 1)
    # Negative nanoseconds could bring the first second out of range.
    if seconds < first + (nanos < 0) or seconds > last or nanos < -999_999_999 or nanos > 999_999_999:
        return REFUSED
    if slot != 0:
        store_u64(slot, seconds * 1_000_000 + nanos // 1000)
    return p


@hot
def store_default(slot: int, size: int, view: int) -> None:
    """The value of a field that was not sent: zeros, no text, or an enum's first symbol, whose view is at `view`."""
    if view != 0:
        move16(slot, view)
    elif size == 16:
        store_u64(slot, 0)
        store_u64(slot + 8, 0)
    elif size == 8:
        store_u64(slot, 0)
    elif size == 4:
        store_u32(slot, 0)
    else:
        store_u8(slot, 0)


@hot
def read_value(p: int, end: int, field: int, tables: int, slot: int, side: int, used: int) -> tuple[int, int]:
    """Reads one value of a leaf into `slot` (0: nowhere): (address behind it, bytes of the side buffer taken)."""
    op = get(field, OP)
    if op in (TEXT, BYTES):
        p, size = read_size(p, end)
        if p < 0 or (op == TEXT and not is_text(p, p + size)):
            return REFUSED, used
        return p + size, used if slot == 0 else write_view(slot, p, size, end, side, used)
    if op == EIGHT:
        if end - p < 8:
            return REFUSED, used
        if slot != 0:
            store_u64(slot, load_u64(p))
        return p + 8, used
    if op == FOUR:
        if end - p < 4:
            return REFUSED, used
        if slot != 0:
            store_u32(slot, load_u32(p))
        return p + 4, used
    if op == TIME:
        p, size = read_size(p, end)
        return (REFUSED if p < 0 else _read_time(p, p + size, slot, get(field, A), get(field, B))), used
    p, word = read_word(p, end)
    if p < 0:
        return REFUSED, used
    if slot == 0:
        return p, used
    if op == WORD:
        store_u64(slot, word)
    elif op == HALF:
        store_u32(slot, signed(word))
    elif op == ZIGZAG:
        store_u64(slot, zigzag(word))
    elif op == ZIGZAG_HALF:
        store_u32(slot, zigzag(word & np.uint64(0xFFFFFFFF)))
    elif op == BOOLEAN:
        store_u8(slot, 1 if word != np.uint64(0) else 0)
    else:
        low = signed(word & np.uint64(0xFFFFFFFF))
        index = low - ((low & 0x80000000) << 1) - get(field, B)
        if index < 0 or index >= get(field, ENUM_COUNT):
            return REFUSED, used
        symbol = get(tables, get(field, A) + index)
        if symbol < 0:
            return REFUSED, used
        move16(slot, get(field, C) + 16 * symbol)
    return p, used

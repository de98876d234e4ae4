"""Rows of columns to JSON objects: one pass over the rows, straight from Arrow's buffers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels.compile import entry, hot, inner
from thalweg.formats.kernels.memory import (
    load_i64,
    load_u8,
    load_u32,
    marks16,
    store_u8,
    store_u16,
    trailing_zeros,
)
from thalweg.formats.kernels.text import copy
from thalweg.formats.kernels.times import FIRST_SECOND, LAST_SECOND, SECONDS_PER_DAY, write_date, write_time
from thalweg.formats.kernels.write_numbers import (
    write_digits,
    write_double,
    write_integer,
    write_single,
    write_unsigned,
)

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

# What a column holds.
BOOLEAN = 0
SIGNED = 1
UNSIGNED = 2
DOUBLE = 3
SINGLE = 4
TEXT = 5
JSON = 6
"""Strings that are JSON already."""
TIME = 7
DATE = 8

# Columns of the column table.
KIND = 0
DATA = 1
VALIDITY = 2
"""Address of the bitmap; 0: no nulls."""
OFFSET = 3
"""Slots of `DATA` and `VALIDITY` before the first row."""
PREFIX = 4
"""Address of what stands before the value: a brace or a comma, and the key with its colon."""
PREFIX_LENGTH = 5
EXTRA = 6
"""TEXT and JSON: address of a table of the addresses of the string buffers. TIME: ticks per second."""
FIELDS = 7

ROOM = 64
"""Bytes that are kept free: more than any value but text needs, or reads beyond its end."""

_ESCAPES = np.zeros(128, np.uint8)
for _byte, _letter in zip(b'"\\\b\f\n\r\t', b'"\\bfnrt', strict=True):
    _ESCAPES[_byte] = _letter


@hot
def _bit(bitmap: int, index: int) -> bool:
    return bool((load_u8(bitmap + (index >> 3)) >> (index & 7)) & 1)


@inner
def _hex(digit: int) -> int:
    return digit + (48 if digit < 10 else 87)


@inner
def _write_escape(out: int, byte: int) -> int:
    store_u8(out, 92)
    if _ESCAPES[byte] != 0:
        store_u8(out + 1, _ESCAPES[byte])
        return out + 2
    store_u8(out + 1, 117)
    store_u16(out + 2, 0x3030)
    store_u8(out + 4, _hex(byte >> 4))
    store_u8(out + 5, _hex(byte & 15))
    return out + 6


@hot
def _write_text(out: int, source: int, length: int) -> int:
    """Writes a string in quotes, escaped as JSON asks (at most 6 * length + 2 bytes)."""
    store_u8(out, 34)
    out += 1
    while length > 0:
        block = min(length, 16)
        copy(out, source, block)
        # Looked at where it was copied to: there is room for 16 bytes there, beyond the source perhaps not.
        special = marks16(out) & ((1 << block) - 1) & 0xFFFF
        if special == 0:
            out += block
            source += block
            length -= block
            continue
        plain = trailing_zeros(np.uint64(special))
        out = _write_escape(out + plain, load_u8(source + plain))
        source += plain + 1
        length -= plain + 1
    store_u8(out, 34)
    return out + 1


@hot
def _write_moment(out: int, ticks: int, per_second: int) -> int:
    """Writes a time with milliseconds, with more digits where it has them; outside of years 1 to 9999 a number."""
    per_millisecond = per_second // 1000
    milliseconds = ticks // per_millisecond
    if milliseconds < FIRST_SECOND * 1000 or milliseconds > LAST_SECOND * 1000 + 999:
        return write_integer(out, milliseconds)
    rest = ticks - milliseconds * per_millisecond
    store_u8(out, 34)
    out = write_time(out + 1, milliseconds)
    if rest != 0:
        out = write_digits(out - 1, np.uint64(rest), 3 if per_second == 1_000_000 else 6)
        store_u8(out, 90)
        out += 1
    store_u8(out, 34)
    return out + 1


@inner
def _write_day(out: int, days: int) -> int:
    if days < FIRST_SECOND // SECONDS_PER_DAY or days > LAST_SECOND // SECONDS_PER_DAY:
        return write_integer(out, days)
    store_u8(out, 34)
    out = write_date(out + 1, days)
    store_u8(out, 34)
    return out + 1


@hot
def _write_null(out: int) -> int:
    store_u16(out, 0x756E)
    store_u16(out + 2, 0x6C6C)
    return out + 4


@inner
def _write_boolean(out: int, value: bool) -> int:
    if value:
        store_u16(out, 0x7274)
        store_u16(out + 2, 0x6575)
        return out + 4
    store_u8(out, 102)
    store_u16(out + 1, 0x6C61)
    store_u16(out + 3, 0x6573)
    return out + 5


@hot
def _write_fixed(out: int, kind: int, data: int, slot: int, extra: int) -> int:
    """Writes a value that is no text."""
    if kind == SIGNED:
        return write_integer(out, load_i64(data + 8 * slot))
    if kind in (DOUBLE, SINGLE):
        after = write_double(out, data + 8 * slot) if kind == DOUBLE else write_single(out, data + 4 * slot)
        return after if after != 0 else _write_null(out)
    if kind == BOOLEAN:
        return _write_boolean(out, _bit(data, slot))
    if kind == TIME:
        return _write_moment(out, load_i64(data + 8 * slot), extra)
    if kind == DATE:
        days = load_u32(data + 4 * slot)
        return _write_day(out, days - (1 << 32) if days >= 1 << 31 else days)
    return write_unsigned(out, np.uint64(load_i64(data + 8 * slot)))


@entry("int64(int64, int64, int64[:, ::1], uint8[::1], int64[::1])")
def write_rows(first: int, rows: int, columns: Int64s, data: Bytes, offsets: Int64s) -> int:
    """Writes the rows [first, rows) behind what `offsets[first]` says is taken, and their ends into `offsets`.

    Returns:
        The first row for which there was no room left; `rows` when all are written.
    """
    base = data.ctypes.data
    limit = base + len(data) - ROOM
    out = base + offsets[first]
    for row in range(first, rows):
        for index in range(len(columns)):
            kind = columns[index, KIND]
            length = columns[index, PREFIX_LENGTH]
            slot = row + columns[index, OFFSET]
            validity = columns[index, VALIDITY]
            valid = validity == 0 or _bit(validity, slot)
            view = columns[index, DATA] + 16 * slot
            text = 0
            if valid and kind in (TEXT, JSON):
                text = load_u32(view)
            if out + length + 6 * text > limit:
                return row
            copy(out, columns[index, PREFIX], length)
            out += length
            if not valid:
                out = _write_null(out)
            elif kind in (TEXT, JSON):
                source = view + 4
                if text > 12:
                    buffer = load_u32(view + 8)
                    source = load_i64(columns[index, EXTRA] + 8 * buffer) + load_u32(view + 12)
                if kind == TEXT:
                    out = _write_text(out, source, text)
                else:
                    copy(out, source, text)
                    out += text
            else:
                out = _write_fixed(out, kind, columns[index, DATA], slot, columns[index, EXTRA])
        if out > limit:
            return row
        if len(columns) == 0:
            store_u8(out, 123)
            out += 1
        store_u8(out, 125)
        out += 1
        offsets[row + 1] = out - base
    return rows

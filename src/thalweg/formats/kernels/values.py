"""One JSON value into one slot of a column."""

from __future__ import annotations

import numpy as np

from thalweg.formats.kernels.compile import hot
from thalweg.formats.kernels.memory import load_u8, load_u32, store_f64, store_u64
from thalweg.formats.kernels.numbers import INTEGER, NOT_A_NUMBER, scan_number, to_double
from thalweg.formats.kernels.skip import skip_value
from thalweg.formats.kernels.text import NOT_A_STRING, PLAIN, scan_string, unescape, valid_utf8, write_view
from thalweg.formats.kernels.times import FIRST_SECOND, LAST_SECOND, parse_any_time, parse_date

# What a column holds. The slot is 8 bytes, 16 for STRING (a view) and SPAN (address and length of the value).
SKIP = 0
BOOLEAN = 1
INTEGERS = 2
DOUBLE = 3
STRING = 4
TIME = 5
DATE = 6
SPAN = 7
NOTHING = 8
"""Null only; there are no slots."""
OBJECT = 9
"""An object whose fields are columns of their own; there are no slots."""

_NULL = 0x6C6C756E
_TRUE = 0x65757274
_ALSE = 0x65736C61

REFUSED = -1
IS_NULL = -2
"""`read_value` gives these in place of an address."""


@hot
def _read_string(p: int, end: int, slot: int, side: int, used: int) -> tuple[int, int]:
    if load_u8(p) != 34:
        return REFUSED, used
    close, shape, ascii_only = scan_string(p + 1, end)
    if shape == PLAIN:
        if not ascii_only and not valid_utf8(p + 1, close):
            return REFUSED, used
        return close + 1, write_view(slot, p + 1, close - p - 1, end, side, used)
    if shape == NOT_A_STRING:
        return REFUSED, used
    # The undone text goes behind what the side buffer holds; a short one moves into the view and frees its place.
    close, length = unescape(p + 1, end, side + used)
    if close < 0:
        return REFUSED, used
    text = side + used
    if length > 12:
        store_u64(slot, length | load_u32(text) << 32)
        store_u64(slot + 8, used << 32)
        return close + 1, used + length
    return close + 1, write_view(slot, text, length, text, side, used)


@hot
def _read_number(p: int, end: int, kind: int, slot: int, low: int, high: int) -> int:
    p, token, negative, mantissa, exponent = scan_number(p, end)
    if token == NOT_A_NUMBER:
        return REFUSED
    if kind == DOUBLE:
        finite, value = to_double(negative, mantissa, exponent)
        if not finite:
            return REFUSED
        if token == INTEGER and value == 0.0:
            value = 0.0  # the integer -0 has no sign
        store_f64(slot, value)
        return p
    if token != INTEGER or mantissa > np.uint64(0x7FFFFFFFFFFFFFFF):
        return REFUSED
    number = -np.int64(mantissa) if negative else np.int64(mantissa)
    if number < low or number > high:
        return REFUSED
    store_u64(slot, number)
    return p


@hot
def _read_time(p: int, end: int, kind: int, slot: int, ticks: int) -> int:
    """A time as text, or as milliseconds; `ticks` per second are stored."""
    if load_u8(p) == 34:
        close, shape, _ = scan_string(p + 1, end)
        if shape != PLAIN:
            return REFUSED
        if kind == DATE:
            fine, days = parse_date(p + 1, close)
            if not fine or close - p != 11:
                return REFUSED
            store_u64(slot, days)
            return close + 1
        fine, seconds, nanoseconds = parse_any_time(p + 1, close)
        # A double bounds the product before it can overflow (only nanoseconds can).
        if not fine or abs(float(seconds) * float(ticks)) > 9.2e18:
            return REFUSED
        store_u64(slot, seconds * ticks + nanoseconds // (1_000_000_000 // ticks))
        return close + 1
    if kind == DATE:
        return REFUSED
    p, token, negative, mantissa, _ = scan_number(p, end)
    if token != INTEGER or mantissa > np.uint64(LAST_SECOND * 1000 + 999):
        return REFUSED
    milliseconds = -np.int64(mantissa) if negative else np.int64(mantissa)
    if milliseconds < FIRST_SECOND * 1000 or abs(float(milliseconds) * float(ticks)) > 9.2e21:
        return REFUSED
    store_u64(slot, milliseconds * (ticks // 1000))
    return p


@hot
def read_value(p: int, end: int, kind: int, slot: int, low: int, high: int, side: int, used: int) -> tuple[int, int]:
    """Reads the value at `p` into `slot`: (address behind it, bytes of the side buffer taken).

    `REFUSED` where the value is of another type, out of range or not simple, `IS_NULL` (four bytes long) for null.
    """
    if p >= end:
        return REFUSED, used
    if p + 4 <= end and load_u32(p) == _NULL:
        return IS_NULL, used
    if kind == STRING:
        return _read_string(p, end, slot, side, used)
    if kind in (DOUBLE, INTEGERS):
        return _read_number(p, end, kind, slot, low, high), used
    if kind in (TIME, DATE):
        return _read_time(p, end, kind, slot, low), used
    if kind == BOOLEAN:
        if p + 4 <= end and load_u32(p) == _TRUE:
            store_u64(slot, 1)
            return p + 4, used
        if p + 5 <= end and load_u8(p) == 102 and load_u32(p + 1) == _ALSE:
            store_u64(slot, 0)
            return p + 5, used
        return REFUSED, used
    if kind in (NOTHING, OBJECT):
        return REFUSED, used
    stop = skip_value(p, end)
    if stop >= 0 and kind == SPAN:
        store_u64(slot, p)
        store_u64(slot + 8, stop - p)
    return stop, used

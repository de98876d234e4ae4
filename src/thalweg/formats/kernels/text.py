"""JSON strings: finding their end, checking UTF-8, undoing escapes, and the 16-byte views that Arrow keeps."""

from __future__ import annotations

import numpy as np

from thalweg.formats.kernels.compile import hot, inner
from thalweg.formats.kernels.memory import (
    load_i64,
    load_u8,
    load_u32,
    load_u64,
    marks16,
    move16,
    store_u8,
    store_u64,
    trailing_zeros,
)

PLAIN = 0
ESCAPED = 1
NOT_A_STRING = 2


@hot
def scan_string(p: int, end: int) -> tuple[int, int, bool]:
    """From the byte after the opening quote: (address of the closing quote, what it is, whether ASCII only).

    For `ESCAPED` the address is that of the first backslash. A control character or a missing quote is `NOT_A_STRING`.
    """
    ascii_only = True
    while p + 16 <= end:
        marks = marks16(p)
        special = marks & 0xFFFF
        high = marks >> 16
        if special == 0:
            if high != 0:
                ascii_only = False
            p += 16
            continue
        at = trailing_zeros(np.uint64(special))
        if high & ((1 << at) - 1) != 0:
            ascii_only = False
        p += at
        byte = load_u8(p)
        return p, PLAIN if byte == 34 else ESCAPED if byte == 92 else NOT_A_STRING, ascii_only
    while p < end:
        byte = load_u8(p)
        if byte == 34:
            return p, PLAIN, ascii_only
        if byte == 92:
            return p, ESCAPED, ascii_only
        if byte < 32:
            return p, NOT_A_STRING, ascii_only
        if byte >= 128:
            ascii_only = False
        p += 1
    return p, NOT_A_STRING, ascii_only


@inner
def valid_utf8(p: int, stop: int) -> bool:
    """Whether [p, stop) is UTF-8 (Unicode, table 3-7): no overlong forms, no surrogates, nothing above 10FFFF."""
    while p < stop:
        byte = load_u8(p)
        if byte < 0x80:
            p += 1
            continue
        low = 0x80
        high = 0xBF
        if 0xC2 <= byte <= 0xDF:
            more = 1
        elif 0xE0 <= byte <= 0xEF:
            more = 2
            if byte == 0xE0:
                low = 0xA0
            elif byte == 0xED:
                high = 0x9F
        elif 0xF0 <= byte <= 0xF4:
            more = 3
            if byte == 0xF0:
                low = 0x90
            elif byte == 0xF4:
                high = 0x8F
        else:
            return False
        if p + more >= stop:
            return False
        second = load_u8(p + 1)
        if second < low or second > high:
            return False
        for i in range(2, more + 1):
            if load_u8(p + i) & 0xC0 != 0x80:
                return False
        p += more + 1
    return True


@inner
def _hex4(p: int, end: int) -> int:
    """Four hexadecimal digits, or -1."""
    if p + 4 > end:
        return -1
    value = 0
    for i in range(4):
        byte = load_u8(p + i)
        if 48 <= byte <= 57:
            digit = byte - 48
        elif 97 <= (byte | 32) <= 102:
            digit = (byte | 32) - 87
        else:
            return -1
        value = value * 16 + digit
    return value


@inner
def _simple_escape(byte: int) -> int:
    if byte == 110:
        return 10
    if byte == 116:
        return 9
    if byte == 114:
        return 13
    if byte == 98:
        return 8
    if byte == 102:
        return 12
    if byte == 34 or byte == 92 or byte == 47:
        return byte
    return -1


@inner
def _write_utf8(out: int, point: int) -> int:
    """Writes one code point; gives the address behind it."""
    if point < 0x80:
        store_u8(out, point)
        return out + 1
    if point < 0x800:
        store_u8(out, 0xC0 | point >> 6)
        store_u8(out + 1, 0x80 | point & 0x3F)
        return out + 2
    if point < 0x10000:
        store_u8(out, 0xE0 | point >> 12)
        store_u8(out + 1, 0x80 | point >> 6 & 0x3F)
        store_u8(out + 2, 0x80 | point & 0x3F)
        return out + 3
    store_u8(out, 0xF0 | point >> 18)
    store_u8(out + 1, 0x80 | point >> 12 & 0x3F)
    store_u8(out + 2, 0x80 | point >> 6 & 0x3F)
    store_u8(out + 3, 0x80 | point & 0x3F)
    return out + 4


@hot
def copy(target: int, source: int, length: int) -> None:
    """Copies `length` bytes; reads and writes nothing outside of them."""
    done = 0
    while done + 16 <= length:
        move16(target + done, source + done)
        done += 16
    if done == length:
        return
    if length >= 16:
        move16(target + length - 16, source + length - 16)
        return
    if length - done >= 8:
        store_u64(target + done, load_i64(source + done))
        done += 8
    while done < length:
        store_u8(target + done, load_u8(source + done))
        done += 1


@inner
def read_escape(p: int, end: int) -> tuple[int, int]:
    """Reads one escape from its backslash on: (address behind it, code point); (-1, 0) where it is none, or half a
    surrogate pair."""
    if p + 1 >= end:
        return -1, 0
    byte = load_u8(p + 1)
    if byte != 117:
        simple = _simple_escape(byte)
        return (p + 2, simple) if simple >= 0 else (-1, 0)
    point = _hex4(p + 2, end)
    p += 6
    if point < 0 or 0xDC00 <= point <= 0xDFFF:
        return -1, 0
    if 0xD800 <= point <= 0xDBFF:
        if p + 6 > end or load_u8(p) != 92 or load_u8(p + 1) != 117:
            return -1, 0
        low = _hex4(p + 2, end)
        if low < 0xDC00 or low > 0xDFFF:
            return -1, 0
        return p + 6, 0x10000 + ((point - 0xD800) << 10) + (low - 0xDC00)
    return p, point


@inner
def unescape(p: int, end: int, out: int) -> tuple[int, int]:
    """Copies a string's bytes from after its opening quote to `out`, with escapes undone.

    Gives (address of the closing quote, bytes written); (-1, 0) where it is no string or not UTF-8. Never writes more
    bytes than it reads: `out` has room for the rest of the record.
    """
    start = p
    base = out
    while True:
        stop, shape, _ = scan_string(p, end)
        if shape == NOT_A_STRING:
            return -1, 0
        copy(out, p, stop - p)
        out += stop - p
        if shape == PLAIN:
            return (stop, out - base) if valid_utf8(start, stop) else (-1, 0)
        p, point = read_escape(stop, end)
        if p < 0:
            return -1, 0
        out = _write_utf8(out, point)


@inner
def skip_escaped(p: int, end: int) -> int:
    """The address of the closing quote of a string, from after its opening quote; -1 where `unescape` gives up."""
    start = p
    while True:
        p, shape, _ = scan_string(p, end)
        if shape == NOT_A_STRING:
            return -1
        if shape == PLAIN:
            return p if valid_utf8(start, p) else -1
        p, _ = read_escape(p, end)
        if p < 0:
            return -1


@hot
def write_view(view: int, start: int, length: int, readable: int, side: int, used: int) -> int:
    """Writes the 16-byte view of a string at `view`; longer ones are copied to the side buffer at `side` + `used`.

    Args:
        view: where the view goes.
        start: the string's bytes, `length` of them.
        readable: the first address that must not be read.
        side: the side buffer, Arrow's buffer 0 of the column, with room for `length` more bytes.
        used: how many of its bytes are taken.

    Returns:
        How many bytes of the side buffer are taken afterwards.
    """
    if length > 12:
        store_u64(view, length | load_u32(start) << 32)
        store_u64(view + 8, used << 32)
        copy(side + used, start, length)
        return used + length
    low = np.uint64(0)
    high = np.uint64(0)
    if start + 16 <= readable:
        low = load_u64(start)
        high = load_u64(start + 8)
        if length < 8:
            low &= (np.uint64(1) << np.uint64(8 * length)) - np.uint64(1)
            high = np.uint64(0)
        else:
            high &= (np.uint64(1) << np.uint64(8 * (length - 8))) - np.uint64(1)
    else:
        for i in range(length):
            if i < 8:
                low |= np.uint64(load_u8(start + i)) << np.uint64(8 * i)
            else:
                high |= np.uint64(load_u8(start + i)) << np.uint64(8 * (i - 8))
    store_u64(view, np.uint64(length) | low << np.uint64(32))
    store_u64(view + 8, low >> np.uint64(32) | high << np.uint64(32))
    return used

"""Single values of Avro's binary form: integers of variable length, text, decimals. Every read checks its bound first.

A reader gives (address behind the value, the value); a negative address is the reason why there is none.
"""

from __future__ import annotations

import numpy as np

from thalweg.formats.kernels.compile import hot, inner
from thalweg.formats.kernels.memory import load_u8, load_u64, signed, store_u64, trailing_zeros
from thalweg.formats.kernels.text import valid_utf8

# Why a record can't be read. Never 0.
TRUNCATED = -1
OVERLONG = -2
BAD_BRANCH = -3
BAD_SYMBOL = -4
BAD_BOOLEAN = -5
BAD_LENGTH = -6
BAD_TEXT = -7
TRAILING = -8
OUT_OF_RANGE = -9
UNEXPECTED_NULL = -10
NO_MATCH = -11
NO_PAYLOAD = -12
EMPTY = -13
UNKNOWN_SYMBOL = -14

_HIGH_BITS = np.uint64(0x8080808080808080)


@inner
def _read_word_slowly(p: int, end: int) -> tuple[int, np.uint64]:
    value = np.uint64(0)
    shift = 0
    while p < end:
        byte = load_u8(p)
        p += 1
        if shift == 63 and byte > 1:
            return OVERLONG, np.uint64(0)
        value |= np.uint64(byte & 127) << np.uint64(shift)
        if byte < 128:
            return p, value
        shift += 7
        if shift > 63:
            return OVERLONG, np.uint64(0)
    return TRUNCATED, np.uint64(0)


@hot
def read_word(p: int, end: int) -> tuple[int, np.uint64]:
    """64 bits in one to ten bytes, seven in each, the low ones first."""
    if p >= end:
        return TRUNCATED, np.uint64(0)
    byte = load_u8(p)
    if byte < 128:
        return p + 1, np.uint64(byte)
    if p + 8 > end:
        return _read_word_slowly(p, end)
    word = load_u64(p)
    stops = ~word & _HIGH_BITS
    if stops == np.uint64(0):
        return _read_word_slowly(p, end)
    # Keep the bytes up to the first without its high bit, then close the gaps of one bit in each byte.
    bits = trailing_zeros(stops)
    word &= np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(63 - bits)
    word &= np.uint64(0x7F7F7F7F7F7F7F7F)
    word = (word & np.uint64(0x007F007F007F007F)) | ((word & np.uint64(0x7F007F007F007F00)) >> np.uint64(1))
    word = (word & np.uint64(0x00003FFF00003FFF)) | ((word & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2))
    word = (word & np.uint64(0x000000000FFFFFFF)) | ((word & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4))
    return p + (bits >> 3) + 1, word


@hot
def zigzag(word: np.uint64) -> int:
    """0, -1, 1, -2 … of 0, 1, 2, 3 …"""
    return signed(word >> np.uint64(1)) ^ -signed(word & np.uint64(1))


@hot
def read_long(p: int, end: int) -> tuple[int, int]:
    """A zig-zag integer of one to ten bytes."""
    p, word = read_word(p, end)
    return p, zigzag(word)


@hot
def read_length(p: int, end: int) -> tuple[int, int]:
    """A length, and that so many bytes are there."""
    p, length = read_long(p, end)
    if p < 0:
        return p, 0
    if length < 0:
        return BAD_LENGTH, 0
    if length > end - p:
        return TRUNCATED, 0
    return p, length


@hot
def is_text(p: int, stop: int) -> bool:
    """Whether [p, stop) is UTF-8; ASCII is looked at eight bytes at a time."""
    while p + 8 <= stop:
        if load_u64(p) & _HIGH_BITS != np.uint64(0):
            return valid_utf8(p, stop)
        p += 8
    while p < stop:
        if load_u8(p) >= 128:
            return valid_utf8(p, stop)
        p += 1
    return True


@inner
def read_decimal(p: int, length: int, slot: int, limit_low: int, limit_high: int) -> bool:
    """A big-endian two's complement number into 16 little-endian bytes; false where its magnitude reaches the limit.

    Without a byte it is 0.
    """
    stop = p + length
    negative = length > 0 and load_u8(p) >= 128
    filler = 255 if negative else 0
    while stop - p > 16:
        if load_u8(p) != filler:
            return False
        p += 1
    if stop - p == 16 and length > 16 and (load_u8(p) >= 128) != negative:
        return False
    low = np.uint64(0xFFFFFFFFFFFFFFFF) if negative else np.uint64(0)
    high = low
    while p < stop:
        high = high << np.uint64(8) | low >> np.uint64(56)
        low = low << np.uint64(8) | np.uint64(load_u8(p))
        p += 1
    store_u64(slot, low)
    store_u64(slot + 8, high)
    if negative:
        low = ~low + np.uint64(1)
        high = ~high + (np.uint64(1) if low == np.uint64(0) else np.uint64(0))
    most_high = np.uint64(limit_high)
    return bool(high < most_high or (high == most_high and low < np.uint64(limit_low)))

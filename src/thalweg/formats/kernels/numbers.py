"""JSON numbers: one token to (mantissa, exponent), and that to the nearest double.

A token that is not simple (more than 19 significant digits, an absurd exponent) is refused, never approximated: its
record goes to the general parser.
"""

from __future__ import annotations

import numpy as np

from thalweg.formats.kernels.compile import hot, inner
from thalweg.formats.kernels.memory import (
    float_from_bits,
    leading_zeros,
    load_u8,
    load_u64,
    multiply_wide,
    signed,
    trailing_zeros,
)
from thalweg.formats.kernels.powers import EXACT, READ_HIGH, READ_LOW, TENS

NOT_A_NUMBER = 0
INTEGER = 1
FLOAT = 2

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_ZEROS = np.uint64(0x3030303030303030)
_HIGH = np.uint64(0x8080808080808080)
_TO_HIGH = np.uint64(0x7676767676767676)
_TEN = np.uint64(10)
_EIGHT_DIGITS = np.uint64(100_000_000)
_EXACT_MANTISSA = np.uint64(1 << 53)
_HIDDEN_BIT = np.uint64(1 << 52)


@hot
def _eight(word: np.uint64) -> np.uint64:
    """The value of eight digits (0–9 each, first digit in the lowest byte)."""
    word = (word * np.uint64(2561)) >> np.uint64(8)
    word = ((word & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601)) >> np.uint64(16)
    return ((word & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001)) >> np.uint64(32)


@hot
def scan_digits(p: int, end: int, value: np.uint64) -> tuple[int, np.uint64]:
    """Reads digits from `p` on, appended to `value` (modulo 2**64); gives the first address that has none."""
    while p + 8 <= end:
        word = load_u64(p) ^ _ZEROS
        others = ((word + _TO_HIGH) | word) & _HIGH
        if others == _ZERO:
            value = value * _EIGHT_DIGITS + _eight(word)
            p += 8
            continue
        count = trailing_zeros(others) >> 3
        if count > 0:
            value = value * TENS[count] + _eight(word << np.uint64(64 - 8 * count))
        return p + count, value
    while p < end:
        digit = load_u8(p) - 48
        if digit < 0 or digit > 9:
            break
        value = value * _TEN + np.uint64(digit)
        p += 1
    return p, value


@inner
def _leading_zero_digits(p: int, stop: int) -> int:
    """How many zeros (the point aside) stand before the first other digit."""
    count = 0
    while p < stop:
        byte = load_u8(p)
        if byte == 48:
            count += 1
        elif byte != 46:
            break
        p += 1
    return count


@hot
def scan_number(p: int, end: int) -> tuple[int, int, bool, np.uint64, int]:
    """Reads one JSON number: (address behind it, kind, negative, mantissa, exponent of ten)."""
    mantissa = _ZERO
    negative = p < end and load_u8(p) == 45
    if negative:
        p += 1
    first = p
    p, mantissa = scan_digits(p, end, mantissa)
    digits = p - first
    if digits == 0 or (digits > 1 and load_u8(first) == 48):
        return p, NOT_A_NUMBER, negative, mantissa, 0
    kind = INTEGER
    exponent = 0
    if p < end and load_u8(p) == 46:
        kind = FLOAT
        point = p + 1
        p, mantissa = scan_digits(point, end, mantissa)
        exponent = point - p
        if exponent == 0:
            return p, NOT_A_NUMBER, negative, mantissa, 0
        digits -= exponent
    if digits > 19 and digits - _leading_zero_digits(first, p) > 19:
        return p, NOT_A_NUMBER, negative, mantissa, 0
    if p < end and (load_u8(p) | 32) == 101:
        kind = FLOAT
        p += 1
        sign = load_u8(p) if p < end else 0
        if sign == 43 or sign == 45:
            p += 1
        start = p
        p, power = scan_digits(p, end, _ZERO)
        if p == start or p - start > 4:
            return p, NOT_A_NUMBER, negative, mantissa, 0
        exponent += -signed(power) if sign == 45 else signed(power)
    return p, kind, negative, mantissa, exponent


@hot
def to_double(negative: bool, mantissa: np.uint64, exponent: int) -> tuple[bool, float]:
    """The double nearest to mantissa * 10**exponent; false where it is beyond the largest.

    Clinger's fast path where mantissa and power are exact doubles, else Eisel and Lemire's product (Lemire: Number
    parsing at a gigabyte per second, 2021), which is exact for every mantissa of up to 19 digits.
    """
    if mantissa <= _EXACT_MANTISSA and -22 <= exponent <= 22:
        value = float(mantissa)
        value = value / EXACT[-exponent] if exponent < 0 else value * EXACT[exponent]
        return True, -value if negative else value
    finite, bits = _nearest(mantissa, exponent)
    if negative:
        bits |= np.uint64(1 << 63)
    return finite, float_from_bits(bits)


@hot
def _nearest(mantissa: np.uint64, exponent: int) -> tuple[bool, np.uint64]:
    if mantissa == _ZERO or exponent < -342:
        return True, _ZERO
    if exponent > 308:
        return False, _ZERO
    zeros = leading_zeros(mantissa)
    mantissa <<= np.uint64(zeros)
    low, high = multiply_wide(mantissa, READ_HIGH[exponent + 342])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):
        # 64 bits of the power may not settle the rounding: add what its lower half brings.
        _, more = multiply_wide(mantissa, READ_LOW[exponent + 342])
        low += more
        if more > low:
            high += _ONE
    upper = high >> np.uint64(63)
    shift = upper + np.uint64(9)
    bits = high >> shift
    power = ((217706 * exponent) >> 16) + 63 + signed(upper) - zeros + 1023
    if power <= 0:  # subnormal
        if 1 - power >= 64:
            return True, _ZERO
        bits >>= np.uint64(1 - power)
        bits = (bits + (bits & _ONE)) >> _ONE
        return True, bits
    if low <= _ONE and -4 <= exponent <= 23 and bits & np.uint64(3) == _ONE and bits << shift == high:
        bits &= ~_ONE  # exactly halfway: to even
    bits = (bits + (bits & _ONE)) >> _ONE
    if bits >= np.uint64(1 << 53):
        bits = _HIDDEN_BIT
        power += 1
    if power >= 0x7FF:
        return False, _ZERO
    return True, (bits & ~_HIDDEN_BIT) | (np.uint64(power) << np.uint64(52))

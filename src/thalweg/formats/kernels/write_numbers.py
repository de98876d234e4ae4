"""Integers and floats as text: floats with the fewest digits that read back as the same double, laid out as Python's
`repr` does."""

from __future__ import annotations

import numpy as np

from thalweg.formats.kernels.compile import hot, inner
from thalweg.formats.kernels.memory import (
    leading_zeros,
    load_i64,
    load_u32,
    multiply_wide,
    signed,
    store_u8,
)
from thalweg.formats.kernels.powers import SMALLEST_DIGITS_POWER, TENS, WRITE_HIGH, WRITE_LOW
from thalweg.formats.kernels.times import write_pair

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_FOUR = np.uint64(4)
_TEN = np.uint64(10)
_HUNDRED = np.uint64(100)


@hot
def count_digits(value: np.uint64) -> int:
    """How many decimal digits `value` has; 1 for 0."""
    if value == _ZERO:
        return 1
    guess: int = ((64 - leading_zeros(value)) * 1233) >> 12
    return guess + (1 if value >= TENS[guess] else 0)


@hot
def write_digits(out: int, value: np.uint64, count: int) -> int:
    """Writes `value` with exactly `count` digits; gives the address behind them."""
    at = out + count
    while at - out >= 2:
        rest = value // _HUNDRED
        at -= 2
        write_pair(at, signed(value - rest * _HUNDRED))
        value = rest
    if at > out:
        store_u8(out, 48 + signed(value % _TEN))
    return out + count


@hot
def write_unsigned(out: int, value: np.uint64) -> int:
    """Writes an unsigned integer (at most 20 bytes)."""
    return write_digits(out, value, count_digits(value))


@hot
def write_integer(out: int, value: int) -> int:
    """Writes a signed integer (at most 20 bytes)."""
    if value < 0:
        store_u8(out, 45)
        return write_unsigned(out + 1, _ZERO - np.uint64(value))
    return write_unsigned(out, np.uint64(value))


@hot
def _round_to_odd(high: np.uint64, low: np.uint64, value: np.uint64) -> np.uint64:
    """The upper 64 bits of (high, low) * value; the lowest bit is set where anything was cut off."""
    _, below = multiply_wide(low, value)
    middle, above = multiply_wide(high, value)
    total = middle + below
    if total < middle:
        above += _ONE
    odd: np.uint64 = above | (_ONE if total > _ONE else _ZERO)
    return odd


@hot
def shortest(significand: np.uint64, exponent: int, narrow_below: bool) -> tuple[np.uint64, int]:
    """The shortest decimal within the rounding interval of significand * 2**exponent, the nearest one where several
    are: (digits, exponent of ten). Raffaello Giulietti: The Schubfach way to render doubles, 2020.

    Args:
        significand: of the double or float, with its hidden bit.
        exponent: its binary exponent.
        narrow_below: the next smaller number is only half as far as the next greater one.
    """
    if -52 <= exponent <= 0 and significand & ((_ONE << np.uint64(-exponent)) - _ONE) == _ZERO:
        return significand >> np.uint64(-exponent), 0  # a whole number of at most 53 bits
    odd = significand & _ONE
    k = (exponent * 1262611 - (524031 if narrow_below else 0)) >> 22
    shift = np.uint64(exponent + ((-k * 1741647) >> 19) + 1)
    high = WRITE_HIGH[-k - SMALLEST_DIGITS_POWER]
    low = WRITE_LOW[-k - SMALLEST_DIGITS_POWER]
    centre = _FOUR * significand
    left = centre - (_ONE if narrow_below else np.uint64(2))
    lower = _round_to_odd(high, low, left << shift) + odd
    value = _round_to_odd(high, low, centre << shift)
    upper = _round_to_odd(high, low, (centre + np.uint64(2)) << shift) - odd
    digits = value >> np.uint64(2)
    if digits >= _TEN:
        tens = digits // _TEN
        below = lower <= np.uint64(40) * tens
        above = np.uint64(40) * tens + np.uint64(40) <= upper
        if below != above:
            return tens + (_ONE if above else _ZERO), k + 1
    below = lower <= _FOUR * digits
    above = _FOUR * digits + _FOUR <= upper
    if below != above:
        return digits + (_ONE if above else _ZERO), k
    middle = _FOUR * digits + np.uint64(2)
    up = value > middle or (value == middle and digits & _ONE == _ONE)
    return digits + (_ONE if up else _ZERO), k


@hot
def _write_decimal(out: int, digits: np.uint64, exponent: int) -> int:
    """Writes digits * 10**exponent as `repr` would: with a point from 1e-4 up to below 1e16, else with an exponent."""
    while digits >= _TEN and digits % _TEN == _ZERO:
        digits //= _TEN
        exponent += 1
    count = count_digits(digits)
    point = count + exponent
    if point < -3 or point > 16:
        if count == 1:
            out = write_digits(out, digits, 1)
        else:
            head = digits // TENS[count - 1]
            store_u8(out, 48 + signed(head))
            store_u8(out + 1, 46)
            out = write_digits(out + 2, digits - head * TENS[count - 1], count - 1)
        power = point - 1
        store_u8(out, 101)
        store_u8(out + 1, 45 if power < 0 else 43)
        power = abs(power)
        return write_digits(out + 2, np.uint64(power), 3 if power >= 100 else 2)
    if point <= 0:
        store_u8(out, 48)
        store_u8(out + 1, 46)
        out = write_digits(out + 2, _ZERO, -point)
        return write_digits(out, digits, count)
    if exponent >= 0:
        out = write_digits(out, digits, count)
        out = write_digits(out, _ZERO, exponent)
        store_u8(out, 46)
        store_u8(out + 1, 48)
        return out + 2
    whole = digits // TENS[-exponent]
    out = write_digits(out, whole, point)
    store_u8(out, 46)
    return write_digits(out + 1, digits - whole * TENS[-exponent], -exponent)


@hot
def write_double(out: int, address: int) -> int:
    """Writes the finite double at `address` (at most 24 bytes); gives 0 where it is not finite."""
    bits = np.uint64(load_i64(address))
    field = signed(bits >> np.uint64(52)) & 0x7FF
    fraction = bits & np.uint64((1 << 52) - 1)
    return _write_binary(out, bits >> np.uint64(63), fraction, field, 0x7FF, 52, 1075)


@inner
def write_single(out: int, address: int) -> int:
    """Writes the finite 4-byte float at `address`, with the digits that a 4-byte float needs."""
    bits = np.uint64(load_u32(address))
    field = signed(bits >> np.uint64(23)) & 0xFF
    fraction = bits & np.uint64((1 << 23) - 1)
    return _write_binary(out, bits >> np.uint64(31), fraction, field, 0xFF, 23, 150)


@inner
def _write_binary(
    out: int, sign: np.uint64, fraction: np.uint64, field: int, special: int, width: int, bias: int
) -> int:
    """Writes a float of `width` fraction bits by its parts; 0 where `field` says infinite or not a number."""
    if field == special:
        return 0
    if sign != _ZERO:
        store_u8(out, 45)
        out += 1
    if field == 0 and fraction == _ZERO:
        return _write_decimal(out, _ZERO, 0)
    significand = fraction
    exponent = 1 - bias
    if field != 0:
        significand |= _ONE << np.uint64(width)
        exponent = field - bias
    digits, power = shortest(significand, exponent, fraction == _ZERO and field > 1)
    return _write_decimal(out, digits, power)

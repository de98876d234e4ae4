"""Tables of powers of five and ten to 128 bits, exact or rounded as the float algorithms need them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MASK64 = 2**64 - 1

UInt64s = npt.NDArray[np.uint64]

SMALLEST_POWER = -342
LARGEST_POWER = 308
SMALLEST_DIGITS_POWER = -292
LARGEST_DIGITS_POWER = 324


def _reading_power(q: int) -> int:
    """5**q as 128 bits, the highest one set: truncated for q >= 0, rounded up for q < 0 (Lemire 2021, section 5)."""
    if q >= 0:
        power: int = 5**q
        shift = power.bit_length() - 128
        return power >> shift if shift > 0 else power << -shift
    power = 5 ** abs(q)
    z = (power - 1).bit_length()
    bits = z + 127 if q >= -27 else 2 * z + 128
    value = (1 << bits) // power + 1
    return value >> max(value.bit_length() - 128, 0)


def _writing_power(k: int) -> int:
    """10**k as 128 bits with the highest one set, rounded up (Giulietti 2020, section 9.3)."""
    if k >= 0:
        power: int = 10**k
        shift = power.bit_length() - 128
        return -(-power >> shift) if shift > 0 else power << -shift
    power = 10 ** abs(k)
    # floor(log2(10**k)) is -(bit length of 10**-k), as no 10**n with n > 0 is a power of two.
    return -(-(1 << (127 + power.bit_length())) // power)


def _split(powers: list[int]) -> tuple[UInt64s, UInt64s]:
    return np.array([p >> 64 for p in powers], np.uint64), np.array([p & _MASK64 for p in powers], np.uint64)


READ_HIGH, READ_LOW = _split([_reading_power(q) for q in range(SMALLEST_POWER, LARGEST_POWER + 1)])
WRITE_HIGH, WRITE_LOW = _split([_writing_power(k) for k in range(SMALLEST_DIGITS_POWER, LARGEST_DIGITS_POWER + 1)])
EXACT = np.array([float(10**i) for i in range(23)])
"""The powers of ten that a double holds exactly."""
TENS = np.array([10**i for i in range(20)], np.uint64)

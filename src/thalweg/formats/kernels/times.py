"""ISO 8601 times: text to (seconds, nanoseconds) since 1970 in UTC, and milliseconds to text."""

from __future__ import annotations

import numpy as np

from thalweg.formats.kernels.compile import entry, hot, inner
from thalweg.formats.kernels.memory import load_u8, load_u64, signed, store_u8, store_u16

SECONDS_PER_DAY = 86_400
FIRST_SECOND = -62_135_596_800
"""0001-01-01T00:00:00Z."""
LAST_SECOND = 253_402_300_799
"""9999-12-31T23:59:59Z."""

_PAIRS = np.array([48 + i // 10 | (48 + i % 10) << 8 for i in range(100)], np.int64)
"""Two digits as two bytes, little endian."""


@hot
def two_digits(p: int) -> int:
    """The value of two digits, or a negative number."""
    tens: int = load_u8(p) - 48
    ones: int = load_u8(p + 1) - 48
    if tens < 0 or tens > 9 or ones < 0 or ones > 9:
        return -10_000
    return tens * 10 + ones


@hot
def days_of(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant's days_from_civil); year >= 0."""
    if month <= 2:
        year -= 1
        month += 9
    else:
        month -= 3
    # Year 0 before March counts as year -1: shift by one era of 400 years, so that divisions stay positive.
    year += 400
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * month + 2) // 5 + day - 1
    days: int = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468 - 146_097
    return days


@hot
def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        return 29 if (year % 4 == 0 and year % 100 != 0) or year % 400 == 0 else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@hot
def parse_date(p: int, stop: int) -> tuple[bool, int]:
    """`YYYY-MM-DD` at the start of [p, stop): days since 1970."""
    if p + 10 > stop or load_u8(p + 4) != 45 or load_u8(p + 7) != 45:
        return False, 0
    year = two_digits(p) * 100 + two_digits(p + 2)
    month = two_digits(p + 5)
    day = two_digits(p + 8)
    if year < 1 or month < 1 or month > 12 or day < 1 or day > _days_in_month(year, month):
        return False, 0
    return True, days_of(year, month, day)


@hot
def _parse_offset(p: int, stop: int) -> tuple[bool, int]:
    """What stands after the time: nothing (UTC), `Z`, or ±HH, ±HHMM, ±HH:MM; in seconds to subtract."""
    if p == stop:
        return True, 0
    first = load_u8(p)
    if first | 32 == 122:
        return p + 1 == stop, 0
    if (first != 43 and first != 45) or p + 3 > stop:
        return False, 0
    hours = two_digits(p + 1)
    minutes = 0
    rest = p + 3
    if rest < stop:
        if load_u8(rest) == 58:
            rest += 1
        if rest + 2 != stop:
            return False, 0
        minutes = two_digits(rest)
    if hours < 0 or hours > 23 or minutes < 0 or minutes > 59:
        return False, 0
    seconds = hours * 3600 + minutes * 60
    return True, -seconds if first == 45 else seconds


@hot
def _parse_usual(p: int) -> tuple[bool, int, int]:
    """`YYYY-MM-DDTHH:MM:SS.mmmZ`, the 24 bytes at `p`, eight at a time; false for anything else, also for valid times.

    With the expected bytes taken away by exclusive or, digits are their values and the others 0. Adding 0x76 to a digit
    and 0x7F to the others sets the high bit of every byte that is not as it should be.
    """
    date = load_u64(p) ^ np.uint64(0x2D30302D30303030)  # 0000-00-
    clock = load_u64(p + 8) ^ np.uint64(0x30303A3030543030)  # 00T00:00
    rest = load_u64(p + 16) ^ np.uint64(0x5A3030302E30303A)  # :00.000Z
    wrong = (date + np.uint64(0x7F76767F76767676)) | date
    wrong |= (clock + np.uint64(0x76767F76767F7676)) | clock
    wrong |= (rest + np.uint64(0x7F7676767F76767F)) | rest
    if wrong & np.uint64(0x8080808080808080) != np.uint64(0):
        return False, 0, 0
    # Each byte times ten plus the next one: a pair of digits is a number in the first of its two bytes.
    ten, eight = np.uint64(10), np.uint64(8)
    dates = signed(date * ten + (date >> eight))
    clocks = signed(clock * ten + (clock >> eight))
    rests = signed(rest * ten + (rest >> eight))
    year = (dates & 0xFF) * 100 + (dates >> 16 & 0xFF)
    month = dates >> 40 & 0xFF
    day = clocks & 0xFF
    hour = clocks >> 24 & 0xFF
    minute = clocks >> 48 & 0xFF
    second = rests >> 8 & 0xFF
    fine = year >= 1 and 1 <= month <= 12 and day >= 1 and hour <= 23 and minute <= 59 and second <= 59
    if not fine or (day > 28 and day > _days_in_month(year, month)):
        return False, 0, 0
    milliseconds = (rests >> 32 & 0xFF) * 10 + (signed(rest) >> 48 & 0xFF)
    seconds = days_of(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second
    return True, seconds, milliseconds * 1_000_000


@inner
def parse_time(p: int, stop: int) -> tuple[bool, int, int]:
    """An ISO 8601 date or date and time in [p, stop): (whether it is one, seconds since 1970 UTC, nanoseconds).

    `YYYY-MM-DD`, then `T`, `t` or a space, `HH:MM`, `:SS`, a fraction of up to 9 digits, and an offset; each of these
    parts may be missing with what follows it. Without an offset it is UTC. No second 60, no hour 24.
    """
    fine, days = parse_date(p, stop)
    if not fine:
        return False, 0, 0
    seconds = days * SECONDS_PER_DAY
    p += 10
    if p == stop:
        return True, seconds, 0
    separator = load_u8(p)
    if (separator | 32 != 116 and separator != 32) or p + 6 > stop or load_u8(p + 3) != 58:
        return False, 0, 0
    hour = two_digits(p + 1)
    minute = two_digits(p + 4)
    second = 0
    nanoseconds = 0
    p += 6
    if p + 3 <= stop and load_u8(p) == 58:
        second = two_digits(p + 1)
        p += 3
        if p + 2 <= stop and load_u8(p) == 46:
            p += 1
            unit = 100_000_000
            first = p
            while p < stop:
                digit = load_u8(p) - 48
                if digit < 0 or digit > 9:
                    break
                if p - first >= 9:
                    return False, 0, 0
                nanoseconds += digit * unit
                unit //= 10
                p += 1
            if p == first:
                return False, 0, 0
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59:
        return False, 0, 0
    fine, offset = _parse_offset(p, stop)
    if not fine:
        return False, 0, 0
    seconds += hour * 3600 + minute * 60 + second - offset
    return FIRST_SECOND <= seconds <= LAST_SECOND, seconds, nanoseconds


@hot
def parse_any_time(p: int, stop: int) -> tuple[bool, int, int]:
    """`parse_time`, faster for the form that most producers write."""
    if stop - p == 24:
        fine, seconds, nanoseconds = _parse_usual(p)
        if fine:
            return True, seconds, nanoseconds
    return parse_time(p, stop)


@entry("Tuple((boolean, int64, int64))(int64, int64)")
def read_time(address: int, length: int) -> tuple[bool, int, int]:
    """`parse_time` for the general parser, so that both paths read times alike."""
    return parse_time(address, address + length)


@entry("Tuple((boolean, int64))(int64, int64)")
def read_date(address: int, length: int) -> tuple[bool, int]:
    """`parse_date` for the general parser; the date must be all there is."""
    fine, days = parse_date(address, address + length)
    return fine and length == 10, days


@hot
def write_pair(out: int, value: int) -> None:
    """Writes two digits."""
    store_u16(out, _PAIRS[value])


@hot
def write_date(out: int, days: int) -> int:
    """Writes `YYYY-MM-DD` for a day of the years 1 to 9999 (Hinnant's civil_from_days); gives the address behind."""
    shifted = days + 719_468
    era = shifted // 146_097
    of_era = shifted - era * 146_097
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    write_pair(out, year // 100)
    write_pair(out + 2, year % 100)
    store_u8(out + 4, 45)
    write_pair(out + 5, month)
    store_u8(out + 7, 45)
    write_pair(out + 8, day)
    return out + 10


@hot
def write_time(out: int, milliseconds: int) -> int:
    """Writes `YYYY-MM-DDTHH:MM:SS.mmmZ` for a time of the years 1 to 9999; gives the address behind."""
    seconds = milliseconds // 1000
    fraction = milliseconds - seconds * 1000
    days = seconds // SECONDS_PER_DAY
    second = seconds - days * SECONDS_PER_DAY
    out = write_date(out, days)
    store_u8(out, 84)
    write_pair(out + 1, second // 3600)
    store_u8(out + 3, 58)
    write_pair(out + 4, second // 60 % 60)
    store_u8(out + 6, 58)
    write_pair(out + 7, second % 60)
    store_u8(out + 9, 46)
    store_u8(out + 10, 48 + fraction // 100)
    write_pair(out + 11, fraction % 100)
    store_u8(out + 13, 90)
    return out + 14

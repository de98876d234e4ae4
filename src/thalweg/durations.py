"""Durations: whole milliseconds, `"1m"` strings, or `timedelta`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeAlias

from thalweg.errors import ConfigurationError

Duration: TypeAlias = int | str | timedelta

_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")


def milliseconds(value: Duration, *, name: str = "duration", minimum: int = 0) -> int:
    """Converts a duration to whole milliseconds.

    Args:
        value: milliseconds as an int, a string such as `"1m"`, `"1h30m"` or `"50ms"`, or a `timedelta`.
        name: what the value is for, used in the error.
        minimum: the smallest accepted value, in milliseconds.

    Raises:
        ConfigurationError: not a duration, not a whole number of milliseconds, or below `minimum`.

    >>> milliseconds("1m"), milliseconds("1h30m"), milliseconds(250), milliseconds(timedelta(seconds=2))
    (60000, 5400000, 250, 2000)
    """
    result = _parse(value, name)
    if result < minimum:
        raise ConfigurationError(f"{name} is {value!r}; it must be at least {minimum} ms")
    return result


def _parse(value: Duration, name: str) -> int:
    if isinstance(value, bool):
        raise ConfigurationError(f"{name} is {value!r}; give milliseconds, a string such as '1m', or a timedelta")
    if isinstance(value, int):
        return value
    if isinstance(value, timedelta):
        exact = value / timedelta(milliseconds=1)
    elif isinstance(value, str) and value.strip() and not _PART.sub("", value).strip():
        exact = sum(float(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(value))
    else:
        raise ConfigurationError(f"{name} is {value!r}; give milliseconds, a string such as '1m', or a timedelta")
    if exact != int(exact):
        raise ConfigurationError(f"{name} is {value!r}, which is not a whole number of milliseconds")
    return int(exact)

"""Suppression rules: how often one fingerprint may alert, in event time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


@dataclass(frozen=True)
class TimeBasedSuppression:
    """After an alert, events with the same fingerprint within `window` of its event time do not alert again.

    >>> TimeBasedSuppression("5m").window
    300000
    """

    window: int

    def __init__(self, window: Duration) -> None:
        object.__setattr__(self, "window", milliseconds(window, name="window of TimeBasedSuppression", minimum=1))

    def blocks(self, fired: Sequence[int], now: int) -> str | None:
        """Why an event at `now` is suppressed, given the sorted event times of the alerts of its fingerprint;
        None: it is not."""
        below = bisect_left(fired, now + self.window)
        last = fired[below - 1] if below else None
        return None if last is None or last <= now - self.window else f"within {self.window} ms of the alert at {last}"


@dataclass(frozen=True)
class CountBasedSuppression:
    """At most `count` alerts of one fingerprint within `window` of event time."""

    count: int
    window: int

    def __init__(self, count: int, window: Duration) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise ConfigurationError(
                f"count of CountBasedSuppression is {count!r}; it must be a whole number from 1 on"
            )
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "window", milliseconds(window, name="window of CountBasedSuppression", minimum=1))

    def blocks(self, fired: Sequence[int], now: int) -> str | None:
        """As `TimeBasedSuppression.blocks`."""
        near = bisect_left(fired, now + self.window) - bisect_right(fired, now - self.window)
        return None if near < self.count else f"{near} alerts within {self.window} ms already"


Suppression = TimeBasedSuppression | CountBasedSuppression

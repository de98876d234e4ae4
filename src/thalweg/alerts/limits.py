"""What protects a channel, and those behind it, from us: a circuit breaker and a rate limit. Both run on any clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


@dataclass(frozen=True)
class ChannelLimits:
    """How a channel may be used.

    Args:
        per_minute: messages at most, in bursts of up to a tenth of that; None: no limit.
        failures: failures in a row from which on the channel is left alone for a while; they are not attempts of the
            messages that wait.
        pause, longest_pause: how long: doubled at each further failure.
    """

    per_minute: int | None = 600
    failures: int = 5
    pause: Duration = "5s"
    longest_pause: Duration = "5m"

    def __post_init__(self) -> None:
        if self.per_minute is not None and self.per_minute < 1:
            raise ConfigurationError(f"per_minute of a channel is {self.per_minute}; it is at least 1, or None")
        if self.failures < 1:
            raise ConfigurationError(f"failures of a channel is {self.failures}; it is at least 1")
        milliseconds(self.pause, name="pause of a channel", minimum=1)
        milliseconds(self.longest_pause, name="longest_pause of a channel", minimum=1)


class CircuitBreaker:
    """Closed: messages pass. Open: none does until the pause is over; then one tries, and decides.

    >>> breaker = CircuitBreaker(ChannelLimits(failures=2, pause="10s"))
    >>> breaker.failed(0); breaker.failed(0)
    >>> breaker.blocked(5_000), breaker.blocked(10_000)
    (True, False)
    >>> breaker.succeeded(); breaker.blocked(0)
    False
    """

    def __init__(self, limits: ChannelLimits) -> None:
        self._limits = limits
        self.failures = 0
        self._until = 0

    def blocked(self, now: int) -> bool:
        """Whether no message may try now."""
        return self.failures >= self._limits.failures and now < self._until

    def wait(self, now: int) -> int:
        """How long until one may, ms."""
        return self._until - now if self.blocked(now) else 0

    def failed(self, now: int) -> None:
        """A message did not get through."""
        self.failures += 1
        over = self.failures - self._limits.failures
        if over >= 0:
            pause = milliseconds(self._limits.pause) * 2 ** min(over, 20)
            self._until = now + min(pause, milliseconds(self._limits.longest_pause))

    def succeeded(self) -> None:
        """A message got through."""
        self.failures = 0


_ROUNDING = 1e-6


class RateLimit:
    """A token bucket.

    >>> rate = RateLimit(ChannelLimits(per_minute=60))
    >>> [rate.take(0) for _ in range(7)].count(True), rate.take(1_000)
    (6, True)
    """

    def __init__(self, limits: ChannelLimits) -> None:
        self._per_ms = None if limits.per_minute is None else limits.per_minute / 60_000
        self._burst = max(1.0, (limits.per_minute or 0) / 10)
        self._tokens = self._burst
        self._at: int | None = None

    def take(self, now: int) -> bool:
        """Whether one more message may go now."""
        if self._per_ms is None:
            return True
        self._refill(now)
        if self._tokens < 1 - _ROUNDING:
            return False
        self._tokens -= 1
        return True

    def _refill(self, now: int) -> None:
        if self._at is not None and now > self._at and self._per_ms is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_ms)
        self._at = now if self._at is None else max(self._at, now)

    def wait(self, now: int) -> int:
        """How long until the next one may, ms."""
        self._refill(now)
        if self._per_ms is None or self._tokens >= 1 - _ROUNDING:
            return 0
        return math.ceil((1 - self._tokens) / self._per_ms - _ROUNDING)

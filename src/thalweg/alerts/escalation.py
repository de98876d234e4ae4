"""Whom to tell while nobody acknowledges: policies as frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


@dataclass(frozen=True)
class EscalationLevel:
    """One level of an escalation.

    Args:
        delay: how long after the level before (the first: after the alert) it is told, if nobody has acknowledged.
        channels: names of channels; `on-call:<schedule>` is whoever is on call when it is told.
    """

    delay: Duration
    channels: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.channels, str) or not self.channels:
            raise ConfigurationError("an escalation level needs a list of channels")
        milliseconds(self.delay, name="delay of an escalation level")

    @property
    def delay_ms(self) -> int:
        return milliseconds(self.delay)


@dataclass(frozen=True)
class EscalationPolicy:
    """Levels, one after the other, until somebody acknowledges.

    Args:
        levels: in order.
        repeat: how often the whole begins again after the last level.
    """

    levels: Sequence[EscalationLevel]
    repeat: int = 0

    def __post_init__(self) -> None:
        if not self.levels:
            raise ConfigurationError("an escalation policy needs at least one level")
        if self.repeat < 0:
            raise ConfigurationError(f"repeat of an escalation policy is {self.repeat}; it is 0 or more")
        if self.repeat and sum(level.delay_ms for level in self.levels) < 1_000:
            raise ConfigurationError("an escalation that repeats needs at least a second of delays in all")

    def step(self, number: int) -> EscalationLevel | None:
        """The level of step 0, 1, 2 …, repetitions counted on; None after the last.

        >>> policy = EscalationPolicy([EscalationLevel("5m", ["team"]), EscalationLevel("10m", ["boss"])], repeat=1)
        >>> [policy.step(n).channels[0] for n in range(4)], policy.step(4)
        (['team', 'boss', 'team', 'boss'], None)
        """
        if number >= len(self.levels) * (self.repeat + 1):
            return None
        return self.levels[number % len(self.levels)]

    @property
    def channels(self) -> set[str]:
        """All channels that it may tell."""
        return {name for level in self.levels for name in level.channels}

"""How often, and when, a record that failed is tried again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


@dataclass(frozen=True)
class RetryPolicy:
    """One delay (ms) for each retry topic; after the last one a record becomes a dead letter.

    >>> RetryPolicy.exponential("10s", factor=6, retries=3).delays
    (10000, 60000, 360000)
    """

    delays: tuple[int, ...] = (10_000, 60_000, 360_000)

    def __post_init__(self) -> None:
        if any(delay < 0 for delay in self.delays):
            raise ConfigurationError(f"retry delays are {self.delays}; none can be negative")

    @classmethod
    def of(cls, delays: Sequence[Duration]) -> Self:
        """From durations: `RetryPolicy.of(["10s", "1m"])`."""
        return cls(tuple(milliseconds(delay, name="delay", minimum=0) for delay in delays))

    @classmethod
    def exponential(
        cls, first: Duration = "10s", *, factor: float = 6.0, retries: int = 3, longest: Duration = "1h"
    ) -> Self:
        """Delays that grow by a factor, up to the longest."""
        if factor < 1 or retries < 0:
            raise ConfigurationError(f"retries={retries}, factor={factor}: use at least 0, and at least 1")
        start, most = milliseconds(first, name="first", minimum=0), milliseconds(longest, name="longest")
        return cls(tuple(min(most, round(start * factor**number)) for number in range(retries)))

    def topics(self, topic: str) -> list[str]:
        """The retry topics of a topic, in their order.

        >>> RetryPolicy((1, 2)).topics("orders")
        ['orders.retry-1', 'orders.retry-2']
        """
        return [f"{topic}.retry-{number + 1}" for number in range(len(self.delays))]

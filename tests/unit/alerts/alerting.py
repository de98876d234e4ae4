"""What tests of alerts share: a clock that they turn, and a channel that keeps what it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl

from thalweg.alerts import AlertManager, AlertRule, DeliveryError, Message

MINUTE = 60_000


class Clock:
    """Stands still until it is turned."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def turn(self, ms: int) -> None:
        self.now += ms


class Kept:
    """A channel that keeps its messages; `broken` makes it fail, `look` is called before each."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.broken: DeliveryError | None = None
        self.look: Callable[[Message], None] = lambda message: None

    def send(self, message: Message) -> str:
        self.look(message)
        if self.broken is not None:
            raise self.broken
        self.messages.append(message)
        return f"reference-{message.incident}"

    def close(self) -> None:
        pass

    def take(self) -> list[str]:
        """Kind and title of what came since the last call."""
        said = [f"{message.kind}: {message.title}" for message in self.messages]
        self.messages.clear()
        return said


def made(url: str = "sqlite://", clock: Clock | None = None, **channels: Kept) -> tuple[AlertManager, Clock]:
    """A manager that delivers when told to."""
    clock = clock or Clock()
    manager = AlertManager(url, clock=clock, deliver=False)
    for name, channel in channels.items():
        manager.add_channel(name, channel)
    return manager, clock


def rule(id: str = "cpu", **settings: Any) -> AlertRule:
    """CPU above 90, per host."""
    given = {
        "name": "CPU",
        "condition": pl.col("cpu") > 90,
        "by": ["host"],
        "title": "{{ event.host }}",
        "notification_channels": ["team"],
        **settings,
    }
    return AlertRule(id=id, **given)


RECORDS = pl.Schema(
    {"host": pl.String, "cpu": pl.Int64, "__ts": pl.Int64, "__partition": pl.Int32, "__offset": pl.Int64}
)


def events(*rows: tuple[str, int, int], first: int = 0) -> pl.DataFrame:
    """(host, cpu, event time) as a frame of records."""
    return pl.DataFrame([(h, c, t, 0, first + n) for n, (h, c, t) in enumerate(rows)], schema=RECORDS, orient="row")

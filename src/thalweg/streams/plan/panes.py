"""How a window gives its panes: the trigger and what goes with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.streams.triggers import DefaultTrigger, Trigger

PANE_COLUMNS = ("pane_index", "pane_nonspeculative_index", "pane_timing", "pane_final")
"""What a row says of its pane: its number among the window's panes, its number among those that were not early (-1:
it is early), "early", "on_time" or "late", and whether it is the last one because the trigger is finished."""

FOREVER = 2**62
"""The allowed lateness of "forever", ms."""

_TIMES = ("end_of_window", "earliest", "latest")

Accumulation = Literal["accumulating", "discarding"]
OnLate = Literal["dead-letter", "side", "drop"]


@dataclass(frozen=True)
class Panes:
    """The panes of a window.

    Args:
        trigger: when a pane is given.
        lateness: how long after the watermark has passed a window's end events still count for it, ms.
        accumulating: a pane holds all events of the window so far; otherwise those since the pane before.
        time: the event time of a pane: the window's last millisecond, or that of its earliest or latest event (of
            those since the pane before that were not behind the watermark when they came).
        each: the trigger is asked after each event; otherwise once for each batch.
        bounded: the window has a start and an end.
    """

    trigger: Trigger = field(default_factory=DefaultTrigger)
    lateness: int = 0
    accumulating: bool = True
    time: str = "end_of_window"
    each: bool = True
    bounded: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.trigger, Trigger):
            raise ConfigurationError(
                f"trigger={self.trigger!r}: give a trigger, such as AfterWatermark(late=AfterCount(1))"
            )
        if self.time not in _TIMES:
            raise ConfigurationError(f"pane_time={self.time!r}; use one of {', '.join(map(repr, _TIMES))}")

    @property
    def time_code(self) -> int:
        """`time` as the kernels have it."""
        return _TIMES.index(self.time)

    @property
    def changes(self) -> bool:
        """Whether a later pane takes the place of an earlier one: then the result is a changelog."""
        return self.accumulating and not self.trigger.once

    def describe(self) -> str:
        """For `explain()`."""
        parts = [f"trigger {self.trigger.describe()}"]
        if self.lateness:
            parts.append("late for ever" if self.lateness >= FOREVER else f"late up to {self.lateness} ms")
        parts.append("accumulating" if self.accumulating else "discarding")
        return ", ".join(parts)


def lateness_of(value: Duration) -> int:
    """A duration, or "forever".

    >>> lateness_of("5m")
    300000
    """
    return FOREVER if value == "forever" else milliseconds(value, name="allowed_lateness")


def accumulates(value: str) -> bool:
    """Whether panes accumulate.

    Raises:
        ConfigurationError: neither "accumulating" nor "discarding".
    """
    if value not in ("accumulating", "discarding"):
        raise ConfigurationError(f"accumulation={value!r}; use 'accumulating' or 'discarding'")
    return value == "accumulating"

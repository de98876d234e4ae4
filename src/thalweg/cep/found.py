"""What engines find and hold, in the form that both share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Match(NamedTuple):
    """A match, or a partial match that timed out.

    `time` (ms UTC) is when it became certain: its last event's time, but for one that ends with an absence, or that
    waited for an older partial match. `trigger` is the id of the event that made it certain, -1 where the passing of
    time did. `steps` (numbers) and `ids` (of events) are in order of time.
    """

    time: int
    trigger: int
    steps: tuple[int, ...]
    ids: tuple[int, ...]


@dataclass(slots=True)
class Found:
    """What some events, or the passing of time, brought."""

    matches: list[Match] = field(default_factory=list)
    timed_out: list[Match] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    """The keys for which the passing of time brought something, which the state must know; what ended in silence ends
    again after a restart."""


class Held(NamedTuple):
    """A partial match as it is saved: its key's code, its state, the time of its first event, and its events."""

    code: int
    state: int
    start: int
    steps: list[int]
    ids: list[int]

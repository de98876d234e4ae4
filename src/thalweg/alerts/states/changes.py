"""What happens to the states that rules watch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ChangeKind(StrEnum):
    """What happened to a state."""

    BEGUN = "begun"
    GOES_ON = "goes on"
    OVER = "over"
    """It has ended; its alert stays open until somebody resolves it."""
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Change:
    """One change of a state, at an event time."""

    kind: ChangeKind
    rule: str
    fingerprint: str
    at: int
    began: int
    """When the state began: with rule and fingerprint it names the alert."""
    event: Mapping[str, Any] = field(default_factory=dict)
    """BEGUN: the event that began it (of an absence: the last one seen)."""
    count: int = 0
    """GOES_ON: further events since the last time."""
    row: int = -1
    """The row that caused it; -1: time did."""


@dataclass
class Followed:
    """One state that is under way, by itself: as a document of a store.

    `firing`: it has begun as far as the rule is concerned (it has held long enough). `key`: the values of the columns
    that make its fingerprint, as text; none: they are to be found in the event.
    """

    rule: str
    fingerprint: str
    group: int
    since: int
    last: int
    event: dict[str, Any] = field(default_factory=dict)
    firing: bool = False
    ended: int | None = None
    more: int = 0
    told: int = 0
    key: tuple[str, ...] | None = None

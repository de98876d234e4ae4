"""How bad an alert is, and where it is in its life."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """How bad it is; `rank` orders them, critical highest."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """5 for critical down to 1 for info."""
        return len(Severity) - list(Severity).index(self)


class Status(StrEnum):
    """Where an alert is in its life."""

    TRIGGERED = "triggered"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    SUPPRESSED = "suppressed"


OPEN = (Status.TRIGGERED, Status.ACKNOWLEDGED)
"""Somebody has to do something, or is doing it."""

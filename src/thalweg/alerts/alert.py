"""An alert: what happened, by which rule, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from thalweg.alerts.rules import Severity, Status


@dataclass(frozen=True)
class Alert:
    """One event that a rule matched. Times are ms UTC.

    `id` is made from the rule and the event's origin, so the same event gives the same alert, however often it is read.
    """

    id: str
    rule: str
    rule_version: str
    name: str
    severity: Severity
    status: Status
    fingerprint: str
    event: Mapping[str, Any]
    event_time: int
    created: int
    labels: Mapping[str, str]
    reason: str | None = None
    """Why it was suppressed."""
    acknowledged_by: str | None = None
    resolved_by: str | None = None

    @property
    def title(self) -> str:
        """One line for people.

        >>> event = {"host": "a", "cpu": 97}
        >>> Alert("1", "cpu", "", "High CPU usage", Severity.HIGH, Status.TRIGGERED, "", event, 0, 0, {}).title
        'High CPU usage: host=a cpu=97'
        """
        shown = [f"{name}={_short(value)}" for name, value in self.event.items() if not isinstance(value, (dict, list))]
        return self.name + (": " + " ".join(shown[:6]) if shown else "")

    def payload(self) -> dict[str, Any]:
        """The alert as plain data, for channels."""
        return {
            "id": self.id,
            "rule": self.rule,
            "rule_version": self.rule_version,
            "name": self.name,
            "title": self.title,
            "severity": str(self.severity),
            "status": str(self.status),
            "fingerprint": self.fingerprint,
            "event": dict(self.event),
            "event_time": datetime.fromtimestamp(self.event_time / 1000, UTC).isoformat(timespec="milliseconds"),
            "labels": dict(self.labels),
        }


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = text.replace("\n", " ").replace("\r", " ")
    return text if len(text) <= 60 else text[:57] + "…"

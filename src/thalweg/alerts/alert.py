"""An alert: what happened, by which rule, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from thalweg.alerts.severity import OPEN, Severity, Status


@dataclass(frozen=True)
class Alert:
    """One event (or state) that a rule matched. Times are ms UTC.

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
    headline: str | None = None
    """The rule's title for this event."""
    text: str | None = None
    runbook: str | None = None
    assignee: str | None = None
    snoozed_until: int | None = None
    count: int = 1
    """Events that it stands for: those of a state count here instead of alerting again."""
    last_event_time: int = 0
    active: bool = False
    """Whether the state that it is about goes on (only of rules that watch one)."""
    stateful: bool = False
    """Whether its rule watches a state, which will end the alert."""
    channels: Sequence[str] = ()
    """Whom it was routed to."""
    group: str | None = None
    """What it is grouped by, where its route groups."""
    escalating: bool = False
    """Whether a further step of an escalation is to come."""
    revision: int = 1
    """Counts its changes, so that two at once are noticed."""
    decisions: Sequence[str] = field(default=())
    """How it was decided, stage by stage."""

    @property
    def title(self) -> str:
        """One line for people.

        >>> event = {"host": "a", "cpu": 97}
        >>> Alert("1", "cpu", "", "High CPU usage", Severity.HIGH, Status.TRIGGERED, "", event, 0, 0, {}).title
        'High CPU usage: host=a cpu=97'
        """
        if self.headline is not None:
            return self.headline
        shown = [f"{name}={_short(value)}" for name, value in self.event.items() if not isinstance(value, (dict, list))]
        return self.name + (": " + " ".join(shown[:6]) if shown else "")

    @property
    def open(self) -> bool:
        """Whether somebody has to do something, or is doing it."""
        return self.status in OPEN

    def payload(self) -> dict[str, Any]:
        """The alert as plain data, for channels and the service."""
        return {
            "id": self.id,
            "rule": self.rule,
            "rule_version": self.rule_version,
            "name": self.name,
            "title": self.title,
            "text": self.text,
            "runbook": self.runbook,
            "severity": str(self.severity),
            "status": str(self.status),
            "reason": self.reason,
            "fingerprint": self.fingerprint,
            "event": dict(self.event),
            "event_time": _iso(self.event_time),
            "created": _iso(self.created),
            "labels": dict(self.labels),
            "acknowledged_by": self.acknowledged_by,
            "resolved_by": self.resolved_by,
            "assignee": self.assignee,
            "snoozed_until": None if self.snoozed_until is None else _iso(self.snoozed_until),
            "count": self.count,
            "channels": list(self.channels),
        }


def _iso(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    text = text.replace("\n", " ").replace("\r", " ")
    return text if len(text) <= 60 else text[:57] + "…"

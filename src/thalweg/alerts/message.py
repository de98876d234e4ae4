"""What a channel is asked to say: one message about one alert, or about several that were grouped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from thalweg.alerts.alert import Alert


class Kind(StrEnum):
    """Why the message is sent."""

    TRIGGERED = "triggered"
    REMINDER = "reminder"
    """Nobody has acknowledged: an escalation level, or its repetition."""
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    DIGEST = "digest"
    """Many alerts at once, told in one message."""


@dataclass(frozen=True)
class Message:
    """One message for one channel.

    >>> from thalweg.alerts import Severity, Status
    >>> alert = Alert("1", "cpu", "", "High CPU", Severity.HIGH, Status.TRIGGERED, "f", {"host": "a"}, 0, 0, {})
    >>> Message("k", Kind.RESOLVED, alert).title
    'Resolved: High CPU: host=a'
    """

    key: str
    """The same at each repetition of this message, so that the other side can drop repeats."""
    kind: Kind
    alert: Alert
    """The alert that it is about; of a group, the most severe."""
    grouped: Sequence[Alert] = ()
    """All alerts of the group, where it stands for several."""
    reference: str | None = None
    """What the channel returned for the first message about this alert (a thread, a conversation)."""
    note: str | None = None
    """Why now, for people: the escalation level, who acknowledged."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the route or the policy for this channel (the person on call, say)."""

    @property
    def incident(self) -> str:
        """The same for all messages about one alert: what other systems deduplicate by."""
        return self.alert.id

    @property
    def title(self) -> str:
        """One line for people."""
        if len(self.grouped) > 1:
            return f"{len(self.grouped)} alerts: {self.alert.title}"
        prefix = {
            Kind.RESOLVED: "Resolved: ",
            Kind.ACKNOWLEDGED: "Acknowledged: ",
            Kind.REMINDER: "Still open: ",
        }.get(self.kind, "")
        return prefix + self.alert.title

    @property
    def lines(self) -> list[str]:
        """Further lines for people: the note, the rule's text, and each alert of a group."""
        found = [self.note] if self.note else []
        if self.alert.text:
            found += self.alert.text.splitlines()
        if self.alert.runbook:
            found.append(f"Runbook: {self.alert.runbook}")
        if len(self.grouped) > 1:
            found += [f"- [{alert.severity}] {alert.title}" for alert in self.grouped[:SHOWN]]
            if len(self.grouped) > SHOWN:
                found.append(f"… and {len(self.grouped) - SHOWN} more")
        return found

    def payload(self) -> dict[str, Any]:
        """The message as plain data, for channels that send it whole."""
        return {
            "key": self.key,
            "kind": str(self.kind),
            "incident": self.incident,
            "title": self.title,
            "note": self.note,
            "alert": self.alert.payload(),
            "grouped": [alert.payload() for alert in self.grouped],
        }


SHOWN = 20
"""Alerts of a group that are listed one by one."""


def one_line(text: str, longest: int) -> str:
    """The text without control characters, cut to a length: for headers, titles and short messages.

    >>> one_line("a\\r\\nBcc: evil@example.org", 20)
    'a Bcc: evil@example…'
    """
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= longest else clean[: longest - 1] + "…"

"""PagerDuty, by its Events API v2 (https://developer.pagerduty.com/docs/events-api-v2/overview/)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from thalweg.alerts.channels.base import DeliveryError
from thalweg.alerts.channels.http import HttpSender, check_address
from thalweg.alerts.message import Kind, Message, one_line
from thalweg.alerts.rules import Severity
from thalweg.durations import Duration
from thalweg.errors import ConfigurationError

SEVERITIES = {
    Severity.CRITICAL: "critical",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "info",
    Severity.INFO: "info",
}
_ACTIONS = {Kind.ACKNOWLEDGED: "acknowledge", Kind.RESOLVED: "resolve"}
_LONGEST = 400_000
"""Bytes of custom details; the API takes events of 512 KB."""


class PagerDutyChannel:
    """Triggers, acknowledges and resolves incidents; the alert's id is the `dedup_key` of all of them.

    Args:
        routing_key: the integration key of an Events API v2 integration; never shown in logs or `repr`.
        url: of the API, for other regions and tests.
        source: what the incident names as its source where the alert has no `host` or `source` label or field.
    """

    def __init__(
        self,
        routing_key: str,
        *,
        url: str = "https://events.pagerduty.com/v2/enqueue",
        source: str = "thalweg",
        timeout: Duration = "10s",
        allow_private: bool = False,
    ) -> None:
        if not routing_key:
            raise ConfigurationError("PagerDuty needs the routing key of an Events API v2 integration")
        check_address(url, "PagerDuty's address")
        self._key = routing_key
        self._url = url
        self._source = source
        self._http = HttpSender(timeout, allow_private=allow_private)

    def __repr__(self) -> str:
        return f"PagerDutyChannel({self._url!r})"

    def send(self, message: Message) -> None:
        """Sends one event."""
        event: dict[str, Any] = {
            "routing_key": self._key,
            "event_action": _ACTIONS.get(message.kind, "trigger"),
            "dedup_key": message.incident[:255],
        }
        if event["event_action"] == "trigger":
            event |= {"payload": self._payload(message), "client": "Thalweg"}
            if message.alert.runbook:
                event["links"] = [{"href": message.alert.runbook, "text": "Runbook"}]
        body = msgspec.json.encode(event, enc_hook=str)
        answer = self._http.post(self._url, headers={"Content-Type": "application/json"}, content=body)
        if answer.status_code != 202:
            raise DeliveryError(f"PagerDuty answered {answer.status_code} where its API promises 202")

    def _payload(self, message: Message) -> dict[str, Any]:
        alert = message.alert
        named = [alert.labels.get("host"), alert.event.get("host"), alert.labels.get("source")]
        details: Any = {"event": dict(alert.event), "text": alert.text, "note": message.note, "rule": alert.rule}
        if len(msgspec.json.encode(details, enc_hook=str)) > _LONGEST:
            details = {"rule": alert.rule, "note": "the event is too large to be sent; it is in the alert store"}
        return {
            "summary": one_line(message.title, 1024),
            "source": one_line(str(next((name for name in named if name), self._source)), 255),
            "severity": SEVERITIES[alert.severity],
            "timestamp": datetime.fromtimestamp(alert.event_time / 1000, UTC).isoformat(timespec="milliseconds"),
            "component": alert.labels.get("component"),
            "group": alert.labels.get("service"),
            "class": alert.rule,
            "custom_details": details,
        }

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

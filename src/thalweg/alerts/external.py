"""Alerts that other systems found: Alertmanager's webhook (version 4), which Prometheus, Grafana and others send."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from thalweg.alerts.alert import Alert
from thalweg.alerts.message import one_line
from thalweg.alerts.severity import Severity, Status
from thalweg.errors import ConfigurationError

_SEVERITIES = {
    "critical": Severity.CRITICAL, "page": Severity.CRITICAL, "high": Severity.HIGH, "error": Severity.HIGH,
    "warning": Severity.MEDIUM, "medium": Severity.MEDIUM, "low": Severity.LOW, "info": Severity.INFO,
    "none": Severity.INFO,
}  # fmt: skip
_LONGEST = 4_000


@dataclass(frozen=True)
class External:
    """One alert of another system, and whether it has ended there."""

    alert: Alert
    resolved: bool
    ended: int


def of_alertmanager(body: Any, now: int) -> list[External]:
    """The alerts of a webhook of Alertmanager (https://prometheus.io/docs/alerting/latest/configuration/#webhook_config).

    Raises:
        ConfigurationError: it is no such webhook; it says where.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("alerts"), list):
        raise ConfigurationError("an Alertmanager webhook is an object with a list `alerts`")
    return [_of_alert(given, number, now) for number, given in enumerate(body["alerts"])]


def _of_alert(given: Any, number: int, now: int) -> External:
    where = f"alerts[{number}]"
    if not isinstance(given, Mapping) or not isinstance(given.get("labels"), Mapping):
        raise ConfigurationError(f"{where} is no object with `labels`")
    labels = {str(name): one_line(str(value), _LONGEST) for name, value in given["labels"].items()}
    annotations = given.get("annotations") or {}
    if not isinstance(annotations, Mapping):
        raise ConfigurationError(f"{where}.annotations is no object")
    said = {str(name): str(value)[:_LONGEST] for name, value in annotations.items()}
    began = _time(given.get("startsAt"), f"{where}.startsAt") or now
    resolved = given.get("status") == "resolved"
    name = labels.get("alertname", "alert")
    fingerprint = hashlib.sha256(repr(sorted(labels.items())).encode()).hexdigest()[:32]
    runbook = said.get("runbook_url")
    alert = Alert(
        id=hashlib.sha256(repr((fingerprint, began)).encode()).hexdigest()[:32],
        rule=f"alertmanager:{name}",
        rule_version="external",
        name=name,
        severity=_SEVERITIES.get(labels.get("severity", "").lower(), Severity.MEDIUM),
        status=Status.TRIGGERED,
        fingerprint=fingerprint,
        event=dict(said),
        event_time=began,
        created=now,
        labels=labels,
        headline=one_line(said["summary"], 500) if said.get("summary") else None,
        text=said.get("description"),
        runbook=runbook if runbook and runbook.startswith(("http://", "https://")) else None,
        last_event_time=began,
        active=True,
        stateful=True,
    )
    return External(alert, resolved, (_time(given.get("endsAt"), f"{where}.endsAt") or now) if resolved else now)


def _time(text: Any, where: str) -> int | None:
    if text in (None, "", "0001-01-01T00:00:00Z"):
        return None
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        raise ConfigurationError(f"{where} is {text!r}; a time of RFC 3339 is expected") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)

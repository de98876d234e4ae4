"""`explain`: an alert's whole story in plain text."""

from __future__ import annotations

from datetime import UTC, datetime

from thalweg.alerts.store.base import Store
from thalweg.errors import ConfigurationError


def explain(store: Store, id: str) -> str:
    """Rule and version, event, each decision with its reason, each message with its state.

    Raises:
        ConfigurationError: there is no such alert.
    """
    alert = store.get([id]).get(id)
    if alert is None:
        raise ConfigurationError(f"there is no alert {id!r}")
    lines = [
        f"alert {alert.id}: {alert.title}",
        f"  rule {alert.rule!r} version {alert.rule_version}, severity {alert.severity}, now {alert.status}"
        + (f" ({alert.reason})" if alert.reason else ""),
        f"  event at {_time(alert.event_time)}: {dict(alert.event)}",
        f"  fingerprint {alert.fingerprint}, {alert.count} event(s), the last at {_time(alert.last_event_time)}",
        "what happened:",
    ]
    for entry in store.entries(id):
        who = f" by {entry.by}" if entry.by else ""
        why = f": {entry.reason}" if entry.reason else ""
        lines.append(f"  {_time(entry.at)}  {entry.what}{who}{why}")
    lines.append("who was told:")
    for note in store.notifications(id):
        more = f", {note.attempts} attempt(s)" if note.attempts else ""
        error = f": {note.error}" if note.error else ""
        lines.append(f"  {note.channel}: {note.kind}, {note.state}{more}{error}")
    return "\n".join(lines if lines[-1] != "who was told:" else lines[:-1])


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"

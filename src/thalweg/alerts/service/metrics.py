"""Metrics in the text format of Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

from collections.abc import Iterator

from thalweg.alerts.manager import AlertManager
from thalweg.alerts.severity import Status


def metrics(manager: AlertManager) -> str:
    """All metrics of the alert engine."""
    return "".join(f"{line}\n" for line in _lines(manager))


def _lines(manager: AlertManager) -> Iterator[str]:
    counts = manager.store.counts()
    yield from _family("thalweg_alerts", "gauge", "Alerts in the store, by status.")
    for status in Status:
        yield f'thalweg_alerts{{status="{status}"}} {counts.get(str(status), 0)}'
    figures = manager.delivery_figures()
    for name, help, values in (
        ("thalweg_alert_messages_sent_total", "Messages that got through, by channel.", figures.sent),
        ("thalweg_alert_messages_failed_total", "Attempts that failed, by channel.", figures.failures),
    ):
        yield from _family(name, "counter", help)
        for channel, value in sorted(values.items()):
            yield f'{name}{{channel="{_escaped(channel)}"}} {value}'
    yield from _family("thalweg_alert_channel_blocked", "gauge", "1 while a channel is left alone after failures.")
    for channel in manager.channels:
        yield f'thalweg_alert_channel_blocked{{channel="{_escaped(channel)}"}} {int(channel in figures.blocked)}'
    yield from _family("thalweg_alert_task_lag_seconds", "gauge", "How long the longest due task has waited.")
    due = manager.store.next_due()
    yield f"thalweg_alert_task_lag_seconds {0 if due is None else max(0.0, (manager.now() - due) / 1000):.3f}"
    yield from _family("thalweg_alert_rules", "gauge", "Rules in force.")
    yield f"thalweg_alert_rules {len(manager.rules)}"
    heartbeat = manager.auditor.heartbeat()
    if heartbeat is not None:
        yield from _family("thalweg_alert_audit_timestamp_seconds", "gauge", "When escalations were last audited.")
        yield f"thalweg_alert_audit_timestamp_seconds {heartbeat['at'] / 1000:.3f}"
        yield from _family("thalweg_alert_escalations_active", "gauge", "Escalations under way at that audit.")
        yield f"thalweg_alert_escalations_active {heartbeat['checked']}"


def _family(name: str, kind: str, help: str) -> Iterator[str]:
    yield f"# HELP {name} {help}"
    yield f"# TYPE {name} {kind}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

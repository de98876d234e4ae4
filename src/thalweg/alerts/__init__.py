"""Alerts: rules over events, suppression, a durable store, channels."""

from thalweg.alerts.alert import Alert
from thalweg.alerts.channels import Channel, ConsoleChannel, DeliveryError, WebhookChannel
from thalweg.alerts.manager import AlertManager
from thalweg.alerts.rules import (
    AlertRule,
    CountBasedSuppression,
    EscalationLevel,
    EscalationPolicy,
    Severity,
    Status,
    TimeBasedSuppression,
)

__all__ = [
    "Alert",
    "AlertManager",
    "AlertRule",
    "Channel",
    "ConsoleChannel",
    "CountBasedSuppression",
    "DeliveryError",
    "EscalationLevel",
    "EscalationPolicy",
    "Severity",
    "Status",
    "TimeBasedSuppression",
    "WebhookChannel",
]

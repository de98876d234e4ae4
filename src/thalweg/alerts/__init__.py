"""Alerts: rules over events and states, noise reduction, escalation, a durable store, channels."""

from thalweg.alerts.alert import Alert
from thalweg.alerts.channels import (
    AppriseChannel,
    Channel,
    ConsoleChannel,
    DeliveryError,
    EmailChannel,
    PagerDutyChannel,
    SlackChannel,
    SmsChannel,
    WebhookChannel,
)
from thalweg.alerts.history import PostgresHistory
from thalweg.alerts.limits import ChannelLimits
from thalweg.alerts.manager import AlertManager
from thalweg.alerts.message import Kind, Message
from thalweg.alerts.oncall import Override, Person, Rotation, Schedule
from thalweg.alerts.overrides import StoredOverride
from thalweg.alerts.routing import Route
from thalweg.alerts.rules import (
    AlertRule,
    CountBasedSuppression,
    EscalationLevel,
    EscalationPolicy,
    Severity,
    Status,
    TimeBasedSuppression,
)
from thalweg.alerts.silences import MaintenanceWindow, Silence
from thalweg.alerts.stages import FlapDetection, Inhibition, StormProtection

__all__ = [
    "Alert",
    "AlertManager",
    "AlertRule",
    "AppriseChannel",
    "Channel",
    "ChannelLimits",
    "ConsoleChannel",
    "CountBasedSuppression",
    "DeliveryError",
    "EmailChannel",
    "EscalationLevel",
    "EscalationPolicy",
    "FlapDetection",
    "Inhibition",
    "Kind",
    "MaintenanceWindow",
    "Message",
    "Override",
    "PagerDutyChannel",
    "Person",
    "PostgresHistory",
    "Rotation",
    "Route",
    "Schedule",
    "Severity",
    "Silence",
    "SlackChannel",
    "SmsChannel",
    "Status",
    "StoredOverride",
    "StormProtection",
    "TimeBasedSuppression",
    "WebhookChannel",
]

"""Where alerts go."""

from thalweg.alerts.channels.apprise import AppriseChannel
from thalweg.alerts.channels.base import Channel, DeliveryError
from thalweg.alerts.channels.console import ConsoleChannel
from thalweg.alerts.channels.email import EmailChannel
from thalweg.alerts.channels.pagerduty import PagerDutyChannel
from thalweg.alerts.channels.slack import SlackChannel
from thalweg.alerts.channels.sms import SmsChannel
from thalweg.alerts.channels.webhook import WebhookChannel

__all__ = [
    "AppriseChannel",
    "Channel",
    "ConsoleChannel",
    "DeliveryError",
    "EmailChannel",
    "PagerDutyChannel",
    "SlackChannel",
    "SmsChannel",
    "WebhookChannel",
]

"""Where alerts go."""

from thalweg.alerts.channels.base import Channel, DeliveryError
from thalweg.alerts.channels.console import ConsoleChannel
from thalweg.alerts.channels.webhook import WebhookChannel

__all__ = ["Channel", "ConsoleChannel", "DeliveryError", "WebhookChannel"]

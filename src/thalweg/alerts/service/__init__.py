"""The alert service: REST, live updates, metrics, webhooks in."""

from thalweg.alerts.service.access import ApiKey, Role
from thalweg.alerts.service.app import build
from thalweg.alerts.service.server import serve

__all__ = ["ApiKey", "Role", "build", "serve"]

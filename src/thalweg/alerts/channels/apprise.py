"""A hundred other services, through the library Apprise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thalweg.alerts.channels.base import DeliveryError
from thalweg.alerts.message import Kind, Message, one_line
from thalweg.alerts.rules import Severity
from thalweg.errors import ConfigurationError, MissingExtraError

_TYPES = {Severity.CRITICAL: "failure", Severity.HIGH: "failure", Severity.MEDIUM: "warning"}


class AppriseChannel:
    """Sends each message as title and text to addresses in Apprise's form (`tgram://…`, `mattermost://…`).

    Apprise says only whether a service took a message, not why not: every failure is tried again.

    Args:
        urls: see Apprise's list of services; they hold secrets and are never shown in logs or `repr`.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        try:
            import apprise
        except ImportError as error:
            raise MissingExtraError(
                "AppriseChannel needs the package apprise: pip install 'thalweg[apprise]'"
            ) from error
        if isinstance(urls, str) or not urls:
            raise ConfigurationError("AppriseChannel needs a list of addresses")
        self._services: list[Any] = []
        for number, url in enumerate(urls):
            service = apprise.Apprise()
            if not service.add(url):
                scheme = url.split("://", 1)[0]
                raise ConfigurationError(f"Apprise does not take address {number + 1} ({scheme}://…): see its services")
            self._services.append(service)
        self._reached: tuple[str, set[int]] = ("", set())

    def __repr__(self) -> str:
        return f"AppriseChannel({len(self._services)} services)"

    def send(self, message: Message) -> None:
        """Tells every service that has not been reached yet."""
        if self._reached[0] != message.key:
            self._reached = (message.key, set())
        resolved = message.kind is Kind.RESOLVED
        what = "success" if resolved else _TYPES.get(message.alert.severity, "info")
        body = "\n".join(message.lines) or message.alert.name
        for number, service in enumerate(self._services):
            if number in self._reached[1]:
                continue
            if service.notify(title=one_line(message.title, 250), body=body, notify_type=what, body_format="text"):
                self._reached[1].add(number)
        missed = len(self._services) - len(self._reached[1])
        if missed:
            raise DeliveryError(f"{missed} of {len(self._services)} Apprise services did not take the message")

    def close(self) -> None:
        """Nothing to free: Apprise keeps no connections."""

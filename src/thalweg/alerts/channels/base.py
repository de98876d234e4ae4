"""What a channel is: one method."""

from __future__ import annotations

from typing import Protocol

from thalweg.alerts.alert import Alert
from thalweg.errors import ConnectorError


class DeliveryError(ConnectorError):
    """A notification did not get through.

    `retry_after`: seconds that the other side asked for. `final`: trying again would not help.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, final: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.final = final


class Channel(Protocol):
    """Sends alerts somewhere. Called from the delivery thread, one alert at a time."""

    def send(self, alert: Alert, key: str) -> None:
        """Delivers one alert.

        Args:
            key: the same at each repetition of the same notification, so that the other side can drop repeats.

        Raises:
            DeliveryError: it did not get through.
        """

    def close(self) -> None:
        """Frees what it holds."""

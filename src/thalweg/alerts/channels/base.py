"""What a channel is: one method that sends a message."""

from __future__ import annotations

from typing import Protocol

from thalweg.alerts.message import Message
from thalweg.errors import ConnectorError


class DeliveryError(ConnectorError):
    """A message did not get through.

    `retry_after`: seconds that the other side asked for. `final`: trying again would not help.
    """

    def __init__(self, message: str, *, retry_after: float | None = None, final: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.final = final


class Channel(Protocol):
    """Sends messages somewhere. Called from a thread of its own, one message at a time.

    An attribute `tells`, a set of `Kind`, says what it tells; without it, everything. Retries, pauses, rate limits and
    circuit breaking are not its business: see `thalweg.alerts.sending`.
    """

    def send(self, message: Message) -> str | None:
        """Delivers one message.

        Returns:
            What the other side calls it, where later messages on the same alert should refer to it (a thread):
            they get it as `message.reference`.

        Raises:
            DeliveryError: it did not get through.
        """

    def close(self) -> None:
        """Frees what it holds."""

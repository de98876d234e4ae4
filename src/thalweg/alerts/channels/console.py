"""Messages as lines on a stream."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TextIO

from thalweg.alerts.message import Kind, Message


class ConsoleChannel:
    """Writes one line per message to standard error (or another text stream).

    Control characters in events are shown escaped: an event can't write to your terminal.
    """

    tells = frozenset({Kind.TRIGGERED, Kind.REMINDER, Kind.RESOLVED, Kind.DIGEST})

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def send(self, message: Message) -> None:
        """Writes the line."""
        alert = message.alert
        time = datetime.fromtimestamp(alert.event_time / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        title = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message.title)
        print(f"{time}Z  {alert.severity.upper():8} {alert.rule}  {title}", file=self._stream or sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to free: the stream is not ours."""

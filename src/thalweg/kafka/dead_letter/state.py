"""What has been done with each letter: a compacted topic beside the dead-letter topic, keyed by the letter's place."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class LetterState:
    """`payload` replaces the letter's where it was edited."""

    status: str = "open"
    payload: bytes | None = None
    edited: bool = False
    at: int | None = None
    """ms UTC of the replay, edit or discard."""
    to: str | None = None
    """The topic that it was replayed to."""

    def to_bytes(self) -> bytes:
        """JSON, for the state topic."""
        data: dict[str, Any] = {"status": self.status, "edited": self.edited, "at": self.at, "to": self.to}
        if self.payload is not None:
            data["payload"] = base64.b64encode(self.payload).decode()
        return json.dumps(data).encode()

    @classmethod
    def of(cls, data: bytes | None) -> LetterState:
        """From the state topic; what is no state counts as none."""
        try:
            found = json.loads(data or b"{}")
            payload = found.get("payload")
            return cls(
                str(found.get("status", "open")),
                None if payload is None else base64.b64decode(payload),
                bool(found.get("edited")),
                found.get("at"),
                found.get("to"),
            )
        except (ValueError, AttributeError):
            return cls()

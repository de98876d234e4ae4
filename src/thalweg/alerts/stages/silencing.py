"""Silences that somebody set, and recurring maintenance windows."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.silences import MaintenanceWindow, Silence
from thalweg.alerts.stages.base import Look
from thalweg.alerts.store.base import Changes, Store

PREFIX = "silence:"


class Silencing:
    """Suppresses what a silence or a maintenance window covers at the moment (by the manager's clock)."""

    name = "silence"

    def __init__(self) -> None:
        self.windows: list[MaintenanceWindow] = []
        self._silences: list[Silence] = []
        self._version = -1

    def prepare(self, alerts: Sequence[Alert], look: Look) -> None:
        """Reads the silences anew where another instance may have changed them."""
        version = look.store.version()
        if version != self._version:
            self._silences = silences_of(look.store)
            self._version = version

    def decide(self, alert: Alert, look: Look) -> str | None:
        for silence in self._silences:
            if silence.covers(alert, look.now):
                return f"silenced by {silence.by} ({silence.id}): {silence.reason}"
        for window in self.windows:
            if window.covers(alert, look.now):
                return f"maintenance window {window.name!r}"
        return None

    def passed(self, alert: Alert, look: Look) -> None: ...

    def finish(self, changes: Changes, look: Look) -> None: ...


def silences_of(store: Store) -> list[Silence]:
    """All silences that are kept, also those that have ended."""
    return [msgspec.json.decode(body, type=Silence) for body in store.documents(PREFIX).values()]

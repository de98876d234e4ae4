"""What a stage is: it looks at the alerts of a batch once, then decides on each in the order of event time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from thalweg.alerts.alert import Alert
from thalweg.alerts.store.base import Changes, Store

if TYPE_CHECKING:
    from thalweg.alerts.rules import AlertRule


@dataclass(frozen=True)
class Look:
    """What stages may look at."""

    store: Store
    rules: Mapping[str, AlertRule]
    now: int
    """The manager's clock, ms UTC."""


class Stage(Protocol):
    """One reason not to tell anybody."""

    name: str

    def prepare(self, alerts: Sequence[Alert], look: Look) -> None:
        """Fetches what it needs for these alerts: one query for all of them."""

    def decide(self, alert: Alert, look: Look) -> str | None:
        """Why the alert is suppressed; None: it is not, as far as this stage goes."""

    def passed(self, alert: Alert, look: Look) -> None:
        """Hears of an alert that no stage objected to."""

    def finish(self, changes: Changes, look: Look) -> None:
        """Adds what it wants written with the batch."""

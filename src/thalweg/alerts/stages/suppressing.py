"""The rules' own limits: at most so many alerts of one fingerprint, in event time."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from thalweg.alerts.alert import Alert
from thalweg.alerts.stages.base import Look
from thalweg.alerts.store.base import Changes


class Suppressing:
    """Alerts count in the order of their event times, whatever the order of the batch."""

    name = "suppression"

    def __init__(self) -> None:
        self._fired: dict[str, list[int]] = {}
        self._reach: dict[str, int] = {}

    def prepare(self, alerts: Sequence[Alert], look: Look) -> None:
        """One query per batch, not one per alert."""
        self._reach = {r.id: max((s.window for s in r.suppression_rules), default=0) for r in look.rules.values()}
        limited = [alert for alert in alerts if self._reach.get(alert.rule)]
        self._fired = {alert.fingerprint: [] for alert in limited}
        if limited:
            times, far = [alert.event_time for alert in limited], max(self._reach.values())
            for fingerprint, time in look.store.fired(list(self._fired), min(times) - far, max(times) + far):
                self._fired[fingerprint].append(time)

    def decide(self, alert: Alert, look: Look) -> str | None:
        earlier = self._fired.get(alert.fingerprint, [])
        rule = look.rules.get(alert.rule)
        rules = rule.suppression_rules if rule is not None else ()
        return next((why for one in rules if (why := one.blocks(earlier, alert.event_time))), None)

    def passed(self, alert: Alert, look: Look) -> None:
        if self._reach.get(alert.rule):
            insort(self._fired[alert.fingerprint], alert.event_time)

    def finish(self, changes: Changes, look: Look) -> None:
        self._fired = {}

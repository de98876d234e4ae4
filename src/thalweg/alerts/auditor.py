"""Looks after escalations: every open alert that has one must have its next step; the look itself leaves a trace."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.planning import ESCALATE, Planner, escalation_task
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.severity import Status
from thalweg.alerts.store.base import Changes, Conflict, Entry, Store

logger = logging.getLogger(__name__)

EVERY = 30_000
"""ms between two audits."""
HEARTBEAT = "heartbeat:auditor"
_PAGE = 1_000


class Auditor:
    """Checks all active escalations, and puts right what is not.

    A step can only be missing if the store has lost it (a restored backup, a hand in the database): then the
    escalation begins anew, and the audit trail says so.
    """

    def __init__(
        self, store: Store, planner: Planner, clock: Callable[[], int], rules: Callable[[str], AlertRule | None]
    ) -> None:
        self._store = store
        self._planner = planner
        self._clock = clock
        self._rules = rules
        self._next = 0

    def if_due(self) -> None:
        """Audits where the last one is long enough ago."""
        if self._clock() >= self._next:
            self.audit()

    def audit(self) -> int:
        """Checks every active escalation; returns how many had to be put right."""
        now = self._clock()
        self._next = now + EVERY
        checked = mended = 0
        before: tuple[int, str] | None = None
        while page := self._store.find(status=[str(Status.TRIGGERED)], before=before, limit=_PAGE):
            active = [alert for alert in page if alert.escalating]
            steps = {task.alert for task in self._store.tasks(ESCALATE, [alert.id for alert in active])}
            checked += len(active)
            mended += sum(self._mend(alert, now) for alert in active if alert.id not in steps)
            before = (page[-1].event_time, page[-1].id)
        body = msgspec.json.encode({"at": now, "checked": checked, "mended": mended})
        self._store.apply(Changes(documents={HEARTBEAT: body}))
        return mended

    def _mend(self, alert: Alert, now: int) -> bool:
        current = self._store.get([alert.id]).get(alert.id)
        if current is None or current.status is not Status.TRIGGERED or not current.escalating:
            return False
        if self._store.task(f"escalate:{alert.id}") is not None:
            return False
        policies = [t.escalation for t in self._planner.targets(self._rules(alert.rule), alert) if t.escalation]
        after = replace(current, escalating=bool(policies), revision=current.revision + 1)
        found = "begun anew" if policies else "its policy is gone, too"
        logger.error("alert %s had lost the next step of its escalation; %s", alert.id, found)
        entry = Entry(alert.id, now, "audited", None, f"the next step of the escalation was missing; {found}")
        tasks = [escalation_task(after, policies[0], 0, now)] if policies else []
        try:
            self._store.apply(Changes(alerts=[after], entries=[entry], tasks=tasks))
        except Conflict:
            return False
        return True

    def heartbeat(self) -> dict[str, int] | None:
        """When the last audit was (`at`, ms UTC), how many escalations it checked, and how many it put right."""
        body = self._store.document(HEARTBEAT)
        found: dict[str, int] | None = None if body is None else msgspec.json.decode(body)
        return found

"""What people do with alerts: acknowledge, resolve, open again, comment, assign, snooze. Every change is audited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from thalweg.alerts.alert import Alert
from thalweg.alerts.message import Kind
from thalweg.alerts.planning import Planner, messages
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.severity import OPEN, Status
from thalweg.alerts.store.base import Changes, Conflict, Entry, Store, Task
from thalweg.errors import ConfigurationError
from thalweg.faults import fault_point

AUTO = "auto"
"""Who resolves what resolves itself."""
_TRIES = 20


class Lifecycle:
    """Changes alerts in a store. A change that meets another one at the same moment is decided anew.

    Args:
        rules: gives the rule of an id, or None where there is none any more.
        changed: called after a change.
    """

    def __init__(
        self,
        store: Store,
        planner: Planner,
        clock: Callable[[], int],
        rules: Callable[[str], AlertRule | None],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._planner = planner
        self._clock = clock
        self._rules = rules
        self._changed = changed

    def acknowledge(self, id: str, by: str, reason: str | None = None) -> Alert:
        """Somebody has taken the alert: escalation and reminders stop."""

        def change(alert: Alert, now: int) -> tuple[Alert, Changes]:
            self._must_be(alert, (Status.TRIGGERED,), Status.ACKNOWLEDGED)
            after = _next(alert, status=Status.ACKNOWLEDGED, acknowledged_by=by, assignee=alert.assignee or by)
            return after, self._moved(after, Kind.ACKNOWLEDGED, by, reason, now)

        return self._change(id, change)

    def resolve(self, id: str, by: str, reason: str | None = None, *, at: int | None = None) -> Alert:
        """It is over."""

        def change(alert: Alert, now: int) -> tuple[Alert, Changes]:
            self._must_be(alert, OPEN, Status.RESOLVED)
            after = _next(alert, status=Status.RESOLVED, resolved_by=by, snoozed_until=None, active=False)
            why = reason if at is None or reason is not None else f"the state ended at {at}"
            return after, self._moved(after, Kind.RESOLVED, by, why, now)

        return self._change(id, change)

    def reopen(self, id: str, by: str, reason: str | None = None) -> Alert:
        """It is not over, or whoever had taken it can't see to it: it begins as if it were new."""

        def change(alert: Alert, now: int) -> tuple[Alert, Changes]:
            allowed = (Status.RESOLVED, Status.ACKNOWLEDGED, Status.SUPPRESSED)
            self._must_be(alert, allowed, Status.TRIGGERED)
            after = _next(alert, status=Status.TRIGGERED, acknowledged_by=None, resolved_by=None, reason=None)
            return self.begun(after, by, reason, now)

        return self._change(id, change)

    def begun(self, alert: Alert, by: str | None, reason: str | None, now: int) -> tuple[Alert, Changes]:
        """An alert that was stored already begins (again)."""
        plan = self._planner.begin(self._rules(alert.rule), alert, now)
        after = plan.routed(alert)
        entry = Entry(alert.id, now, str(Status.TRIGGERED), by, reason)
        return after, Changes(
            entries=[entry, *plan.entries],
            tasks=plan.tasks,
            first_tasks=plan.first_tasks,
            notifications=plan.notifications,
        )

    def comment(self, id: str, by: str, text: str) -> Alert:
        """Adds a line to the audit trail."""
        if not text.strip():
            raise ConfigurationError("a comment needs a text")
        return self._change(id, lambda alert, now: (_next(alert), _entry(alert, now, "comment", by, text)))

    def assign(self, id: str, to: str | None, by: str) -> Alert:
        """Says who sees to it; None: nobody in particular."""
        what = f"to {to}" if to else "to nobody"
        return self._change(
            id, lambda alert, now: (_next(alert, assignee=to), _entry(alert, now, "assigned", by, what))
        )

    def snooze(self, id: str, until: int, by: str, reason: str | None = None) -> Alert:
        """Nobody is told until a time (ms UTC); then, if it is still open, its channels are reminded."""

        def change(alert: Alert, now: int) -> tuple[Alert, Changes]:
            self._must_be(alert, (Status.TRIGGERED,), "snoozed")
            if until <= now:
                raise ConfigurationError("an alert is snoozed until a time that is yet to come")
            changes = _entry(alert, now, "snoozed", by, f"until {until}" + (f": {reason}" if reason else ""))
            changes.tasks.append(Task(f"snooze:{id}", "snooze", until, id, "", {"channels": list(alert.channels)}))
            step = self._store.task(f"escalate:{id}")
            if step is not None and step.due < until:
                changes.tasks.append(replace(step, due=until))
            return _next(alert, snoozed_until=until), changes

        return self._change(id, change)

    # -- helpers

    def _moved(self, alert: Alert, kind: Kind, by: str, reason: str | None, now: int) -> Changes:
        tasks, notifications = messages(alert, alert.channels, kind, now, note=f"by {by}" + _colon(reason))
        done = [f"escalate:{alert.id}", f"resolve:{alert.id}", f"snooze:{alert.id}", f"recheck:{alert.id}"]
        done += [f"repeat:{alert.id}:{channel}" for channel in alert.channels]
        return Changes(
            entries=[Entry(alert.id, now, str(alert.status), by, reason)],
            tasks=tasks,
            notifications=notifications,
            done=done,
        )

    def _change(self, id: str, change: Callable[[Alert, int], tuple[Alert, Changes]]) -> Alert:
        for _ in range(_TRIES):
            alert = self._store.get([id]).get(id)
            if alert is None:
                raise ConfigurationError(f"there is no alert {id!r}")
            after, changes = change(alert, self._clock())
            changes.alerts.append(after)
            fault_point("alerts.changing")
            try:
                self._store.apply(changes)
            except Conflict:
                continue
            fault_point("alerts.changed")
            self._changed()
            return after
        raise ConfigurationError(f"alert {id!r} is changed by others all the time; try again")

    @staticmethod
    def _must_be(alert: Alert, allowed: tuple[Status, ...], to: str) -> None:
        if alert.status not in allowed:
            raise ConfigurationError(f"alert {alert.id!r} is {alert.status}; it can't become {to}")


def _next(alert: Alert, **changed: Any) -> Alert:
    return replace(alert, revision=alert.revision + 1, **changed)


def _entry(alert: Alert, now: int, what: str, by: str | None, reason: str | None) -> Changes:
    return Changes(entries=[Entry(alert.id, now, what, by, reason)])


def _colon(reason: str | None) -> str:
    return f": {reason}" if reason else ""

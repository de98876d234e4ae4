"""What a new alert brings: whom to tell now, whom later, and the lines of its audit trail that say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from thalweg.alerts.alert import Alert
from thalweg.alerts.escalation import EscalationLevel, EscalationPolicy
from thalweg.alerts.message import Kind
from thalweg.alerts.oncall import PREFIX, Schedule
from thalweg.alerts.routing import Route, Target, targets
from thalweg.alerts.rules import AlertRule
from thalweg.alerts.store.base import Entry, New, Notification, Task

NOTIFY, GROUP, ESCALATE, REPEAT, RESOLVE, SNOOZE, RECHECK = (
    "notify", "group", "escalate", "repeat", "resolve", "snooze", "recheck",
)  # fmt: skip
RECHECK_EVERY = 30_000
"""ms: how often an alert that is suppressed for a while is looked at again, as long as its state goes on."""


@dataclass
class Plan:
    """Tasks, notifications and audit lines; `first_tasks` are those that a group may have already."""

    entries: list[Entry] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    first_tasks: list[Task] = field(default_factory=list)
    notifications: list[Notification] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    group: str | None = None

    def routed(self, alert: Alert) -> Alert:
        """The alert, knowing where it goes."""
        escalating = any(task.kind == ESCALATE for task in self.tasks)
        return replace(alert, channels=tuple(self.channels), group=self.group, escalating=escalating)


class Planner:
    """Turns decisions into tasks.

    Args:
        schedules: by name, for `on-call:<name>`; the caller changes it as it likes.
    """

    def __init__(self, schedules: Mapping[str, Schedule]) -> None:
        self.route: Route | None = None
        self._schedules = schedules

    def targets(self, rule: AlertRule | None, alert: Alert) -> list[Target]:
        """Where an alert goes: its rule's channels, else the routes', else the console."""
        policy = rule.escalation_policy if rule else None
        if rule is not None and rule.notification_channels is not None:
            return [Target(tuple(rule.notification_channels), None, 0, 0, None, policy, "the rule's channels")]
        if self.route is not None:
            return [replace(t, escalation=policy or t.escalation) for t in targets(self.route, alert)]
        return [Target(("console",), None, 0, 0, None, policy, "no routes")]

    def begin(self, rule: AlertRule | None, alert: Alert, now: int) -> Plan:
        """All that a triggered alert (a new one, or one opened again) brings."""
        plan = Plan()
        for target in self.targets(rule, alert):
            self._tell(plan, target, alert, now)
            if target.escalation is not None and not any(task.kind == ESCALATE for task in plan.tasks):
                plan.tasks.append(escalation_task(alert, target.escalation, 0, now))
        if rule is not None and rule.resolve_ms is not None and not alert.stateful and rule.absent is None:
            plan.tasks.append(Task(f"resolve:{alert.id}", RESOLVE, now + rule.resolve_ms, alert.id))
        return plan

    def _tell(self, plan: Plan, target: Target, alert: Alert, now: int) -> None:
        channels = self.resolved(target.channels, now)
        grouped = "" if target.group is None else f", grouped for {target.wait} ms"
        plan.entries.append(Entry(alert.id, now, "routed", None, f"{target.path}: {', '.join(channels)}{grouped}"))
        plan.group = plan.group or target.group
        for channel in channels:
            if channel in plan.channels:
                continue
            plan.channels.append(channel)
            key = key_of(alert, channel, Kind.TRIGGERED)
            if target.group is None:
                due = now
                plan.tasks.append(notify_task(alert, channel, Kind.TRIGGERED, now, key=key))
            else:
                due = now + target.wait
                data = {"group": target.group, "interval": target.interval}
                plan.first_tasks.append(Task(f"group:{target.group}", GROUP, due, data=data))
            state = "pending" if target.group is None else "waiting"
            plan.notifications.append(
                Notification(key, alert.id, channel, str(Kind.TRIGGERED), state, 0, due, group=target.group)
            )
            if target.repeat is not None:
                data = {"channel": channel, "interval": target.repeat, "number": 1}
                plan.tasks.append(Task(f"repeat:{alert.id}:{channel}", REPEAT, now + target.repeat, alert.id, "", data))

    def resolved(self, channels: Sequence[str], now: int) -> list[str]:
        """The channels with whoever is on call in place of `on-call:…`; a schedule with nobody on call gives none."""
        found: list[str] = []
        for name in channels:
            if name.startswith(PREFIX):
                schedule = self._schedules.get(name.removeprefix(PREFIX))
                person = schedule.on_call(now) if schedule is not None else None
                found += person.channels if person is not None else ()
            else:
                found.append(name)
        return list(dict.fromkeys(found))


def new_of(alert: Alert, plan: Plan, entries: Sequence[Entry]) -> New:
    """A new alert with what it brings."""
    return New(plan.routed(alert), [*entries, *plan.entries], plan.tasks, plan.notifications)


def key_of(alert: Alert, channel: str, kind: Kind, step: str = "") -> str:
    """A message's key: the same whenever the same message is made again."""
    parts = [alert.id, channel, str(kind)]
    if alert.revision > 1 or step:
        parts.append(step or str(alert.revision))
    return ":".join(parts)


def notify_task(
    alert: Alert, channel: str, kind: Kind, due: int, *, key: str, note: str | None = None, **data: Any
) -> Task:
    """The task of sending one message."""
    return Task(f"notify:{key}", NOTIFY, due, alert.id, channel, {"key": key, "kind": str(kind), "note": note, **data})


def escalation_task(alert: Alert, policy: EscalationPolicy, step: int, now: int) -> Task:
    """The next step of an escalation. The policy travels with it: a rule that changes meanwhile changes nothing."""
    level = policy.step(step)
    assert level is not None
    levels = [[one.delay_ms, list(one.channels)] for one in policy.levels]
    data = {"step": step, "levels": levels, "repeat": policy.repeat, "revision": alert.revision}
    return Task(f"escalate:{alert.id}", ESCALATE, now + level.delay_ms, alert.id, "", data)


def policy_of(data: Mapping[str, Any]) -> EscalationPolicy:
    """The policy that travels with a step."""
    return EscalationPolicy([EscalationLevel(delay, channels) for delay, channels in data["levels"]], data["repeat"])


def messages(
    alert: Alert, channels: Sequence[str], kind: Kind, now: int, *, step: str = "", note: str | None = None
) -> tuple[list[Task], list[Notification]]:
    """A further message about an alert to each of these channels."""
    tasks, notifications = [], []
    for channel in channels:
        key = key_of(alert, channel, kind, step)
        tasks.append(notify_task(alert, channel, kind, now, key=key, note=note))
        notifications.append(Notification(key, alert.id, channel, str(kind), "pending", 0, now))
    return tasks, notifications


Clock = Callable[[], int]

"""What time brings about: groups that are full, escalations, repetitions, ends of snoozes, rechecks, digests."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from thalweg.alerts.alert import Alert
from thalweg.alerts.lifecycle import AUTO, Lifecycle
from thalweg.alerts.message import Kind
from thalweg.alerts.planning import (
    ESCALATE,
    GROUP,
    RECHECK,
    RECHECK_EVERY,
    REPEAT,
    RESOLVE,
    SNOOZE,
    Planner,
    messages,
    notify_task,
    policy_of,
)
from thalweg.alerts.severity import Status
from thalweg.alerts.stages.storm import DIGEST, StormProtection
from thalweg.alerts.store.base import Changes, Conflict, Entry, Notification, Store, Task
from thalweg.errors import ConfigurationError
from thalweg.faults import fault_point

_DIGEST_LISTS = 50


class Timers:
    """Carries out tasks that tell nobody themselves, but may bring messages about.

    Args:
        recheck: why an alert that is suppressed for a while is so still; None: it is not any more.
        storm: the storm protection in force.
    """

    def __init__(
        self,
        store: Store,
        planner: Planner,
        lifecycle: Lifecycle,
        clock: Callable[[], int],
        recheck: Callable[[Alert], str | None],
        storm: Callable[[], StormProtection | None],
    ) -> None:
        self._store = store
        self._planner = planner
        self._lifecycle = lifecycle
        self._clock = clock
        self._recheck_reason = recheck
        self._storm = storm
        self._handlers: Mapping[str, Callable[[Task], Changes | None]] = {
            GROUP: self._group,
            ESCALATE: self._escalate,
            REPEAT: self._repeat,
            RESOLVE: self._resolve,
            SNOOZE: self._snooze,
            RECHECK: self._recheck,
            DIGEST: self._digest,
        }

    def run(self, task: Task) -> None:
        """Carries out one task; where another changed its alert meanwhile, it is tried again at once."""
        handler = self._handlers.get(task.kind)
        if handler is None:
            raise ConfigurationError(f"the alert store holds a task of kind {task.kind!r}, written by a later version")
        try:
            changes = handler(task)
            if changes is not None:
                fault_point("alerts.timed")
                self._store.apply(changes)
        except Conflict:
            self._store.apply(Changes(tasks=[replace(task, due=self._clock())]))

    def _alert(self, task: Task) -> Alert | None:
        return self._store.get([task.alert]).get(task.alert) if task.alert is not None else None

    # -- groups

    def _group(self, task: Task) -> Changes:
        group = str(task.data["group"])
        waiting = self._store.notifications(group=group)
        if not waiting:
            return Changes(done=[task.id])
        now = self._clock()
        # The group stays for its interval: what comes meanwhile waits for the end of it.
        changes = Changes(tasks=[replace(task, due=now + int(task.data["interval"]))])
        alerts = self._store.get({n.alert for n in waiting})
        for channel in dict.fromkeys(n.channel for n in waiting):
            members = [n for n in waiting if n.channel == channel and n.alert in alerts]
            self._bundle(changes, channel, members, alerts, now)
        return changes

    def _bundle(
        self, changes: Changes, channel: str, members: list[Notification], alerts: Mapping[str, Alert], now: int
    ) -> None:
        if not members:
            return
        leader = max((alerts[n.alert] for n in members), key=lambda a: (a.severity.rank, -a.event_time))
        keys = [n.key for n in members]
        key = keys[0]
        if len(members) > 1:
            key = f"group:{channel}:{hashlib.sha256(repr(sorted(keys)).encode()).hexdigest()[:32]}"
        grouped = [n.alert for n in members]
        changes.tasks.append(notify_task(leader, channel, Kind.TRIGGERED, now, key=key, grouped=grouped, members=keys))
        changes.notifications += [replace(n, state="bundled", due=now) for n in members]

    # -- reminders

    def _escalate(self, task: Task) -> Changes:
        alert, now = self._alert(task), self._clock()
        if alert is None or alert.status is not Status.TRIGGERED:
            return Changes(done=[task.id])
        if alert.snoozed_until is not None and alert.snoozed_until > now:
            return Changes(tasks=[replace(task, due=alert.snoozed_until)])
        policy, step = policy_of(task.data), int(task.data["step"])
        level = policy.step(step)
        if level is None:
            return Changes(done=[task.id])
        channels = self._planner.resolved(level.channels, now)
        note = f"escalation, step {step + 1}: nobody has acknowledged"
        name = f"step{step + 1}.{task.data['revision']}"
        tasks, notes = messages(alert, channels, Kind.REMINDER, now, step=name, note=note)
        told = ", ".join(channels) or f"nobody is on call ({', '.join(level.channels)})"
        changes = Changes(tasks=tasks, notifications=notes)
        changes.entries.append(Entry(alert.id, now, "escalated", None, f"step {step + 1}: {told}"))
        following = policy.step(step + 1)
        channels = [*dict.fromkeys([*alert.channels, *channels])]
        changes.alerts.append(
            replace(alert, channels=channels, escalating=following is not None, revision=alert.revision + 1)
        )
        if following is None:
            changes.done.append(task.id)
        else:
            data = {**task.data, "step": step + 1}
            changes.tasks.append(replace(task, due=now + following.delay_ms, data=data))
        return changes

    def _repeat(self, task: Task) -> Changes:
        alert, now = self._alert(task), self._clock()
        if alert is None or alert.status is not Status.TRIGGERED:
            return Changes(done=[task.id])
        again = replace(
            task, due=now + int(task.data["interval"]), data={**task.data, "number": task.data["number"] + 1}
        )
        if alert.snoozed_until is not None and alert.snoozed_until > now:
            return Changes(tasks=[replace(task, due=alert.snoozed_until)])
        step = f"repeat{task.data['number']}.{alert.revision}"
        tasks, notes = messages(alert, [task.data["channel"]], Kind.REMINDER, now, step=step, note="still open")
        return Changes(tasks=[*tasks, again], notifications=notes)

    def _snooze(self, task: Task) -> Changes:
        alert, now = self._alert(task), self._clock()
        if alert is None or alert.status is not Status.TRIGGERED or alert.snoozed_until is None:
            return Changes(done=[task.id])
        if alert.snoozed_until > now:
            return Changes(tasks=[replace(task, due=alert.snoozed_until)])
        step = f"snooze.{alert.snoozed_until}"
        tasks, notes = messages(alert, task.data["channels"], Kind.REMINDER, now, step=step, note="the snooze is over")
        after = replace(alert, snoozed_until=None, revision=alert.revision + 1)
        entry = Entry(alert.id, now, "snooze over", None, None)
        return Changes(alerts=[after], tasks=tasks, notifications=notes, done=[task.id], entries=[entry])

    # -- ends and beginnings

    def _resolve(self, task: Task) -> None:
        alert = self._alert(task)
        if alert is not None and alert.open:
            self._lifecycle.resolve(alert.id, AUTO, "its time is over")
        self._store.apply(Changes(done=[task.id]))

    def _recheck(self, task: Task) -> Changes:
        """An alert that was suppressed by a silence or a graver alert begins when that is over and its state is not."""
        alert, now = self._alert(task), self._clock()
        if alert is None or alert.status is not Status.SUPPRESSED or not alert.active:
            return Changes(done=[task.id])
        if self._recheck_reason(alert) is not None:
            return Changes(tasks=[replace(task, due=now + RECHECK_EVERY)])
        after = replace(alert, status=Status.TRIGGERED, reason=None, revision=alert.revision + 1)
        after, changes = self._lifecycle.begun(after, None, "no longer suppressed, and its state goes on", now)
        changes.alerts.append(after)
        changes.done.append(task.id)
        return changes

    def _digest(self, task: Task) -> Changes:
        protection, now = self._storm(), self._clock()
        held = [] if protection is None else self._held_back(int(task.data["since"]))
        if protection is None or not held:
            return Changes(done=[task.id])
        counts = Counter(alert.rule for alert in held)
        note = f"storm: {len(held)} alerts were held back: " + ", ".join(
            f"{n} × {r}" for r, n in counts.most_common(10)
        )
        shown = sorted(held, key=lambda a: (-a.severity.rank, a.event_time))[:_DIGEST_LISTS]
        changes = Changes(done=[task.id])
        for channel in self._planner.resolved(protection.channels, now):
            key = f"digest:{task.data['since']}:{channel}"
            changes.tasks.append(
                notify_task(shown[0], channel, Kind.DIGEST, now, key=key, note=note, grouped=[a.id for a in shown])
            )
            changes.notifications.append(Notification(key, shown[0].id, channel, str(Kind.DIGEST), "pending", 0, now))
        return changes

    def _held_back(self, since: int) -> list[Alert]:
        found: list[Alert] = []
        before: tuple[int, str] | None = None
        while page := self._store.find(status=[str(Status.SUPPRESSED)], before=before, limit=1_000):
            kept = [a for a in page if a.created >= since and (a.reason or "").startswith("storm:")]
            found += kept
            before = (page[-1].event_time, page[-1].id)
            if not kept and page[-1].created < since:
                break
        return found

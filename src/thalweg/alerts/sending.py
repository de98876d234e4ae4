"""Sends one message: whether it is still wanted, in which order, how often tried, and what is noted of it."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from thalweg.alerts.alert import Alert
from thalweg.alerts.channels.base import Channel, DeliveryError
from thalweg.alerts.lifecycle import AUTO
from thalweg.alerts.limits import ChannelLimits, CircuitBreaker, RateLimit
from thalweg.alerts.message import Kind, Message
from thalweg.alerts.severity import Status
from thalweg.alerts.store.base import Changes, Entry, Notification, Store, Task
from thalweg.faults import fault_point

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 300.0
"""Seconds."""
MAX_ATTEMPTS = 200
"""About 16 hours of an unreachable channel; then the message is marked failed, with its last error."""
NO_CHANNEL = 300_000
"""ms until a message for a channel that this process does not have is looked at again."""
_PAGES = (Kind.TRIGGERED, Kind.REMINDER)
_FOLLOW_UPS = (Kind.ACKNOWLEDGED, Kind.RESOLVED)
ALL_KINDS = frozenset(Kind)


@dataclass(frozen=True)
class Figures:
    """What a process has delivered: messages and failed attempts by channel, and channels that are left alone now."""

    sent: Mapping[str, int]
    failures: Mapping[str, int]
    blocked: frozenset[str]


@dataclass(frozen=True)
class Owed:
    """One message that is owed: its task, its alerts as they are now, and all that channels were told of them."""

    task: Task
    kind: Kind
    alerts: list[Alert]
    notes: list[Notification]

    @property
    def own(self) -> list[Notification]:
        """The notifications that the task is about: its own, or those of its group."""
        keys = set(self.task.data.get("members") or [self.task.data["key"]])
        return [note for note in self.notes if note.key in keys]

    def _pages(self, alert: str | None) -> list[Notification]:
        return [n for n in self.notes if n.alert == alert and n.channel == self.task.lane and n.kind in _PAGES]

    def was_told(self, alert: Alert) -> bool:
        """Whether the channel has been told of an alert, or will be."""
        return any(n.state in ("sent", "pending", "waiting", "bundled") for n in self._pages(alert.id))

    def still_to_come(self) -> Notification | None:
        """The page that this message follows up, where it has not got through yet."""
        return next((n for n in self._pages(self.task.alert) if n.state in ("pending", "waiting", "bundled")), None)

    def reference(self, alert: Alert) -> str | None:
        """What the channel called its first message about an alert."""
        told = [n for n in self.notes if n.alert == alert.id and n.channel == self.task.lane]
        told = sorted((n for n in told if n.reference is not None), key=lambda note: note.due)
        return told[0].reference if told else None


class Sender:
    """Carries out the tasks that tell channels.

    Args:
        channels: by name; looked up at each attempt.
        clock: now, ms UTC.
    """

    def __init__(self, store: Store, channels: Mapping[str, Channel], clock: Callable[[], int]) -> None:
        self._store = store
        self._channels = channels
        self._clock = clock
        self._limits: dict[str, ChannelLimits] = {}
        self._breakers: dict[str, CircuitBreaker] = {}
        self._rates: dict[str, RateLimit] = {}
        self._random = random.Random()
        self._sent: dict[str, int] = {}
        self._failures: dict[str, int] = {}

    def limit(self, channel: str, limits: ChannelLimits) -> None:
        """Sets how a channel may be used."""
        self._limits[channel] = limits
        self._breakers[channel], self._rates[channel] = CircuitBreaker(limits), RateLimit(limits)

    def blocked(self, channel: str, now: int) -> int:
        """For how long the channel is left alone, ms."""
        return self._breakers[channel].wait(now) if channel in self._breakers else 0

    def pause(self, channel: str, now: int) -> int:
        """For how long the next message to the channel has to wait, ms: it is left alone, or has had its share."""
        rate = self._rates.get(channel)
        return max(self.blocked(channel, now), rate.wait(now) if rate is not None else 0)

    def figures(self) -> Figures:
        """What was delivered since the start."""
        now = self._clock()
        blocked = frozenset(name for name in self._breakers if self.blocked(name, now))
        return Figures(dict(self._sent), dict(self._failures), blocked)

    def send(self, task: Task) -> bool:
        """Carries out one task; true if a message got through."""
        channel = self._channels.get(task.lane)
        owed = self._owed(task)
        if owed is None:
            self._store.apply(Changes(done=[task.id]))
            return False
        if channel is None:
            # The program that left it had this channel; one that has it, now or later, will send it.
            self._postpone(owed, NO_CHANNEL, "no such channel in this process", attempt=False)
            return False
        refused = {alert.id: self._unwanted(alert, owed, channel) for alert in owed.alerts}
        wanted = [alert for alert in owed.alerts if refused[alert.id] is None]
        if not wanted:
            self._cancel(owed, refused[owed.alerts[0].id] or "not wanted")
            return False
        now = self._clock()
        if owed.kind in _FOLLOW_UPS and (first := owed.still_to_come()) is not None:
            self._put_off(task, max(first.due, now + 100))
            return False
        if wait := self.blocked(task.lane, now):
            self._put_off(task, now + wait)
            return False
        rate = self._rates.get(task.lane)
        if rate is not None and not rate.take(now):
            self._put_off(task, now + rate.wait(now))
            return False
        return self._attempt(owed, channel, wanted)

    def _owed(self, task: Task) -> Owed | None:
        """What a task is about, read at once; None: its alerts are gone."""
        ids = list(task.data.get("grouped") or [task.alert])
        found = self._store.get(ids)
        alerts = [found[id] for id in ids if id in found]
        return Owed(task, Kind(task.data["kind"]), alerts, self._store.notifications_of(ids)) if alerts else None

    def _attempt(self, owed: Owed, channel: Channel, alerts: list[Alert]) -> bool:
        task = owed.task
        leader = max(alerts, key=lambda alert: (alert.severity.rank, -alert.event_time))
        reference = owed.reference(leader)
        message = Message(
            task.data["key"], owed.kind, leader, tuple(alerts) if len(alerts) > 1 else (), reference,
            task.data.get("note"),
        )  # fmt: skip
        fault_point("alerts.sending")
        try:
            found = channel.send(message)
        except DeliveryError as error:
            self._failed(owed, str(error), error.retry_after, error.final)
            return False
        except Exception as error:
            # A channel of the user's own: its faults are its own, and must not keep other alerts back.
            logger.exception("channel %r failed", task.lane)
            self._failed(owed, f"{type(error).__name__}: {error}", None, False)
            return False
        fault_point("alerts.sent")
        if task.lane in self._breakers:
            self._breakers[task.lane].succeeded()
        self._sent[task.lane] = self._sent.get(task.lane, 0) + 1
        self._done(owed, alerts, "sent", None, found or reference)
        fault_point("alerts.noted")
        return True

    def _unwanted(self, alert: Alert, owed: Owed, channel: Channel) -> str | None:
        """Why an alert need not be told of any more: nobody is paged for what a person has taken or ended."""
        kind = owed.kind
        if kind not in getattr(channel, "tells", ALL_KINDS):
            return f"the channel does not tell what is {kind}"
        if kind in _PAGES:
            if alert.status is Status.ACKNOWLEDGED:
                return f"{alert.acknowledged_by} has acknowledged it"
            if alert.status is Status.RESOLVED and (alert.resolved_by != AUTO or kind is Kind.REMINDER):
                return f"{alert.resolved_by} has resolved it"
            if alert.status is Status.SUPPRESSED:
                return "it is suppressed"
            if alert.snoozed_until is not None and alert.snoozed_until > self._clock():
                return "it is snoozed"
        if kind in _FOLLOW_UPS and not owed.was_told(alert):
            return "the channel was never told of the alert"
        return None

    # -- what is noted

    def _failed(self, owed: Owed, error: str, retry_after: float | None, final: bool) -> None:
        task = owed.task
        self._failures[task.lane] = self._failures.get(task.lane, 0) + 1
        if final or task.attempts + 1 >= MAX_ATTEMPTS:
            logger.error("alert %s will not reach channel %r: %s", task.alert, task.lane, error)
            self._done(owed, owed.alerts, "failed", error, None)
            return
        if task.lane in self._breakers:
            self._breakers[task.lane].failed(self._clock())
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(task.attempts, 20)) * self._random.uniform(0.5, 1.0)
        pause = max(pause, retry_after or 0.0)
        logger.warning("channel %r: %s; trying again in %.1f s", task.lane, error, pause)
        self._postpone(owed, int(pause * 1000), error, attempt=True)

    def _postpone(self, owed: Owed, pause: int, error: str, *, attempt: bool) -> None:
        due = self._clock() + pause
        attempts = owed.task.attempts + attempt
        noted = [replace(n, attempts=attempts, due=due, error=error) for n in owed.own]
        again = replace(owed.task, due=due, attempts=attempts)
        self._store.apply(Changes(tasks=[again], notifications=noted), synced=False)

    def _put_off(self, task: Task, due: int) -> None:
        self._store.apply(Changes(tasks=[replace(task, due=due)]), synced=False)

    def _cancel(self, owed: Owed, why: str) -> None:
        noted = [replace(n, state="cancelled", error=why) for n in owed.own]
        entries = [Entry(n.alert, self._clock(), "not told", None, f"{owed.task.lane}: {why}") for n in noted]
        self._store.apply(Changes(done=[owed.task.id], notifications=noted, entries=entries))

    def _done(self, owed: Owed, alerts: list[Alert], state: str, error: str | None, reference: str | None) -> None:
        """Notes what became of a message. If the machine loses its power just now, what was sent is sent once more."""
        now, task = self._clock(), owed.task
        told = {alert.id for alert in alerts}
        noted, entries = [], []
        for note in owed.own:
            kept = state if note.alert in told else "cancelled"
            noted.append(replace(note, state=kept, attempts=task.attempts + 1, error=error, reference=reference))
            what = "notified" if kept == "sent" else "not told"
            why = f"{task.lane}: {task.data['kind']}" + (f": {error}" if error else "")
            entries.append(Entry(note.alert, now, what, None, why))
        changes = Changes(done=[task.id], notifications=noted, entries=entries)
        self._store.apply(changes, synced=state != "sent")

"""What an alert store does. All that one decision changes is applied at once, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from thalweg.alerts.alert import Alert


@dataclass(frozen=True)
class Task:
    """Something to do at a time: tell a channel, escalate, flush a group. Done at least once, by one worker at a time.

    `lane` keeps a slow channel from holding up the others: a worker takes tasks of one lane. `attempts` counts
    postponements.
    """

    id: str
    kind: str
    due: int
    """ms UTC."""
    alert: str | None = None
    lane: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0


@dataclass(frozen=True)
class Entry:
    """One line of an alert's audit trail: what happened, when, by whom, why."""

    alert: str
    at: int
    what: str
    """A status, or "comment", "assigned", "snoozed", "routed", "escalated", "notified" and the like."""
    by: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Notification:
    """One message to one channel. `state`: pending, waiting (for its group), bundled (told with its group), sent,
    failed or cancelled."""

    key: str
    alert: str
    channel: str
    kind: str
    state: str
    attempts: int
    due: int
    error: str | None = None
    group: str | None = None
    reference: str | None = None
    """What the channel called the message."""


@dataclass(frozen=True)
class New:
    """A new alert with all that it brings; ignored as a whole where the alert is stored already (a replay)."""

    alert: Alert
    entries: Sequence[Entry] = ()
    tasks: Sequence[Task] = ()
    notifications: Sequence[Notification] = ()


@dataclass
class Changes:
    """What is written at once."""

    new: list[New] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    """Changed alerts; each with the revision after the stored one."""
    entries: list[Entry] = field(default_factory=list)
    tasks: list[Task] = field(default_factory=list)
    """Put, or put anew; the lease of a task that is put anew ends."""
    first_tasks: list[Task] = field(default_factory=list)
    """Put only where there is none of that id."""
    done: list[str] = field(default_factory=list)
    """Tasks to remove."""
    notifications: list[Notification] = field(default_factory=list)
    documents: dict[str, bytes | None] = field(default_factory=dict)
    """Anything else by name: silences, trackers, heartbeats; None removes."""

    def touched(self) -> list[str]:
        """The alerts that these changes are about, besides new ones that turn out to be stored already."""
        changed = [alert.id for alert in self.alerts]
        changed += [entry.alert for entry in self.entries]
        changed += [notification.alert for notification in self.notifications]
        return list(dict.fromkeys(changed))


class Conflict(Exception):
    """An alert was changed by another at the same moment: read it again and decide anew."""


class Store(Protocol):
    """A place for alerts. Its methods may be called from any thread.

    Raises (all methods):
        ConnectorError: the store can't be reached, or refuses.
    """

    def apply(self, changes: Changes, *, synced: bool = True) -> set[str]:
        """Writes all of it; returns the ids of the new alerts that were new indeed.

        Args:
            synced: False: what may get lost with the machine's power, though not with the process, as doing it again
                does no harm.

        Raises:
            Conflict: a changed alert is not at the revision before; nothing was written.
        """

    def get(self, ids: Iterable[str]) -> dict[str, Alert]:
        """Those of these alerts that there are."""

    def open_of(self, fingerprints: Sequence[str]) -> dict[str, Alert]:
        """For fingerprints with an open alert that their rule's state has not ended: the newest one."""

    def fired(self, fingerprints: Sequence[str], since: int, until: int) -> list[tuple[str, int]]:
        """Fingerprint and event time of alerts that were not suppressed, in [since, until], by time."""

    def find(
        self,
        *,
        status: Sequence[str] = (),
        rule: str | None = None,
        severity: str | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 100,
    ) -> list[Alert]:
        """The newest alerts first, by event time and id; `before`: those before this place, for the next page."""

    def created_since(self, since: int) -> int:
        """How many alerts that were not suppressed were made since then."""

    def counts(self) -> dict[str, int]:
        """How many alerts are in each status."""

    def entries(self, alert: str) -> list[Entry]:
        """The audit trail of an alert, oldest first."""

    def notifications(
        self, alert: str | None = None, *, group: str | None = None, limit: int = 10_000
    ) -> list[Notification]:
        """Notifications of an alert, those that wait for a group, or all."""

    def notifications_of(self, alerts: Sequence[str]) -> list[Notification]:
        """Notifications of some alerts."""

    def claim(self, owner: str, lane: str | None, now: int, lease: int, limit: int) -> list[Task]:
        """Takes tasks that are due for `lease` ms; whoever does not finish them in that time loses them to others.

        Args:
            lane: None: of all lanes.
        """

    def renew(self, leases: Mapping[str, int], until: int) -> set[str]:
        """Prolongs leases of tasks, given by when they end; returns the tasks whose lease still was that one. The
        others were put anew, or taken by somebody else."""

    def task(self, id: str) -> Task | None:
        """A task that is not done yet."""

    def tasks(self, kind: str, alerts: Iterable[str] | None = None) -> list[Task]:
        """Tasks of a kind that are not done yet."""

    def next_due(self, lane: str | None = None) -> int | None:
        """When the next task (of a lane) is due, leased or not; None: there is none."""

    def recover(self) -> None:
        """Called once before workers start: gives back what a dead process of this store's only owner had taken."""

    def document(self, name: str) -> bytes | None:
        """What was put under a name."""

    def documents(self, prefix: str) -> dict[str, bytes]:
        """Everything whose name begins so."""

    def version(self) -> int:
        """Counts the changes of documents: a reader keeps what it has made of them until this moves."""

    def changed(self, since: int, limit: int) -> list[tuple[int, str]]:
        """Alerts that were changed (or whose audit trail or notifications were), after the change of this number: each
        once, with the number of its last change, by these numbers. What is read after it is never older."""

    def last_change(self) -> int:
        """The number of the last change; 0: there was none."""

    def wait(self, since: int, timeout: float) -> bool:
        """Waits until there is a change after this number, whoever makes it; false: none came in so many seconds.
        For one thread at a time."""

    def close(self) -> None: ...

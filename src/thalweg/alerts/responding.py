"""What people do with alerts: look, acknowledge, resolve, comment, snooze, silence."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from thalweg.alerts.alert import Alert
from thalweg.alerts.explain import explain
from thalweg.alerts.lifecycle import Lifecycle
from thalweg.alerts.matching import matchers
from thalweg.alerts.overrides import OnCall, StoredOverride
from thalweg.alerts.severity import Severity, Status
from thalweg.alerts.silences import Silence
from thalweg.alerts.stages.silencing import PREFIX as SILENCE
from thalweg.alerts.stages.silencing import silences_of
from thalweg.alerts.store.base import Changes, Notification, Store
from thalweg.alerts.worker import Worker
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError


class Responding:
    """The part of `AlertManager` that answers people."""

    store: Store
    _clock: Callable[[], int]
    _lifecycle: Lifecycle
    _on_call: OnCall
    _worker: Worker

    def get(self, id: str) -> Alert | None:
        """One alert."""
        return self.store.get([id]).get(id)

    def list(
        self,
        *,
        status: Status | str | Sequence[str] | None = None,
        rule: str | None = None,
        severity: Severity | str | None = None,
        before: tuple[int, str] | None = None,
        limit: int = 100,
    ) -> list[Alert]:
        """The newest alerts first, by event time. `before`: (event time, id) of the last one of the page before."""
        wanted = () if status is None else [status] if isinstance(status, str) else status
        return self.store.find(
            status=[str(Status(one)) for one in wanted],
            rule=rule,
            severity=None if severity is None else str(Severity(severity)),
            before=before,
            limit=limit,
        )

    def acknowledge(self, id: str, by: str, reason: str | None = None) -> Alert:
        """Somebody has taken the alert: escalation and reminders stop."""
        return self._lifecycle.acknowledge(id, by, reason)

    def resolve(self, id: str, by: str, reason: str | None = None) -> Alert:
        """It is over."""
        return self._lifecycle.resolve(id, by, reason)

    def reopen(self, id: str, by: str, reason: str | None = None) -> Alert:
        """It is not over: it begins as if it were new."""
        return self._lifecycle.reopen(id, by, reason)

    def comment(self, id: str, by: str, text: str) -> Alert:
        """Adds a line to the audit trail."""
        return self._lifecycle.comment(id, by, text)

    def assign(self, id: str, to: str | None, by: str) -> Alert:
        """Says who sees to it."""
        return self._lifecycle.assign(id, to, by)

    def snooze(self, id: str, duration: Duration, by: str, reason: str | None = None) -> Alert:
        """Nobody is told for a while; then, if it is still open, its channels are reminded."""
        until = self._clock() + milliseconds(duration, name="duration of the snooze", minimum=1)
        return self._lifecycle.snooze(id, until, by, reason)

    def history(self, id: str) -> Sequence[dict[str, Any]]:
        """The audit trail: when, what, by whom, why."""
        return [{"at": e.at, "what": e.what, "by": e.by, "reason": e.reason} for e in self.store.entries(id)]

    def explain(self, id: str) -> str:
        """Why the alert is what it is: rule, event, every decision, every message, step by step.

        Raises:
            ConfigurationError: there is no such alert.
        """
        return explain(self.store, id)

    def notifications(self, alert: str | None = None) -> Sequence[Notification]:
        """What channels were told, or are still owed."""
        return self.store.notifications(alert)

    # -- who is on call

    def override(
        self,
        schedule: str,
        person: str,
        *,
        by: str,
        reason: str,
        start: int | str | None = None,
        end: int | str | None = None,
        duration: Duration | None = None,
    ) -> StoredOverride:
        """Has somebody stand in on an on-call schedule, from the next page on and in all instances on this store.

        Args:
            person: one of the schedule's people.
            by, reason: who says so, and why; kept in `history("on-call:<schedule>")`.
            start, end: ms UTC, or a time by the schedule's clocks, "2026-12-24T09:00"; no start: from now on.
            duration: instead of an end.

        Raises:
            ConfigurationError: no such schedule or person, a time that can't be read, or one that is over.
        """
        return self._on_call.add(schedule, person, start, end, duration, by, reason)

    def overrides(self, schedule: str | None = None) -> Sequence[StoredOverride]:
        """The overrides (of a schedule) that were made this way and have not ended, the next first."""
        return self._on_call.overrides(schedule)

    def remove_override(self, id: str, *, by: str) -> None:
        """Ends an override, or keeps it from beginning.

        Raises:
            ConfigurationError: there is none of that id.
        """
        self._on_call.remove(id, by)

    # -- silences

    def silence(
        self,
        match: Mapping[str, str] | Sequence[str],
        duration: Duration,
        *,
        by: str,
        reason: str,
        start: int | None = None,
    ) -> Silence:
        """Suppresses what matches for a while, from now or from `start` (ms UTC) on, in all instances on this store."""
        begins = self._clock() if start is None else start
        ends = begins + milliseconds(duration, name="duration of the silence", minimum=1)
        given = match if isinstance(match, Mapping) else [*match]
        made = Silence(uuid.uuid4().hex[:16], matchers(given), begins, ends, by, reason)
        self.store.apply(Changes(documents={SILENCE + made.id: msgspec.json.encode(made)}))
        return made

    def unsilence(self, id: str) -> None:
        """Ends a silence.

        Raises:
            ConfigurationError: there is none of that id.
        """
        if self.store.document(SILENCE + id) is None:
            raise ConfigurationError(f"there is no silence {id!r}")
        self.store.apply(Changes(documents={SILENCE + id: None}))
        self._worker.wake()

    @property
    def silences(self) -> Sequence[Silence]:
        """All silences that have not ended."""
        return [silence for silence in silences_of(self.store) if silence.end > self._clock()]

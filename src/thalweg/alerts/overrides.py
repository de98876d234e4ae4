"""Overrides of on-call schedules that people set while alerting runs: kept in the store, for all instances on it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import msgspec

from thalweg.alerts.ical import with_overrides
from thalweg.alerts.oncall import PREFIX as ON_CALL
from thalweg.alerts.oncall import Override, Schedule
from thalweg.alerts.silences import instant
from thalweg.alerts.store.base import Changes, Entry, Store
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

PREFIX = "override:"
_KEPT = 86_400_000
"""ms for which an override that has ended is kept; the audit trail of the schedule keeps it for good."""


@dataclass(frozen=True)
class StoredOverride:
    """Somebody stands in on a schedule from `start` until `end` (ms UTC, half-open); `by` somebody, at `made`."""

    id: str
    schedule: str
    person: str
    start: int
    end: int
    by: str
    reason: str
    made: int


class OnCall(Mapping[str, Schedule]):
    """The schedules as they are now, by name: those of the set-up, with the store's overrides. The one that was made
    last wins.

    Args:
        configured: the schedules of the set-up; the caller changes it as it likes.
    """

    def __init__(self, store: Store, configured: Mapping[str, Schedule], clock: Callable[[], int]) -> None:
        self._store = store
        self._configured = configured
        self._clock = clock
        self._overrides: list[StoredOverride] = []
        self._version = -1

    def __getitem__(self, name: str) -> Schedule:
        schedule = self._configured[name]
        people = {person.name for person in schedule.people}
        # Somebody may have left the schedule since: that must not keep the others from being told.
        mine = [one for one in self._read() if one.schedule == name and one.person in people]
        made = [Override(one.person, one.start, one.end, one.reason, one.by) for one in mine]
        return with_overrides(schedule, made) if made else schedule

    def __iter__(self) -> Iterator[str]:
        return iter(self._configured)

    def __len__(self) -> int:
        return len(self._configured)

    def _read(self) -> list[StoredOverride]:
        """In the order in which they were made; read anew where any instance has changed them."""
        version = self._store.version()
        if version != self._version:
            found = [msgspec.json.decode(body, type=StoredOverride) for body in self._store.documents(PREFIX).values()]
            self._overrides = sorted(found, key=lambda one: (one.made, one.id))
            self._version = version
        return self._overrides

    def overrides(self, schedule: str | None = None) -> list[StoredOverride]:
        """Those that have not ended, the next first."""
        found = [o for o in self._read() if o.end > self._clock() and schedule in (None, o.schedule)]
        return sorted(found, key=lambda one: (one.start, one.made))

    def add(
        self,
        schedule: str,
        person: str,
        start: int | str | None,
        end: int | str | None,
        duration: Duration | None,
        by: str,
        reason: str,
    ) -> StoredOverride:
        """See `AlertManager.override`."""
        configured = self._configured.get(schedule)
        if configured is None:
            raise ConfigurationError(f"there is no schedule {schedule!r}{_known(schedule, self._configured)}")
        people = [one.name for one in configured.people]
        if person not in people:
            raise ConfigurationError(f"{person!r} is not in the schedule {schedule!r}{_known(person, people)}")
        if (end is None) == (duration is None):
            raise ConfigurationError("an override needs either an end or a duration")
        now = self._clock()
        begins = now if start is None else instant(start, configured.timezone, "start of the override")
        if duration is not None:
            ends = begins + milliseconds(duration, name="duration of the override", minimum=1)
        else:
            ends = instant(end or 0, configured.timezone, "end of the override")
        Override(person, begins, ends)
        if ends <= now:
            raise ConfigurationError("the override would have ended already")
        made = StoredOverride(uuid.uuid4().hex[:16], schedule, person, begins, ends, by, reason, now)
        old: dict[str, bytes | None] = {PREFIX + one.id: None for one in self._read() if one.end < now - _KEPT}
        said = f"{person} from {begins} until {ends} ({made.id}): {reason}"
        self._store.apply(
            Changes(
                documents={**old, PREFIX + made.id: msgspec.json.encode(made)},
                entries=[Entry(ON_CALL + schedule, now, "override", by, said)],
            )
        )
        return made

    def remove(self, id: str, by: str) -> None:
        """See `AlertManager.remove_override`."""
        body = self._store.document(PREFIX + id)
        if body is None:
            raise ConfigurationError(f"there is no override {id!r}")
        was = msgspec.json.decode(body, type=StoredOverride)
        entry = Entry(ON_CALL + was.schedule, self._clock(), "override removed", by, f"{was.person} ({id})")
        self._store.apply(Changes(documents={PREFIX + id: None}, entries=[entry]))


def _known(name: str, names: Sequence[str] | Mapping[str, object]) -> str:
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names) or 'none'}"

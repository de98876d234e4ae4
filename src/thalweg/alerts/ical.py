"""On-call schedules as iCalendar (RFC 5545): out for people's calendars, in from the tools that plan them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from thalweg.alerts.oncall import Override, Person, Schedule
from thalweg.alerts.silences import local_instant, zone
from thalweg.errors import ConfigurationError, MissingExtraError


def to_ical(schedule: Schedule, start: int, end: int) -> str:
    """The shifts between two times (ms UTC) as a calendar, one event each; the same shift has the same UID."""
    icalendar = _library()
    calendar = icalendar.Calendar()
    calendar.add("prodid", "-//Thalweg//on-call//EN")
    calendar.add("version", "2.0")
    for begins, ends, person in schedule.shifts(start, end):
        event = icalendar.Event()
        said = f"{schedule.name}:{begins}:{person}"
        event.add("uid", hashlib.sha256(said.encode()).hexdigest()[:32] + "@thalweg")
        event.add("dtstamp", _moment(start))
        event.add("dtstart", _moment(begins))
        event.add("dtend", _moment(ends))
        event.add("summary", f"{person} on call ({schedule.name})")
        event.add("attendee", person)
        override = schedule.override_at(begins)
        if override is not None and override.reason:
            event.add("description", f"override: {override.reason}" + (f" ({override.by})" if override.by else ""))
        calendar.add_component(event)
    text: str = calendar.to_ical().decode()
    return text


def from_ical(text: str, name: str, people: Sequence[Person], *, timezone: str = "UTC") -> Schedule:
    """A schedule whose shifts are the events of a calendar.

    The person of an event is the one whose name its summary (or its attendee) contains. Times without a zone are of
    `timezone`; an event that recurs must have been expanded by the tool that wrote it.

    Raises:
        ConfigurationError: no calendar, an event about nobody who is known, or one that recurs.
    """
    icalendar = _library()
    try:
        calendar = icalendar.Calendar.from_ical(text)
    except ValueError as error:
        raise ConfigurationError(f"schedule {name!r}: not a calendar: {error}") from error
    overrides = []
    for event in calendar.walk("VEVENT"):
        summary = str(event.get("summary", ""))
        if event.get("rrule") is not None:
            raise ConfigurationError(f"schedule {name!r}: event {summary!r} recurs; export it with its dates expanded")
        start = event.get("dtstart")
        if start is None:
            raise ConfigurationError(f"schedule {name!r}: event {summary!r} has no start")
        begins = _instant(start.dt, timezone)
        overrides.append(Override(_person(event, summary, name, people), begins, _end(event, begins, timezone)))
    if not overrides:
        raise ConfigurationError(f"schedule {name!r}: the calendar has no events")
    return Schedule(name, people, [], timezone, overrides)


def with_overrides(schedule: Schedule, overrides: Sequence[Override]) -> Schedule:
    """The schedule with further overrides; later ones win."""
    return replace(schedule, overrides=(*schedule.overrides, *overrides))


def _person(event: Any, summary: str, name: str, people: Sequence[Person]) -> str:
    attendees = event.get("attendee", [])
    said = " ".join([summary, *map(str, attendees if isinstance(attendees, list) else [attendees])]).casefold()
    found = [person.name for person in people if person.name.casefold() in said]
    if len(found) != 1:
        known = ", ".join(person.name for person in people)
        raise ConfigurationError(f"schedule {name!r}: event {summary!r} must name exactly one of {known}")
    return found[0]


def _end(event: Any, begins: int, timezone: str) -> int:
    end = event.get("dtend")
    if end is not None:
        return _instant(end.dt, timezone)
    duration = event.get("duration")
    length = timedelta(days=1) if duration is None else duration.dt
    return begins + int(length / timedelta(milliseconds=1))


def _instant(moment: datetime | date, timezone: str) -> int:
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        return local_instant(moment, zone(timezone))
    return int(moment.timestamp() * 1000)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _library() -> Any:
    try:
        import icalendar
    except ImportError as error:
        raise MissingExtraError("calendars need the package icalendar: pip install 'thalweg[alerts]'") from error
    return icalendar

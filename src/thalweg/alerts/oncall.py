"""Who is on call: rotations, restricted to days and hours, with overrides, right by the clocks of a time zone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

from thalweg.alerts.silences import DAYS, clock_time, local_instant, zone
from thalweg.errors import ConfigurationError

PREFIX = "on-call:"


@dataclass(frozen=True)
class Person:
    """Somebody who can be told: their name, and the channels that reach them."""

    name: str
    channels: Sequence[str]

    def __post_init__(self) -> None:
        if not self.name or isinstance(self.channels, str) or not self.channels:
            raise ConfigurationError(f"person {self.name!r} needs a name and a list of channels")


@dataclass(frozen=True)
class Rotation:
    """People take turns, `days` each, from `start` (a local date) on; they hand over at `handover` o'clock.

    Args:
        people: names, in the order of their turns.
        only_days: the days on which this rotation has anybody on call; None: all.
        hours: from and until when ("09:00", "17:00"); until may lie on the next day ("22:00", "06:00"). None: all day.
    """

    people: Sequence[str]
    start: str
    days: int = 7
    handover: str = "09:00"
    only_days: Sequence[str] | None = None
    hours: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.people, str) or not self.people:
            raise ConfigurationError("a rotation needs a list of people")
        if self.days < 1:
            raise ConfigurationError(f"a rotation of {self.days} days never changes hands; it takes 1 or more")
        clock_time(self.handover, "handover of a rotation")
        if bad := [day for day in self.only_days or () if day not in DAYS]:
            raise ConfigurationError(f"rotation: day {bad[0]!r}; use {', '.join(DAYS)}")
        for hour in self.hours or ():
            clock_time(hour, "hours of a rotation")
        _date(self.start)

    def on_call(self, local: datetime) -> str | None:
        """Who is on call at a local time; None where the rotation has nobody."""
        if not self._covers(local):
            return None
        since = _date(self.start)
        day = local.date() if local.time() >= clock_time(self.handover, "handover") else local.date() - timedelta(1)
        turns = (day - since).days // self.days
        return None if turns < 0 else self.people[turns % len(self.people)]

    def _covers(self, local: datetime) -> bool:
        day = local.date()
        if self.hours is not None:
            begins, ends = (clock_time(hour, "hours") for hour in self.hours)
            now = local.time()
            if begins < ends:
                if not begins <= now < ends:
                    return False
            elif now < ends:
                day -= timedelta(1)  # the night that began yesterday
            elif now < begins:
                return False
        return self.only_days is None or DAYS[day.weekday()] in self.only_days


@dataclass(frozen=True)
class Override:
    """Somebody stands in from `start` until `end`, ms UTC; perhaps with the reason, and who said so."""

    person: str
    start: int
    end: int
    reason: str | None = None
    by: str | None = None

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ConfigurationError("an override ends after it starts")


@dataclass(frozen=True)
class Schedule:
    """Who is on call: the latest override that covers the moment, else the first rotation that has somebody.

    >>> week = Schedule("primary", [Person("ada", ["sms-ada"]), Person("bob", ["sms-bob"])],
    ...                 [Rotation(["ada", "bob"], start="2026-01-05")], timezone="Europe/Berlin")
    >>> at = lambda text: int(datetime.fromisoformat(text).timestamp() * 1000)
    >>> week.on_call(at("2026-01-12T08:59+01:00")).name, week.on_call(at("2026-01-12T09:00+01:00")).name
    ('ada', 'bob')
    """

    name: str
    people: Sequence[Person]
    rotations: Sequence[Rotation]
    timezone: str = "UTC"
    overrides: Sequence[Override] = field(default=())

    def __post_init__(self) -> None:
        known = {person.name for person in self.people}
        named = {name for rotation in self.rotations for name in rotation.people} | {o.person for o in self.overrides}
        if unknown := named - known:
            raise ConfigurationError(f"schedule {self.name!r} names {', '.join(sorted(unknown))}, who is not in people")
        if not self.rotations and not self.overrides:
            raise ConfigurationError(f"schedule {self.name!r} has neither rotations nor overrides")
        zone(self.timezone)

    def on_call(self, now: int) -> Person | None:
        """Who is on call at a time, ms UTC; None: nobody is."""
        override = self.override_at(now)
        name = None if override is None else override.person
        local = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone(self.timezone)).replace(tzinfo=None)
        for rotation in self.rotations:
            name = name or rotation.on_call(local)
        return next((person for person in self.people if person.name == name), None)

    def override_at(self, now: int) -> Override | None:
        """The latest override that covers a time, ms UTC."""
        return next((o for o in reversed(self.overrides) if o.start <= now < o.end), None)

    def shifts(self, start: int, end: int) -> list[tuple[int, int, str]]:
        """Who is on call from when until when, ms UTC, between two times; gaps are left out."""
        found: list[tuple[int, int, str]] = []
        edges = sorted({start, end, *(edge for edge in self._edges(start, end) if start < edge < end)})
        for begins, ends in pairwise(edges):
            person = self.on_call(begins)
            if person is None:
                continue
            if found and found[-1][1] == begins and found[-1][2] == person.name:
                found[-1] = (found[-1][0], ends, person.name)
            else:
                found.append((begins, ends, person.name))
        return found

    def _edges(self, start: int, end: int) -> list[int]:
        """Every moment at which it may change who is on call."""
        here = zone(self.timezone)
        edges = [edge for override in self.overrides for edge in (override.start, override.end)]
        times: set[time] = {time(0)}
        for rotation in self.rotations:
            times.add(clock_time(rotation.handover, "handover"))
            times.update(clock_time(hour, "hours") for hour in rotation.hours or ())
        day = datetime.fromtimestamp(start / 1000, UTC).astimezone(here).date() - timedelta(1)
        last = datetime.fromtimestamp(end / 1000, UTC).astimezone(here).date() + timedelta(1)
        while day <= last:
            edges += [local_instant(datetime.combine(day, moment), here) for moment in times]
            day += timedelta(1)
        return edges


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"start of a rotation is {text!r}; write a date such as 2026-01-05") from None

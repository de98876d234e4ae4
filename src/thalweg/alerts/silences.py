"""Silences and maintenance windows: when alerts that match are not told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from thalweg.alerts.alert import Alert
from thalweg.alerts.matching import Matcher, all_of, matchers
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Silence:
    """Alerts that meet all matchers are suppressed from `start` until `end` (ms UTC, half-open)."""

    id: str
    matchers: Sequence[Matcher]
    start: int
    end: int
    by: str
    reason: str

    def __post_init__(self) -> None:
        if not self.matchers:
            raise ConfigurationError("a silence needs at least one matcher; one without would silence everything")
        if self.end <= self.start:
            raise ConfigurationError("a silence ends after it starts")

    def covers(self, alert: Alert, now: int) -> bool:
        """Whether the alert is silenced now."""
        return self.start <= now < self.end and all_of(tuple(self.matchers), alert)


@dataclass(frozen=True)
class MaintenanceWindow:
    """A recurring silence: on these days from `start` on for `duration`, by the clocks of a time zone.

    A start in the hour that a zone skips in spring begins when that hour would be over; of an hour that comes twice in
    autumn, the first counts.

    >>> window = MaintenanceWindow("patching", {"team": "core"}, days=["sun"], start="02:30", duration="1h",
    ...                            timezone="Europe/Berlin")
    >>> at = int(datetime(2026, 3, 29, 1, 15, tzinfo=UTC).timestamp() * 1000)   # 3:15 in Berlin; 2:30 was skipped
    >>> window.open_at(at)
    False
    >>> window.open_at(at + 30 * 60_000)
    True
    """

    name: str
    match: Mapping[str, str] | Sequence[str]
    days: Sequence[str]
    start: str
    duration: Duration
    timezone: str = "UTC"
    _matchers: tuple[Matcher, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_matchers", matchers(self.match))  # type: ignore[arg-type]
        if not self._matchers:
            raise ConfigurationError(f"maintenance window {self.name!r} needs at least one matcher")
        if bad := [day for day in self.days if day not in DAYS]:
            raise ConfigurationError(f"maintenance window {self.name!r}: day {bad[0]!r}; use {', '.join(DAYS)}")
        if not self.days:
            raise ConfigurationError(f"maintenance window {self.name!r} has no days")
        clock_time(self.start, f"start of maintenance window {self.name!r}")
        zone(self.timezone)
        length = milliseconds(self.duration, name=f"duration of maintenance window {self.name!r}", minimum=1)
        if length > 7 * 86_400_000:
            raise ConfigurationError(f"maintenance window {self.name!r} is longer than the week it recurs in")

    def open_at(self, now: int) -> bool:
        """Whether the window is open at a time, ms UTC."""
        length = milliseconds(self.duration)
        here = datetime.fromtimestamp(now / 1000, UTC).astimezone(zone(self.timezone))
        days_back = length // 86_400_000 + 1
        for back in range(days_back + 1):
            day = (here - timedelta(days=back)).date()
            if DAYS[day.weekday()] not in self.days:
                continue
            begins = local_instant(datetime.combine(day, clock_time(self.start, "start")), zone(self.timezone))
            if begins <= now < begins + length:
                return True
        return False

    def covers(self, alert: Alert, now: int) -> bool:
        """Whether the alert is silenced now."""
        return self.open_at(now) and all_of(self._matchers, alert)


def clock_time(text: str, where: str) -> time:
    """A time of day, "02:30".

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{where} is {text!r}; write a time of day such as 02:30") from None


def zone(name: str) -> ZoneInfo:
    """A time zone of the IANA database.

    Raises:
        ConfigurationError: no such zone.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(f"time zone {name!r} is unknown; use a name such as Europe/Berlin") from None


def instant(given: int | str, timezone: str, where: str) -> int:
    """A time in ms UTC; a text is one by the clocks of the zone, unless it says its own: "2026-12-24T09:00".

    Raises:
        ConfigurationError: it can't be read.
    """
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    try:
        moment = datetime.fromisoformat(str(given))
    except ValueError:
        raise ConfigurationError(f"{where} is {given!r}; write a time such as 2026-01-05T09:00") from None
    return int(moment.timestamp() * 1000) if moment.tzinfo is not None else local_instant(moment, zone(timezone))


def local_instant(local: datetime, zone: ZoneInfo) -> int:
    """The instant (ms UTC) of a local time; one that a zone skips is moved forward by what is skipped."""
    return int(local.replace(tzinfo=zone, fold=0).astimezone(UTC).timestamp() * 1000)

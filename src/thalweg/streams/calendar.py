"""Windows of the calendar of a time zone: days that last 23 or 25 hours when the clocks change, months, years."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.windows import AlignedWindow

UNITS = ("day", "week", "month", "quarter", "year")
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_FIRST, _LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = int(_FIRST.timestamp() * 1000), int(_LAST.timestamp() * 1000)


@dataclass(frozen=True, init=False)
class CalendarWindow(AlignedWindow):
    """Days, weeks (from Monday), months, quarters or years of a time zone, one after the other.

    A window starts and ends at local midnight, or at the first moment after it where the clocks skip that. Times before
    the year 2 and from the year 9998 on fall into one window each.

    Args:
        unit: "day", "week", "month", "quarter" or "year".
        time_zone: its name, such as "Europe/Berlin".

    Raises:
        ConfigurationError: no such unit or time zone.

    >>> CalendarWindow("day", "Europe/Berlin")
    CalendarWindow(unit='day', time_zone='Europe/Berlin')
    """

    unit: str
    time_zone: str
    _zone: ZoneInfo = field(repr=False, compare=False)
    _edges: list[int] = field(repr=False, compare=False)

    size = slide = 1
    offset = 0

    def __init__(self, unit: str, time_zone: str = "UTC") -> None:
        if unit not in UNITS:
            raise ConfigurationError(f"calendar window of a {unit!r}: use one of {', '.join(UNITS)}")
        try:
            zone = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(f"no time zone {time_zone!r}; give a name such as 'Europe/Berlin'") from None
        object.__setattr__(self, "unit", unit)
        object.__setattr__(self, "time_zone", time_zone)
        object.__setattr__(self, "_zone", zone)
        object.__setattr__(self, "_edges", [])

    def describe(self) -> str:
        return f"each {self.unit} in {self.time_zone}"

    # -- edges: all window bounds of the times seen so far

    def _cover(self, earliest: int, latest: int) -> list[int]:
        """Window bounds from at or before `earliest` to after `latest`."""
        edges = self._edges
        first, last = max(earliest, _EARLIEST), min(latest, _LATEST)
        if not edges:
            edges.append(self._start(first))
        while edges[0] > first:
            edges[:0] = self._run(min(self._start(first), edges[0] - 1), edges[0])
        while edges[-1] <= last:
            edges.append(self._after(edges[-1]))
        return edges

    def _run(self, time: int, until: int) -> list[int]:
        edges = [self._start(time)]
        while edges[-1] < until:
            edges.append(self._after(edges[-1]))
        return edges[:-1]

    def _start(self, time: int) -> int:
        local = datetime.fromtimestamp(time / 1000, self._zone).date()
        start = self._moment(self._first_day(local))
        return start if start <= time else self._moment(self._first_day(self._first_day(local) - timedelta(days=1)))

    def _after(self, edge: int) -> int:
        local = datetime.fromtimestamp(edge / 1000, self._zone).date()
        return self._moment(self._next_first_day(self._first_day(local)))

    def _first_day(self, day: date) -> date:
        if self.unit == "day":
            return day
        if self.unit == "week":
            return day - timedelta(days=day.weekday())
        months = _MONTHS[self.unit]
        return date(day.year, (day.month - 1) // months * months + 1, 1)

    def _next_first_day(self, day: date) -> date:
        if self.unit in ("day", "week"):
            return day + timedelta(days=1 if self.unit == "day" else 7)
        month = day.month - 1 + _MONTHS[self.unit]
        return date(day.year + month // 12, month % 12 + 1, 1)

    def _moment(self, day: date) -> int:
        """When a local day begins, ms UTC."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self._zone)
        return int(midnight.timestamp() * 1000)

    # -- as an aligned window

    def slice_end(self, time: int) -> int:
        edges = self._cover(time, time)
        return edges[min(bisect_right(edges, time), len(edges) - 1)]

    def first_end(self, time: int) -> int:
        return self.slice_end(time)

    def last_end(self, time: int) -> int:
        return self.slice_end(time)

    def ends_of_slice(self, end: int, after: int, until: int) -> Iterable[int]:
        return [end] if after < end <= until else []

    def holds(self, slice_end: int, end: int) -> bool:
        return slice_end == end

    def slice_end_of(self, time: pl.Expr) -> pl.Expr:
        return time.map_batches(self._ends, return_dtype=pl.Int64)

    def first_end_of(self, time: pl.Expr) -> pl.Expr:
        return self.slice_end_of(time)

    def last_end_of(self, time: pl.Expr) -> pl.Expr:
        return self.slice_end_of(time)

    def _ends(self, times: pl.Series) -> pl.Series:
        values = times.to_numpy()
        if not len(values):
            return pl.Series(times.name, values, dtype=pl.Int64)
        edges = np.array(self._cover(int(values.min()), int(values.max())), dtype=np.int64)
        return pl.Series(times.name, edges[np.minimum(np.searchsorted(edges, values, side="right"), len(edges) - 1)])

    def starts_of(self, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if not len(ends):
            return ends
        edges = np.array(self._cover(int(ends.min()) - 1, int(ends.max())), dtype=np.int64)
        starts: npt.NDArray[np.int64] = edges[np.maximum(np.searchsorted(edges, ends, side="left") - 1, 0)]
        return starts

    def in_windows(self, rows: pl.DataFrame, time: str, end: str) -> pl.DataFrame:
        return rows.with_columns(self.slice_end_of(pl.col(time)).alias(end))

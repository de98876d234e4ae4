"""Windows of the calendar: edges against Python's own calendar, and results however batches are cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.analytics import count
from thalweg.errors import ConfigurationError
from thalweg.streams import AfterCount, App, CalendarWindow, Repeatedly
from thalweg.streams.calendar import UNITS
from thalweg.streams.testing import TestDriver

ZONES = ["UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "Asia/Kolkata", "Pacific/Apia"]
HOUR = 3_600_000


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.sampled_from(ZONES), st.sampled_from(UNITS), st.integers(-2_000_000_000_000, 4_000_000_000_000))
def test_a_window_holds_its_time_and_begins_with_a_local_day(zone: str, unit: str, time: int):
    window = CalendarWindow(unit, zone)
    end = window.slice_end(time)
    start = int(window.starts_of(np.array([end]))[0])
    assert start <= time < end
    assert window.slice_end(start) == end
    assert window.slice_end(end) > end
    for edge in (start, end):
        local = datetime.fromtimestamp(edge / 1000, ZoneInfo(zone))
        before = datetime.fromtimestamp(edge / 1000, UTC) - timedelta(milliseconds=1)
        assert before.astimezone(ZoneInfo(zone)).date() < local.date()
        assert unit == "day" or local.day == 1 or (unit == "week" and local.weekday() == 0)
        assert unit not in ("quarter", "year") or local.month in ((1, 4, 7, 10) if unit == "quarter" else (1,))


def test_days_when_the_clocks_change():
    window = CalendarWindow("day", "Europe/Berlin")
    for day, hours in (("2024-03-31", 23), ("2024-04-01", 24), ("2024-10-27", 25)):
        start = ms(day, "Europe/Berlin")
        assert window.slice_end(start) - start == hours * HOUR


@pytest.mark.parametrize("size", [1, 7, None])
def test_events_per_local_day(size: int | None):
    start = ms("2024-03-30T22:00:00")
    rows = [{"t": start + number * HOUR, "k": "ab"[number % 2]} for number in range(60)]
    stream = App("days").stream("events", timestamp="t").key_by("k")
    for how in ({}, {"trigger": Repeatedly(AfterCount(1)), "allowed_lateness": "1d"}):
        driver = TestDriver(
            stream.window(CalendarWindow("day", "Europe/Berlin"), **how).aggregate(n=count()), batch_size=size
        )
        driver.send(rows[:20])
        driver.restore(driver.snapshot())
        driver.send(rows[20:])
        driver.end()
        frame = driver.output()
        last = frame.unique(["k", "window_start"], keep="last", maintain_order=True).sort("window_start", "k")
        edges = [
            ms(day, "Europe/Berlin") for day in ("2024-03-30", "2024-03-31", "2024-04-01", "2024-04-02", "2024-04-03")
        ]
        inside = [[r for r in rows if low <= r["t"] < high] for low, high in pairwise(edges)]
        expected = [
            (low, high, sum(r["k"] == k for r in events))
            for (low, high), events in zip(pairwise(edges), inside, strict=True)
            for k in "ab"
        ]
        assert last.select("window_start", "window_end", "n").rows() == [row for row in expected if row[2]]


def test_times_far_away_do_not_stop_a_stream():
    driver = TestDriver(App("far").stream("events", timestamp="t").window(CalendarWindow("year")).aggregate(n=count()))
    driver.send([{"t": -62_135_500_000_000}, {"t": 0}, {"t": 253_402_300_000_000}])
    driver.end()
    assert driver.output()["n"].to_list() == [1, 1, 1]


def test_what_is_refused():
    with pytest.raises(ConfigurationError, match="use one of day"):
        CalendarWindow("fortnight")
    with pytest.raises(ConfigurationError, match="no time zone"):
        CalendarWindow("day", "Mars/Olympus")

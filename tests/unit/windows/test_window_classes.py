"""Window values: durations, alignment before and after 1970, refusals."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import ConfigurationError
from thalweg.streams.windows import GlobalWindow, SessionWindow, SlidingWindow, TumblingWindow

times = st.integers(-(10**13), 10**13)
windows = st.one_of(
    st.builds(TumblingWindow, st.integers(1, 1000), st.integers(-2000, 2000)),
    st.builds(SlidingWindow, st.integers(1, 1000), st.integers(1, 1000), st.integers(-2000, 2000)),
)


@given(windows, times)
def test_bounds_are_the_nearest_window_edges(window, time):
    first, last, edge = window.first_end(time), window.last_end(time), window.slice_end(time)
    assert first > time >= first - window.slide
    assert (first - window.size - window.offset) % window.slide == 0
    assert last - window.size <= time < last - window.size + window.slide
    starts = time - (time - window.offset) % window.slide + window.slide
    assert edge == min(starts, first)


@given(windows, times)
def test_all_times_of_a_slice_are_in_the_same_windows(window, time):
    before = window.slice_end(time) - 1
    assert (window.first_end(before), window.last_end(before)) == (window.first_end(time), window.last_end(time))


def test_before_1970_times_floor_downwards():
    hour = TumblingWindow("1h")
    assert (hour.slice_end(-1), hour.slice_end(-3_600_000), hour.slice_end(-3_600_001)) == (0, 0, -3_600_000)


def test_durations_may_be_strings_and_timedeltas():
    assert TumblingWindow("1m") == TumblingWindow(60_000) == TumblingWindow(timedelta(minutes=1))
    assert TumblingWindow(10, offset=-3) == TumblingWindow(10, offset=7)
    assert SlidingWindow("1h", "40m", "13m").remainder == 20 * 60_000
    assert hash(SessionWindow("5s")) == hash(SessionWindow(5000))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TumblingWindow(0),
        lambda: TumblingWindow(-5),
        lambda: TumblingWindow("soon"),
        lambda: SlidingWindow(10, 0),
        lambda: SessionWindow(0),
        lambda: SessionWindow(10, max_length=5),
        lambda: TumblingWindow(True),
    ],
)
def test_what_can_not_work_is_refused(make):
    with pytest.raises(ConfigurationError):
        make()


def test_windows_are_frozen():
    with pytest.raises(AttributeError):
        TumblingWindow(5).size = 6  # type: ignore[misc]


def test_descriptions():
    assert TumblingWindow(5, 1).describe() == "tumbling 5 ms offset 1 ms"
    assert SlidingWindow(6, 2).describe() == "sliding 6 ms every 2 ms"
    assert SessionWindow(6, 20).describe() == "session gap 6 ms, at most 20 ms"
    assert GlobalWindow().describe() == "global"

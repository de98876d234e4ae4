"""Window, interval and as-of joins against their definition, however batches are cut, and after a crash."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.joins.model import Row, bag, drive, events, in_time, joined, numbered, streams

from thalweg.analytics import count
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams import App, CalendarWindow, Interval, SlidingWindow, TumblingWindow
from thalweg.streams.testing import TestDriver

HOWS = ["inner", "left", "right", "full", "semi", "anti"]
few = settings(max_examples=15, derandomize=True, deadline=None)


@pytest.mark.parametrize("how", HOWS)
@given(
    drawn=events, bounds=st.tuples(st.integers(-30, 30), st.integers(0, 40)), late=st.integers(0, 20), data=st.data()
)
@few
def test_interval_joins(how: str, drawn, bounds, late, data):
    lower, upper = bounds[0], bounds[0] + bounds[1]
    left, right = streams(late)
    stream = left.join(right, on="k", how=how, within=Interval(lower, upper))
    rows = numbered(drawn)
    lefts = in_time(rows, "left", late, max(-lower, 0))
    rights = in_time(rows, "right", late, max(upper, 0))
    expected = joined(lefts, rights, how, lambda a, b: a["k"] == b["k"] and lower <= a["t"] - b["t"] <= upper)
    assert bag(drive(stream, rows, whole=True)) == bag(expected)
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    assert bag(drive(stream, rows, crash_at=crash)) == bag(expected)


@pytest.mark.parametrize("how", HOWS)
@given(drawn=events, late=st.integers(0, 20), lateness=st.integers(0, 20), data=st.data())
@few
def test_tumbling_window_joins(how: str, drawn, late, lateness, data):
    left, right = streams(late)
    stream = left.join(right, on="k", how=how, window=TumblingWindow(20), allowed_lateness=lateness)
    rows = numbered(drawn)
    kept = [_in_open_window(rows, source, late - 1 + lateness) for source in ("left", "right")]
    expected = joined(*kept, how, lambda a, b: a["k"] == b["k"] and a["t"] // 20 == b["t"] // 20)
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows, crash_at=crash)):
        for row in found:
            start = row.pop("window_start")
            assert row.pop("window_end") == start + 20
            time = row["t"] if row["t"] is not None else row["t_right"]
            assert time // 20 * 20 == start
        assert bag(found) == bag(expected)


def _in_open_window(rows, source: str, behind: int) -> list[Row]:
    shifted = [(one, {**row, "t": row["t"] // 20 * 20 + 20, "at": row["t"]}, cut) for one, row, cut in rows]
    highest, kept = None, []
    for one, row, _ in shifted:
        if one == source:
            if highest is None or row["t"] > highest - behind - 1:
                kept.append({**row, "t": row["at"]})
            highest = row["at"] if highest is None else max(highest, row["at"])
    return [{name: value for name, value in row.items() if name != "at"} for row in kept]


@settings(few, max_examples=6)
@given(drawn=events, shape=st.sampled_from([(20, 5), (20, 15), (10, 25), (7, 3)]), data=st.data())
def test_sliding_window_joins(drawn, shape, data):
    size, slide = shape
    left, right = streams(200)  # nothing is late
    stream = left.join(right, on="k", window=SlidingWindow(size, slide))
    rows = numbered(drawn)
    expected = []
    for start in range(-size - slide, 200, 1):
        if start % slide == 0:
            inside = {
                source: [row for one, row, _ in rows if one == source and start <= row["t"] < start + size]
                for source in ("left", "right")
            }
            pairs = joined(inside["left"], inside["right"], "inner", lambda a, b: a["k"] == b["k"])
            expected += [{**row, "window_start": start, "window_end": start + size} for row in pairs]
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    assert bag(drive(stream, rows, whole=True)) == bag(expected)
    assert bag(drive(stream, rows, crash_at=crash)) == bag(expected)


@pytest.mark.parametrize("how", ["inner", "full"])
@settings(few, max_examples=8)
@given(drawn=events, data=st.data())
def test_joins_by_local_day(how: str, drawn, data):
    """Hours around the night in which a day of Berlin has 23 of them."""
    zone, first = ZoneInfo("Europe/Berlin"), int(datetime(2024, 3, 29, tzinfo=UTC).timestamp() * 1000)
    left, right = streams(10_000_000_000)  # nothing is late
    stream = left.join(right, on="k", how=how, window=CalendarWindow("day", "Europe/Berlin"))
    rows = [(one, {**row, "t": first + row["t"] * 3_600_000}, cut) for one, row, cut in numbered(drawn)]

    def day(time: int) -> date:
        return datetime.fromtimestamp(time / 1000, zone).date()

    sides = [[row for one, row, _ in rows if one == source] for source in ("left", "right")]
    expected = joined(*sides, how, lambda a, b: a["k"] == b["k"] and day(a["t"]) == day(b["t"]))
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows, crash_at=crash)):
        for row in found:
            start, end = (datetime.fromtimestamp(row.pop(f"window_{edge}") / 1000, zone) for edge in ("start", "end"))
            assert (start.hour, end.hour) == (0, 0)
            assert start.date() == end.date() - timedelta(days=1) == day(row["t"] or row["t_right"])
        assert bag(found) == bag(expected)


@pytest.mark.parametrize("how", ["inner", "left", "semi", "anti"])
@given(drawn=events, late=st.integers(0, 20), tolerance=st.none() | st.integers(0, 30), data=st.data())
@few
def test_as_of_joins(how: str, drawn, late, tolerance, data):
    left, right = streams(late)
    stream = left.join(right, on="k", how=how, as_of=True, tolerance=tolerance)
    rows = numbered(drawn)
    lefts, rights = (in_time(rows, source, late, 0) for source in ("left", "right"))

    def newest(one: Row) -> Row | None:
        versions = [r for r in rights if r["k"] == one["k"] and r["t"] <= one["t"]]
        best = max(versions, key=lambda r: (r["t"], r["w"]), default=None)
        return best if best and (tolerance is None or one["t"] - best["t"] <= tolerance) else None

    expected = joined(lefts, rights, how, lambda a, b: newest(a) is b)
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    assert bag(drive(stream, rows, whole=True)) == bag(expected)
    assert bag(drive(stream, rows, crash_at=crash)) == bag(expected)


def test_state_is_let_go_by_time():
    left, right = streams()
    driver = TestDriver(left.join(right, on="k", within=Interval(-10, 10)))
    operator = next(s.operator for s in driver.dataflow.stages if s.operator.id == "join-1")
    for start in range(0, 10_000, 100):
        for source, value in (("left", "v"), ("right", "w")):
            driver.send([{"k": str(start + i), "t": start + i, value: i} for i in range(100)], source=source)
    assert [len(side) for side in operator.sides] == [21, 21]
    assert operator.memory().rows == 42
    assert operator.memory().bytes > 0
    driver.end()
    assert [len(side) for side in operator.sides] == [0, 0]


def test_late_rows_of_either_side_leave_by_the_late_port():
    left, right = streams()
    stream = left.join(right, on="k", within=Interval(0, 5))
    driver = TestDriver(stream, stream.late)
    driver.send([{"k": "a", "t": 100, "v": 1}, {"k": "a", "t": 99, "v": 2}], source="left")
    driver.send(
        [{"k": "a", "t": 100, "w": 1}, {"k": "a", "t": 95, "w": 2}, {"k": "a", "t": 94, "w": 3}], source="right"
    )
    assert driver.output(stream.late).select("t", "v", "w").rows() == [(99, 2, None), (94, None, 3)]
    assert driver.accounts()["join-1"].late == 2
    assert sorted(driver.dead_letters(late=True)["error_class"]) == ["LateEvent", "LateEvent"]


def test_one_key_that_meets_itself_very_often_comes_in_pieces():
    left, right = streams()
    driver = TestDriver(left.join(right, on=[], within=Interval(-1000, 1000)))
    driver.send([{"k": "a", "t": 1, "v": i} for i in range(1500)], source="left")
    driver.send([{"k": "b", "t": 1, "w": i} for i in range(1500)], source="right")
    assert driver.accounts()["join-1"].emitted == 1500 * 1500


def test_keys_of_other_number_types_and_other_names_meet():
    app = App("types")
    orders = app.stream("orders", schema={"id": int, "t": int}, timestamp="t")
    paid = app.stream("paid", schema={"order": float, "t": int}, timestamp="t")
    for limits in ({"within": Interval(-10, 10)}, {"window": TumblingWindow(10)}):
        driver = TestDriver(orders.join(paid, on={"id": "order"}, how="full", **limits))
        driver.send([{"id": 1, "t": 1}, {"id": 2, "t": 1}], source="orders")
        driver.send([{"order": 1.0, "t": 2}, {"order": 3.0, "t": 2}], source="paid")
        driver.end()
        assert sorted(driver.output()["id"].to_list()) == [1, 2, 3]


def test_what_cannot_be_joined_is_refused_in_the_users_own_line():
    left, right = streams()
    with pytest.raises(ConfigurationError, match="holds nothing"):
        Interval(5, 5, closed="none")
    with pytest.raises(ConfigurationError, match="'sideways'"):
        left.join(right, on="k", how="sideways", within=Interval(0, 5))
    with pytest.raises(PlanError, match="no column 'key'"):
        left.join(right, on="key", within=Interval(0, 5))
    with pytest.raises(PlanError, match="never equal"):
        left.join(right, on={"k": "w"}, within=Interval(0, 5))
    with pytest.raises(PlanError, match="two columns would be called 't'"):
        left.join(right, on="k", within=Interval(0, 5), suffix="")
    with pytest.raises(PlanError, match="changelog"):
        left.key_by("k").aggregate(n=count()).join(right, on="k", within=Interval(0, 5))
    with pytest.raises(PlanError, match="different apps"):
        left.join(App("other").stream("x"), on="k", within=Interval(0, 5))

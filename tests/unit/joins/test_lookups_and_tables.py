"""Lookups in frames and functions, and tables."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.joins.model import Row, bag, drive, events, numbered, streams
from tests.unit.joins.test_changing_aggregates import latest

from thalweg.analytics import count
from thalweg.errors import ConfigurationError, OperatorFailed, PlanError
from thalweg.streams import App, DataStream, Interval
from thalweg.streams.testing import TestDriver

few = settings(max_examples=20, derandomize=True, deadline=None)
col = pl.col
ROOMS = pl.DataFrame({"k": ["a", "b", "b", None], "room": [1, 2, 3, 4]})


def readings() -> DataStream:
    return App("lookups").stream("readings", schema={"k": str, "t": int}, timestamp="t")


def sent(stream: DataStream, *keys: str | None, driver: TestDriver | None = None) -> list[Row]:
    driver = driver or TestDriver(stream)
    driver.send([{"k": key, "t": time} for time, key in enumerate(keys)])
    assert all(account.closes for account in driver.accounts().values())
    return driver.output().to_dicts()


def test_a_frame_keeps_the_order_of_the_rows_and_null_equals_nothing():
    found = sent(readings().lookup(ROOMS, on="k"), "b", None, "a", "x")
    assert [(row["k"], row["room"]) for row in found] == [("b", 2), ("b", 3), (None, None), ("a", 1), ("x", None)]
    assert [row["k"] for row in sent(readings().join(ROOMS, on="k"), "x", "a", None)] == ["a"]
    assert [row["k"] for row in sent(readings().join(ROOMS, on="k", how="semi"), "b", "x")] == ["b"]
    assert [row["k"] for row in sent(readings().join(ROOMS, on="k", how="anti"), "b", "x", None)] == ["x", None]


def test_a_function_is_asked_once_for_what_it_has_answered():
    asked: list[list[str]] = []

    def rooms(keys: pl.DataFrame) -> list[dict[str, Any]]:
        asked.append(keys["id"].to_list())
        return [{"id": key, "room": key.upper()} for key in keys["id"] if key != "x"]

    stream = readings().lookup(rooms, on={"k": "id"}, ttl="1s")
    driver = TestDriver(stream, clock=1_000)
    first = [row["room"] for row in sent(stream, "a", "a", "x", None, driver=driver)]
    assert first == ["A", "A", None, None]
    assert asked == [["a", "x"]]
    driver.advance_clock(1_500)
    assert [row["room"] for row in sent(stream, "x", "b", "a", driver=driver)] == [None, "B", "A"]
    assert asked == [["a", "x"], ["b"]]
    driver.advance_clock(2_000)  # the first answers have expired, that of b has not
    sent(stream, "a", "b", driver=driver)
    assert asked[2:] == [["a"]]


def test_a_function_without_a_time_to_live_is_asked_for_each_batch():
    asked: list[int] = []
    stream = readings().lookup(lambda keys: asked.append(keys.height) or keys.with_columns(n=1), on="k")
    driver = TestDriver(stream, clock=5)
    for _ in range(3):
        driver.advance_clock(driver.clock + 1)
        assert [row["n"] for row in sent(stream, "a", "b", "a", driver=driver)] == [1, 1, 1]
    assert asked == [2, 2, 2]


def test_the_cache_stays_within_its_size():
    stream = readings().lookup(lambda keys: keys.with_columns(n=1), on="k", ttl="1d", cache_size=100)
    driver = TestDriver(stream, clock=5)
    for start in range(0, 1000, 50):
        assert len(sent(stream, *[str(start + i) for i in range(50)], driver=driver)) == 50
    operator = next(s.operator for s in driver.dataflow.stages if s.operator.id == "lookup-1")
    assert operator.memory().rows <= 100


def test_a_function_that_fails():
    def broken(keys: pl.DataFrame) -> pl.DataFrame:
        raise TimeoutError("no answer")

    with pytest.raises(OperatorFailed, match="no answer"):
        sent(readings().lookup(broken, on="k"), "a")
    stream = readings().lookup(broken, on="k", on_error="dead-letter")
    driver = TestDriver(stream)
    assert sent(stream, "a", "b", driver=driver) == []
    assert driver.dead_letters()["error_class"].to_list() == ["TimeoutError", "TimeoutError"]
    with pytest.raises(OperatorFailed, match="no column 'k'; there are: key"):
        sent(readings().lookup(lambda keys: pl.DataFrame({"key": ["a"]}), on="k"), "a")


@given(drawn=events, data=st.data())
@few
def test_a_table_is_the_latest_row_of_each_key(drawn, data):
    left, _ = streams()
    table = left.key_by("k").to_table(deleted=lambda row: row.t % 7 == 0)
    rows = [row for row in numbered(drawn) if row[0] == "left"]
    expected: dict[object, Row] = {}
    for _, row, _ in rows:
        expected.pop(row["k"], None)
        if row["t"] % 7:
            expected[row["k"]] = row
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(table.changes, rows, whole=True), drive(table.changes, rows, crash_at=crash)):
        assert latest(found, "k") == expected


@given(drawn=events, data=st.data())
@few
def test_a_stream_joins_a_table_as_of_its_own_time(drawn, data):
    app = App("prices")
    left = app.stream("left", schema={"k": str, "t": int, "v": int}, timestamp="t", watermark=200)
    prices = app.table("right", key="k", deleted=lambda row: row.w % 5 == 0,
                       schema={"k": str, "t": int, "w": int}, timestamp="t", watermark=200)  # fmt: skip
    stream = left.join(prices, how="left")
    rows = sorted(numbered(drawn), key=lambda row: row[1]["t"])
    versions = [row for one, row, _ in rows if one == "right"]
    expected = []
    for one, row, _ in rows:
        if one == "left":
            before = [v for v in versions if v["k"] == row["k"] and v["k"] is not None and v["t"] <= row["t"]]
            price = before[-1] if before and before[-1]["w"] % 5 else {"t": None, "w": None}
            expected.append({**row, "t_right": price["t"], "w": price["w"]})
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows, crash_at=crash)):
        assert bag(found) == bag(expected)


def test_a_table_forgets_what_is_not_written_again():
    app = App("sessions")
    table = app.table("logins", key="user", ttl=100, name="logins", timestamp="t")
    driver = TestDriver(table.changes)
    driver.send([{"user": "a", "t": 0}, {"user": "b", "t": 50}])
    driver.send([{"user": "b", "t": 100}])
    driver.send([{"user": "c", "t": 101}])
    changes = driver.output().select("user", "__op").rows()
    assert changes == [("a", "insert"), ("b", "insert"), ("b", "update"), ("c", "insert"), ("a", "delete")]
    operator = next(s.operator for s in driver.dataflow.stages if s.operator.id == "logins")
    assert operator.query(pl.DataFrame({"user": ["b", "a"]})).to_dicts() == [{"user": "b", "t": 100}]
    assert sorted(operator.query(None)["user"]) == ["b", "c"]
    assert operator.query(pl.DataFrame({"user": ["nobody"]})).is_empty()


def test_what_cannot_be_is_refused():
    stream = readings()
    with pytest.raises(ConfigurationError, match="no times"):
        stream.join(ROOMS, on="k", within=Interval(0, 1))
    with pytest.raises(ConfigurationError, match="needs key columns"):
        stream.lookup(ROOMS, on=[])
    with pytest.raises(ConfigurationError, match="a frame or a function, not a dict"):
        stream.lookup({}, on="k")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="no column 'key'"):
        stream.lookup(ROOMS, on={"k": "key"})
    with pytest.raises(PlanError, match="lookup on a changelog"):
        stream.key_by("k").aggregate(n=count()).lookup(ROOMS, on="k")
    with pytest.raises(PlanError, match="needs a key"):
        stream.to_table()

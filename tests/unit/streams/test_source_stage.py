"""The source stage: event time from any form, dead letters for what has none, an account that closes."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.streams import App
from thalweg.streams.engine.timestamps import to_milliseconds
from thalweg.streams.testing import TestDriver

NOW = 1_700_000_000_000


@pytest.mark.parametrize(
    ("values", "unit", "expected"),
    [
        ([1, -1, None], "ms", [1, -1, None]),
        ([1.5, -0.0005, float("nan"), float("inf")], "s", [1500, -1, None, None]),
        ([1_999, -1], "us", [1, -1]),
        ([2**63 - 1, 5], "ms", [None, 5]),
        ([2**63 - 1], "s", [None]),
        ([2**64 - 1], "ms", [None]),
        ([date(1970, 1, 2), None], "ms", [86_400_000, None]),
        ([datetime(1970, 1, 1, 0, 0, 1, 999)], "ms", [1000]),
        ([datetime(1970, 1, 1, 1, tzinfo=UTC)], "ms", [3_600_000]),
        (
            ["1970-01-01T00:00:01.5Z", "1970-01-01 00:00:02", "1970-01-01T01:00:00+01:00", "1970-01-02", "", "x", None],
            "ms",
            [1500, 2000, 0, 86_400_000, None, None, None],
        ),
        ([True], "ms", [None]),
        ([[1]], "ms", [None]),
    ],
)
def test_timestamps_from_any_form(values: list[object], unit: str, expected: list[int | None]) -> None:
    series = pl.Series(values, dtype=pl.UInt64 if values == [2**64 - 1] else None)
    assert to_milliseconds(series, unit).to_list() == expected


@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1)), st.integers(-12, 12), st.sampled_from(["T", " "]))
def test_iso_strings_as_python_reads_them(moment: datetime, hours: int, separator: str) -> None:
    text = moment.isoformat(separator) + f"{hours:+03d}:00"
    expected = (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert to_milliseconds(pl.Series([text, "nothing"])).to_list() == [expected, None]


def driver(clock: int | None = NOW, **settings: object) -> TestDriver:
    return TestDriver(App("t").stream("in", timestamp="t", **settings), clock=clock)


def test_bad_timestamps_are_dead_letters_and_the_others_go_on() -> None:
    d = driver()
    d.send(
        [
            {"t": NOW, "v": 1},
            {"t": None, "v": 2},
            {"t": 2**62, "v": 3},
            {"t": NOW + 3_600_001, "v": 4},
            {"t": 5, "v": 5},
        ]
    )
    assert d.output()["v"].to_list() == [1, 5]
    dead = d.dead_letters()
    assert dead["error_class"].to_list() == ["MissingTimestamp", "UnreadableTimestamp", "TimestampTooFarAhead"]
    assert dead["offset"].to_list() == [1, 2, 3]
    assert dead["topic"].unique().to_list() == ["in"]
    assert json.loads(dead["payload"][2]) == {"t": NOW + 3_600_001, "v": 4}
    assert d.accounts()["source-in"].closes
    assert (d.accounts()["source-in"].received, d.accounts()["source-in"].dead) == (5, 3)


def test_a_timestamp_far_ahead_does_not_fling_the_watermark() -> None:
    d = driver(max_ahead="1m")
    d.send([{"t": NOW + 60_001}])
    d.send([{"t": NOW + 60_000}])
    assert d.dataflow.source("in").watermarks.event_time == NOW + 60_000


def test_a_missing_column_and_a_wrong_type_are_dead_letters() -> None:
    d = driver()
    d.send([{"v": 1}])
    d.send([{"t": True}])
    assert d.dead_letters()["error_class"].to_list() == ["MissingTimestamp", "UnreadableTimestamp"]


def test_event_time_may_be_an_expression() -> None:
    d = TestDriver(App("t").stream("in", timestamp=pl.col("meta").struct.field("t"), timestamp_unit="s"))
    d.send([{"meta": {"t": 7}}])
    assert d.output(reserved=True)["__ts"].to_list() == [7000]


def test_without_a_timestamp_the_record_time_counts() -> None:
    d = TestDriver(App("t").stream("in"), clock=NOW)
    d.send([{"v": 1}])
    d.send([{"v": 2, "__ts": 5}])
    assert d.output(reserved=True)["__ts"].to_list() == [NOW, 5]


def test_undecodable_records_count_in_the_account() -> None:
    from thalweg.records import DEAD_LETTER_SCHEMA

    d = driver()
    d.send_dead(pl.DataFrame([{"topic": "in", "error_class": "MalformedJson"}], schema=DEAD_LETTER_SCHEMA))
    account = d.accounts()["source-in"]
    assert (account.received, account.dead, account.closes) == (1, 1, True)
    assert d.dead_letters().height == 1

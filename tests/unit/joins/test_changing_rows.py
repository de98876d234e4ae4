"""Filters and first rows of groups, over appends and over rows that change, against their definition."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.joins.model import Row, drive, events, numbered, streams
from tests.unit.joins.test_changing_aggregates import latest
from tests.unit.joins.test_updating_joins import folded, plain

from thalweg.analytics import count, sum_
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.testing import TestDriver

few = settings(max_examples=20, derandomize=True, deadline=None)
col = pl.col


def totals(rows: list[tuple[str, Row, bool]]) -> dict[str | None, int]:
    """The sum of values per key."""
    found: dict[str | None, int] = {}
    for _, row, _ in rows:
        found[row["k"]] = found.get(row["k"], 0) + row["v"]
    return found


@given(drawn=events, data=st.data())
@few
def test_a_filter_takes_back_what_is_no_longer_true(drawn, data):
    left, _ = streams()
    stream = left.key_by("k").aggregate(x=sum_("v")).filter(lambda row: row.x % 3 == 1)
    rows = [row for row in numbered(drawn) if row[0] == "left"]
    expected = {k: {"k": k, "x": x} for k, x in totals(rows).items() if x % 3 == 1}
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows), drive(stream, rows, crash_at=crash)):
        assert latest(found, "k") == expected


@given(drawn=events, data=st.data())
@few
def test_a_filter_on_whole_rows(drawn, data):
    left, right = streams()
    stream = left.join(right, on="k", how="anti").filter(col("v") % 2 == 0)
    rows = numbered(drawn)
    taken = {row["k"] for one, row, _ in rows if one == "right"} - {None}
    expected = [row for one, row, _ in rows if one == "left" and row["k"] not in taken and row["v"] % 2 == 0]
    assert folded(drive(stream, rows, crash_at=data.draw(st.integers(0, max(len(rows) - 1, 0))))) == plain(expected)


@given(drawn=events, n=st.integers(1, 3), data=st.data())
@few
def test_the_first_rows_of_each_key(drawn, n, data):
    left, _ = streams()
    stream = left.key_by("k").top_n(n, by=["t", "v"], descending=[True, False], rank="place")
    rows = [row for row in numbered(drawn) if row[0] == "left"]
    groups: dict[str | None, list[Row]] = {}
    for _, row, _ in rows:
        groups.setdefault(row["k"], []).append(row)
    expected = []
    for members in groups.values():
        first = sorted(members, key=lambda row: (-row["t"], row["v"]))[:n]
        expected += [{**row, "place": place} for place, row in enumerate(first, 1)]
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows), drive(stream, rows, crash_at=crash)):
        assert folded(found) == plain(expected)


@given(drawn=events, data=st.data())
@few
def test_the_first_of_rows_that_change(drawn, data):
    left, right = streams()
    sums = left.key_by("k").aggregate(x=sum_("v"))
    of_keyed = sums.with_columns(g=col("x") % 2).group_by("g").top_n(1, by=["x", "k"], descending=False)
    rows = [row for row in numbered(drawn) if row[0] == "left"]
    groups: dict[int, list[Row]] = {}
    for k, x in totals(rows).items():
        groups.setdefault(x % 2, []).append({"k": k, "x": x, "g": x % 2})
    first = [min(g, key=lambda row: (row["x"], row["k"] is None, row["k"] or "")) for g in groups.values()]
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(of_keyed, rows, whole=True), drive(of_keyed, rows, crash_at=crash)):
        assert folded(found) == plain(first)

    of_whole = left.join(right, on="k", how="anti").group_by().top_n(2, by="v")
    rows = numbered(drawn)
    taken = {row["k"] for one, row, _ in rows if one == "right"} - {None}
    alone = [row for one, row, _ in rows if one == "left" and row["k"] not in taken]
    for found in (drive(of_whole, rows, whole=True), drive(of_whole, rows, crash_at=crash)):
        assert folded(found) == plain(sorted(alone, key=lambda row: -row["v"])[:2])


def test_rows_that_append_are_kept_only_while_they_are_among_the_first():
    left, _ = streams()
    driver = TestDriver(left.key_by("k").top_n(3, by="v"))
    for start in range(0, 10_000, 1000):
        driver.send([{"k": "ab"[v % 2], "t": 0, "v": v} for v in range(start, start + 1000)], source="left")
    assert driver.accounts()["top_n-1"].closes
    operator = next(s.operator for s in driver.dataflow.stages if s.operator.id == "top_n-1")
    assert operator.memory().rows == 6


def test_what_cannot_be_is_refused():
    left, right = streams()
    with pytest.raises(ConfigurationError, match="at least 1"):
        left.top_n(0, by="v")
    with pytest.raises(ConfigurationError, match="one for each"):
        left.top_n(1, by=["v", "t"], descending=[True])
    with pytest.raises(PlanError, match="no column 'price'"):
        left.top_n(1, by="price")
    with pytest.raises(ConfigurationError, match="already"):
        left.top_n(1, by="v", rank="t")
    with pytest.raises(PlanError, match="takes an expression"):
        right.key_by("k").aggregate(n=count()).filter(lambda row: str(row.n) == "1")

"""Joins without bounds in time: what their changes add up to, however batches are cut, and after a crash."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.joins.model import Row, bag, drive, events, joined, numbered, streams

from thalweg.analytics import count, max_, sum_
from thalweg.errors import ConfigurationError
from thalweg.streams import App
from thalweg.streams.testing import TestDriver

HOWS = ["inner", "left", "right", "full", "semi", "anti"]
few = settings(max_examples=15, derandomize=True, deadline=None)
col = pl.col


def folded(changes: list[Row]) -> list[str]:
    """What inserts and deletes of whole rows lead to; a delete of what is not there is an error."""
    held: list[str] = []
    for change in changes:
        op = change.pop("__op", "insert")
        row = repr(sorted((name, value) for name, value in change.items() if value is not None))
        assert op in ("insert", "delete")
        if op == "insert":
            held.append(row)
        else:
            held.remove(row)
    return sorted(held)


def plain(rows: list[Row]) -> list[str]:
    return folded([dict(row) for row in rows])


@pytest.mark.parametrize("how", HOWS)
@given(drawn=events, data=st.data())
@few
def test_of_two_appending_streams(how: str, drawn, data):
    left, right = streams()
    stream = left.join(right, on="k", how=how)
    rows = numbered(drawn)
    sides = [[row for one, row, _ in rows if one == source] for source in ("left", "right")]
    expected = joined(*sides, how, lambda a, b: a["k"] == b["k"])
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows, crash_at=crash)):
        assert how in ("inner", "semi") or not found or "__op" in found[0]
        assert folded(found) == plain(expected)


@pytest.mark.parametrize("how", HOWS)
@given(drawn=events, data=st.data())
@few
def test_with_rows_that_change_on_the_right(how: str, drawn, data):
    """Left: every event. Right: per key how many there are; joined where the left value, mod 4, is that number."""
    left, right = streams()
    counts = right.key_by("k").aggregate(n=count())
    stream = left.with_columns(v4=col("v") % 4).join(counts, on={"v4": "n"}, how=how)
    rows = numbered(drawn)
    lefts = [{**row, "v4": row["v"] % 4} for one, row, _ in rows if one == "left"]
    numbers: dict[str | None, int] = {}
    for one, row, _ in rows:
        if one == "right":
            numbers[row["k"]] = numbers.get(row["k"], 0) + 1
    pairs = [{**a, "k_right": k} for a in lefts for k, n in numbers.items() if a["v4"] == n]
    alone = [a for a in lefts if a["v4"] not in numbers.values()]
    nobody = [{"v4": n, "k_right": k} for k, n in numbers.items() if n not in [a["v4"] for a in lefts]]
    expected = {
        "inner": pairs,
        "left": pairs + alone,
        "right": pairs + nobody,
        "full": pairs + alone + nobody,
        "semi": [a for a in lefts if a["v4"] in numbers.values()],
        "anti": alone,
    }[how]
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows, crash_at=crash)):
        assert folded(found) == plain(expected)


@given(drawn=events, data=st.data())
@few
def test_a_join_of_a_join_takes_back_whole_rows(drawn, data):
    left, right = streams()
    counts = right.key_by("k").aggregate(n=count())
    sums = left.key_by("k").aggregate(s=sum_("v"))
    first = left.join(counts, on="k", how="left")
    stream = first.join(sums, on="k", how="left")
    rows = numbered(drawn)
    lefts, rights = ([row for one, row, _ in rows if one == source] for source in ("left", "right"))
    expected = []
    for row in lefts:
        n = sum(other["k"] == row["k"] for other in rights) or None
        total = sum(other["v"] for other in lefts if other["k"] == row["k"])
        known = row["k"] is not None
        expected.append({**row, "n": n if known else None, "s": total if known else None})
    crash = data.draw(st.integers(0, max(len(rows) - 1, 0)))
    for found in (drive(stream, rows, whole=True), drive(stream, rows, crash_at=crash)):
        assert folded(found) == plain(expected)


def test_a_threshold_that_changes():
    app = App("threshold")
    bids = app.stream("bids", schema={"a": str, "t": int}, timestamp="t")
    per, total = bids.key_by("a").aggregate(n=count()), bids.aggregate(most=max_("t"))
    stream = per.join(total, on=[], where=lambda e: e.n * 10 > e.most)
    driver = TestDriver(stream)
    driver.send([{"a": "x", "t": 5}, {"a": "y", "t": 12}])
    driver.send([{"a": "x", "t": 13}])
    driver.send([{"a": "z", "t": 25}])
    assert folded(driver.output().to_dicts()) == []
    driver.send([{"a": "x", "t": 14}])
    assert folded(driver.output().to_dicts()) == plain([{"a": "x", "n": 3, "most": 25}])


def test_rows_live_as_long_as_they_are_told():
    left, right = streams()
    driver = TestDriver(left.join(right, on="k", ttl=100))
    driver.send([{"k": "a", "t": 0, "v": 1}, {"k": "a", "t": 200, "v": 2}], source="left")
    driver.send([{"k": "b", "t": 200, "w": 1}], source="right")
    driver.send([{"k": "a", "t": 201, "w": 2}], source="right")
    assert driver.output()["v"].to_list() == [2]
    operator = next(s.operator for s in driver.dataflow.stages if s.operator.id == "join-1")
    assert operator.memory().rows == 3


def test_an_update_that_changes_nothing_says_nothing():
    left, right = streams()
    latest = right.key_by("k").aggregate(w=max_("w"))
    driver = TestDriver(left.join(latest, on="k"))
    driver.send([{"k": "a", "t": 0, "v": 1}], source="left")
    driver.send([{"k": "a", "t": 0, "w": 7}], source="right")
    assert bag(driver.output().to_dicts()) == bag([{"k": "a", "t": 0, "v": 1, "w": 7, "__op": "insert"}])
    driver.send([{"k": "a", "t": 1, "w": 3}], source="right")
    assert driver.output().is_empty()


def test_what_does_not_go_together_is_refused():
    left, right = streams()
    with pytest.raises(ConfigurationError, match="inner"):
        left.join(right, on="k", how="left", where=col("v") > 1)
    with pytest.raises(ConfigurationError, match="no row is late"):
        left.join(right, on="k", allowed_lateness=5)
    with pytest.raises(ConfigurationError, match="belong to joins without as_of"):
        left.join(right, on="k", as_of=True, ttl=5)

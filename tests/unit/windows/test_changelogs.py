"""Distinct events, change records, panes as changelogs: against a plain fold, by any cut, with a crash."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.analytics import count, sum_
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams import AfterCount, App, Repeatedly, TumblingWindow
from thalweg.streams.testing import TestDriver

SIZES = (1, 7, None)


def folded(frame: pl.DataFrame, identity: list[str]) -> list[tuple[Any, ...]]:
    """What stands at the end: the last row of each identity, unless that is a delete."""
    if not frame.height:
        return []
    last = frame.unique(identity, keep="last", maintain_order=True) if identity else frame.tail(1)
    return sorted(last.filter(pl.col("__op") != "delete").drop("__op").rows(), key=str)


def results(stream: Any, rows: list[dict[str, Any]], size: int | None, crash: bool = False) -> pl.DataFrame:
    driver = TestDriver(stream, batch_size=size)
    half = len(rows) // 2
    if half:
        driver.send(rows[:half])
    if crash:
        first = driver.snapshot()
        driver.restore(first, driver.snapshot())
    driver.send(rows[half:])
    return driver.output()


def check_ops(frame: pl.DataFrame, identity: list[str]) -> None:
    """An insert comes where nothing stands, updates and deletes where something does."""
    standing: set[tuple[Any, ...]] = set()
    for row in frame.iter_rows(named=True):
        key = tuple(row[name] for name in identity)
        assert (key in standing) == (row["__op"] != "insert"), row
        standing.discard(key) if row["__op"] == "delete" else standing.add(key)


orders = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-5, 5)), min_size=1, max_size=40)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 40)), min_size=1, max_size=40))
def test_distinct_events(rows):
    events = [{"t": t, "k": k, "n": n} for n, (k, t) in enumerate(rows)]
    schema = {"t": pl.Int64, "k": pl.String, "n": pl.Int64}
    for ttl in (None, 10):
        last: dict[str | None, int] = {}
        expected = []
        for event in events:
            seen = last.get(event["k"])
            if seen is None or (ttl is not None and event["t"] >= seen + ttl):
                last[event["k"]] = event["t"]
                expected.append(event["n"])
        stream = App("distinct").stream("events", timestamp="t", schema=schema, watermark=50).distinct("k", ttl=ttl)
        for size, crash in ((1, False), (7, True), (None, False)):
            assert results(stream, events, size, crash)["n"].to_list() == expected


def test_distinct_forgets_what_has_expired():
    stream = App("expiry").stream("events", timestamp="t").distinct("k", ttl=100)
    driver = TestDriver(stream)
    for t in range(0, 2_000, 10):
        driver.send([{"t": t, "k": t}])
    operator = next(s.operator for s in driver.dataflow.stages if s.operator.id.startswith("distinct"))
    assert operator.memory().rows < 40


def test_change_records_that_are_none_become_dead_letters():
    driver = TestDriver(App("cdc").stream("cdc").changes("id"))
    row = {"id": 1, "s": "x"}
    driver.send(
        [
            {"op": "r", "before": None, "after": row},
            {"op": "t", "before": row, "after": row},
            {"op": "d", "before": None, "after": None},
            {"op": "u", "before": row, "after": {"id": 1, "s": "y"}},
        ]
    )
    assert driver.output().rows() == [(1, "x", "insert"), (1, "y", "update")]
    assert driver.dead_letters()["error_class"].to_list() == ["NotAChange", "NotAChange"]
    assert all(account.closes for account in driver.accounts().values())


def test_what_is_refused():
    app = App("refused")
    stream = app.stream("events", timestamp="t", schema={"t": pl.Int64, "k": pl.String, "v": pl.Int64})
    totals = stream.key_by("k").aggregate(total=sum_("v"))
    with pytest.raises(PlanError, match="distinct on a changelog"):
        totals.distinct("total")
    with pytest.raises(ConfigurationError, match="primary key"):
        stream.changes()


def test_a_filter_on_panes_that_accumulate():
    trigger = Repeatedly(AfterCount(1))
    counts = App("panes").stream("events", timestamp="t").window(TumblingWindow(10), trigger=trigger)
    few = counts.aggregate(n=count()).filter(pl.col("n") < 3).select("window_end", "n", "window_start")
    found = results(few, [{"t": t} for t in (1, 2, 3, 11, 12)], 1)
    assert folded(found, ["window_start", "window_end"]) == [(20, 2, 10)]

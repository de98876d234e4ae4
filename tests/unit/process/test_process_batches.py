"""Keyed functions per frame: columns of state in, columns of state out."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from thalweg.errors import ConfigurationError
from thalweg.streams import App, BatchFunction, ListState, MapState, ValueState
from thalweg.streams.testing import TestDriver


class Totals(BatchFunction):
    """Running totals, the values seen, a count by word, and a timer 50 ms after the latest event."""

    total = ValueState(int, default=0)
    seen = ListState(int)
    words = MapState(str, int)

    def on_batch(self, frame, ctx):
        before = ctx.values()
        joined = frame.join(before, on="k")
        result = joined.with_columns(running=pl.col("total") + pl.col("v").cum_sum().over("k")).drop("total")
        sums = frame.group_by("k").agg(pl.col("v").sum(), pl.col("__ts").max().alias("time") + 50)
        ctx.set_values(before.join(sums, on="k").select("k", total=pl.col("total") + pl.col("v")))
        ctx.set_rows("seen", pl.concat([ctx.rows("seen"), frame.select("k", value="v")]))
        counts = pl.concat([ctx.rows("words"), frame.select("k", key="w", value=pl.lit(1, pl.Int64))])
        ctx.set_rows("words", counts.group_by("k", "key").agg(pl.col("value").sum()))
        ctx.set_timers(sums.select("k", "time"))
        return result.select("k", "v", "running", "__ts")

    def on_timers(self, timers, ctx):
        return {"quiet": timers.join(ctx.values(), on="k").select("k", "total", "time", __ts="time")}


def events(count: int, seed: int) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    return [
        {"t": n * 4, "k": dice.choice("xyz"), "v": dice.randint(1, 9), "w": dice.choice("ab")} for n in range(count)
    ]


def drive(batch_size: int, crash: bool = False) -> tuple[list[Any], list[Any], list[Any]]:
    stream = App("p").stream("in", timestamp="t").key_by("k").process_batches(Totals, uid="totals")
    quiet = stream.port("quiet")
    driver = TestDriver(stream, quiet, batch_size=batch_size)
    rows = events(200, 3)
    driver.send(rows[:90])
    if crash:
        driver.restore(driver.snapshot(full=True))
    driver.send(rows[90:])
    operator = driver.dataflow.stages[-3].operator
    state = operator.query(None).sort("k").with_columns(pl.col("words").list.sort()).rows()
    driver.advance_watermark(10**5)
    return driver.output(stream).rows(), sorted(driver.output(quiet)["k"].to_list()), state


def test_batches_and_crashes_do_not_show():
    whole = drive(10**6)
    rows = events(200, 3)
    totals: dict[str, int] = {}
    expected = []
    for row in rows:
        totals[row["k"]] = totals.get(row["k"], 0) + row["v"]
        expected.append((row["k"], row["v"], totals[row["k"]]))
    assert whole[0] == expected
    for key, total, seen, words in whole[2]:
        own = [row for row in rows if row["k"] == key]
        assert (total, seen) == (totals[key], [row["v"] for row in own])
        assert {w["key"]: w["value"] for w in words} == {w: sum(r["w"] == w for r in own) for w in "ab"}
    for batch_size in (1, 7, 1000):
        for crash in (False, True):
            got = drive(batch_size, crash)
            assert (got[0], got[2]) == (whole[0], whole[2])
    assert drive(1)[1] == drive(1, crash=True)[1]


def test_timers_come_at_the_watermark():
    stream = App("p").stream("in", timestamp="t").key_by("k").process_batches(Totals)
    driver = TestDriver(stream.port("quiet"))
    driver.send([{"t": 0, "k": "a", "v": 1, "w": "a"}, {"t": 10, "k": "a", "v": 2, "w": "a"}])
    driver.advance_watermark(59)
    assert driver.output().height == 0
    driver.advance_watermark(60)
    assert driver.output(reserved=True).select("k", "total", "time", "__ts").rows() == [("a", 3, 60, 60)]


def test_a_plain_function_with_values_that_expire():
    def last_seen(frame: pl.DataFrame, ctx: Any) -> pl.DataFrame:
        known = ctx.values()
        latest = frame.group_by("k").agg(last=pl.col("t").max())
        ctx.set_values(latest)
        return frame.join(known, on="k", maintain_order="left")

    stream = App("p").stream("in", timestamp="t").key_by("k")
    driver = TestDriver(stream.process_batches(last_seen, state={"last": ValueState(int, ttl=100)}), batch_size=1)
    driver.send([{"t": t, "k": k} for t, k in [(0, "a"), (50, "a"), (149, "b"), (150, "a"), (151, "a")]])
    assert driver.output().rows() == [(0, "a", None), (50, "a", 0), (149, "b", None), (150, "a", 50), (151, "a", 150)]


def test_an_error_makes_dead_letters_of_the_frame_and_changes_no_state():
    def fails(frame: pl.DataFrame, ctx: Any) -> pl.DataFrame:
        ctx.set_values(ctx.keys.with_columns(n=pl.lit(1)))
        if frame["v"].min() < 0:
            raise ValueError("negative")
        return frame.join(ctx.values(), on="k", maintain_order="left")

    stream = App("p").stream("in", timestamp="t").key_by("k").process_batches(fails, state={"n": ValueState(int)})
    driver = TestDriver(stream)
    driver.send([{"t": 1, "k": "a", "v": -1}, {"t": 2, "k": "b", "v": 1}])
    driver.send([{"t": 3, "k": "a", "v": 1}])
    assert driver.output().rows() == [(3, "a", 1, None)]
    assert driver.dead_letters()["error_class"].to_list() == ["ValueError"] * 2
    assert driver.accounts()["process-1"].closes


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (lambda frame, ctx: ctx.set_values(pl.DataFrame({"k": ["z"], "n": [1]})), "a key that the batch does not have"),
        (lambda frame, ctx: ctx.set_values(pl.DataFrame({"k": ["a", "a"], "n": [1, 2]})), "a key comes twice"),
        (lambda frame, ctx: ctx.set_values(pl.DataFrame({"k": ["a"], "m": [1]})), "no value state 'm'"),
        (lambda frame, ctx: ctx.set_values(pl.DataFrame({"k": ["a"], "n": ["x"]})), "state 'n' is Int64"),
        (lambda frame, ctx: frame.select("t"), "no key column 'k'"),
        (lambda frame, ctx: frame.select("k").head(0), "without their time"),
        (lambda frame, ctx: 3, "give a Polars frame"),
    ],
)
def test_what_it_gives_is_checked(given, says):
    stream = App("p").stream("in", timestamp="t").key_by("k").process_batches(given, state={"n": ValueState(int)})
    driver = TestDriver(stream)
    driver.send([{"t": 1, "k": "a"}])
    assert says in driver.dead_letters()["error_message"][0]


def test_a_class_is_needed_where_there_are_timers():
    stream = App("p").stream("in", timestamp="t").key_by("k")
    driver = TestDriver(stream.process_batches(lambda f, ctx: ctx.set_timers(ctx.keys.with_columns(time=pl.lit(5)))))
    driver.send([{"t": 1, "k": "a"}])
    driver.advance_watermark(9)
    assert "BatchFunction with on_timers" in driver.dead_letters()["error_message"][0]
    with pytest.raises(ConfigurationError, match="takes a BatchFunction"):
        stream.process_batches("x")

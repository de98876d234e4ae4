"""Stateless steps: the same rows vectorised, per row, fused or not, and however the input is cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams import App, DataStream
from thalweg.streams.testing import TestDriver

ROWS: list[dict[str, Any]] = [
    {"t": 1, "k": "a", "v": 1, "items": [{"n": 1}, {"n": 2}]},
    {"t": 2, "k": "b", "v": None, "items": []},
    {"t": 3, "k": None, "v": -3, "items": None},
    {"t": 4, "k": "a", "v": 10, "items": [{"n": 3}]},
]


def events() -> DataStream:
    return App("t").stream("in", timestamp="t")


def run(stream: DataStream, rows: list[dict[str, Any]] | None = None, batch_size: int | None = None) -> list[Any]:
    driver = TestDriver(stream, batch_size=batch_size)
    driver.send(ROWS if rows is None else rows)
    for name, account in driver.accounts().items():
        assert account.closes, (name, account)
    return driver.output().to_dicts()


def opaque(function: Any) -> Any:
    """The function behind a name that nothing can look into: it runs per row."""
    return lambda row: function(row)


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_filter_keeps_true_and_null_counts_as_false(batch_size: int | None) -> None:
    assert [r["t"] for r in run(events().filter(pl.col("v") > 0), batch_size=batch_size)] == [1, 4]
    slow = events().filter(opaque(lambda r: None if r.v is None else r.v > 0))
    assert [r["t"] for r in run(slow, batch_size=batch_size)] == [1, 4]


def test_select_and_with_columns() -> None:
    assert run(events().select("v", double=pl.col("v") * 2))[0] == {"v": 1, "double": 2}
    assert run(events().with_columns(v=pl.col("v") + 1).select("v", "k"))[0] == {"v": 2, "k": "a"}
    mixed = events().with_columns(slow=opaque(lambda r: r.t * 10), fast=pl.col("t") + 1).select("slow", "fast")
    assert run(mixed) == [{"slow": t * 10, "fast": t + 1} for t in (1, 2, 3, 4)]
    assert run(events().select(a=opaque(lambda r: r.t), b=pl.col("k"))) == [{"a": r["t"], "b": r["k"]} for r in ROWS]


@dataclass
class Reading:
    t: int
    text: str


@pytest.mark.parametrize("batch_size", [1, 2, None])
def test_map_per_row_makes_records_of_any_kind(batch_size: int | None) -> None:
    made = run(events().map(opaque(lambda r: {"n": r.t, "k": r.k})), batch_size=batch_size)
    assert made == [{"n": r["t"], "k": r["k"]} for r in ROWS]
    assert run(events().map(opaque(lambda r: Reading(r.t, "x"))), batch_size=batch_size)[1] == {"t": 2, "text": "x"}


def test_rows_that_a_function_fails_on_are_dead_letters_and_the_others_go_on() -> None:
    driver = TestDriver(events().map(opaque(lambda r: {"x": {1: -10, 3: 10, 4: 5}[r.t]})))
    driver.send(ROWS)
    assert driver.output()["x"].to_list() == [-10, 10, 5]
    (letter,) = driver.dead_letters().to_dicts()
    assert (letter["error_class"], letter["operator"], letter["offset"]) == ("KeyError", "map-1", 1)
    assert json.loads(letter["payload"]) == ROWS[1]
    assert "traceback" in json.loads(letter["details"])
    assert driver.accounts()["map-1"].dead == 1


def test_records_that_do_not_fit_are_dead_letters_of_their_own() -> None:
    values = iter([{"x": 1}, {"x": 2.5}, {"x": "three"}, None])
    driver = TestDriver(events().map(opaque(lambda r: next(values))), batch_size=1)
    driver.send(ROWS)
    assert driver.output()["x"].to_list() == [1.0, 2.5]
    assert driver.dead_letters()["error_class"].to_list() == ["WrongType", "NotARecord"]
    assert driver.accounts()["map-1"].closes


def test_one_misfit_in_a_batch_does_not_harm_its_neighbours() -> None:
    values = {1: {"x": 1}, 2: {"x": [2]}, 3: {"x": 3}, 4: 5}
    driver = TestDriver(events().map(opaque(lambda r: values[r.t])))
    driver.send(ROWS)
    assert driver.output()["x"].to_list() == [1, 3]
    assert driver.dead_letters().sort("offset")["error_class"].to_list() == ["WrongType", "NotARecord"]


@pytest.mark.parametrize("batch_size", [1, 3, None])
def test_flat_map_from_a_list_column_and_from_a_function(batch_size: int | None) -> None:
    assert run(events().flat_map("items"), batch_size=batch_size) == [{"n": 1}, {"n": 2}, {"n": 3}]
    called = events().flat_map(opaque(lambda r: [{"m": r.t}] * (r.t - 1)))
    assert [r["m"] for r in run(called, batch_size=batch_size)] == [2, 3, 3, 4, 4, 4]


def test_flat_map_failures_kill_the_row_as_a_whole() -> None:
    results = {1: [{"x": 1}, {"x": 2}], 2: [{"x": 3}, {"x": "no"}], 3: "text", 4: None}
    driver = TestDriver(events().flat_map(opaque(lambda r: results[r.t])))
    driver.send(ROWS)
    assert driver.output()["x"].to_list() == [1, 2]
    assert driver.dead_letters().sort("offset")["error_class"].to_list() == ["WrongType", "NotARecord"]
    account = driver.accounts()["flat_map-1"]
    assert (account.passed, account.dead, account.filtered, account.emitted) == (1, 2, 1, 2)


def test_split_sends_each_row_to_its_first_match() -> None:
    branches = events().split({"big": pl.col("v") > 5, "odd": opaque(lambda r: {2: False, 3: True}[r.v])})
    driver = TestDriver(branches["big"], branches["odd"])
    driver.send([{"t": 1, "v": 7}, {"t": 2, "v": 3}, {"t": 3, "v": 2}, {"t": 4, "v": None}])
    assert driver.output(branches["big"])["v"].to_list() == [7]
    assert driver.output(branches["odd"])["v"].to_list() == [3]
    account = driver.accounts()["split-1"]
    assert (account.passed, account.filtered, account.dead, account.closes) == (2, 1, 1, True)
    assert driver.dead_letters()["error_class"].to_list() == ["KeyError"]


def test_split_by_a_constant() -> None:
    branches = events().split({"none": pl.lit(False), "all": pl.lit(True)})
    driver = TestDriver(branches["all"], branches["none"])
    driver.send(ROWS)
    assert driver.output(branches["all"]).height == 4
    assert driver.output(branches["none"]).height == 0


def test_union_takes_the_least_watermark_and_fills_missing_columns() -> None:
    app = App("t")
    left = app.stream("left", timestamp="t", schema=pl.Schema({"t": pl.Int64, "a": pl.Int64}))
    right = app.stream("right", timestamp="t", schema=pl.Schema({"t": pl.Int64, "b": pl.String}))
    both = left.union(right)
    assert both.schema == pl.Schema({"t": pl.Int64, "a": pl.Int64, "b": pl.String})
    driver = TestDriver(both)
    driver.send([{"t": 100, "a": 1}], source="left")
    driver.send([{"t": 50, "b": "x"}], source="right")
    assert driver.output().to_dicts() == [{"t": 100, "a": 1, "b": None}, {"t": 50, "a": None, "b": "x"}]
    stage = next(s for s in driver.dataflow.stages if s.operator.id == "union-1")
    assert stage.seen.event_time == 50


def test_a_source_that_falls_idle_does_not_hold_the_others() -> None:
    app = App("t")
    both = app.stream("left", timestamp="t").union(app.stream("right", timestamp="t"))
    driver = TestDriver(both)
    driver.send([{"t": 100}], source="left")
    driver.send([{"t": 50}], source="right")
    driver.advance_clock(900)
    driver.send([{"t": 200}], source="left")
    driver.advance_clock(1500)  # right is quiet for more than a second and read to its end
    union = next(s for s in driver.dataflow.stages if s.operator.id == "union-1")
    assert union.seen.event_time == 200
    driver.send([{"t": 60}], source="right")
    assert driver.dataflow.source("right").watermarks.event_time == 200


def test_late_letters_after_a_union_name_their_own_topic() -> None:
    from thalweg.streams import TumblingWindow

    app = App("t")
    left, right = app.stream("left", timestamp="t"), app.stream("right", timestamp="t")
    counts = left.union(right).window(TumblingWindow(10)).aggregate(n=pl.col("t").count())
    driver = TestDriver(counts)
    driver.send([{"t": 100}, {"t": 5}], source="right")
    driver.send([{"t": 100}, {"t": 6}], source="left")
    letters = driver.dead_letters(late=True)
    assert sorted(zip(letters["topic"], letters["offset"], strict=True)) == [("left", 1), ("right", 1)]
    assert set(letters["error_class"]) == {"LateEvent"}


def test_neighbours_fuse_into_one_operator_with_one_account() -> None:
    stream = events().filter(pl.col("v") > 0).with_columns(w=pl.col("v") * 2).key_by("k").select("k", "w")
    driver = TestDriver(stream)
    driver.send(ROWS)
    assert driver.output().to_dicts() == [{"k": "a", "w": 2}, {"k": "a", "w": 20}]
    assert list(driver.accounts()) == ["source-in", "filter-1..select-1", "capture-0"]
    assert driver.accounts()["filter-1..select-1"].filtered == 2


def test_a_stream_that_is_read_twice_does_not_fuse_past_the_fork() -> None:
    kept = events().filter(pl.col("v") > 0)
    one, two = kept.select("t"), kept.select("v")
    driver = TestDriver(one, two)
    driver.send(ROWS)
    assert driver.output(one)["t"].to_list() == [1, 4]
    assert driver.output(two)["v"].to_list() == [1, 10]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.none() | st.integers(-5, 5)), max_size=30),
    st.integers(1, 31),
)
def test_any_cut_gives_the_same(values: list[tuple[str, int | None]], size: int) -> None:
    rows = [{"t": n, "k": k, "v": v} for n, (k, v) in enumerate(values)]
    schema = {"t": pl.Int64, "k": pl.String, "v": pl.Int64}

    def output(batch_size: int | None) -> pl.DataFrame:
        stream = App("t").stream("in", timestamp="t", schema=pl.Schema(schema))
        kept = stream.filter(pl.col("v") > -3).with_columns(w=opaque(lambda r: r.v * 2)).filter(pl.col("w") < 8)
        driver = TestDriver(kept, batch_size=batch_size)
        driver.send(rows)
        assert all(account.closes for account in driver.accounts().values())
        return driver.output()

    whole, cut = output(None), output(size)
    if whole.height or cut.height:
        assert_frame_equal(whole, cut)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: s.filter(pl.col("v") > pl.col("v").mean()), "looks across rows"),
        (lambda s: s.with_columns(x=pl.col("v").shift(1)), "looks across rows"),
        (lambda s: s.select(pl.col("v").cum_sum()), "looks across rows"),
        (lambda s: s.filter(pl.col("__ts") > 1), "reserved"),
    ],
)
def test_expressions_that_depend_on_the_batch_are_refused(make: Any, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        make(events())


def test_a_result_of_a_function_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="name the result"):
        events().select(opaque(lambda r: r.v))


def test_columns_that_no_event_had_yet_are_null_of_no_type() -> None:
    stream = events().filter(pl.col("tag").str.contains("x") | (pl.col("t") > 1)).with_columns(n=pl.col("size") // 2)
    driver = TestDriver(stream)
    driver.send([{"t": 1}, {"t": 2}])
    first = driver.output()
    assert first["t"].to_list() == [2]
    assert first["n"].to_list() == [None]
    driver.send([{"t": 1, "tag": "x", "size": 9}])
    assert driver.output().to_dicts() == [{"t": 1, "tag": "x", "size": 9, "n": 4}]


def test_a_query_that_fails_for_another_reason_stops_the_job() -> None:
    from thalweg.errors import OperatorFailed

    driver = TestDriver(events().filter(pl.col("k") > 3))
    with pytest.raises(OperatorFailed, match="filter-1"):
        driver.send([{"t": 1, "k": "text"}])

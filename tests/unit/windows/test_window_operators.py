"""Window operators through the public API: times, late events, clocks, global windows, refusals, explain."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.analytics import average, count, max_, percentile, sum_
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams import (
    App,
    DataStream,
    GlobalWindow,
    SessionWindow,
    SlidingWindow,
    TimeSemantics,
    TumblingWindow,
    WatermarkGenerator,
)
from thalweg.streams.batch import LATE_WINDOW_END, LATENESS, MAIN, MAX_TIME, MIN_TIME, Batch, Watermark
from thalweg.streams.operator import OperatorContext
from thalweg.streams.plan.node import Mode
from thalweg.streams.plan.window import WindowAggregateNode
from thalweg.streams.testing import TestDriver

ALL_WINDOWS = [TumblingWindow(10), SlidingWindow(10, 5), SessionWindow(10), SessionWindow(10, 40), GlobalWindow()]


def source(bound: int = 0) -> DataStream:
    return App("test").stream("in", timestamp="t", watermark=WatermarkGenerator(bound))


def row(t: int, k: str = "a", v: float = 1.0) -> dict[str, object]:
    return {"t": t, "k": k, "v": v}


def test_a_window_closes_when_the_watermark_equals_its_end():
    driver = TestDriver(source().key_by("k").window(TumblingWindow(10)).aggregate(n=count()))
    driver.send([row(0), row(9)])
    assert driver.output().is_empty()
    driver.send([row(10, "b")])
    assert driver.output().rows() == [("a", 0, 10, 2)]


def test_times_before_1970():
    driver = TestDriver(source().key_by("k").window(TumblingWindow(10)).aggregate(n=count()))
    driver.send([row(-11), row(-10), row(-1), row(0)])
    driver.end()
    assert driver.output().sort("window_start").rows() == [("a", -20, -10, 1), ("a", -10, 0, 2), ("a", 0, 10, 1)]


def test_results_are_in_order_of_window_and_key():
    driver = TestDriver(source(100).key_by("k").window(TumblingWindow(10)).aggregate(n=count()))
    driver.send([row(15, "b"), row(5, "c"), row(15, "a"), row(5, "a")])
    driver.end()
    out = driver.output(reserved=True)
    assert out.select("window_end", "k").rows() == [(10, "a"), (10, "c"), (20, "a"), (20, "b")]
    assert out["__ts"].to_list() == [9, 9, 19, 19]


@pytest.mark.parametrize(
    ("window", "end", "lateness"),
    [(TumblingWindow(10), 10, 20), (SlidingWindow(10, 5), 15, 15), (SessionWindow(5), 10, 20)],
)
def test_late_rows_leave_with_their_window_and_lateness(window, end, lateness):
    results = source().key_by("k").window(window).aggregate(n=count())
    driver = TestDriver(results, results.late)
    driver.send([row(30), row(5, v=7.0)])
    late = driver.output(results.late, reserved=True)
    assert late.select("t", "k", "v", LATE_WINDOW_END, LATENESS).rows() == [(5, "a", 7.0, end, lateness)]
    account = next(a for name, a in driver.accounts().items() if name.startswith("window"))
    assert (account.received, account.absorbed, account.late) == (2, 1, 1)


def test_a_row_late_for_some_sliding_windows_counts_in_the_others():
    driver = TestDriver(source().key_by("k").window(SlidingWindow(10, 5)).aggregate(n=count()))
    driver.send([row(11), row(9)])  # watermark 11: [0, 10) is closed for 9, [5, 15) is not
    driver.end()
    assert driver.output().sort("window_start").rows() == [("a", 5, 15, 2), ("a", 10, 20, 1)]


def test_rows_between_windows_are_filtered():
    driver = TestDriver(source().key_by("k").window(SlidingWindow(3, 10)).aggregate(n=count()))
    driver.send([row(1), row(5), row(12), row(13)])
    driver.end()
    assert driver.output().rows() == [("a", 0, 3, 1), ("a", 10, 13, 1)]
    account = next(a for name, a in driver.accounts().items() if name.startswith("window"))
    assert (account.received, account.absorbed, account.filtered) == (4, 2, 2)


def test_a_pause_of_exactly_the_gap_starts_a_new_session():
    driver = TestDriver(source().key_by("k").window(SessionWindow(10)).aggregate(n=count()))
    driver.send([row(0), row(9), row(19)])
    driver.end()
    assert driver.output().rows() == [("a", 0, 19, 2), ("a", 19, 29, 1)]


def test_the_longest_session_does_not_depend_on_the_order_of_arrival():
    rows = [row(t) for t in (0, 8, 16, 24, 30, 33)]
    expected = [("a", 0, 20, 3), ("a", 24, 43, 3)]
    for order in (rows, rows[::-1], [*rows[3:], *rows[:3]]):
        driver = TestDriver(source(100).key_by("k").window(SessionWindow(10, max_length=20)).aggregate(n=count()))
        driver.send(order)
        driver.end()
        assert driver.output().rows() == expected


def test_processing_time_goes_by_the_clock():
    stream = source().key_by("k").window(TumblingWindow(10), time_semantics=TimeSemantics.PROCESSING_TIME)
    driver = TestDriver(stream.aggregate(n=count()))
    driver.advance_clock(103)
    driver.send([row(0), row(5_000)])
    driver.advance_clock(109)
    driver.send([row(-7)])
    assert driver.output().is_empty()
    driver.advance_clock(110)
    assert driver.output().rows() == [("a", 100, 110, 3)]
    assert driver.late().is_empty()


def test_ingestion_time_goes_by_when_the_source_read_the_row():
    node = WindowAggregateNode(
        window=TumblingWindow(10), keys=(), aggregates={"n": count()}, time_semantics=TimeSemantics.INGESTION_TIME
    )
    operator = node.build(OperatorContext("w", []))
    assert "__ingested" in node.required_columns(None)
    frame = pl.DataFrame({"__ts": [5, 5], "__ingested": [103, 112]})
    assert not list(operator.on_batch(Batch(frame)))
    assert [b.frame.rows() for b in operator.on_watermark(Watermark(MIN_TIME, 110))] == [[(100, 110, 1, 109, 109)]]
    # It waited in a queue while its window was closed by the clock: it counts in the next one, it is never late.
    assert not list(operator.on_batch(Batch(pl.DataFrame({"__ts": [5], "__ingested": [107]}))))
    out = [b.frame.rows() for b in operator.on_watermark(Watermark(MIN_TIME, 120))]
    assert out == [[(110, 120, 2, 119, 119)]]
    assert operator.account.late == 0


def test_rows_of_an_idle_partition_do_not_reopen_a_window():
    """An idle partition does not hold the minimum back; what it brings afterwards is judged by the closed windows."""
    node = WindowAggregateNode(window=TumblingWindow(10), keys=(), aggregates={"n": count()})
    operator = node.build(OperatorContext("w", []))
    frame = pl.DataFrame({"__ts": [5], "__wm": [MIN_TIME]})
    list(operator.on_batch(Batch(frame)))
    assert [len(b) for b in operator.on_watermark(Watermark(30, 0))] == [1]
    late = list(operator.on_batch(Batch(frame)))
    assert [b.port for b in late] == ["late"]
    assert late[0].frame[LATENESS].to_list() == [20]
    assert not list(operator.on_watermark(Watermark(MAX_TIME, 0)))


def test_windows_closed_by_the_clock_say_so():
    app = App("test")
    stream = app.stream("in", timestamp="t", close_idle_after="1s", idle_timeout="100ms")
    driver = TestDriver(stream.key_by("k").window(TumblingWindow(10)).aggregate(n=count()))
    driver.send([row(0)])
    driver.advance_clock(60_000)
    assert driver.output().rows() == [("a", 0, 10, 1, True)]


changes = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.integers(-9, 9), st.integers(0, 50)), max_size=40)


@given(changes, st.sampled_from([1, 7, None]), st.integers(0, 40))
@settings(deadline=None, max_examples=60)
def test_a_global_window_ends_in_the_same_state(rows, batch_size, cut):
    results = (
        source().key_by("k").aggregate(n=count(), total=sum_("v"), top=max_("v"), p=percentile("v", 100, exact=True))
    )
    assert results.mode is Mode.CHANGELOG
    driver = TestDriver(results, batch_size=batch_size)
    frame = pl.DataFrame(rows, schema={"k": pl.String, "v": pl.Int64, "t": pl.Int64}, orient="row")
    driver.send(frame.head(cut))
    snapshots = [driver.snapshot()]
    driver.restore(*snapshots)
    driver.send(frame.slice(cut))
    driver.end()
    table: dict[str, tuple] = {}
    for out in driver.output().rows(named=True):
        assert (out["__op"] == "insert") == (out["k"] not in table), "one insert for each key, then updates"
        table[out["k"]] = (out["n"], out["total"], out["top"], out["p"])
    expected = {}
    for key in {k for k, _, _ in rows}:
        values = [v for k, v, _ in rows if k == key and v is not None]
        highest = max(values, default=None)
        mine = sum(k == key for k, _, _ in rows)
        expected[key] = (mine, sum(values) if values else None, highest, None if highest is None else float(highest))
    assert table == expected
    assert driver.late().is_empty()


def test_a_global_window_sends_a_key_once_for_each_watermark():
    driver = TestDriver(source().key_by("k").aggregate(n=count()))
    driver.send([row(1), row(2), row(3)])
    assert driver.output().rows() == [("a", 3, "insert")]
    driver.advance_watermark(99)
    assert driver.output().is_empty()


@pytest.mark.parametrize("window", ALL_WINDOWS)
def test_the_schema_is_known_before_data_comes(window):
    app = App("test")
    stream = app.stream("in", schema={"t": pl.Int64, "k": pl.String, "v": pl.Float64}, timestamp="t", watermark=10)
    results = stream.key_by("k").window(window).aggregate(avg=average("v"), n=count(), p=percentile("v", 95))
    driver = TestDriver(results)
    driver.send([row(1), row(2)])
    driver.end()
    out = driver.output()
    assert out.height == (1 if not isinstance(window, SlidingWindow) else 2)
    expected = {name: dtype for name, dtype in out.schema.items() if name != "__op"}
    assert dict(results.schema or {}) == expected


@pytest.mark.parametrize("window", ALL_WINDOWS)
def test_explain_names_window_and_aggregates(window):
    text = source().key_by("k").window(window).aggregate(avg=average("v")).explain()
    assert window.describe() in text
    assert "avg=average(v)" in text


def test_refusals():
    stream = source().key_by("k")
    with pytest.raises(ConfigurationError, match="not a window"):
        stream.window("1m").aggregate(n=count())  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="k: a key column and a result"):
        stream.window(TumblingWindow(5)).aggregate(k=count())
    with pytest.raises(ConfigurationError, match="window_start: a key column"):
        source().key_by("window_start").window(TumblingWindow(5)).aggregate(n=count())
    known = App("test").stream("in", schema={"t": pl.Int64, "k": pl.String}, timestamp="t").key_by("k")
    with pytest.raises(ConfigurationError, match="no column speed"):
        TestDriver(known.window(TumblingWindow(5)).aggregate(s=sum_("speed")))


def test_a_closed_window_leaves_no_state():
    for window in (TumblingWindow(10), SlidingWindow(10, 4), SessionWindow(10), SessionWindow(10, 20)):
        node = WindowAggregateNode(window=window, keys=("k",), aggregates={"n": count(), "p": percentile("v", 50)})
        operator = node.build(OperatorContext("w", []))
        frame = pl.DataFrame({"k": ["a", "b"], "v": [1.0, 2.0], "__ts": [1, 2], "__wm": [MIN_TIME, 0]})
        list(operator.on_batch(Batch(frame)))
        assert operator.snapshot().puts
        assert sum(len(b) for b in operator.on_watermark(Watermark(100, 0)) if b.port == MAIN) >= 2
        left = [name for name, rows in operator.snapshot(full=True).puts if name != "progress" and rows.height]
        assert left == []


@pytest.mark.parametrize("merged", [False, True])
def test_a_session_that_was_saved_and_is_gone_does_not_come_back(merged):
    """Closed, or merged into another: what an earlier delta saved of it must not be emitted after a restart."""
    node = WindowAggregateNode(window=SessionWindow(10), keys=("k",), aggregates={"n": count()})
    operator, state = node.build(OperatorContext("w", [])), {}

    def send(time: int) -> None:
        list(operator.on_batch(Batch(pl.DataFrame({"k": ["a"], "__ts": [time], "__wm": [MIN_TIME]}))))

    def save() -> None:
        for name, frame in operator.snapshot().puts:
            state.setdefault(name, []).append(frame)

    send(0)
    send(14)
    save()
    if merged:
        send(7)
        expected = [("a", 0, 24, 3)]
    else:
        assert [b.frame.rows()[0][:4] for b in operator.on_watermark(Watermark(10, 0))] == [("a", 0, 10, 1)]
        expected = [("a", 14, 24, 1)]
    save()
    operator = node.build(OperatorContext("w", []))
    operator.restore(state)
    out = [row[:4] for b in operator.on_watermark(Watermark(MAX_TIME, 0)) for row in b.frame.rows()]
    assert out == expected


def test_inputs_may_be_functions_of_the_event():
    """Traced where that is possible, with the schema or without; per row otherwise, and a row that fails is dead."""
    app = App("test")
    stream = app.stream("in", schema={"t": pl.Int64, "k": pl.String, "v": pl.Float64}, timestamp="t").key_by("k")
    results = stream.window(TumblingWindow(10)).aggregate(
        plain=average(lambda e: e.v),
        traced=sum_(lambda e: e.v * 2 + 1),
        by_row=max_(lambda e: float(f"{e.v:.0f}")),
        same=count(lambda e: e.v * 2 + 1),
    )
    driver = TestDriver(results, results.late)
    driver.send([row(1, v=1.0), row(2, v=2.5), row(12), row(3)])
    assert driver.output(results).rows() == [("a", 0, 10, 1.75, 9.0, 2.0, 2)]
    assert driver.output(results.late).columns == ["t", "k", "v"]
    assert "per row" in results.explain()
    failing = stream.window(TumblingWindow(10)).aggregate(n=count(lambda e: int("x" * int(e.v))))
    driver = TestDriver(failing)
    driver.send([row(1, v=2.0)])
    assert driver.dead_letters()["error_class"].to_list() == ["ValueError"]


def test_an_input_that_looks_across_rows_is_refused():
    with pytest.raises(PlanError, match="across rows"):
        sum_(pl.col("v").cum_sum())

"""Queries of a running job: from other threads, as of its last commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import polars as pl
import pytest
from tests.unit.streams.memory_broker import MemoryBroker

from thalweg import App, col
from thalweg.errors import ConfigurationError, RestartRequired, StateError
from thalweg.streams import (
    AfterCount,
    AfterWatermark,
    ListState,
    MapState,
    Repeatedly,
    SessionWindow,
    SlidingWindow,
    TumblingWindow,
    ValueState,
)
from thalweg.streams.engine.requests import Boundary
from thalweg.streams.querying import NOT_GIVEN, results_of
from thalweg.streams.testing import TestDriver


def app_of(broker: MemoryBroker) -> App:
    app = App("job", broker=broker, commit_interval=20)
    keyed = app.stream("in", schema={"t": int, "k": str, "v": int}, timestamp="t").key_by("k")
    sums = {"n": col("v").count(), "s": col("v").sum()}
    keyed.window(TumblingWindow(100)).aggregate(**sums).uid("tumbling").to("out")
    keyed.window(SlidingWindow(100, 50)).aggregate(**sums).uid("sliding").to("out")
    keyed.window(SessionWindow(60)).aggregate(**sums).uid("sessions").to("out")
    keyed.aggregate(**sums).uid("all").to("out", changes=True)
    states = {"total": ValueState(int, default=0), "seen": ListState(int), "by": MapState(str, int)}

    def keep(event: Any, ctx: Any) -> None:
        ctx["total"].set(ctx["total"].get() + event.v)
        ctx["seen"].append(event.v)
        ctx["by"].put(str(event.v), event.t)

    keyed.process(keep, state=states, uid="kept").to("out")
    return app


@contextmanager
def running(app: App) -> Iterator[None]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            app.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while app.status().state not in {"running", "failed"}:
            time.sleep(0.01)
        yield
    finally:
        app.stop()
        thread.join(60)
    assert not errors


def wait_for(app: App, name: str, key: Any, ready: Any) -> pl.DataFrame:
    """Asks until the rows have come through."""
    deadline = time.monotonic() + 200
    while not ready(found := app.query(name, key)):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


ROWS = [{"t": t, "k": k, "v": v} for t, k, v in [(10, "a", 1), (20, "b", 2), (120, "a", 3), (130, "a", 4)]]


def test_every_kind_of_step_answers():
    broker = MemoryBroker()
    broker.put("in", ROWS)
    app = app_of(broker)
    with pytest.raises(StateError, match="not running"):
        app.query("all")
    with running(app):
        wait_for(app, "kept", "a", lambda f: f.height and f["total"][0] == 8)
        assert app.query("all", "a").rows() == [("a", 3, 8)]
        assert app.query("all").rows() == [("a", 3, 8), ("b", 1, 2)]
        assert app.query("all", {"k": "b"}).rows() == [("b", 1, 2)]
        assert app.query("all", "nobody").height == 0
        assert app.query("tumbling").rows() == [("a", 100, 200, 2, 7)]
        assert app.query("tumbling", "b").height == 0
        assert app.query("sliding", "a").rows() == [("a", 50, 150, 2, 7), ("a", 100, 200, 2, 7)]
        assert app.query("sessions", "a").rows() == [("a", 120, 190, 2, 7)]
        assert app.query("kept", "b").to_dicts() == [
            {"k": "b", "total": 2, "seen": [2], "by": [{"key": "2", "value": 20}]}
        ]
        assert app.query("kept", "nobody").height == 0
        assert app.query("kept").height == 2
        with pytest.raises(ConfigurationError, match="no step 'nothing'; with state there are: tumbling"):
            app.query("nothing")
        with pytest.raises(ConfigurationError, match="a key of 'all' is k; got q"):
            app.query("all", {"q": 1})
        with pytest.raises(StateError, match="keeps no results"):
            app.query("source-in")
    with pytest.raises(StateError, match="has ended"):
        app.query("all")


def query(stream: Any, rows: list[dict[str, Any]], key: Any = NOT_GIVEN) -> list[tuple[Any, ...]]:
    """What a step holds after these rows, by the test driver."""
    driver = TestDriver(stream)
    driver.send(rows)
    boundary = Boundary(driver.dataflow, {}, {}, 1, 128)
    return results_of(boundary, "asked", key).rows()


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (TumblingWindow(100), [("a", 100, 200, 2)]),
        (SlidingWindow(100, 50), [("a", 50, 150, 2), ("a", 100, 200, 2)]),
        (SessionWindow(60), [("a", 120, 190, 2)]),
    ],
)
def test_windows_with_triggers_answer(window, expected):
    keyed = App("p").stream("in", timestamp="t").key_by("k")
    early = keyed.window(window, trigger=AfterWatermark(early=Repeatedly(AfterCount(10))))
    stream = early.aggregate(n=col("v").count()).uid("asked")
    assert query(stream, ROWS) == expected
    assert query(stream, ROWS, "a") == expected
    assert query(stream, ROWS, "b") == []


def test_aggregates_over_changing_rows_answer():
    keyed = App("p").stream("in", timestamp="t").key_by("k")
    latest = keyed.aggregate(s=col("v").sum())
    counted = latest.group_by("s").aggregate(n=col("k").count()).uid("asked")
    rows = [*ROWS, {"t": 140, "k": "b", "v": 6}]
    assert query(counted, rows) == [(8, 2)]
    assert query(counted, rows, 8) == [(8, 2)]
    assert query(counted, rows, 9) == []


def test_an_answer_is_never_ahead_of_what_is_committed():
    """Commits fail half of the time; what a query shows is always what some commit had made durable."""
    broker = MemoryBroker()
    turns = iter(range(10**6))

    def fail(step: str, commit: Any) -> None:
        if next(turns) % 5 == 3:
            raise RestartRequired("aborted for the test")

    broker.fail = fail
    broker.put("in", [])
    app = App("job", broker=broker, commit_interval=1, max_batch_rows=5)

    def total(event: Any, ctx: Any) -> None:
        ctx["total"].set(ctx["total"].get() + 1)

    app.stream("in", timestamp="t").key_by("k").process(
        total, state={"total": ValueState(int, default=0)}, uid="total"
    ).to("out")
    with running(app):
        last = 0
        for turn in range(25):
            broker.put("in", [{"t": turn, "k": "a"} for _ in range(20)])
            found = app.query("total", "a", timeout="60s")
            shown = found["total"][0] if found.height else 0
            positions = sum(epoch.position for epoch in broker.jobs["job"].epochs.values())
            assert last <= shown <= positions
            last = shown
        wait_for(app, "total", "a", lambda f: f["total"][0] == 500)
        assert app.status().restarts > 0


def test_many_threads_may_ask():
    broker = MemoryBroker()
    broker.put("in", ROWS)
    app = app_of(broker)
    with running(app):
        wait_for(app, "kept", "a", lambda f: f.height and f["total"][0] == 8)
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(app.query("all").rows())) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == [[("a", 3, 8), ("b", 1, 2)]] * 16

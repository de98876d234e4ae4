"""Inputs of a join that drift apart are held together: what is ahead waits, and what joins hold stays bounded."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from thalweg import App
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.streams import Interval
from thalweg.streams.batch import MIN_TIME
from thalweg.streams.engine.drift import Drift, ScaledDrift
from thalweg.streams.engine.exchange.reader import UpstreamWatermarks
from thalweg.streams.engine.exchange.record import Reached
from thalweg.streams.testing import TestDriver


@pytest.mark.parametrize("bound", [100, None])
def test_what_is_ahead_waits_for_what_has_something_to_read(bound: int | None):
    app = App("drift")
    left, right = (app.stream(name, schema={"k": int, "t": int}, timestamp="t") for name in ("left", "right"))
    driver = TestDriver(left.join(right, on="k", within=Interval(0, 10)))
    drift = Drift(driver.dataflow, bound)
    driver.send([{"k": 1, "t": 1_000}], source="left")
    driver.send([{"k": 1, "t": 950}], source="right")
    assert drift.held(lambda _: False) == set()
    driver.send([{"k": 1, "t": 1_051}], source="left")
    assert drift.held(lambda _: False) == ({"left"} if bound else set())
    assert drift.held(lambda topic: topic == "right") == set()
    driver.send([{"k": 1, "t": 960}], source="right")
    assert drift.held(lambda _: False) == set()


def test_what_is_ahead_waits_for_what_another_worker_reads():
    """Two workers, two partitions: each reads one of either topic, and hears of the others by the exchange."""
    app = App("drift")
    left, right = (app.stream(name, schema={"k": int, "t": int}, timestamp="t") for name in ("left", "right"))
    driver = TestDriver(left.join(right, on="k", within=Interval(0, 10)), partitions=2, exchange=2, workers=2)
    first, second = (ScaledDrift(driver.plan, member, 100) for member in driver.workers.members)  # type: ignore[arg-type]

    def held() -> list[set[str]]:
        found = []
        for drift in (first, second):
            drift._until = 0.0
            found.append(drift.held(lambda _: False))
        return found

    assert held() == [set(), set()]  # nothing was read yet
    for partition in (0, 1):
        driver.send([{"k": 1, "t": 1_000}], source="left", partition=partition)
    assert held() == [{"left"}, {"left"}]  # of the right nothing is known
    driver.send([{"k": 1, "t": 1_000}], source="right", partition=0)
    driver.send([{"k": 1, "t": 950}], source="right", partition=1)
    assert held() == [set(), set()]
    driver.send([{"k": 1, "t": 1_051}], source="left", partition=0)
    assert held() == [{"left"}, set()]  # only the first worker's share is ahead, of what the second one reads
    driver.send([{"k": 1, "t": 960}], source="right", partition=1)
    assert held() == [set(), set()]


def test_what_is_read_to_its_end_is_not_waited_for():
    reached = UpstreamWatermarks([("a", 0), ("a", 1), ("b", 0)])
    reached.reached({("a", 0): Reached(5), ("a", 1): Reached(3, at_end=True)})
    assert reached.waited_for() == {"a": 5, "b": MIN_TIME}
    reached.reached({("a", 0): Reached(7, at_end=True), ("b", 0): Reached(4)})
    assert reached.waited_for() == {"b": 4}


def test_streams_that_do_not_meet_do_not_wait():
    app = App("apart")
    streams = [app.stream(name, schema={"t": int}, timestamp="t") for name in ("left", "right")]
    driver = TestDriver(*streams)
    driver.send([{"t": 10**9}], source="left")
    driver.send([{"t": 1}], source="right")
    assert Drift(driver.dataflow, 100).held(lambda _: False) == set()


def test_a_job_reads_a_sparse_and_a_dense_topic_side_by_side(tmp_path: Path):
    """20 s of events: 2,000 on the left, 20,000 on the right; a batch of the left one is worth ten of the other."""
    path = tmp_path / "data.db"
    with EmbeddedLog(path) as log:
        for name, step in (("left", 10), ("right", 1)):
            log.ensure_topic(name, 1)
            for start in range(0, 20_000, 1_000):
                log.append(name, [{"k": t % 10, "t": t} for t in range(start, start + 1_000, step)])
    at = {"left": 0, "right": 0}
    ahead: list[int] = []

    def seen(name: str, frame: pl.DataFrame) -> None:
        at[name] = max(at[name], int(frame["t"].max()))  # type: ignore[arg-type]
        ahead.append(at["left"] - at["right"])

    def run(max_drift: int | None) -> int:
        ahead.clear()
        at.update(left=0, right=0)
        app = App(f"drift-{max_drift}", broker=f"sqlite:///{path}", max_drift=max_drift, max_batch_rows=100)
        left, right = (app.stream(name, schema={"k": int, "t": int}, timestamp="t") for name in ("left", "right"))
        left.subscribe_batches(lambda frame: seen("left", frame))
        right.subscribe_batches(lambda frame: seen("right", frame))
        left.join(right, on="k", within=Interval(0, 10)).to("pairs")
        app.run(until_caught_up=True)
        assert at == {"left": 19_990, "right": 19_999}
        return max(ahead)

    batch = 1_000  # of event time, on the left
    assert run(1_500) <= 1_500 + batch
    assert run(None) > 5_000
    with EmbeddedLog(path) as log:
        assert log.read("pairs").height == 2 * 2 * 2_000 - 2  # each job: t itself and t - 10, but for the first ten

"""Async functions in a stream: order, bounds, errors, time, crashes."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import polars as pl
import pytest
from tests.unit.streams.memory_broker import MemoryBroker

from thalweg import App
from thalweg.errors import ConfigurationError, OperatorFailed, PlanError
from thalweg.streams import TumblingWindow
from thalweg.streams.batch import Batch, Watermark
from thalweg.streams.operator import OperatorContext
from thalweg.streams.service.node import MapAsyncNode
from thalweg.streams.service.operator import MapAsync
from thalweg.streams.testing import TestDriver


def rows(count: int) -> list[dict[str, Any]]:
    return [{"t": n, "k": "ab"[n % 2], "v": n} for n in range(count)]


async def after_a_while(event: Any) -> Any:
    await asyncio.sleep(random.Random(event.v).random() / 50)
    return {"double": event.v * 2} if event.v % 10 else None


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_results_come_in_the_order_of_the_events(batch_size):
    stream = App("p").stream("in", timestamp="t").key_by("k").map_async(after_a_while, concurrency=8)
    driver = TestDriver(stream, batch_size=batch_size)
    driver.send(rows(60))
    assert driver.output(reserved=True).select("k", "double", "__ts", "__offset").rows() == [
        ("ab"[n % 2], n * 2, n, n) for n in range(60) if n % 10
    ]
    account = driver.accounts()["map_async-1"]
    assert (account.received, account.passed, account.filtered, account.absorbed) == (60, 54, 6, 0)


def test_results_that_need_no_order_come_as_they_end():
    async def slow_first(event: Any) -> Any:
        await asyncio.sleep(0.2 if event.v == 0 else 0)
        return {"v": event.v}

    for ordered, expected in [(True, list(range(20))), (False, [*range(1, 20), 0])]:
        driver = TestDriver(App("p").stream("in", timestamp="t").map_async(slow_first, ordered=ordered))
        driver.send(rows(20))
        found = driver.output()["v"].to_list()
        assert found[-1 if not ordered else 0] == 0
        assert sorted(found) == sorted(expected)


def test_no_more_calls_than_allowed_are_under_way():
    now, most = 0, 0

    async def counts(event: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        return {"v": event.v}

    driver = TestDriver(App("p").stream("in", timestamp="t").map_async(counts, concurrency=5))
    driver.send(rows(100))
    assert most == 5
    assert driver.output().height == 100


def test_errors_and_timeouts_are_dead_letters():
    async def fails(event: Any) -> Any:
        if event.v == 1:
            raise ValueError("no")
        if event.v == 2:
            await asyncio.sleep(60)
        return 7 if event.v == 3 else {"v": event.v}

    driver = TestDriver(App("p").stream("in", timestamp="t").map_async(fails, timeout=50))
    driver.send(rows(5))
    assert driver.output()["v"].to_list() == [0, 4]
    letters = driver.dead_letters()
    assert dict(zip(letters["offset"], letters["error_class"], strict=True)) == {
        1: "ValueError",
        2: "TimeoutError",
        3: "NotARecordError",
    }
    assert driver.accounts()["map_async-1"].closes
    driver = TestDriver(App("p").stream("in", timestamp="t").map_async(fails, on_error="stop"))
    with pytest.raises(OperatorFailed, match="ValueError: no"):
        driver.send(rows(2))


def test_a_window_waits_for_the_results_of_its_events():
    stream = App("p").stream("in", timestamp="t").key_by("k").map_async(after_a_while, schema={"double": int})
    driver = TestDriver(stream.window(TumblingWindow(10)).aggregate(s=pl.col("double").sum()), batch_size=3)
    driver.send(rows(41))
    expected = [
        (k, start, start + 10, sum(2 * n for n in range(start, start + 10) if "ab"[n % 2] == k and n % 10))
        for start in (0, 10, 20, 30)
        for k in "ab"
    ]
    assert driver.output().rows() == expected
    assert driver.late().height == 0


def test_rows_under_way_are_saved_and_hold_the_watermark():
    gate = threading.Event()

    async def gated(event: Any) -> Any:
        while not gate.is_set():
            await asyncio.sleep(0.001)
        return {"v": event.v}

    def made() -> MapAsync:
        return MapAsync("calls", MapAsyncNode(function=gated), OperatorContext("calls", [None]))

    first = made()
    frame = pl.DataFrame({"v": [1, 2], "__ts": [100, 200], "__wm": [90, 95]})
    assert list(first.on_batch(Batch(frame))) == []
    assert first.output_watermark(Watermark(500, 0)).event_time == 90
    assert (first.under_way(), first.memory().rows, first.account.closes) == (2, 2, True)
    delta = first.snapshot()
    assert delta.drops == ("calls",)
    assert not first.snapshot(), "nothing new"
    second = made()
    second.restore({"calls": [put for _, put in delta.puts]})
    assert second.under_way() == 2
    gate.set()
    found: list[int] = []
    while second.under_way():
        for batch in second.on_watermark(Watermark(500, 0)):
            found += batch.frame["v"].to_list()
    assert found == [1, 2]
    assert second.output_watermark(Watermark(500, 0)).event_time == 500
    assert second.snapshot().puts == []
    first.close()
    second.close()


def test_a_job_with_a_slow_service_reads_no_more_than_it_can_hold():
    """Sources wait while calls pile up; commits go on; in the end everything is there once."""
    broker = MemoryBroker()
    broker.put("in", rows(6000))
    app = App("job", broker=broker, commit_interval=5, max_batch_rows=500)
    highest = 0

    async def slow(event: Any) -> Any:
        nonlocal highest
        highest = max(highest, event.v)
        await asyncio.sleep(0.002)
        return {"v": event.v}

    app.stream("in", timestamp="t").map_async(slow, concurrency=200, ordered=False, uid="calls").to("out")
    thread = threading.Thread(target=lambda: app.run(until_caught_up=True))
    thread.start()
    most = 0
    while thread.is_alive():
        held = next((o.account.absorbed for o in app.status().operators if o.id == "calls"), 0)
        most = max(most, held)
        time.sleep(0.005)
    thread.join()
    assert sorted(broker.output("out")["v"].to_list()) == list(range(6000))
    assert most <= 1_500, "the capacity of 1,000, and the batch that came before it was reached"


def test_a_crash_repeats_calls_but_no_results():
    broker = MemoryBroker()
    broker.put("in", rows(400))
    from thalweg.errors import RestartRequired

    turns = iter(range(10**6))

    def fail(step: str, commit: Any) -> None:
        if next(turns) % 7 == 5:
            raise RestartRequired("aborted for the test")

    broker.fail = fail
    app = App("job", broker=broker, commit_interval=1, max_batch_rows=50)
    calls: list[int] = []

    async def noted(event: Any) -> Any:
        calls.append(event.v)
        await asyncio.sleep(0.001)
        return {"v": event.v}

    app.stream("in", timestamp="t").map_async(noted, concurrency=20).to("out")
    app.run(until_caught_up=True)
    assert broker.output("out")["v"].to_list() == list(range(400))
    assert len(calls) > 400
    assert app.status().restarts > 0


def test_what_cannot_work_is_refused():
    stream = App("p").stream("in", timestamp="t")
    with pytest.raises(ConfigurationError, match="takes an async function"):
        stream.map_async(lambda event: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigurationError, match="at least 1"):
        stream.map_async(after_a_while, concurrency=0)
    with pytest.raises(ConfigurationError, match="on_error"):
        stream.map_async(after_a_while, on_error="ignore")
    with pytest.raises(PlanError, match="appends only"):
        stream.key_by("k").aggregate(s=pl.col("v").sum()).map_async(after_a_while)

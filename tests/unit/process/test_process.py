"""Keyed functions per row: state, time to live, timers, side outputs, errors; the same however cut and crashed."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import ConfigurationError, OperatorFailed, StateError
from thalweg.streams import App, ListState, MapState, ProcessFunction, ValueState
from thalweg.streams.testing import TestDriver


class Everything(ProcessFunction):
    """Uses all that there is: a running sum, the last three values, counts by word, and timers that read them."""

    total = ValueState(int, default=0)
    recent = ListState(int)
    words = MapState(str, int)
    shouts = ValueState(str, ttl=40)

    def on_event(self, event, ctx):
        self.total.set(self.total.get() + event.v)
        self.recent.set([*self.recent.get(), event.v][-3:])
        self.words.put(event.w, (self.words.get(event.w) or 0) + 1)
        before = self.shouts.get()
        self.shouts.set(event.w.upper())
        ctx.set_timer(event.t + 25, event.w)
        if event.v % 3 == 0:
            ctx.delete_timer(event.t + 25, event.w)
        if event.v % 5 == 0:
            ctx.emit({"five": event.v}, "fives")
        if self.total.get() > 40:
            self.total.clear()
            self.words.clear()
            self.recent.clear()
        yield {"total": self.total.get(), "recent": self.recent.get(), "before": before}

    def on_timer(self, timer, ctx):
        if timer.name == "b":
            ctx.set_timer(timer.time + 10, "again")
        self.total.set(self.total.get() + 1)
        return {"total": self.total.get(), "recent": [len(self.recent), len(self.words)], "before": timer.name}


class Plain:
    """The same by a definition in plain Python, event by event."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, Any]] = {}
        self.out: list[tuple[Any, ...]] = []
        self.fives: list[tuple[Any, ...]] = []
        self.largest = -(2**62)

    def key(self, name: str) -> dict[str, Any]:
        return self.keys.setdefault(name, {"total": 0, "recent": [], "words": {}, "shout": None, "timers": set()})

    def fire(self, name: str, until: int) -> None:
        state = self.key(name)
        while state["timers"] and min(state["timers"])[0] <= until:
            time, label = min(state["timers"])
            state["timers"].discard((time, label))
            if label == "b":
                state["timers"].add((time + 10, "again"))
            state["total"] += 1
            sizes = [len(state["recent"]), len(state["words"])]
            self.out.append((name, state["total"], sizes, label, time))

    def event(self, t: int, k: str, v: int, w: str, watermark: int) -> None:
        self.fire(k, watermark)
        state = self.key(k)
        state["total"] += v
        state["recent"] = [*state["recent"], v][-3:]
        state["words"][w] = state["words"].get(w, 0) + 1
        shout = state["shout"]
        before = shout[0] if shout is not None and shout[1] + 40 > watermark else None
        state["shout"] = (w.upper(), max(t, watermark))
        state["timers"].add((t + 25, w))
        if v % 3 == 0:
            state["timers"].discard((t + 25, w))
        if v % 5 == 0:
            self.fives.append((k, v, t))
        if state["total"] > 40:
            state["total"], state["words"], state["recent"] = 0, {}, []
        self.out.append((k, state["total"], list(state["recent"]), before, t))


def events(count: int, seed: int) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    return [
        {"t": n * 3 + dice.randint(0, 20), "k": dice.choice("xyz"), "v": dice.randint(0, 12), "w": dice.choice("abc")}
        for n in range(count)
    ]


def expected(rows: list[dict[str, Any]], end: int) -> tuple[list[Any], list[Any]]:
    plain, largest = Plain(), None
    for row in rows:
        watermark = -(2**62) if largest is None else largest - 20
        plain.event(row["t"], row["k"], row["v"], row["w"], watermark)
        largest = row["t"] if largest is None else max(largest, row["t"])
    for key in list(plain.keys):
        plain.fire(key, end)
    return sorted(plain.out, key=str), sorted(plain.fives, key=str)


def taken(driver: TestDriver, main: Any, fives: Any) -> tuple[list[Any], list[Any]]:
    out = driver.output(main, reserved=True)
    side = driver.output(fives, reserved=True)
    return (
        out.select("k", "total", "recent", "before", "__ts").rows() if out.height else [],
        side.select("k", "five", "__ts").rows() if side.height else [],
    )


def run(rows: list[dict[str, Any]], batch_size: int, crash_every: int | None = None) -> tuple[list[Any], list[Any]]:
    stream = App("p").stream("in", timestamp="t", watermark=20).key_by("k").process(Everything)
    fives = stream.port("fives")
    driver = TestDriver(stream, fives, batch_size=batch_size)
    snapshots = []
    for start in range(0, len(rows), crash_every or len(rows)):
        driver.send(rows[start : start + (crash_every or len(rows))])
        if crash_every:
            snapshots.append(driver.snapshot(full=not snapshots))
            driver.restore(*snapshots)
    driver.advance_watermark(10**6)
    main, side = taken(driver, stream, fives)
    return sorted(main, key=str), sorted(side, key=str)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_results_are_those_of_a_plain_program(batch_size):
    rows = events(300, 1)
    assert run(rows, batch_size) == expected(rows, 10**6)


@pytest.mark.parametrize("crash_every", [20, 77])
def test_a_crash_changes_nothing(crash_every):
    rows = events(300, 2)
    assert run(rows, 13, crash_every) == expected(rows, 10**6)


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 30))
@settings(deadline=None, max_examples=15, derandomize=True)
def test_any_cut_and_any_crash_give_the_same(seed, batch_size, crash_every):
    rows = events(60, seed)
    assert run(rows, batch_size, crash_every) == expected(rows, 10**6)


def driver_of(function: Any, **settings: Any) -> tuple[TestDriver, Any]:
    stream = App("p").stream("in", timestamp="t").key_by("k").process(function, **settings)
    return TestDriver(stream), stream


def test_a_plain_function_finds_its_state_by_name():
    def running(event, ctx):
        total = ctx["total"]
        total.set(total.get() + event.v)
        return {"total": total.get(), "key": ctx.key, "at": ctx.timestamp}

    driver, _ = driver_of(running, state={"total": ValueState(float, default=0.0)})
    driver.send([{"t": 1, "k": "a", "v": 1}, {"t": 2, "k": "b", "v": 5}, {"t": 3, "k": "a", "v": 2}])
    assert driver.output().rows() == [("a", 1.0, "a", 1), ("b", 5.0, "b", 2), ("a", 3.0, "a", 3)]


def test_an_event_that_fails_leaves_a_dead_letter_and_nothing_else():
    class Fails(ProcessFunction):
        n = ValueState(int, default=0)
        seen = ListState(int)
        by = MapState(str, int)

        def on_event(self, event, ctx):
            self.n.set(self.n.get() + 1)
            self.seen.append(event.v)
            self.by.put("x", event.v)
            ctx.set_timer(event.t + 100)
            ctx.emit({"n": -1}, "side")
            yield {"n": self.n.get(), "seen": self.seen.get(), "by": self.by.get("x"), "timers": len(ctx.timers)}
            if event.v < 0:
                raise ValueError("negative")

        def on_timer(self, timer, ctx):
            return {"n": self.n.get(), "seen": self.seen.get(), "by": 0, "timers": timer.time}

    driver, _ = driver_of(Fails)
    driver.send([{"t": n, "k": "a", "v": v} for n, v in enumerate([5, -1, 7, -2, 8])])
    driver.advance_watermark(1000)
    assert driver.output().rows() == [
        ("a", 1, [5], 5, 1),
        ("a", 2, [5, 7], 7, 2),
        ("a", 3, [5, 7, 8], 8, 3),
        *[("a", 3, [5, 7, 8], 0, time) for time in (100, 102, 104)],
    ]
    letters = driver.dead_letters()
    assert letters["error_class"].to_list() == ["ValueError", "ValueError"]
    assert letters["offset"].to_list() == [1, 3]
    account = driver.accounts()["process-1"]
    assert (account.received, account.absorbed, account.dead, account.closes) == (5, 3, 2, True)


def test_on_error_stop_stops():
    driver, _ = driver_of(lambda event, ctx: 1 / 0, on_error="stop")
    with pytest.raises(OperatorFailed, match="ZeroDivisionError"):
        driver.send([{"t": 1, "k": "a"}])


def test_wrong_types_are_told_where_they_are_set():
    def wrong(event, ctx):
        ctx["n"].set(event.v)

    driver, _ = driver_of(wrong, state={"n": ValueState(int)})
    driver.send([{"t": 1, "k": "a", "v": "text"}])
    letter = driver.dead_letters().row(0, named=True)
    assert letter["error_class"] == "TypeError"
    assert "state 'n' is Int64; got 'text'" in letter["error_message"]


def test_a_timer_that_fails_is_a_dead_letter_of_the_timer():
    class Late(ProcessFunction):
        n = ValueState(int)

        def on_event(self, event, ctx):
            ctx.set_timer(event.t + 10, "boom")

        def on_timer(self, timer, ctx):
            self.n.set(1)
            raise RuntimeError("no")

    driver, _ = driver_of(Late)
    driver.send([{"t": 1, "k": "a"}])
    driver.advance_watermark(50)
    letter = driver.dead_letters().row(0, named=True)
    assert (letter["error_class"], letter["payload"]) == ("RuntimeError", b'{"k":"a","timer":11,"timer_name":"boom"}')
    assert driver.dataflow.stages[-2].operator.memory().rows == 0


def test_processing_time_timers_follow_the_clock():
    class Quiet(ProcessFunction):
        def on_event(self, event, ctx):
            ctx.set_timer(ctx.clock + 1000, processing=True)

        def on_timer(self, timer, ctx):
            return {"quiet": timer.time, "processing": timer.processing}

    driver, _ = driver_of(Quiet)
    driver.advance_clock(500)
    driver.send([{"t": 1, "k": "a"}])
    driver.advance_clock(1499)
    assert driver.output().height == 0
    driver.advance_clock(1500)
    assert driver.output().rows() == [("a", 1500, True)]


def test_what_has_outlived_its_time_is_gone_and_leaves_no_key():
    class Session(ProcessFunction):
        last = ValueState(int, ttl=100)
        items = ListState(int, ttl=50)
        names = MapState(str, int, ttl=50)

        def on_event(self, event, ctx):
            found = (self.last.get(), self.items.get(), self.names.items())
            self.last.set(event.v)
            self.items.append(event.v)
            self.names.put(str(event.v), event.v)
            return {"last": found[0], "items": found[1], "names": [name for name, _ in found[2]]}

    driver, _ = driver_of(Session)
    driver.send([{"t": t, "k": "a", "v": t} for t in (0, 30, 60, 70, 200)])
    driver.send([{"t": 205, "k": "b", "v": 1}])
    rows = driver.output().filter(k="a").select("last", "items", "names").rows()
    # The event at 200 is judged by the watermark before it, 70.
    assert rows == [
        (None, [], []),
        (0, [0], ["0"]),
        (30, [0, 30], ["0", "30"]),
        (60, [30, 60], ["30", "60"]),
        (70, [30, 60, 70], ["30", "60", "70"]),
    ]
    operator = driver.dataflow.stages[-2].operator
    driver.advance_watermark(260)
    assert operator.query(pl.DataFrame({"k": ["a"]})).row(0) == ("a", 200, None, None)
    driver.advance_watermark(400)
    assert operator.memory().rows == 0


def test_side_outputs_are_streams_of_their_own():
    def route(event, ctx):
        ctx.emit({"v": event.v}, "big" if event.v > 10 else "main")

    stream = App("p").stream("in", timestamp="t").key_by("k").process(route, side_outputs={"big": {"v": int}})
    doubled = stream.port("big").with_columns(twice=pl.col("v") * 2)
    driver = TestDriver(stream, doubled)
    driver.send([{"t": 1, "k": "a", "v": 5}, {"t": 2, "k": "a", "v": 50}])
    assert driver.output(stream).rows() == [("a", 5)]
    assert driver.output(doubled).rows() == [("a", 50, 100)]


def test_results_are_keyed_and_feed_windows():
    from thalweg.streams import TumblingWindow

    keyed = App("p").stream("in", schema={"t": int, "k": str, "v": int}, timestamp="t").key_by("k")
    stream = keyed.process(lambda e, ctx: {"double": e.v * 2}, schema={"double": int})
    assert stream.key_columns == ("k",)
    driver = TestDriver(stream.window(TumblingWindow(10)).aggregate(s=pl.col("double").sum()))
    driver.send([{"t": t, "k": "a", "v": 1} for t in (1, 5, 12, 25)])
    assert driver.output().rows() == [("a", 0, 10, 4), ("a", 10, 20, 2)]


def test_state_changes_with_the_program():
    """Added, removed and widened state is taken over; a type that does not fit is refused."""

    def first(event, ctx):
        ctx["a"].set(event.v)
        ctx["gone"].set("x")
        ctx["list"].append(event.v)

    def second(event, ctx):
        return {"a": ctx["a"].get(), "new": ctx["new"].get(), "list": ctx["list"].get()}

    old = {"a": ValueState(pl.Int32), "gone": ValueState(str), "list": ListState(pl.Int32)}
    driver, _ = driver_of(first, state=old)
    driver.send([{"t": 1, "k": "a", "v": 3}, {"t": 2, "k": "b", "v": 4}, {"t": 3, "k": "a", "v": 5}])
    saved = driver.snapshot(full=True)
    new = {"a": ValueState(float), "new": ValueState(str, default="?"), "list": ListState(int)}
    driver, _ = driver_of(second, state=new)
    driver.restore(saved)
    driver.send([{"t": 9, "k": "a", "v": 3}, {"t": 9, "k": "b", "v": 3}])
    assert driver.output().rows() == [("a", 5.0, "?", [3, 5]), ("b", 4.0, "?", [4])]
    driver, _ = driver_of(second, state={**new, "a": ValueState(str)})
    with pytest.raises(StateError, match="was saved as Int32 and is String now"):
        driver.restore(saved)


def test_a_null_key_and_no_key_are_keys():
    count = {"n": ValueState(int, default=0)}

    def counted(event, ctx):
        ctx["n"].set(ctx["n"].get() + 1)
        return {"n": ctx["n"].get()}

    driver, _ = driver_of(counted, state=count)
    driver.send([{"t": 1, "k": None}, {"t": 2, "k": "a"}, {"t": 3, "k": None}])
    driver.restore(driver.snapshot(full=True))
    driver.send(pl.DataFrame({"t": [4], "k": [None]}, schema={"t": pl.Int64, "k": pl.String}))
    assert driver.output()["n"].to_list() == [1, 1, 2, 3]
    unkeyed = TestDriver(App("p").stream("in", timestamp="t").process(counted, state=count))
    unkeyed.send([{"t": 1, "k": 1}, {"t": 2, "k": 2}])
    unkeyed.restore(unkeyed.snapshot(full=True))
    unkeyed.send([{"t": 3, "k": 2}])
    assert unkeyed.output()["n"].to_list() == [1, 2, 3]


def test_what_cannot_work_is_refused_when_it_is_written():
    stream = App("p").stream("in", timestamp="t").key_by("k")
    with pytest.raises(ConfigurationError, match="name of a key column"):
        stream.process(lambda e, ctx: None, state={"k": ValueState(int)})
    with pytest.raises(ConfigurationError, match="declare ValueState"):
        stream.process(lambda e, ctx: None, state={"n": int})  # type: ignore[dict-item]
    with pytest.raises(ConfigurationError, match="as attributes of Everything"):
        stream.process(Everything, state={"n": ValueState(int)})
    with pytest.raises(ConfigurationError, match="takes a ProcessFunction"):
        stream.process(3)

    async def slow(event, ctx):
        return None

    with pytest.raises(ConfigurationError, match="map_async"):
        stream.process(slow)


def test_a_timer_that_would_never_end_is_refused():
    class Loops(ProcessFunction):
        def on_event(self, event, ctx):
            ctx.set_timer(event.t)

        def on_timer(self, timer, ctx):
            ctx.set_timer(timer.time)

    driver, _ = driver_of(Loops)
    driver.send([{"t": 1, "k": "a"}])
    driver.advance_watermark(5)
    assert "give it a later time" in driver.dead_letters()["error_message"][0]


def test_state_outside_a_job_is_an_error():
    with pytest.raises(AttributeError, match="while the job runs only"):
        Everything().total.get()
    assert isinstance(Everything.total, ValueState)


def test_each_step_has_a_copy_of_the_function():
    """The same object in two steps, and in a job that starts again, keeps no state of its own."""
    shared = Everything()
    keyed = App("p").stream("in", timestamp="t", watermark=20).key_by("k")
    one, two = keyed.process(shared), keyed.filter(pl.col("v") > 5).process(shared)
    driver = TestDriver(one, two)
    driver.send([{"t": 1, "k": "x", "v": 1, "w": "a"}, {"t": 2, "k": "x", "v": 7, "w": "a"}])
    assert driver.output(one)["total"].to_list() == [1, 8]
    assert driver.output(two)["total"].to_list() == [7]
    assert vars(shared) == {}


def test_a_backends_time_to_live_is_for_state_that_names_none():
    from thalweg.streams.state.pool import StatePool, using

    class Both(ProcessFunction):
        short = ValueState(int, ttl=10)
        usual = ValueState(int)

        def on_event(self, event, ctx):
            found = {"short": self.short.get(), "usual": self.usual.get()}
            self.short.set(event.t)
            self.usual.set(event.t)
            return found

    with using(StatePool(ttl=100)):
        driver, _ = driver_of(Both)
    driver.send([{"t": t, "k": k} for t, k in [(0, "a"), (20, "b"), (21, "a"), (130, "b"), (131, "a")]])
    found = driver.output().filter(k="a").select("short", "usual").rows()
    assert found == [(None, None), (None, 0), (None, None)]

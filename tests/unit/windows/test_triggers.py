"""Triggers against a plain model, however events are cut into batches, and after a crash."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.windows.trigger_model import Model

from thalweg.analytics import average, collect, count, count_distinct
from thalweg.errors import ConfigurationError, PlanError, StateError
from thalweg.streams import (
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterProcessingTime,
    AfterWatermark,
    App,
    DefaultTrigger,
    GlobalWindow,
    Repeatedly,
    SessionWindow,
    SlidingWindow,
    TumblingWindow,
)
from thalweg.streams.testing import TestDriver

leaves = st.one_of(st.builds(AfterCount, st.integers(1, 4)), st.just(AfterWatermark()), st.just(DefaultTrigger()))
triggers = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Repeatedly, inner),
        st.builds(AfterWatermark, st.none() | inner, st.none() | inner),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: AfterAny(*some)),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: AfterAll(*some)),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: AfterEach(*some)),
    ),
    max_leaves=4,
)
events = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), min_size=1, max_size=25)
PANE = ["window_start", "window_end", "values", "pane_index", "pane_nonspeculative_index", "pane_timing", "pane_final"]


def plan(window: Any, **settings: Any) -> Any:
    stream = App("triggers").stream("events", timestamp="t", watermark=5, idle_timeout=None).key_by("k")
    return stream.window(window, **settings).aggregate(values=collect("v"), n=count(), kinds=count_distinct("v"))


def panes(frame: pl.DataFrame, key: str) -> list[tuple[Any, ...]]:
    if not frame.height:
        return []
    if "__op" in frame.columns:
        frame = frame.filter(pl.col("__op") != "delete")
    return [(*row[:2], row[2] or [], *row[3:]) for row in frame.filter(pl.col("k") == key).select(PANE).rows()]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(triggers, events, st.sampled_from([0, 10, "forever"]), st.booleans(), st.booleans(), st.data())
def test_panes_are_those_of_a_plain_model(trigger, rows, lateness, accumulating, sessions, data):
    window = SessionWindow(10) if sessions else TumblingWindow(10)
    rows = [{"k": key, "t": time, "v": number} for number, (key, time) in enumerate(rows)]
    how = {
        "trigger": trigger,
        "allowed_lateness": lateness,
        "accumulation": "accumulating" if accumulating else "discarding",
    }
    stream = plan(window, **how)
    models = {
        key: Model(
            trigger,
            size=None if sessions else 10,
            gap=10 if sessions else None,
            lateness=2**50 if lateness == "forever" else lateness,
            accumulating=accumulating,
            disorder=5,
        )
        for key in "ab"
    }
    for row in rows:
        for key, model in models.items():
            if key == row["k"]:
                model.send(row["t"], row["v"])
            else:  # the watermark is the stream's, not the key's
                model.newest = row["t"] if model.newest is None else max(model.newest, row["t"])
                _only_time(model)
    for size in (1, 7, None):
        driver = TestDriver(stream, batch_size=size)
        driver.send(rows)
        found = driver.output()
        for key, model in models.items():
            assert sorted(panes(found, key), key=_window) == sorted(model.panes, key=_window), (key, size)
        assert sorted(driver.late()["v"].to_list() if _has(driver) else []) == sorted(
            v for m in models.values() for v in m.late
        )
        assert all(account.closes for account in driver.accounts().values())
    cut = data.draw(st.integers(0, len(rows)))
    assert _with_crash(stream, rows, cut) == {key: sorted(model.panes, key=_window) for key, model in models.items()}


def _window(pane: tuple[Any, ...]) -> tuple[Any, ...]:
    return pane[:2]


def _has(driver: TestDriver) -> bool:
    return bool(driver._outputs.late_frames)


def _only_time(model: Model) -> None:
    for window in sorted(model.windows, key=lambda w: w.end):
        if window.armed and not window.finished and window.end <= model.watermark:
            model._ask(window, at_end=True)
    model.windows = [w for w in model.windows if w.end + model.lateness > model.watermark]


def _with_crash(stream: Any, rows: list[dict[str, Any]], cut: int) -> dict[str, Any]:
    driver = TestDriver(stream, batch_size=3)
    first = driver.snapshot()
    driver.send(rows[: cut // 2]) if cut // 2 else None
    second = driver.snapshot()
    driver.send(rows[cut // 2 : cut]) if cut > cut // 2 else None
    third = driver.snapshot()
    driver.restore(first, second, third)
    driver.send(rows[cut:]) if cut < len(rows) else None
    found = driver.output()
    return {key: sorted(panes(found, key), key=_window) for key in "ab"}


def folded(frame: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    return frame.unique(key, keep="last", maintain_order=True).filter(pl.col("__op") != "delete")


def test_a_session_that_grows_takes_back_what_was_told_of_it():
    driver = TestDriver(plan(SessionWindow(10), trigger=Repeatedly(AfterCount(1))))
    driver.send([{"k": "a", "t": 1, "v": 1}, {"k": "a", "t": 15, "v": 2}, {"k": "a", "t": 8, "v": 3}])
    changes = driver.output()
    assert changes.select("window_start", "window_end", "n", "__op").rows() == [
        (1, 11, 1, "insert"),
        (15, 25, 1, "insert"),
        (1, 11, None, "delete"),
        (15, 25, None, "delete"),
        (1, 25, 3, "insert"),
    ]
    assert folded(changes, ["k", "window_start", "window_end"])["n"].to_list() == [3]


def test_early_by_the_clock_and_at_the_end():
    trigger = AfterWatermark(early=AfterProcessingTime("2s"))
    driver = TestDriver(plan(TumblingWindow(100), trigger=trigger))
    driver.send([{"k": "a", "t": 1, "v": 1}, {"k": "b", "t": 1, "v": 5}])
    driver.advance_clock(1999)
    assert not driver.output().height
    driver.advance_clock(2000)
    assert driver.output().select("k", "n", "pane_timing").rows() == [("a", 1, "early"), ("b", 1, "early")]
    snapshot = driver.snapshot()
    driver.send([{"k": "a", "t": 2, "v": 2}])
    delta = driver.snapshot()
    driver.restore(snapshot, delta)
    driver.advance_clock(4000)
    assert driver.output().select("k", "n", "pane_index").rows() == [("a", 2, 1)]
    driver.end()
    assert driver.output().select("k", "n", "pane_timing", "__op").rows() == [
        ("a", 2, "on_time", "update"),
        ("b", 1, "on_time", "update"),
    ]


def test_a_pane_without_news_counts_nothing_when_discarding():
    how = {"trigger": AfterWatermark(early=AfterCount(1)), "accumulation": "discarding"}
    driver = TestDriver(plan(TumblingWindow(10), **how))
    driver.send([{"k": "a", "t": 1, "v": 1}])
    driver.end()
    assert driver.output().select("n", "kinds", "pane_timing").rows() == [(1, 1, "early"), (0, 0, "on_time")]


def test_many_panes_of_one_window_in_one_batch():
    rows = [{"k": "a", "t": 1, "v": number} for number in range(300)]
    for accumulation, expected in (("accumulating", list(range(1, 301))), ("discarding", [1] * 300)):
        driver = TestDriver(plan(TumblingWindow(10), trigger=Repeatedly(AfterCount(1)), accumulation=accumulation))
        driver.send(rows)
        assert driver.output()["n"].to_list() == expected


def test_the_global_window_gives_panes_by_its_trigger():
    driver = TestDriver(plan(GlobalWindow(), trigger=Repeatedly(AfterCount(2)), accumulation="discarding"))
    driver.send([{"k": "a", "t": t, "v": t} for t in (5, 3, 9, 1, 2)])
    rows = driver.output(reserved=True)
    assert "window_end" not in rows.columns
    assert rows.select("n", "values", "__ts").rows() == [(2, [3, 5], 5), (2, [1, 9], 9)]


def test_late_panes_of_sliding_windows_and_where_late_events_go():
    for on_late, letters, side in (("dead-letter", 1, 1), ("side", 0, 1), ("drop", 0, 0), (None, 1, 1)):
        stream = plan(SlidingWindow(10, 5), allowed_lateness=21, on_late=on_late)
        driver = TestDriver(stream, stream.late)
        driver.send([{"k": "a", "t": 1, "v": 1}, {"k": "a", "t": 30, "v": 2}, {"k": "a", "t": 2, "v": 3}])
        driver.send([{"k": "a", "t": 60, "v": 4}, {"k": "a", "t": 3, "v": 5}])
        found = driver.output(stream).filter(pl.col("window_end") <= 10)
        assert found.select("window_end", "n", "pane_timing").sort("window_end", "n").rows() == [
            (5, 1, "on_time"),
            (5, 2, "late"),
            (10, 1, "on_time"),
            (10, 2, "late"),
        ]
        assert driver.dead_letters(late=True).height == letters
        assert driver.output(stream.late).height == side
        assert driver.accounts()["window-1"].late == 1


def test_one_pane_per_window_is_an_append_stream_and_several_are_a_changelog():
    once = plan(TumblingWindow(10), trigger=AfterCount(3))
    discarding = plan(TumblingWindow(10), trigger=Repeatedly(AfterCount(3)), accumulation="discarding")
    several = plan(TumblingWindow(10), trigger=Repeatedly(AfterCount(3)))
    assert [str(stream.mode) for stream in (once, discarding, several)] == ["append", "append", "changelog"]
    with pytest.raises(PlanError, match="takes appends"):
        several.to("topic")


def test_what_is_refused():
    stream = App("refused").stream("events", timestamp="t")
    for bad in (
        {"trigger": "early"},
        {"accumulation": "sometimes"},
        {"pane_time": "now"},
        {"trigger_on": "row"},
        {"allowed_lateness": -1},
    ):
        with pytest.raises(ConfigurationError):
            stream.window(TumblingWindow(10), **{"allowed_lateness": 1, **bad})
    with pytest.raises(ConfigurationError, match="max_length"):
        stream.window(SessionWindow(10, 20), trigger=AfterCount(1)).aggregate(n=count())
    with pytest.raises(ConfigurationError, match="pane_index"):
        stream.window(TumblingWindow(10), trigger=AfterCount(1)).aggregate(pane_index=count())
    with pytest.raises(ConfigurationError, match="on_late"):
        stream.window(TumblingWindow(10), on_late="bin").aggregate(n=count())  # type: ignore[arg-type]
    for make in (lambda: AfterCount(0), lambda: AfterAny(), lambda: Repeatedly(3), lambda: AfterProcessingTime(0)):  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            make()


def test_state_of_another_trigger_is_refused():
    driver = TestDriver(plan(TumblingWindow(10), trigger=AfterCount(3)))
    driver.send([{"k": "a", "t": 1, "v": 1}])
    snapshot = driver.snapshot()
    other = TestDriver(plan(TumblingWindow(10), trigger=Repeatedly(AfterCount(3))))
    with pytest.raises(StateError, match="another trigger"):
        other.restore(snapshot)


def test_pane_times():
    for pane_time, expected in (("end_of_window", [9, 9]), ("earliest", [2, 4]), ("latest", [6, 4])):
        driver = TestDriver(plan(TumblingWindow(10), trigger=Repeatedly(AfterCount(2)), pane_time=pane_time))
        driver.send([{"k": "a", "t": t, "v": t} for t in (6, 2, 4, 0)])
        assert driver.output(reserved=True)["__ts"].to_list() == expected, pane_time


def test_averages_of_panes():
    stream = App("averages").stream("events", timestamp="t", watermark=100)
    means = stream.window(TumblingWindow(10), trigger=Repeatedly(AfterCount(2))).aggregate(mean=average("v"))
    driver = TestDriver(means)
    driver.send([{"t": 1, "v": v} for v in (1.0, 3.0, 5.0, 7.0)])
    assert driver.output()["mean"].to_list() == [2.0, 4.0]

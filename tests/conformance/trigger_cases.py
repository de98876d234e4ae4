"""Trigger cases through the public API and the test driver: see the README beside the data for what they say.

The cases ask a trigger once for each batch (`trigger_on="batch"`); the watermark moves only where the timeline says so.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from tests.conformance.not_served import NotServed
from tests.conformance.shapes import TriggerCase, known
from tests.conformance.trial import Fault, Trial
from thalweg.analytics import collect
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
    Trigger,
    TumblingWindow,
)
from thalweg.streams.batch import MAX_TIME
from thalweg.streams.testing import TestDriver

Case = dict[str, Any]
Pane = dict[str, Any]

END_OF_TIME = MAX_TIME - 2**60
UNORDERED = 2**60
"""So far out of order may events come that they never move the watermark."""


def run_trigger_case(case: Case, batch_size: int | None, *, fault: Fault = None) -> list[Any]:
    """The panes of a case.

    Args:
        case: as published.
        batch_size: events per batch; None: each input at once; below 0: so many, each input reversed.
        fault: what happens after each step of the timeline.

    Returns:
        For a timeline one list of panes per `expect`; for a unit case `expected_panes`.
    """
    known(case, TriggerCase)
    trial = Trial(_plan(case), batch_size=abs(batch_size) if batch_size else None, fault=fault)
    seen: list[Pane] = []
    told: list[list[Pane]] = []
    everything: list[Pane] = []
    for step in case["timeline"]:
        _step(trial.driver, step, reverse=(batch_size or 0) < 0)
        trial.interrupt()
        new = _panes(trial.output(reserved=True))
        seen += new
        everything += new
        if "expect" in step:
            told.append(seen)
            seen = []
    if told and seen:
        raise AssertionError(f"{case['case']}: panes that nothing expects: {seen}")
    return _by_window(everything) if "expected_panes" in case else told


def _step(driver: TestDriver, step: Case, *, reverse: bool) -> None:
    if "input" in step:
        driver.send(step["input"][::-1] if reverse else step["input"])
    elif "watermark" in step:
        driver.advance_watermark(END_OF_TIME if step["watermark"] == "max" else step["watermark"])
    elif "processing_time" in step:
        driver.advance_clock(step["processing_time"])
    elif "expect" not in step:
        raise NotServed(f"a step of the timeline with {', '.join(step)}")


def _plan(case: Case) -> Any:
    events = App(f"case-{case['case']}").stream("events", timestamp="time", watermark=UNORDERED)
    lateness = case.get("allowed_lateness", 0)
    windowed = events.window(
        _window(case["window"]),
        trigger=_trigger(case["trigger"]),
        allowed_lateness="forever" if lateness is None else lateness,
        accumulation=case.get("accumulation", "accumulating"),
        pane_time=case.get("pane_time", "end_of_window"),
        trigger_on="batch",
    )
    return windowed.aggregate(values=collect("value"))


def _window(spec: Case) -> Any:
    kind = spec["kind"]
    if kind == "tumbling":
        return TumblingWindow(spec["size"], spec.get("offset", 0))
    if kind in ("hopping", "sliding"):
        return SlidingWindow(spec["size"], spec.get("slide", spec.get("period")), spec.get("offset", 0))
    if kind == "session":
        return SessionWindow(spec["gap"])
    if kind == "global":
        return GlobalWindow()
    raise NotServed(f"windows of kind {kind!r}")


def _trigger(spec: Case) -> Trigger:
    kind = spec["kind"]
    of = spec.get("of")
    if kind == "default":
        return DefaultTrigger()
    if kind == "after_count":
        return AfterCount(spec["count"])
    if kind == "after_processing_time":
        return AfterProcessingTime(spec["delay"])
    if kind == "after_watermark":
        early, late = (None if spec.get(name) is None else _trigger(spec[name]) for name in ("early", "late"))
        return AfterWatermark(early, late)
    if kind == "repeatedly":
        return Repeatedly(_trigger(of[0] if isinstance(of, list) else of))
    several = {"after_any": AfterAny, "after_all": AfterAll, "after_each": AfterEach}.get(kind)
    if several is None:
        raise NotServed(f"triggers of kind {kind!r}")
    return several(*(_trigger(one) for one in of))


def _panes(rows: pl.DataFrame) -> list[Pane]:
    if not rows.height:
        return []
    if "__op" in rows.columns:
        rows = rows.filter(pl.col("__op") != "delete")
    return [
        {
            "window": [row["window_start"], row["window_end"]] if "window_end" in row else None,
            "values": row["values"] or [],
            "timestamp": row["__ts"],
            "timing": row["pane_timing"],
            "index": row["pane_index"],
            "nonspeculative_index": row["pane_nonspeculative_index"],
            "final": row["pane_final"],
        }
        for row in rows.iter_rows(named=True)
    ]


def _by_window(panes: list[Pane]) -> list[Case]:
    windows: dict[tuple[int, int], list[list[Any]]] = {}
    for pane in panes:
        windows.setdefault(tuple(pane["window"]), []).append(sorted(set(pane["values"])))
    return [{"window": list(window), "panes": windows[window]} for window in sorted(windows)]

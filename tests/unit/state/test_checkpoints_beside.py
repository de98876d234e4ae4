"""A checkpoint beside the commits leaves no trace in the deltas: they restore the same, with it and without it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from thalweg import App, col
from thalweg.cep import EventCorrelator
from thalweg.streams import DataStream, ListState, MapState, SessionWindow, SlidingWindow, ValueState
from thalweg.streams.testing import TestDriver

SCHEMA = {"t": int, "k": str, "v": int}


def remember(event: Any, ctx: Any) -> Any:
    """A list that rarely changes, a map, and a value that changes each time."""
    ctx["n"].set(ctx["n"].get() + 1)
    if event.v % 7 == 0:
        ctx["rare"].set([*ctx["rare"].get()[-3:], event.v])
    ctx["seen"].put(str(event.v % 3), event.t)
    return {"k": event.k, "n": ctx["n"].get(), "rare": list(ctx["rare"].get()), "seen": dict(ctx["seen"].items())}


def stream() -> Any:
    return App("job").stream("in", schema=SCHEMA, timestamp="t", watermark=5)


STATES = {"n": ValueState(int, default=0), "rare": ListState(int), "seen": MapState(str, int)}
JOBS: dict[str, Callable[[], DataStream]] = {
    "process": lambda: stream().key_by("k").process(remember, state=STATES),
    "sessions": lambda: stream().key_by("k").window(SessionWindow(9)).aggregate(s=col("v").sum()),
    "sliding": lambda: stream().key_by("k").window(SlidingWindow(20, 10)).aggregate(s=col("v").sum()),
    "totals": lambda: stream().key_by("k").aggregate(s=col("v").sum()),
    "correlation": lambda: stream().correlate(
        EventCorrelator({"low": col("v") < 20, "high": col("v") > 80}, "k", 15, minimum_matches=2)
    ),
}


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("seed", range(4))
def test_deltas_restore_the_same_whether_or_not_there_was_a_checkpoint_beside_them(name: str, seed: int) -> None:
    dice = random.Random(seed)
    rows = [{"t": i + dice.randrange(5), "k": f"k{dice.randrange(6)}", "v": dice.randrange(100)} for i in range(240)]
    calm, crashing = TestDriver(JOBS[name]()), TestDriver(JOBS[name]())
    saved: list[Any] = []
    for start in range(0, len(rows), 20):
        for driver in (calm, crashing):
            driver.send(rows[start : start + 20])
        saved.append(crashing.snapshot())  # takes one beside, and drops it
        if dice.random() < 0.2:
            saved = [crashing.snapshot(full=True)]
        if dice.random() < 0.5:
            crashing.restore(*saved)
    for driver in (calm, crashing):
        driver.end()
    results = [sorted(map(str, driver.output().to_dicts())) for driver in (calm, crashing)]
    assert results[0]
    assert results[1] == results[0]

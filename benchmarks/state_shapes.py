"""The steps with state that `state.py` measures, and how one is driven by hand, without a broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from thalweg.analytics import average, count
from thalweg.streams import App, ListState, ProcessFunction, ValueState
from thalweg.streams.batch import MIN_TIME, Batch, Watermark
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.panes import Panes
from thalweg.streams.plan.window import WindowAggregateNode
from thalweg.streams.triggers import AfterProcessingTime, AfterWatermark
from thalweg.streams.windows import GlobalWindow, SessionWindow, TumblingWindow, Window

ROWS = 65_536
HOUR = 3_600_000

Keys = np.ndarray[Any, Any]


class Running(ProcessFunction):
    """A running mean: two values per key."""

    total = ValueState(float, default=0.0)
    n = ValueState(int, default=0)

    def on_event(self, event: Any, ctx: Any) -> Any:
        self.total.set(self.total.get() + event.value)
        self.n.set(self.n.get() + 1)


class Recent(ProcessFunction):
    """The last five values of each key."""

    recent = ListState(float)

    def on_event(self, event: Any, ctx: Any) -> Any:
        self.recent.set([*self.recent.get()[-4:], event.value])


def running_batches(frame: pl.DataFrame, ctx: Any) -> None:
    """The same as `Running`, on columns."""
    sums = frame.group_by("key").agg(pl.col("value").sum(), pl.len().cast(pl.Int64).alias("m"))
    joined = ctx.values().join(sums, on="key", maintain_order="left")
    ctx.set_values(joined.select("key", total=pl.col("total") + pl.col("value"), n=pl.col("n") + pl.col("m")))


def window(kind: Window, panes: Panes | None = None) -> Callable[[], Operator]:
    aggregates = {"avg": average("value"), "n": count()}
    node = WindowAggregateNode(window=kind, keys=("key",), aggregates=aggregates, panes=panes)
    return lambda: node.build(OperatorContext("bench", [None]))


def process(function: Any, *, frames: bool = False) -> Callable[[], Operator]:
    keyed = App("bench").stream("in").key_by("key")
    states = {"total": ValueState(float, default=0.0), "n": ValueState(int, default=0)}
    stream = keyed.process_batches(function, state=states) if frames else keyed.process(function)
    return lambda: stream.node.build(OperatorContext("bench", [None], options={"topics": ("in",)}))


EARLY = Panes(AfterWatermark(early=AfterProcessingTime("24h")))

SHAPES: dict[str, tuple[Callable[[], Operator], int]] = {
    "frame log: tumbling window": (window(TumblingWindow("1h")), ROWS),
    "keyed index: tumbling window, early by the clock": (window(TumblingWindow("1h"), EARLY), ROWS),
    "keyed index: session window": (window(SessionWindow("1h")), ROWS),
    "keyed index: aggregate over all time": (window(GlobalWindow()), ROWS),
    "keyed columns: process_batches": (process(running_batches, frames=True), ROWS),
    "keyed columns: process, two values": (process(Running), ROWS // 8),
    "keyed columns: process, a list of five": (process(Recent), ROWS // 8),
}
"""Name → operator, and how many rows a batch has: per-row functions get fewer."""

OPEN_WINDOWS = {
    "frame log: tumbling window": window(TumblingWindow("1h")),
    "keyed index: tumbling window, early by the clock": window(TumblingWindow("1h"), EARLY),
    "keyed index: session window": window(SessionWindow("10m")),
}
"""Windows of which several are open at a time."""


def batch(keys: Keys, stamp: int) -> Batch:
    return Batch(
        pl.DataFrame(
            {
                "key": pl.Series(keys).cast(pl.String),
                "value": (keys % 97).astype(np.float64),
                "__ts": np.full(len(keys), stamp, dtype=np.int64),
                "__wm": np.full(len(keys), MIN_TIME, dtype=np.int64),
            }
        )
    )


def take(operator: Operator, keys: Keys, stamp: int) -> None:
    """A batch and its watermark, which closes nothing."""
    for _ in operator.on_batch(batch(keys, stamp)):
        pass
    for _ in operator.on_watermark(Watermark(0, stamp)):
        pass


def send(operator: Operator, keys: Keys, stamp: int) -> float:
    """CPU seconds of all threads that a batch takes, the snapshot for its commit included."""
    events = batch(keys, stamp)
    began = time.process_time()
    for _ in operator.on_batch(events):
        pass
    for _ in operator.on_watermark(Watermark(0, stamp)):
        pass
    operator.snapshot()
    return time.process_time() - began


def fill(operator: Operator, keys: int, stamp: int = 1_000) -> None:
    """Gives every key an event."""
    for start in range(0, keys, ROWS):
        send(operator, np.arange(start, min(keys, start + ROWS)), stamp)


def filled(make: Callable[[], Operator], keys: int) -> Operator:
    """An operator that holds every key."""
    operator = make()
    operator.warm_up()
    fill(operator, keys)
    return operator

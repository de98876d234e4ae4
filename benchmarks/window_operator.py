"""What a window operator costs per event, without a broker: one operator, driven by hand.

Run: `python benchmarks/window_operator.py [--rows 65536] [--keys 1000] [--repeat 30]`. Prints nanoseconds per row (best
and median batch) for each job, and the time of a close. Rough on a shared machine; use the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import polars as pl

from thalweg.analytics import average, count, max_, percentile, sum_
from thalweg.streams.aggregate.parts import warm_up
from thalweg.streams.batch import MIN_TIME, Batch, Watermark
from thalweg.streams.operator import OperatorContext
from thalweg.streams.plan.panes import Panes
from thalweg.streams.plan.window import WindowAggregateNode
from thalweg.streams.triggers import AfterCount, AfterProcessingTime, AfterWatermark, Repeatedly
from thalweg.streams.windows import SessionWindow, SlidingWindow, TumblingWindow, Window

AVERAGE = {"avg": average("temperature")}
JOBS: dict[str, tuple[Window, dict[str, object]]] = {
    "tumbling 1 s, average": (TumblingWindow("1s"), AVERAGE),
    "tumbling 1 s, average count sum max": (
        TumblingWindow("1s"),
        {**AVERAGE, "n": count(), "sum": sum_("humidity"), "max": max_("temperature")},
    ),
    "tumbling 1 s, p50 p95 p99": (
        TumblingWindow("1s"),
        {f"p{p}": percentile("temperature", p) for p in (50, 95, 99)},
    ),
    "sliding 10 s / 1 s, average": (SlidingWindow("10s", "1s"), AVERAGE),
    "session 500 ms, average": (SessionWindow("500ms"), AVERAGE),
}


TRIGGERED: dict[str, tuple[Window, Panes]] = {
    "tumbling 1 s, early at 100 events": (TumblingWindow("1s"), Panes(AfterWatermark(early=AfterCount(100)))),
    "tumbling 1 s, early by the clock": (TumblingWindow("1s"), Panes(AfterWatermark(early=AfterProcessingTime(200)))),
    "tumbling 1 s, late 1 s, discarding": (TumblingWindow("1s"), Panes(lateness=1_000, accumulating=False)),
    "session 500 ms, early at 100 events": (SessionWindow("500ms"), Panes(AfterWatermark(early=AfterCount(100)))),
    "tumbling 1 s, a pane per event": (TumblingWindow("1s"), Panes(Repeatedly(AfterCount(1)))),
}
"""With a trigger the work is done when the watermark is told: the time of both is measured together."""


def batches(rows: int, keys: int, number: int) -> list[pl.DataFrame]:
    """Readings of `keys` sensors at 10 a second each, 200 ms out of order."""
    random = np.random.default_rng(7)
    per_ms = keys * 10 / 1000
    result = []
    for index in range(number):
        event = np.arange(index * rows, (index + 1) * rows)
        time_ms = (event / per_ms).astype(np.int64)
        stamp = time_ms - random.integers(0, 200, rows)
        result.append(
            pl.DataFrame(
                {
                    "sensor_id": pl.Series([f"sensor-{i}" for i in random.integers(0, keys, rows)]),
                    "temperature": random.normal(50, 20, rows),
                    "humidity": random.integers(0, 100, rows),
                    "__ts": stamp,
                    "__wm": np.concatenate([[MIN_TIME], np.maximum.accumulate(stamp)[:-1] - 1000])
                    if not index
                    else np.maximum(np.maximum.accumulate(stamp) - 1000, time_ms[0] - 1200),
                }
            )
        )
    return result


def measure(
    window: Window, aggregates: dict[str, object], frames: list[pl.DataFrame]
) -> tuple[list[float], list[float]]:
    """Seconds per batch, and per close that emitted."""
    node = WindowAggregateNode(window=window, keys=("sensor_id",), aggregates=aggregates)
    operator = node.build(OperatorContext("bench", [frames[0].schema]))
    work, closes = [], []
    for frame in frames:
        begin = time.perf_counter()
        late = sum(len(batch) for batch in operator.on_batch(Batch(frame)))
        middle = time.perf_counter()
        emitted = sum(len(batch) for batch in operator.on_watermark(Watermark(int(frame["__wm"].max()), 0)))  # type: ignore[arg-type]
        end = time.perf_counter()
        assert not late, "the input has no late events"
        work.append(middle - begin)
        if emitted:
            closes.append(end - middle)
    return work, closes


def measure_panes(window: Window, panes: Panes, frames: list[pl.DataFrame]) -> tuple[list[float], int]:
    """Seconds per batch with its watermark, and the rows that came out."""
    node = WindowAggregateNode(window=window, keys=("sensor_id",), aggregates=AVERAGE, panes=panes)
    operator = node.build(OperatorContext("bench", [frames[0].schema]))
    operator.warm_up()
    work, emitted = [], 0
    for number, frame in enumerate(frames):
        begin = time.perf_counter()
        emitted += sum(len(batch) for batch in operator.on_batch(Batch(frame)))
        told = Watermark(int(frame["__wm"].max()), number * 100)  # type: ignore[arg-type]
        emitted += sum(len(batch) for batch in operator.on_watermark(told))
        work.append(time.perf_counter() - begin)
    return work, emitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--keys", type=int, default=1_000)
    parser.add_argument("--repeat", type=int, default=30)
    arguments = parser.parse_args()
    warm_up()
    frames = batches(arguments.rows, arguments.keys, arguments.repeat)
    for name, (window, aggregates) in JOBS.items():
        work, closes = measure(window, aggregates, frames)
        best, median = min(work), statistics.median(work)
        close = f"{statistics.median(closes) * 1e3:.2f} ms a close" if closes else "nothing closed"
        print(
            f"{name:38} {best / arguments.rows * 1e9:7.1f} ns/row best {median / arguments.rows * 1e9:7.1f} median"
            f" ({median * 1e3:.2f} ms a batch), {close}"
        )
    for name, (window, panes) in TRIGGERED.items():
        times, emitted = measure_panes(window, panes, frames)
        best, median = min(times), statistics.median(times)
        print(
            f"{name:38} {best / arguments.rows * 1e9:7.1f} ns/row best {median / arguments.rows * 1e9:7.1f} median"
            f" ({median * 1e3:.2f} ms a batch), {emitted / len(frames) / arguments.rows:.3f} panes a row"
        )


if __name__ == "__main__":
    main()

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
from thalweg.streams.plan.window import WindowAggregateNode
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


if __name__ == "__main__":
    main()

"""What a window operator costs per event, without a broker: one operator, driven by hand.

python benchmarks/window_operator.py [--rows 65536] [--keys 100,1000,100000] [--batches 30] [--rate 650000]
                                     [--only text]

Prints the CPU time of all threads per event (closes and panes included), and the ratio to the plain tumbling window on
the same events: CPU time is what a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping

import numpy as np
import polars as pl

from thalweg.analytics import average, count, max_, percentile, sum_
from thalweg.streams.aggregate.parts import warm_up
from thalweg.streams.batch import MIN_TIME, Batch, Watermark
from thalweg.streams.operator import OperatorContext
from thalweg.streams.plan.panes import Panes
from thalweg.streams.plan.window import WindowAggregateNode
from thalweg.streams.triggers import (
    AfterAll,
    AfterAny,
    AfterCount,
    AfterEach,
    AfterProcessingTime,
    AfterWatermark,
    Repeatedly,
    Trigger,
)
from thalweg.streams.windows import SessionWindow, SlidingWindow, TumblingWindow, Window

AVERAGE = {"avg": average("temperature")}
SECOND = TumblingWindow("1s")
PLAIN = "tumbling 1 s, average"
JOBS: dict[str, tuple[Window, Mapping[str, object], Panes | None]] = {
    PLAIN: (SECOND, AVERAGE, None),
    "tumbling 1 s, average count sum max": (
        SECOND,
        {**AVERAGE, "n": count(), "sum": sum_("humidity"), "max": max_("temperature")},
        None,
    ),
    "tumbling 1 s, p50 p95 p99": (SECOND, {f"p{p}": percentile("temperature", p) for p in (50, 95, 99)}, None),
    "sliding 10 s / 1 s, average": (SlidingWindow("10s", "1s"), AVERAGE, None),
    "session 500 ms, average": (SessionWindow("500ms"), AVERAGE, None),
}


def early(trigger: Trigger, *, accumulating: bool = True) -> Panes:
    return Panes(AfterWatermark(early=trigger, late=AfterCount(1)), lateness=1_000, accumulating=accumulating)


TRIGGERED: dict[str, tuple[Window, Panes]] = {
    "early by the clock": (SECOND, early(AfterProcessingTime(200))),
    "early by the clock, discarding": (SECOND, early(AfterProcessingTime(200), accumulating=False)),
    "late 1 s": (SECOND, Panes(lateness=1_000)),
    "late 1 s, discarding": (SECOND, Panes(lateness=1_000, accumulating=False)),
    "early at 100 events": (SECOND, early(AfterCount(100))),
    "repeated at 1000 events": (SECOND, Panes(Repeatedly(AfterCount(1_000)))),
    "any of 1000 events and 500 ms": (SECOND, early(AfterAny(AfterCount(1_000), AfterProcessingTime(500)))),
    "all of 1000 events and 500 ms": (SECOND, early(AfterAll(AfterCount(1_000), AfterProcessingTime(500)))),
    "10, then 100, then 1000 events": (
        SECOND,
        Panes(Repeatedly(AfterEach(AfterCount(10), AfterCount(100), AfterCount(1_000)))),
    ),
    "sliding 10 s / 1 s, early by the clock": (SlidingWindow("10s", "1s"), early(AfterProcessingTime(1_000))),
    "session 500 ms, early at 100 events": (SessionWindow("500ms"), early(AfterCount(100))),
    "a pane per event": (SECOND, Panes(Repeatedly(AfterCount(1)))),
}
JOBS |= {name: (window, AVERAGE, panes) for name, (window, panes) in TRIGGERED.items()}


def batches(rows: int, keys: int, number: int, rate: int) -> list[pl.DataFrame]:
    """Readings of `keys` sensors, `rate` a second, up to 200 ms out of order: a few in a thousand come late.

    The watermark, 100 ms behind the newest event, never overtakes what the batch before was told.
    """
    random = np.random.default_rng(7)
    newest = np.int64(MIN_TIME)
    result = []
    for index in range(number):
        event = np.arange(index * rows, (index + 1) * rows)
        stamp = event * 1_000 // rate - (random.random(rows) ** 4 * 200).astype(np.int64)
        seen = np.maximum.accumulate(np.append(newest, stamp))
        newest = seen[-1]
        result.append(
            pl.DataFrame(
                {
                    "sensor_id": pl.Series(random.integers(0, keys, rows)).cast(pl.String).str.pad_start(6, "0"),
                    "temperature": random.normal(50, 20, rows),
                    "humidity": random.integers(0, 100, rows),
                    "__ts": stamp,
                    "__wm": np.maximum(seen[:-1] - 100, MIN_TIME),
                }
            )
        )
    return result


def measure(
    window: Window, aggregates: Mapping[str, object], panes: Panes | None, frames: list[pl.DataFrame], rate: int
) -> tuple[float, int, int]:
    """CPU seconds for all batches with their watermarks, the rows that came out, and those that were late."""
    node = WindowAggregateNode(window=window, keys=("sensor_id",), aggregates=aggregates, panes=panes)
    operator = node.build(OperatorContext("bench", [frames[0].schema]))
    operator.warm_up()
    began, emitted = time.process_time(), 0
    for number, frame in enumerate(frames):
        told = Watermark(int(frame["__wm"][-1]), number * frame.height * 1_000 // rate)
        for batch in (*operator.on_batch(Batch(frame)), *operator.on_watermark(told)):
            emitted += len(batch)
    return time.process_time() - began, emitted - operator.account.late, operator.account.late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--keys", default="100,1000,100000")
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--rate", type=int, default=650_000, help="events per second of event time and of the clock")
    parser.add_argument("--only", default="", help="only jobs whose name has this text, and the plain window")
    arguments = parser.parse_args()
    warm_up()
    for keys in map(int, arguments.keys.split(",")):
        frames = batches(arguments.rows, keys, arguments.batches, arguments.rate)
        measure(*JOBS[PLAIN], frames, arguments.rate)
        plain = 0.0
        print(f"-- {keys:,} keys", flush=True)
        for name, job in JOBS.items():
            if name != PLAIN and arguments.only not in name:
                continue
            seconds, emitted, late = measure(*job, frames, arguments.rate)
            plain = plain or seconds
            events = arguments.rows * arguments.batches
            print(
                f"{name:40} {seconds / events * 1e9:7.1f} ns/event {seconds / plain:6.2f} x plain"
                f" {emitted / events:8.5f} rows out an event {late / events:8.5f} late",
                flush=True,
            )


if __name__ == "__main__":
    main()

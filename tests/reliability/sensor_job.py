"""The job that the crash tests kill: readings → valid ones → mean per sensor and second → a topic. Run as a script."""

import os
import sys
from dataclasses import dataclass

from thalweg import App
from thalweg.analytics import average, count
from thalweg.streams import CheckpointConfig, SlidingWindow, StateBackend, TumblingWindow, WatermarkGenerator


@dataclass
class Reading:
    sensor_id: str
    ts: int
    value: float


def build(
    name: str,
    broker: str,
    source: str,
    sink: str,
    guarantee: str = "exactly-once",
    batch_rows: str = "65536",
    storage: str | None = None,
) -> App:
    app = App(
        name,
        broker=broker,
        guarantee=guarantee,
        commit_interval="50ms",
        checkpoint=CheckpointConfig(
            interval=int(os.environ.get("JOB_CHECKPOINT", "60000")),
            backend=backend_of(os.environ.get("JOB_BACKEND", "memory")),
        ),
        max_batch_rows=int(batch_rows),
        checkpoint_storage=storage,
        **({"alternating": False} if os.environ.get("JOB_PRODUCERS") == "1" else {}),
    )
    (
        # Input that stops for a second, as the machine is busy, and comes in a burst then must not be judged by that.
        app.stream(source, schema=Reading, timestamp="ts", watermark=WatermarkGenerator(1_000), idle_timeout="1m")
        .filter(lambda r: (r.value >= 0) & (r.value <= 100))
        .key_by("sensor_id")
        .window(SlidingWindow("1s", int(slide)) if (slide := os.environ.get("JOB_SLIDE")) else TumblingWindow("1s"))
        .aggregate(average=average("value"), n=count())
        .to(sink)
    )
    return app


def backend_of(named: str) -> StateBackend:
    """A backend and its place, such as "rocksdb /tmp/state" or "memory /tmp/spill": nearly all state then leaves
    memory. "memory" without a place keeps all of it there."""
    kind, _, place = named.partition(" ")
    if kind == "memory":
        return StateBackend.memory(limit=2_000, spill_to=place) if place else StateBackend.memory()
    made = StateBackend.rocksdb if kind == "rocksdb" else StateBackend.redis
    return made(place, memory_limit=2_000)


if __name__ == "__main__":
    settings = {key: os.environ[f"JOB_{key.upper()}"] for key in ("name", "broker", "source", "sink", "guarantee")}
    settings["batch_rows"] = os.environ.get("JOB_BATCH_ROWS", "65536")
    build(**settings, storage=os.environ.get("JOB_STORAGE")).run(until_caught_up="--until-caught-up" in sys.argv)

"""The sensor job in Thalweg, as a user would write it."""

import os
from dataclasses import dataclass

from thalweg import App
from thalweg.analytics import average
from thalweg.streams import CheckpointConfig, StateBackend, TumblingWindow, WatermarkGenerator

LIMIT = 64_000
"""Bytes of state in memory where another backend is asked for: a small part of a second's sensors."""


@dataclass
class Reading:
    sensor_id: str
    ts: int
    temperature: float
    humidity: float


def backend() -> StateBackend:
    """Where state lives that does not fit into memory: BENCH_BACKEND is "files", "rocksdb", a Redis URL, or nothing."""
    kind = os.environ.get("BENCH_BACKEND", "")
    folder = os.environ.get("BENCH_STATE", "")
    if kind == "files":
        return StateBackend.memory(limit=LIMIT, spill_to=folder)
    if kind == "rocksdb":
        return StateBackend.rocksdb(folder, memory_limit=LIMIT)
    return StateBackend.redis(kind, memory_limit=LIMIT) if kind else StateBackend.memory()


def build() -> App:
    sink = os.environ["BENCH_OUTPUT"]
    app = App(
        f"thalweg-{sink}",
        broker=f"kafka://{os.environ['BENCH_BOOTSTRAP']}",
        guarantee=os.environ.get("BENCH_GUARANTEE", "exactly-once"),
        commit_interval="50ms",
        checkpoint=CheckpointConfig(backend=backend()),
    )
    (
        app.stream(os.environ["BENCH_INPUT"], schema=Reading, timestamp="ts", watermark=WatermarkGenerator(1_000))
        .filter(lambda r: (r.temperature >= 0) & (r.temperature <= 100))
        .key_by("sensor_id")
        .window(TumblingWindow("1s"))
        .aggregate(average=average("temperature"))
        .to(sink)
    )
    return app


if __name__ == "__main__":
    build().run()

"""The sensor job in Thalweg, as a user would write it."""

import os
from dataclasses import dataclass

from thalweg import App
from thalweg.analytics import average
from thalweg.streams import TumblingWindow, WatermarkGenerator


@dataclass
class Reading:
    sensor_id: str
    ts: int
    temperature: float
    humidity: float


def build() -> App:
    sink = os.environ["BENCH_OUTPUT"]
    app = App(
        f"thalweg-{sink}",
        broker=f"kafka://{os.environ['BENCH_BOOTSTRAP']}",
        guarantee=os.environ.get("BENCH_GUARANTEE", "exactly-once"),
        commit_interval="50ms",
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

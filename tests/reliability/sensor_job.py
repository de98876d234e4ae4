"""The job that the crash tests kill: readings → valid ones → mean per sensor and second → a topic. Run as a script."""

import os
import sys
from dataclasses import dataclass

from thalweg import App
from thalweg.analytics import average, count
from thalweg.streams import TumblingWindow, WatermarkGenerator


@dataclass
class Reading:
    sensor_id: str
    ts: int
    value: float


def build(name: str, broker: str, source: str, sink: str, guarantee: str = "exactly-once") -> App:
    app = App(name, broker=broker, guarantee=guarantee, commit_interval="50ms")
    (
        app.stream(source, schema=Reading, timestamp="ts", watermark=WatermarkGenerator(1_000))
        .filter(lambda r: (r.value >= 0) & (r.value <= 100))
        .key_by("sensor_id")
        .window(TumblingWindow("1s"))
        .aggregate(average=average("value"), n=count())
        .to(sink)
    )
    return app


if __name__ == "__main__":
    settings = {key: os.environ[f"JOB_{key.upper()}"] for key in ("name", "broker", "source", "sink", "guarantee")}
    build(**settings).run(until_caught_up="--until-caught-up" in sys.argv)

"""From an event to the request that tells of it, in a whole job: Kafka in, windows, a pattern, checkpoints, alerts out.

    python -m benchmarks.alert_job [--rate 100000] [--seconds 20] [--guarantee exactly-once]

A generator sends JSON readings of 1,000 sensors to Kafka at a fixed rate whatever the job does (open loop). The job
means each sensor over 1 s of event time (1 s out-of-orderness) onto a topic, looks for a pattern of two readings, and
alerts on single readings (20 a second), on windows (2) and on matches (10): each alert is stored and told to a local
HTTP server by a request of its own. A time runs from when the event was to be sent that completes what is alerted on
(for windows and matches the one that lets the watermark pass their end on the last partition) to the arrival of the
request. Broker, generator, job and server share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.arrivals import Arrival, arrivals
from benchmarks.spine.harness import create_topic
from benchmarks.spine.latency import send, warm_broker
from benchmarks.spine.workload import OUT_OF_ORDERNESS, PARTITIONS, SENSORS, WINDOW, records

ROOT = Path(__file__).resolve().parent.parent
HOT, MATCHES = 20, 10
"""Readings that alert, and matches, a second."""
DAMP = 2
"""Sensors whose every window alerts."""
WARM_UP = 5
"""Seconds whose alerts do not count."""


def measure(bootstrap: str, rate: int, seconds: int, guarantee: str) -> dict[str, object]:
    """Percentiles in ms of each kind of alert and of all; `behind_ms`: how late the generator itself was at worst."""
    topic = f"alert-job-{rate}-{guarantee}-{time.time_ns()}"
    create_topic(bootstrap, topic)
    create_topic(bootstrap, f"{topic}-means")
    with tempfile.TemporaryDirectory() as folder, arrivals() as (url, found), (Path(folder) / "log").open("wb") as log:
        part = [sys.executable, "-m", "benchmarks.alert_job", "--part"]
        job = subprocess.Popen(
            [*part, "job", bootstrap, topic, guarantee, folder, url], cwd=ROOT, stdout=log, stderr=log
        )
        try:
            until_up(bootstrap, topic, found, job)
            start = int(time.time()) * 1_000 + 6_000 + 4_000 * rate * seconds // 1_000_000
            send = [*part, "generate", bootstrap, topic, str(rate), str(seconds), str(start)]
            generator = subprocess.run(send, cwd=ROOT, stdout=subprocess.PIPE, check=True)
            wait_for(found, HOT * seconds)
        finally:
            job.send_signal(signal.SIGTERM)
            try:
                job.wait(20)
            except subprocess.TimeoutExpired:
                job.kill()
                job.wait()
        waited = times(found, start, rate)
        if missing := {"hot", "damp", "pair"} - waited.keys():
            said = (Path(folder) / "log").read_text(errors="replace")[-3_000:]
            raise RuntimeError(f"no alerts of {', '.join(sorted(missing))}:\n{said}")
    everything = [one for times in waited.values() for one in times]
    figures: dict[str, object] = {"rate": rate, "guarantee": guarantee, "alerts": len(everything)}
    for kind, times_of in {**waited, "all": everything}.items():
        for name, quantile in {"p50": 50, "p95": 95, "p99": 99, "max": 100}.items():
            if kind == "all" or name == "p99":
                figures[f"{kind} {name}"] = round(float(np.percentile(times_of, quantile)), 1)
    return {**figures, "behind_ms": round(json.loads(generator.stdout), 1)}


def until_up(bootstrap: str, topic: str, found: list[Arrival], job: subprocess.Popen[bytes]) -> None:
    """Until the job has told of a first reading: its start-up is not what is measured here."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": bootstrap})
    first = {"sensor_id": "first", "ts": 0, "temperature": 99.0, "humidity": 0.0}
    for partition in range(PARTITIONS):
        producer.produce(topic, json.dumps({**first, "ts": time.time_ns() // 1_000_000}), "first", partition)
    producer.flush(30)
    deadline = time.monotonic() + 120
    while not found and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)


def wait_for(found: list[Arrival], hot: int) -> None:
    """Until every reading that alerts has been told, and the windows that the last events have closed."""
    deadline = time.monotonic() + 30
    while sum(one.rule == "hot" for one in found) < hot and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)


def times(found: list[Arrival], start: int, rate: int) -> dict[str, list[float]]:
    """Milliseconds by rule, without the warm-up."""
    waited: dict[str, list[float]] = {}
    for one in found:
        event = one.event
        if one.rule == "hot":
            due = float(event["ts"])
        else:
            due = passes(event["window_start"] + WINDOW if one.rule == "damp" else event["match_end"], start, rate)
        if due >= start + WARM_UP * 1_000:
            waited.setdefault(one.rule, []).append(one.at * 1_000 - due)
    return waited


def passes(time: int, start: int, rate: int) -> float:
    """Intended send time (ms) of the event with which the watermark reaches a time on the last of the partitions."""
    first = -(-(time + OUT_OF_ORDERNESS - start) * rate // 1_000)
    return start + (first + PARTITIONS - 1) * 1_000 / rate


def job(bootstrap: str, topic: str, guarantee: str, folder: str, url: str) -> None:
    """The job, as a user would write it."""
    from thalweg import App, col
    from thalweg.alerts import AlertManager, AlertRule, ChannelLimits, WebhookChannel
    from thalweg.analytics import average, count
    from thalweg.cep import PatternBuilder
    from thalweg.streams import CheckpointConfig, TumblingWindow, WatermarkGenerator

    alerts = AlertManager(f"sqlite:///{folder}/alerts.db")
    alerts.add_channel("hook", WebhookChannel(url, allow_private=True), limits=ChannelLimits(per_minute=None))
    for id, condition in (("hot", "temperature > 98"), ("damp", "humidity > 94"), ("pair", "match_end > 0")):
        alerts.add_rule(AlertRule(id=id, name=id, condition=condition, notification_channels=["hook"]))
    pair = (
        PatternBuilder.create("pair", "A warning, then an excess")
        .where("warning", col("temperature").is_between(90, 92))
        .followed_by("excess", col("temperature").is_between(93, 95))
        .within("5s")
        .build()
    )
    app = App(
        topic,
        broker=f"kafka://{bootstrap}",
        guarantee=guarantee,
        checkpoint=CheckpointConfig(enabled=True, interval=5_000),
        commit_interval="50ms",
    )
    schema = {"sensor_id": pl.String, "ts": pl.Int64, "temperature": pl.Float64, "humidity": pl.Float64}
    readings = app.stream(topic, schema=schema, timestamp="ts", watermark=WatermarkGenerator(OUT_OF_ORDERNESS))
    sensors = readings.filter(col("temperature") >= 0).key_by("sensor_id")
    sensors.alert(alerts.only("hot"))
    means = sensors.window(TumblingWindow("1s")).aggregate(humidity=average("humidity"), n=count())
    means.to(f"{topic}-means")
    means.alert(alerts.only("damp"))
    sensors.detect(pair).alert(alerts.only("pair"))
    app.run()


def generate(bootstrap: str, topic: str, rate: int, seconds: int, start: int) -> float:
    """Sends event i at `start` + i / rate, sensor and partition i modulo their counts; returns the worst delay, ms."""
    rows = list(events(rate, seconds, start))
    return send(bootstrap, topic, rate, start, [rows[first : first + rate] for first in range(0, len(rows), rate)])


def events(rate: int, seconds: int, start: int) -> Iterator[tuple[int, str, str]]:
    """All events as (partition, key, JSON): nearly all of them alert nobody."""
    random = np.random.default_rng(11)
    index = np.arange(rate * seconds)
    sensor = index % SENSORS
    temperature = random.integers(0, 8_000, len(index)) / 100
    humidity = random.integers(0, 9_000, len(index)) / 100
    humidity[sensor < DAMP] = 95.0
    temperature[index % (rate // HOT) == rate // HOT // 2] = 99.0
    for number in range(MATCHES * seconds - 2 * MATCHES):
        first = number * (rate // MATCHES)
        first += (100 + number % 800 - first) % SENSORS  # a sensor of its own for each, and its reading after next
        temperature[[first, first + 2 * SENSORS]] = 91.0, 94.0
    frame = pl.DataFrame(
        {"sensor": sensor, "ts": start + index * 1_000 // rate, "temperature": temperature, "humidity": humidity}
    )
    return records(frame)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=100_000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--guarantee", default="at-least-once,exactly-once")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part and args.part[0] == "job":
        job(*args.part[1:])
    elif args.part:
        bootstrap, topic, *numbers = args.part[1:]
        json.dump(generate(bootstrap, topic, *map(int, numbers)), sys.stdout)
    else:
        from thalweg.kafka.local_cluster import LocalKafka

        with LocalKafka() as kafka:
            warm_broker(kafka.bootstrap)
            for guarantee in args.guarantee.split(","):
                print(json.dumps(measure(kafka.bootstrap, args.rate, args.seconds, guarantee)), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()

"""Open-loop latency of the sensor job: events at a fixed rate whatever the job does, timed by a reader of its own.

A result's latency runs from the intended send time of the event that lets its window close to its receipt, so a
generator or a job that falls behind is charged for it (no coordinated omission). Generator, job, reader and broker
share the machine.

    python -m benchmarks.spine.latency generate BOOTSTRAP TOPIC RATE SECONDS START_MS      (used by `measure`)
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.spine.harness import HERE, create_topic, peer_python
from benchmarks.spine.workload import OUT_OF_ORDERNESS, PARTITIONS, SENSORS, WINDOW, records

PREPARE_MS = 4_000
"""Time for the generator to make a million events, which it does before the first is due."""
WARM_UP = 5
"""Seconds of results that do not count: connections, first windows, compiled code."""
BROKER_WARM_UP, BROKER_RATE = 40, 100_000
"""Seconds and events per second after which the broker's Java has compiled what it runs all the time."""


@dataclass
class Latency:
    """Percentiles in milliseconds over `results` results. `behind_ms`: how late the generator itself was at worst."""

    engine: str
    guarantee: str
    rate: int
    results: int
    p50: float
    p95: float
    p99: float
    p999: float
    max: float
    behind_ms: float


def generate(bootstrap: str, topic: str, rate: int, seconds: int, start: int) -> float:
    """Sends event i at `start` + i / rate, sensor and partition i modulo their counts; returns the worst delay, ms.

    All events are made before `start`: made second by second, those at the start of a second, which are the ones that
    close the windows, would wait for the others to be made.
    """
    random = np.random.default_rng(11)
    return send(
        bootstrap, topic, rate, start, [rows_of_second(second, rate, start, random) for second in range(seconds)]
    )


def send(bootstrap: str, topic: str, rate: int, start: int, seconds: list[list[tuple[int, str, str]]]) -> float:
    """Sends each second's events (partition, key, value) when they are due; returns the worst delay, ms."""
    # Batches wait as long as Java's and librdkafka's producers let them by default. At 1 ms the broker gets 4,000
    # requests a second and spends a core on them: p99 from here to a plain reader was then 120 ms without any job.
    settings = {"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 2_000_000}
    producer = Producer({**settings, "enable.idempotence": True})  # a retry must not reorder what patterns read
    gc.freeze()  # millions of tuples that live to the end: nothing for the collector to walk through
    worst = 0.0
    for second, rows in enumerate(seconds):
        sent = 0
        while sent < rate:
            now = time.time() * 1_000 - start - second * 1_000
            due = min(rate, max(0, int(now * rate / 1_000)))
            if due == sent:
                time.sleep(0.001)
                continue
            worst = max(worst, now - sent * 1_000 / rate)
            for partition, key, value in rows[sent:due]:
                producer.produce(topic, value, key, partition)
            producer.poll(0)
            sent = due
    producer.flush(30)
    return worst


def rows_of_second(second: int, rate: int, start: int, random: np.random.Generator) -> list[tuple[int, str, str]]:
    """The events of one second as (partition, key, value)."""
    index = np.arange(second * rate, (second + 1) * rate)
    frame = pl.DataFrame(
        {
            "sensor": index % SENSORS,
            "ts": start + index * 1_000 // rate,
            "temperature": random.integers(0, 10_000, rate) / 100,
            "humidity": random.integers(0, 10_000, rate) / 100,
        }
    )
    return list(records(frame))


def closing_time(window_start: int, start: int, rate: int) -> float:
    """Intended send time (ms) of the event that lets the window close on the last of the partitions."""
    first = -(-(window_start + WINDOW + OUT_OF_ORDERNESS - start) * rate // 1_000)
    return start + (first + PARTITIONS - 1) * 1_000 / rate


def warm_broker(bootstrap: str) -> None:
    """Sends, reads and commits for a while what nobody counts: a fresh broker's compiler takes a fifth of a core, and
    what it has not compiled takes several times as long. That goes for transactions by themselves: the first minute of
    a job that commits some of them had p99 472 ms, the next one 150."""
    topic = f"warm-up-{time.time_ns()}"
    create_topic(bootstrap, topic)
    create_topic(bootstrap, f"{topic}-out")
    start = int(time.time()) * 1_000 + 2_000 + PREPARE_MS * BROKER_RATE * BROKER_WARM_UP // 1_000_000
    generator = start_generator(bootstrap, topic, BROKER_RATE, BROKER_WARM_UP, start)
    group = {"group.id": topic, "enable.auto.commit": False}
    consumer = Consumer({"bootstrap.servers": bootstrap, "isolation.level": "read_committed", **group})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": topic, "linger.ms": 0})
    producer.init_transactions(60)
    while generator.poll() is None:
        messages = consumer.consume(10_000, timeout=0.01)
        producer.begin_transaction()
        for number in range(PARTITIONS):
            producer.produce(f"{topic}-out", b"warm" * 50, partition=number)
        offsets = {message.partition(): message.offset() + 1 for message in messages if message.error() is None}
        places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        producer.send_offsets_to_transaction(places, consumer.consumer_group_metadata())
        producer.commit_transaction(60)
    consumer.close()
    if generator.returncode:
        raise RuntimeError("the generator failed")


def start_generator(bootstrap: str, topic: str, rate: int, seconds: int, start: int) -> subprocess.Popen[bytes]:
    """`generate` in a process of its own, which says how late it was."""
    command = [sys.executable, "-m", "benchmarks.spine.latency", "generate", bootstrap, topic]
    numbers = [str(rate), str(seconds), str(start)]
    return subprocess.Popen([*command, *numbers], stdout=subprocess.PIPE, cwd=Path(HERE).parent.parent)


def measure(
    peer: str, bootstrap: str, rate: int, seconds: int, guarantee: str, environment: dict[str, str] | None = None
) -> Latency:
    """Runs generator and job side by side for `seconds` and times every result after the warm-up."""
    source, sink = (f"latency-{peer}-{rate}-{guarantee}-{time.time_ns()}-{end}" for end in ("in", "out"))
    create_topic(bootstrap, source)
    create_topic(bootstrap, sink)
    with tempfile.TemporaryDirectory() as state, tempfile.TemporaryFile() as log:
        settings = {
            "BENCH_BOOTSTRAP": bootstrap,
            "BENCH_INPUT": source,
            "BENCH_OUTPUT": sink,
            "BENCH_STATE": state,
            "BENCH_GUARANTEE": guarantee,
            **(environment or {}),
        }
        job = subprocess.Popen(
            [peer_python(peer), HERE / "peers" / f"{peer}_job.py"],
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            time.sleep(8)  # the job's start-up is not what is measured here
            start = int(time.time()) * 1_000 + 2_000 + PREPARE_MS * rate * seconds // 1_000_000
            generator = start_generator(bootstrap, source, rate, seconds, start)
            samples = read(bootstrap, sink, start, rate, seconds)
            behind = json.loads(generator.communicate(timeout=60)[0])
        finally:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
        if not len(samples):
            log.seek(0)
            raise RuntimeError(f"{peer} gave no results at {rate}/s:\n{log.read().decode(errors='replace')[-2000:]}")
    p50, p95, p99, p999 = np.percentile(samples, [50, 95, 99, 99.9])
    return Latency(peer, guarantee, rate, len(samples), p50, p95, p99, p999, samples.max(), behind)


def read(bootstrap: str, topic: str, start: int, rate: int, seconds: int) -> np.ndarray:
    """Latencies (ms) of the results received until two seconds after the last event."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-{topic}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 50,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    samples: list[float] = []
    end = start / 1_000 + seconds + 2
    while time.time() < end:
        messages = consumer.consume(1_000, timeout=0.002)
        now = time.time() * 1_000
        for message in messages:
            window = json.loads(message.value())["window_start"]
            if window >= start + WARM_UP * 1_000:
                samples.append(now - closing_time(window, start, rate))
    consumer.close()
    return np.array(samples)


if __name__ == "__main__":
    _, _, bootstrap, topic, *numbers = sys.argv
    json.dump(generate(bootstrap, topic, *map(int, numbers)), sys.stdout)

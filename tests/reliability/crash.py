"""Kills the sensor job at random moments and says what its output was, and how soon it was back.

Used by the crash tests and by `benchmarks/recovery.py`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = Path(__file__).resolve().parents[2]
JOB = Path(__file__).with_name("sensor_job.py")
PARTITIONS = 4
START = 1_700_000_000_000
OUT_OF_ORDERNESS = 1_000


def readings(events: int, rate: int, sensors: int = 50, seed: int = 3) -> pl.DataFrame:
    """`events` readings in arrival order, `rate` per second of event time; one in 200 is several seconds late."""
    generator = np.random.default_rng(seed)
    index = np.arange(events)
    delay = np.where(
        generator.random(events) < 0.005, generator.integers(3_000, 8_000, events), generator.integers(0, 900, events)
    )
    sensor = generator.integers(0, sensors, events)
    return pl.DataFrame(
        {
            "partition": sensor % PARTITIONS,
            "sensor_id": [f"s{n:03d}" for n in sensor],
            "ts": START + index * 1_000 // rate - delay,
            "value": generator.integers(-500, 10_500, events) / 100,
        }
    )


def expected(events: pl.DataFrame, slide: int = 1_000) -> tuple[pl.DataFrame, int]:
    """The results of all windows of a second that the input closes, and the number of late readings, by the design's
    rules."""
    before = pl.col("ts").cum_max().shift(1).over("partition") - OUT_OF_ORDERNESS
    judged = events.with_columns(last=pl.col("ts") // slide * slide, before=before)
    judged = judged.filter(pl.col("value").is_between(0, 100))
    starts = pl.int_ranges((pl.col("ts") - 1_000) // slide * slide + slide, pl.col("ts") + 1, slide)
    placed = judged.with_columns(window_start=starts).explode("window_start")
    late = (pl.col("before") >= pl.col("last") + 1_000).fill_null(False)
    watermark = events.group_by("partition").agg(pl.col("ts").max())["ts"].min() - OUT_OF_ORDERNESS
    results = (
        placed.filter((pl.col("before") < pl.col("window_start") + 1_000).fill_null(True))
        .group_by("sensor_id", "window_start")
        .agg(average=pl.col("value").mean(), n=pl.len().cast(pl.Int64))
        .filter(pl.col("window_start") + 1_000 <= watermark)
        .sort("sensor_id", "window_start")
    )
    return results, judged.filter(late).height


def create_topics(bootstrap: str, *topics: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        future.result(30)


class Ration:
    """How many events may have been sent by now.

    Where a job takes longer to start than its input lasts, one that comes back would otherwise have nothing to do.
    """

    def __init__(self) -> None:
        self.events = 0

    def add(self, more: int) -> None:
        self.events += more


def feed(
    bootstrap: str,
    topic: str,
    events: pl.DataFrame,
    per_second: float,
    stop: threading.Event,
    ration: Ration | None = None,
) -> None:
    """Writes the events at a steady pace, within the ration, so that a killed job always has work to come back to.

    From `stop` on the rest comes as fast as it can.
    """
    lost: list[object] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 5,
            "enable.idempotence": True,
            "message.timeout.ms": 1_200_000,  # longer than any outage of a test: what is lost here fails it later
            "delivery.report.only.error": True,
            "on_delivery": lambda error, _: lost.append(error),
        }
    )
    started = time.monotonic()
    for number, (partition, sensor, ts, value) in enumerate(events.iter_rows()):
        if number % 100 == 0:
            producer.poll(0)
            ahead = number / per_second - (time.monotonic() - started)
            if ahead > 0 and not stop.is_set():
                time.sleep(ahead)
            while ration is not None and number >= ration.events and not stop.is_set():
                producer.poll(0.01)
        body = json.dumps({"sensor_id": sensor, "ts": ts, "value": value})
        while True:
            try:
                producer.produce(topic, body, sensor, partition)
                break
            except BufferError:  # the queue is full: let some of it go
                producer.poll(0.05)
    if producer.flush(60) or lost:
        raise RuntimeError(f"the feed did not reach the broker: {lost[:1]}")


def check_input(bootstrap: str, topic: str, events: pl.DataFrame) -> None:
    """The topic holds each event once and in order: a cluster in trouble can lose some before a job reads them."""
    schema = {"sensor_id": pl.String, "ts": pl.Int64, "value": pl.Float64}
    stored = (
        pl.Series(read_committed(bootstrap, topic)).cast(pl.String).str.json_decode(pl.Struct(schema)).struct.unnest()
    )
    partition = pl.col("sensor_id").str.slice(1).cast(pl.Int64) % PARTITIONS
    stored = stored.sort(partition, maintain_order=True)
    sent = events.sort("partition", maintain_order=True).select(*schema)
    if not stored.equals(sent):
        raise AssertionError(f"the input is not what was fed: {stored.height} of {sent.height} records in {topic}")


def read_committed(bootstrap: str, topic: str) -> list[bytes]:
    """Every committed record of the topic, up to its end as of now.

    A commit returns before its markers are on all partitions: so it reads until nothing open lies before the end.
    """
    settings = {
        "group.id": f"check-{topic}-{time.time_ns()}",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = Consumer({"bootstrap.servers": bootstrap, "isolation.level": "read_committed", **settings})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    # A read_committed consumer is told the last stable offset as the end; only the other kind sees what is open.
    probe = Consumer({"bootstrap.servers": bootstrap, "isolation.level": "read_uncommitted", **settings})
    ends = {p: probe.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in partitions}
    probe.close()
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    values: list[bytes] = []
    unread = set(partitions)
    deadline = time.monotonic() + 60
    while unread:
        if time.monotonic() > deadline:
            raise AssertionError(f"{topic}: partitions {unread} were not read to their ends {ends}")
        for message in consumer.consume(1_000, timeout=0.5):
            error = message.error()
            if error is None:
                values.append(message.value())
            elif error.code() != KafkaError._PARTITION_EOF:
                raise AssertionError(f"{topic}: {error}")
            elif message.offset() >= ends[message.partition()]:
                unread.discard(message.partition())
    consumer.close()
    return values


def results_of(bootstrap: str, topic: str) -> pl.DataFrame:
    rows = [json.loads(value) for value in read_committed(bootstrap, topic)]
    schema = {"sensor_id": pl.String, "window_start": pl.Int64, "average": pl.Float64, "n": pl.Int64}
    return pl.DataFrame([{k: row[k] for k in schema} for row in rows], schema=schema).sort("sensor_id", "window_start")


@dataclass
class Outcome:
    results: pl.DataFrame
    late: int
    restarts: list[float] = field(default_factory=list)
    """Seconds from each restart to its first committed output."""


class Job:
    """The sensor job in a process of its own."""

    def __init__(self, bootstrap: str, source: str, sink: str, guarantee: str = "exactly-once") -> None:
        self.name = f"job-{sink}"
        settings = {"JOB_NAME": self.name, "JOB_BROKER": f"kafka://{bootstrap}", "JOB_SOURCE": source,
                    "JOB_SINK": sink, "JOB_GUARANTEE": guarantee}  # fmt: skip
        self.environment = {**os.environ, **settings, "PYTHONFAULTHANDLER": "1"}
        self.log = Path(os.environ.get("TMPDIR", "/tmp")) / f"{sink}.log"

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, JOB, *arguments], env=self.environment, cwd=ROOT, stdout=log, stderr=log
            )

    def finish(self, timeout: float = 120) -> None:
        """Runs to the end of the input and checks that it ended well."""
        code = self.start("--until-caught-up").wait(timeout)
        if code:
            raise AssertionError(f"the job ended with {code}:\n{self.log.read_text()[-4000:]}")
        self.log.unlink(missing_ok=True)


def end_offsets(consumer: Consumer, topic: str) -> int:
    """Records of all partitions; a new topic's leaders may take a moment to say so."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return sum(
                consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(PARTITIONS)
            )
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def wait_for_output(
    probe: Consumer, topic: str, beyond: int, process: subprocess.Popen[bytes], job: Job, patience: float = 60
) -> None:
    deadline = time.monotonic() + patience
    while end_offsets(probe, topic) <= beyond:
        if process.poll() is not None:
            raise AssertionError(f"the job died by itself ({process.returncode}):\n{job.log.read_text()[-4000:]}")
        if time.monotonic() > deadline:
            process.send_signal(signal.SIGABRT)  # faulthandler then logs where every thread stands
            process.wait()
            raise AssertionError(f"no output within {patience:.0f} s:\n{job.log.read_text()[-12000:]}")
        time.sleep(0.01)


def run_with_kills(
    bootstrap: str, name: str, kills: int, seed: int = 1, rate: int = 20_000, guarantee: str = "exactly-once"
) -> Outcome:
    """Feeds the job while killing it -9 `kills` times at random moments, then lets it finish undisturbed."""
    chance = random.Random(seed)
    source, sink = f"{name}-in", f"{name}-out"
    create_topics(bootstrap, source, sink)
    events = readings(rate * (kills * 4 + 5), rate)
    stop = threading.Event()
    pool = ThreadPoolExecutor(1)
    ration = Ration()
    feeding = pool.submit(feed, bootstrap, source, events, rate, stop, ration)
    job = Job(bootstrap, source, sink, guarantee)
    probe = Consumer({"bootstrap.servers": bootstrap, "group.id": f"probe-{name}", "isolation.level": "read_committed"})
    restarts = []
    for _ in range(kills):
        before = end_offsets(probe, sink)
        ration.add(4 * rate)
        started = time.monotonic()
        process = job.start()
        wait_for_output(probe, sink, before, process, job)
        restarts.append(time.monotonic() - started)
        time.sleep(chance.uniform(0.0, 1.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
    probe.close()
    stop.set()
    feeding.result()
    pool.shutdown()
    job.finish()
    return Outcome(results_of(bootstrap, sink), len(read_committed(bootstrap, f"{source}.dlq")), restarts)

"""Patterns in a running job: the time from the event that completes a match to the match on its topic.

    python -m benchmarks.cep_latency BOOTSTRAP [--rate 100000] [--seconds 40]        (also part of `make bench-cep`)

Open loop, as in `benchmarks/spine/latency.py`: event i is due at a fixed time whatever the job does, and the clock of a
match runs from the due time of its last event to its receipt by a reader of its own, so that a generator or a job that
falls behind is charged for it. The job reads JSON from four partitions, finds the three steps of `benchmarks/cep.py`
over 100,000 keys within 10 s, and writes each match. Events come in order and the watermark allows for none that are
out of it: what a job allows for there comes on top. The matches must be those of a run without a job. Generator, job,
reader and broker share the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from confluent_kafka import Consumer, TopicPartition

from benchmarks.cep import SCHEMA, Case, events, patterns
from benchmarks.spine.harness import create_topic
from benchmarks.spine.latency import PREPARE_MS, send
from benchmarks.spine.workload import PARTITIONS
from thalweg import App
from thalweg.cep import PatternMatcher
from thalweg.streams import WatermarkGenerator

KEYS = 100_000
WITHIN = 10_000
"""ms."""
CASE = Case("latency", "steps", KEYS, WITHIN, 0)
WARM_UP = WITHIN // 1_000
"""Seconds whose matches do not count: until then there are fewer partial matches than later."""
START_UP = 400
"""The most seconds that the job may take to come up: the first time it compiles its kernels."""
GUARANTEES = ("at-least-once", "exactly-once")


@dataclass
class MatchLatency:
    """Percentiles in milliseconds over `matches` matches. `behind_ms`: how late the generator itself was at worst."""

    guarantee: str
    rate: int
    matches: int
    p50: float
    p95: float
    p99: float
    max: float
    behind_ms: float
    missing: int
    """Matches that a run without a job finds and the topic lacks, and the other way round."""


def job(bootstrap: str, source: str, sink: str, guarantee: str) -> App:
    """The job, as a user would write it."""
    app = App(f"cep-{sink}", broker=f"kafka://{bootstrap}", guarantee=guarantee, commit_interval="50ms")
    schema = {"id": int, "ts": int, "user": str, "kind": int}
    (pattern,) = patterns(CASE)
    stream = app.stream(source, schema=schema, timestamp="ts", watermark=WatermarkGenerator(0))
    stream.key_by("user").detect(pattern).to(sink)
    return app


def run(bootstrap: str, source: str, sink: str, guarantee: str) -> None:
    """Runs the job, and says "up" when it takes events."""
    app = job(bootstrap, source, sink, guarantee)

    def tell() -> None:
        while app.status().state != "running":
            time.sleep(0.1)
        print("up", flush=True)

    threading.Thread(target=tell, daemon=True).start()
    app.run()


def wait_until_up(log: IO[bytes]) -> None:
    """Waits for what `run` says in its log."""
    deadline = time.monotonic() + START_UP
    while time.monotonic() < deadline:
        log.seek(0)
        if b"up\n" in log.read():
            return
        time.sleep(0.2)
    raise RuntimeError(f"the job did not come up within {START_UP} s")


def second_of(number: int, rate: int, start: int) -> pl.DataFrame:
    """The events of one second: id, user, kind, ts."""
    frame = events(number * rate, rate, KEYS).select(SCHEMA.names())
    return frame.with_columns(ts=start + pl.col("id") * 1_000 // rate)


def records(frame: pl.DataFrame) -> list[tuple[int, str, str]]:
    """(partition, key, JSON) of each event; a key stays on its partition."""
    value = pl.concat_str(
        pl.lit('{"id": '), "id", pl.lit(', "ts": '), "ts", pl.lit(', "user": "'), "user", pl.lit('", "kind": '),
        "kind", pl.lit("}"),
    )  # fmt: skip
    partition = pl.col("user").str.extract(r"^(\d+)").cast(pl.Int64).alias("partition") % PARTITIONS
    return list(frame.select(partition, "user", value.alias("json")).iter_rows())


def expected(rate: int, seconds: int) -> set[int]:
    """The last events of all matches, by number, less those of the last second, which may still wait."""
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(patterns(CASE)[0])
    found: set[int] = set()
    for number in range(seconds):
        matches = matcher.process(second_of(number, rate, 0))
        if matches.height:
            found |= set(last_events(matches))
    return {event for event in found if event < (seconds - 1) * rate}


def last_events(matches: pl.DataFrame) -> list[int]:
    last = pl.col("events").struct.field("c").list.last().struct.field("id")
    return matches.select(last).to_series().to_list()


def measure(bootstrap: str, rate: int, seconds: int, guarantee: str) -> MatchLatency:
    """Runs generator and job side by side for `seconds`, and times every match after the warm-up."""
    wanted = expected(rate, seconds)
    source, sink = (f"cep-latency-{guarantee}-{time.time_ns()}-{end}" for end in ("in", "out"))
    create_topic(bootstrap, source)
    create_topic(bootstrap, sink)
    module = [sys.executable, "-m", "benchmarks.cep_latency", bootstrap]
    root = Path(__file__).resolve().parent.parent
    with tempfile.TemporaryFile() as log:
        arguments = [*module, "--job", source, sink, guarantee]
        running = subprocess.Popen(arguments, cwd=root, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until_up(log)
            start = int(time.time()) * 1_000 + 2_000 + PREPARE_MS * rate * seconds // 1_000_000
            generate = [*module, "--generate", source, str(start), "--rate", str(rate), "--seconds", str(seconds)]
            generator = subprocess.Popen(generate, cwd=root, stdout=subprocess.PIPE)
            found = dict(received(bootstrap, sink, start / 1_000 + seconds + 2))
            told = generator.communicate(timeout=60)[0]
            if generator.returncode:
                raise RuntimeError("the generator failed")
            behind = json.loads(told)
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
        ids = np.array([event for event in found if event >= WARM_UP * rate], dtype=np.int64)
        if not len(ids):
            log.seek(0)
            raise RuntimeError(f"no match came after the warm-up:\n{log.read().decode(errors='replace')[-3000:]}")
    samples = np.array([found[event] for event in ids.tolist()]) - (start + ids * 1_000 / rate)
    missing = len({event for event in found if event < (seconds - 1) * rate} ^ wanted)
    p50, p95, p99 = np.percentile(samples, [50, 95, 99])
    return MatchLatency(guarantee, rate, len(samples), p50, p95, p99, samples.max(), behind, missing)


def received(bootstrap: str, topic: str, end: float) -> Iterator[tuple[int, float]]:
    """(last event, time of receipt in ms) of each match that comes before `end`."""
    settings = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 50}
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-{topic}",
            "isolation.level": "read_committed",
            **settings,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    while time.time() < end:
        messages = consumer.consume(1_000, timeout=0.005)
        now = time.time() * 1_000
        for message in messages:
            if message.error() is None:
                yield json.loads(message.value())["events"]["c"][-1]["id"], now
    consumer.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("bootstrap")
    options.add_argument("--rate", type=int, default=100_000)
    options.add_argument("--seconds", type=int, default=40)
    options.add_argument("--guarantee", choices=GUARANTEES, action="append")
    options.add_argument("--generate", nargs=2, metavar=("TOPIC", "START_MS"), help=argparse.SUPPRESS)
    options.add_argument("--job", nargs=3, metavar=("SOURCE", "SINK", "GUARANTEE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.job:
        run(given.bootstrap, *given.job)
    elif given.generate:
        topic, start = given.generate[0], int(given.generate[1])
        made = [records(second_of(number, given.rate, start)) for number in range(given.seconds)]
        json.dump(send(given.bootstrap, topic, given.rate, start, made), sys.stdout)
    else:
        for guarantee in given.guarantee or GUARANTEES:
            print(json.dumps(asdict(measure(given.bootstrap, given.rate, given.seconds, guarantee))), flush=True)


if __name__ == "__main__":
    main()

"""Streams that meet, on one worker and then on two: what comes out is what the definition says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from tests.reliability import crash
from thalweg.kafka.partitioners import partition_for

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]

JOB = Path(__file__).with_name("meeting_job.py")
PARTITIONS = 4
Row = dict[str, Any]


def events(name: str, value: str, number: int, step: int = 20) -> list[Row]:
    """One event every `step` ms, of 40 keys."""
    keys = np.random.default_rng(number).integers(0, 40, 600)
    return [{"k": f"{name[0]}{key}", "t": step * row, value: row} for row, key in enumerate(keys)]


def feed(bootstrap: str, topic: str, rows: Iterable[Row], *, by_key: bool) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number, row in enumerate(rows):
        key = row["k"].encode()
        partition = partition_for(key, PARTITIONS) if by_key else number * 7 % PARTITIONS
        producer.produce(topic, json.dumps(row), key, partition)
    assert producer.flush(30) == 0


def run(workers: int, *arguments: str) -> None:
    """Until everything that there is has been processed."""
    command = [sys.executable, "-m", "thalweg.cli", "run", str(JOB), "--workers", str(workers), "--", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=crash.ROOT, env=os.environ)
    assert ended.returncode == 0, ended.stderr[-4000:]


def written(bootstrap: str, topic: str) -> list[Row]:
    return [json.loads(value) for value in crash.read_committed(bootstrap, topic)]


def test_joins_and_changes_move_through_the_exchange(kafka, new_topic):
    left, right, sink = (new_topic(partitions=PARTITIONS) for _ in range(3))
    lefts, rights = events("x", "v", 1), events("x", "w", 2)
    job = ("joins", f"job-{sink}", f"kafka://{kafka.bootstrap}", left, right, sink)
    for half, workers in ((slice(None, 300), 1), (slice(300, None), 2)):
        feed(kafka.bootstrap, left, lefts[half], by_key=False)
        feed(kafka.bootstrap, right, rights[half], by_key=False)
        run(workers, *job)
    near = [(a["v"], b["w"]) for a in lefts for b in rights if a["k"] == b["k"] and abs(a["t"] - b["t"]) <= 500]
    assert Counter((row["v"], row["w"]) for row in written(kafka.bootstrap, sink)) == Counter(near)
    counts = Counter(row["k"] for row in rights)
    expected = Counter((a["v"], k) for a in lefts for k, n in counts.items() if a["v"] % 4 == n)
    net: Counter[tuple[int, str]] = Counter()
    for row in written(kafka.bootstrap, f"{sink}-changes"):
        net[row["v"], row["of"]] += -1 if row["__op"] == "delete" else 1
    assert +net == expected
    assert not -net


def test_inputs_that_drift_apart_wait_for_each_other(kafka, new_topic):
    """Half an hour of events where a minute of drift is allowed; the right one's second half comes by and by."""
    left, right, sink = (new_topic(partitions=PARTITIONS) for _ in range(3))
    lefts, rights = events("x", "v", 1, 3_000), events("x", "w", 2, 3_000)
    job = ("joins", f"job-{sink}", f"kafka://{kafka.bootstrap}", left, right, sink)
    feed(kafka.bootstrap, left, lefts, by_key=False)
    for part in (slice(None, 300), slice(300, 450), slice(450, None)):
        feed(kafka.bootstrap, right, rights[part], by_key=True)  # most partitions get ahead of others
        run(2, *job)
    met = [(a["v"], b["w"]) for a in lefts for b in rights if a["k"] == b["k"] and a["t"] == b["t"]]
    assert Counter((row["v"], row["w"]) for row in written(kafka.bootstrap, sink)) == Counter(met)


def test_a_topic_that_is_partitioned_by_the_key_needs_no_exchange(kafka, new_topic):
    source, sink = (new_topic(partitions=PARTITIONS) for _ in range(2))
    rows = events("y", "v", 3)
    name = f"job-{sink}"
    for part, workers in ((slice(None, 200), 1), (slice(200, 400), 3), (slice(400, None), 2)):
        feed(kafka.bootstrap, source, rows[part], by_key=True)
        run(workers, "windows", name, f"kafka://{kafka.bootstrap}", source, "-", sink)
    reached = {p: max(row["t"] for row in rows if partition_for(row["k"].encode(), PARTITIONS) == p) for p in range(4)}
    expected = Counter(
        (row["k"], row["t"] // 1_000 * 1_000)
        for row in rows
        if row["t"] // 1_000 * 1_000 + 1_000 <= reached[partition_for(row["k"].encode(), PARTITIONS)]
    )
    assert {(row["k"], row["window_start"]): row["n"] for row in written(kafka.bootstrap, sink)} == dict(expected)
    assert f"{name}-exchange" not in AdminClient({"bootstrap.servers": kafka.bootstrap}).list_topics(timeout=10).topics

"""A sink that takes nothing for a long time: memory stays bounded, and nothing is lost or doubled after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic
from polars.testing import assert_frame_equal

from tests.reliability import crash
from thalweg.kafka import KafkaAdmin, LocalKafka

RATE = 10_000
LIMIT = 1_200 * 2**20
"""Bytes that the job may hold, interpreter and libraries included. Every new start fills its queues anew, which goes up
and down by some hundred megabytes; ten minutes of input in the client's queues would be two gigabytes."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalKafka]:
    with LocalKafka(3, heap="512m") as kafka:
        yield kafka


def create_topics(bootstrap: str, source: str, sink: str) -> None:
    """Input that any one broker can serve, and output that needs the first two."""
    wanted = [
        NewTopic(source, crash.PARTITIONS, 3, config={"min.insync.replicas": "1"}),
        NewTopic(
            sink,
            crash.PARTITIONS,
            replica_assignment=[[0, 1]] * crash.PARTITIONS,
            config={"min.insync.replicas": "2"},
        ),
    ]
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics(wanted).values():
        future.result(60)


def await_in_sync(bootstrap: str, *topics: str) -> None:
    """Waits until every replica is in sync: the input would lose its leader with the broker otherwise."""
    admin = KafkaAdmin(bootstrap)
    deadline = time.monotonic() + 60
    while behind := [
        (topic, placed)
        for topic in topics
        for placed in admin.describe(topic).placements
        if len(placed.in_sync) < len(placed.replicas)
    ]:
        assert time.monotonic() < deadline, behind
        time.sleep(0.2)


@contextmanager
def stalled(kafka: LocalKafka) -> Iterator[None]:
    """The output is below its minimum of replicas: every write to it is refused, for now."""
    kafka.kill(1)
    try:
        yield
    finally:
        kafka.restart(1)


def watch_memory(process: psutil.Process, seconds: float) -> list[int]:
    """Its resident bytes, once a second."""
    sizes = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sizes.append(process.memory_info().rss)
        time.sleep(1)
    return sizes


def check(kafka: LocalKafka, name: str, guarantee: str, seconds: float) -> None:
    source, sink = f"{name}-in", f"{name}-out"
    create_topics(kafka.bootstrap, source, sink)
    events = crash.readings(int(RATE * (seconds + 30)), RATE)
    stop = threading.Event()
    probe = Consumer(
        {"bootstrap.servers": kafka.bootstrap, "group.id": f"probe-{name}", "isolation.level": "read_committed"}
    )
    job = crash.Job(kafka.bootstrap, source, sink, guarantee)
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(crash.feed, kafka.bootstrap, source, events, RATE, stop)
        process = job.start()
        try:
            crash.wait_for_output(probe, sink, 0, process, job)
            await_in_sync(kafka.bootstrap, source, sink)
            with stalled(kafka):
                watched = psutil.Process(process.pid)
                sizes = watch_memory(watched, seconds / 4)
                before = crash.end_offsets(probe, sink)
                sizes += watch_memory(watched, seconds * 3 / 4)
                assert crash.end_offsets(probe, sink) == before, "the sink was not stalled"
            assert max(sizes) < LIMIT, f"MiB every ten seconds: {[size >> 20 for size in sizes[::10]]}"
            crash.wait_for_output(probe, sink, before, process, job)
        finally:
            stop.set()
            process.kill()
            process.wait()
            feeding.result()
            probe.close()
    crash.check_input(kafka.bootstrap, source, events)
    job.finish()
    results, late = crash.expected(events)
    found = crash.results_of(kafka.bootstrap, sink)
    if guarantee == "at-least-once":
        found = found.unique(maintain_order=True)
    assert_frame_equal(found, results, check_exact=False, rel_tol=1e-9, abs_tol=1e-12)
    assert late > 0


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_ten_minutes_of_a_stalled_sink(cluster: LocalKafka, guarantee: str) -> None:
    check(cluster, f"stalled-{guarantee}", guarantee, 600)

"""`KafkaBroker` as a job uses it: source, committer and topics of one cluster."""

from __future__ import annotations

import time
from typing import Any

import polars as pl
import pytest

from tests.integration.kafka.commit_tools import TextEncoder, read
from thalweg.connectors.kafka import KafkaBroker
from thalweg.errors import ConfigurationError, ConnectorError, RestartRequired
from thalweg.formats import open_format
from thalweg.kafka.local_cluster import LocalKafka
from thalweg.kafka.producer import KafkaProducer
from thalweg.streams.connector import (
    Broker,
    Commit,
    Guarantee,
    JobSettings,
    PartitionEpoch,
    SinkWrite,
    StateRecord,
    open_broker,
)

pytestmark = pytest.mark.kafka


def fill(bootstrap: str, topic: str, count: int) -> None:
    with KafkaProducer(bootstrap) as producer:
        for n in range(count):
            producer.send(topic, b'{"n":%d}' % n, key=str(n))


class EchoJob:
    """Copies every number to the output once, with a running count as state; as the engine does it."""

    def __init__(self, broker: Broker, name: str, topic: str, output: str, guarantee: Guarantee) -> None:
        job = JobSettings(name, guarantee=guarantee)
        self.topic, self.output, self.guarantee = topic, output, guarantee
        self.source = broker.source(topic, open_format("json").decoder(pl.Schema({"n": pl.Int64})), job)
        partitions = self.source.open()
        self.committer = broker.committer(job, [self.source])
        recovered = self.committer.recover([(topic, p) for p in partitions])
        self.count = int(recovered.states[-1].payload) if recovered.states else 0
        self.epochs = dict(recovered.epochs)
        self.source.seek({p: epoch.position for (_, p), epoch in recovered.epochs.items()})

    def step(self) -> int:
        """One batch and its commit; how many rows."""
        batch = self.source.poll(7, 200)
        if batch is None:
            return 0
        values = batch.frame.select(v=pl.col("n").cast(pl.String))
        write = SinkWrite(self.output, values, TextEncoder(), "v")
        if self.guarantee == Guarantee.AT_LEAST_ONCE:
            self.committer.send(write)
        self.count += len(values)
        for partition, position in batch.positions.items():
            before = self.epochs.get((self.topic, partition))
            self.epochs[self.topic, partition] = PartitionEpoch(before.epoch + 1 if before else 1, position, 0)
        state = StateRecord(0, "count", b"%d" % self.count, full=True)
        writes = [] if self.guarantee == Guarantee.AT_LEAST_ONCE else [write]
        self.committer.commit(Commit(dict(self.epochs), writes, [state]))
        return len(values)

    def close(self) -> None:
        self.committer.close()
        self.source.close()


@pytest.mark.parametrize("guarantee", list(Guarantee))
def test_a_job_stops_and_goes_on(kafka: Any, topic: str, guarantee: Guarantee) -> None:
    fill(kafka.bootstrap, topic, 100)
    broker = open_broker(f"kafka://{kafka.bootstrap}")
    assert isinstance(broker, Broker)
    assert broker.partitions(topic) == 4
    output = f"{topic}-out"
    assert broker.ensure_topic(output, 2) == 2
    assert broker.ensure_topic(output, 5) == 2  # as it is
    seen = 0
    while seen < 100:
        job = EchoJob(broker, f"job-{topic}", topic, output, guarantee)
        assert job.count == seen
        for _ in range(3):
            seen += job.step()
        job.close()
    broker.close()
    assert sorted(int(r.value()) for r in read(kafka.bootstrap, output)) == list(range(100))


def test_unknown_topics_are_named_with_close_ones(kafka: Any, topic: str) -> None:
    broker = KafkaBroker(f"kafka://{kafka.bootstrap}")
    with pytest.raises(ConnectorError, match=f"did you mean '{topic}'"):
        broker.partitions(topic[:-1])
    broker.close()


def test_an_unreachable_broker_is_named() -> None:
    broker = KafkaBroker("kafka://127.0.0.1:9", timeout="1s")
    with pytest.raises(ConnectorError, match=r"127\.0\.0\.1:9 does not answer.*Check the address"):
        broker.partitions("t")
    broker.close()


@pytest.mark.parametrize("url", ["kafka://", "kafka://host", "kafka://a:1,,b:2", "sqlite:///x", "kafka://a:b"])
def test_wrong_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="kafka://host:9092"):
        KafkaBroker(url)


@pytest.mark.slow
def test_the_broker_dies_and_comes_back() -> None:
    """Commits fail while it is away; afterwards every number is in the output exactly once."""
    with LocalKafka(fast_start=True) as local:
        broker = KafkaBroker(f"kafka://{local.bootstrap}")
        broker.ensure_topic("numbers", 2)
        broker.ensure_topic("echo", 2)
        fill(local.bootstrap, "numbers", 200)
        job: EchoJob | None = EchoJob(broker, "job", "numbers", "echo", Guarantee.EXACTLY_ONCE)
        seen, restarts = 0, 0
        deadline = time.monotonic() + 120
        while seen < 200 and time.monotonic() < deadline:
            try:
                if job is None:
                    job = EchoJob(broker, "job", "numbers", "echo", Guarantee.EXACTLY_ONCE)
                    seen = job.count
                seen += job.step()
                if restarts == 0 and seen > 60:
                    restarts += 1
                    local.kill()
                    try:
                        job.committer.commit(Commit(dict(job.epochs)))
                    finally:
                        local.restart()
            except RestartRequired:
                if job is not None:
                    job.close()
                job = None
        assert restarts == 1
        assert job is not None
        job.close()
        assert sorted(int(r.value()) for r in read(local.bootstrap, "echo")) == list(range(200))
        broker.close()

"""The clients on a cluster of three brokers that is not left in peace."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest

from thalweg.errors import ConnectorError
from thalweg.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer, LocalKafka, ProduceError

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
EVENTS = 2_000_000
PARTITIONS = 6
STORM_SECONDS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalKafka]:
    with LocalKafka(3, heap="512m") as kafka:
        yield kafka


def make(kafka: LocalKafka, topic: str, in_sync: int = 2, partitions: int = PARTITIONS) -> KafkaAdmin:
    admin = KafkaAdmin(kafka.bootstrap, timeout=60)
    admin.create_topic(topic, partitions, replication=3, config={"min.insync.replicas": str(in_sync)})
    return admin


class Worker(threading.Thread):
    """A thread whose error is the test's."""

    def __init__(self, work: object) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.work()  # type: ignore[operator]
        except BaseException as error:
            self.error = error

    def done(self) -> None:
        self.join()
        if self.error is not None:
            raise self.error


def again(producer: KafkaProducer, send: object) -> None:
    """A transaction, made anew until it is committed: an abort leaves nothing behind."""
    while True:
        try:
            with producer.transaction(timeout=120):
                send()  # type: ignore[operator]
            return
        except ProduceError as error:
            logging.getLogger("test").warning("aborted: %s", error)


@pytest.mark.timeout(900)
def test_a_killed_broker_loses_and_doubles_nothing(cluster: LocalKafka) -> None:
    """2 M events in transactions, copied on with their offsets in transactions, while a broker dies and comes back."""
    make(cluster, "first")
    make(cluster, "second")
    copied = 0
    passed = threading.Event()

    def write() -> None:
        with KafkaProducer(cluster.bootstrap, transactional_id="writer", compression="lz4") as producer:
            for start in range(0, EVENTS, 50_000):
                frame = pl.DataFrame({"value": pl.int_range(start, start + 50_000, eager=True).cast(pl.String)})
                again(producer, lambda frame=frame: producer.send_frame("first", frame, format="text"))
                if start >= EVENTS // 4:
                    passed.set()

    def copy() -> None:
        nonlocal copied
        with (
            KafkaProducer(cluster.bootstrap, transactional_id="copier") as producer,
            KafkaConsumer(cluster.bootstrap, "first", group_id="copy", auto_commit=False) as consumer,
        ):
            while copied < EVENTS:
                frame = consumer.poll_batch(200_000)
                if frame is None:
                    continue

                def send(frame: pl.DataFrame = frame) -> None:
                    producer.send_frame("second", frame, format="raw", key="__key")
                    producer.send_offsets(consumer.positions(), consumer, timeout=60)

                try:
                    with producer.transaction(timeout=120):
                        send()
                    copied += frame.height
                except ProduceError as error:
                    logging.getLogger("test").warning("aborted, read again: %s", error)
                    consumer.seek_to_committed()

    workers = [Worker(write), Worker(copy)]
    for worker in workers:
        worker.start()
    while not passed.wait(1):
        assert all(worker.error is None for worker in workers), workers[0].error or workers[1].error
    cluster.kill(1)
    time.sleep(5)
    cluster.restart(1)
    for worker in workers:
        worker.done()
    found = np.zeros(EVENTS, dtype=np.int64)
    seen = 0
    with KafkaConsumer(cluster.bootstrap, format="text") as reader:
        reader.assign([("second", partition) for partition in range(PARTITIONS)])
        quiet = 0
        while quiet < 3:  # beyond the last, for what would be there twice
            frame = reader.poll_batch(200_000)
            if frame is None:
                quiet += seen >= EVENTS
                continue
            np.add.at(found, frame["value"].cast(pl.Int64).to_numpy(), 1)
            seen += frame.height
    assert seen == EVENTS
    assert (found == 1).all()


def test_below_min_isr_the_producer_waits_and_says_why(cluster: LocalKafka, caplog: pytest.LogCaptureFixture) -> None:
    admin = make(cluster, "strict", in_sync=3, partitions=1)
    with KafkaProducer(cluster.bootstrap, linger_ms=0) as producer, caplog.at_level(logging.WARNING, "thalweg.kafka"):
        producer.send("strict", b"first").result(60)
        cluster.kill(2)
        while len(admin.describe("strict").placements[0].in_sync) == 3:
            time.sleep(0.2)
        waits = producer.send("strict", b"second")
        why = r"partitions \[0\] have 2 in-sync replicas of 3, and min.insync.replicas is 3"
        with pytest.raises(ProduceError, match=why):
            producer.flush(20)
        assert not waits.done()
        assert "nothing was delivered for" in caplog.text
        assert "min.insync.replicas is 3" in caplog.text
        cluster.restart(2)
        waits.result(120)
        producer.send("strict", b"third").result(60)
    with KafkaConsumer(cluster.bootstrap) as reader:
        reader.assign({("strict", 0): 0})
        values: list[bytes] = []
        while len(values) < 3:
            values += [record.value for record in [reader.poll(1)] if record is not None]
    assert values == [b"first", b"second", b"third"]


@pytest.mark.timeout(300)
def test_a_storm_of_rebalances_loses_nothing_and_commits_nothing_unprocessed(cluster: LocalKafka) -> None:
    """Members join and leave every second for a minute; each record takes its reader some time."""
    admin = make(cluster, "storm", partitions=12)
    lock = threading.Lock()
    processed: dict[int, set[int]] = {partition: set() for partition in range(12)}
    stop, ahead = threading.Event(), []

    def feed() -> int:
        sent = 0
        with KafkaProducer(cluster.bootstrap) as producer:
            while not stop.is_set():
                producer.send_frame("storm", pl.DataFrame({"value": ["x"] * 200}), format="text")
                sent += 200
                time.sleep(0.05)
        return sent

    def member(leave: threading.Event, assignment: str) -> None:
        with KafkaConsumer(
            cluster.bootstrap, "storm", group_id="storm", auto_commit_interval="100ms", assignment=assignment
        ) as consumer:
            while not leave.is_set():
                record = consumer.poll(0.1)
                if record is not None:
                    if record.offset % 50 == 0:
                        time.sleep(0.002)
                    with lock:
                        processed[record.partition].add(record.offset)

    def check() -> None:
        """What is committed now must have been processed before."""
        committed = admin.group_offsets("storm")
        with lock:
            missing = {
                partition: sorted(set(range(offset)) - processed[partition])[:5]
                for (_, partition), offset in committed.items()
                if not processed[partition].issuperset(range(offset))
            }
        if missing:
            ahead.append(missing)

    sent: list[int] = []
    feeder = Worker(lambda: sent.append(feed()))
    feeder.start()
    members: list[tuple[Worker, threading.Event]] = []
    until = time.monotonic() + STORM_SECONDS
    turn = 0
    while time.monotonic() < until:
        if turn % 3 < 2 or len(members) < 2:
            leave = threading.Event()
            members.append((Worker(lambda leave=leave: member(leave, "cooperative")), leave))
            members[-1][0].start()
        if turn % 3 == 2 or len(members) > 4:
            worker, leave = members.pop(0)
            leave.set()
            worker.done()
        turn += 1
        check()
        time.sleep(1)
    stop.set()
    feeder.done()

    def total() -> int:
        with lock:
            return sum(map(len, processed.values()))

    while total() < sent[0]:  # the test's time limit is the judge
        assert all(worker.error is None for worker, _ in members)
        time.sleep(0.5)
    for worker, leave in members:
        leave.set()
        worker.done()
    check()
    assert ahead == []
    ends = admin.offsets("storm", latest=True)
    assert all(processed[partition] == set(range(end)) for partition, end in ends.items())
    assert sum(ends.values()) == sent[0]


def test_a_cluster_that_is_gone_is_said_to_be_gone() -> None:
    with LocalKafka(fast_start=True) as kafka:
        KafkaAdmin(kafka.bootstrap).create_topic("t", 1)
        producer = KafkaProducer(kafka.bootstrap, linger_ms=0)
        producer.send("t", b"x").result(60)
        kafka.kill()
        producer.send("t", b"y")
        with pytest.raises(ConnectorError, match=r"no broker at .* answers"):
            producer.flush(8)
        producer.kill()

"""What is sent is what lies in the topic: same bytes, same order, same partition as Java's; and errors are told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.integration.kafka.commit_tools import read
from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka.partitioners import partition_for
from thalweg.kafka.producer import Headers, KafkaProducer, ProduceError
from thalweg.records import EncodedRecords

pytestmark = pytest.mark.kafka


def encoded(rows: list[bytes]) -> EncodedRecords:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return EncodedRecords(np.frombuffer(b"".join(rows), dtype=np.uint8), offsets)


def test_single_records(kafka: Any, topic: str) -> None:
    with KafkaProducer(kafka.bootstrap, linger_ms=0) as producer:
        placed = producer.send(topic, "ü", key="k", headers={"a": b"1", "b": b""}, timestamp=1234).result(20)
        tombstone = producer.send(topic, None, key="k").result(20)
        empty = producer.send(topic, b"", partition=2).result(20)
    assert (placed.topic, placed.partition, placed.timestamp) == (topic, partition_for(b"k", 4), 1234)
    assert (tombstone.partition, tombstone.offset) == (placed.partition, placed.offset + 1)
    assert empty.partition == 2
    found = {(r.partition(), r.offset()): r for r in read(kafka.bootstrap, topic)}
    first = found[placed.partition, placed.offset]
    assert (first.value(), first.key(), first.headers()) == ("ü".encode(), b"k", [("a", b"1"), ("b", b"")])
    assert first.timestamp()[1] == 1234
    assert found[tombstone.partition, tombstone.offset].value() is None
    assert (found[2, empty.offset].value(), found[2, empty.offset].key()) == (b"", None)


@pytest.mark.parametrize("timestamps", [False, True])
def test_columns_come_out_as_they_went_in(kafka: Any, topic: str, timestamps: bool) -> None:
    n = 20_000
    rng = np.random.default_rng(7)
    values = [rng.bytes(int(size)) for size in rng.integers(0, 60, n)]
    keys = [b"key-%d" % k for k in rng.integers(0, 50, n)]
    nulls = rng.random(n) < 0.1
    stamps = np.arange(1, n + 1, dtype=np.int64) + 1_700_000_000_000
    with KafkaProducer(kafka.bootstrap) as producer:
        refused = producer.send_records(
            topic, encoded(values), encoded(keys), null_keys=nulls, timestamps=stamps if timestamps else None
        )
        assert not len(refused)
    records = read(kafka.bootstrap, topic)
    assert sorted((r.value(), r.key() or b"") for r in records) == sorted(
        (value, b"" if null else key) for value, key, null in zip(values, keys, nulls, strict=True)
    )
    for partition in range(4):
        mine = [(r.key(), r.value()) for r in records if r.partition() == partition and r.key()]
        assert mine == [
            (key, value)
            for value, key, null in zip(values, keys, nulls, strict=True)
            if not null and partition_for(key, 4) == partition
        ]
    if timestamps:
        by_value = sorted(r.timestamp()[1] for r in records)
        assert by_value == stamps.tolist()


def test_explicit_partitions_and_headers(kafka: Any, topic: str) -> None:
    rows = [b"v%d" % i for i in range(100)]
    headers = [{f"h{i % 3}": b"%d" % i} if i % 4 else {} for i in range(100)]
    with KafkaProducer(kafka.bootstrap) as producer:
        partitions = np.arange(100, dtype=np.int32) % 4
        producer.send_records(topic, encoded(rows), partitions=partitions, headers=Headers.of_rows(headers))
    for record in read(kafka.bootstrap, topic):
        i = int(record.value()[1:])
        assert record.partition() == i % 4
        assert dict(record.headers() or ()) == headers[i]


def test_records_that_are_too_large_are_named_and_the_others_sent(kafka: Any, topic: str) -> None:
    rows = [b"a", bytes(5000), b"b", bytes(4000), bytes(4001)]
    with KafkaProducer(kafka.bootstrap, max_record_bytes=4000) as producer:
        assert producer.send_records(topic, encoded(rows)).tolist() == [1, 4]
        assert producer.statistics.refused == 2
        with pytest.raises(ProduceError, match="max_record_bytes is 4000"):
            producer.send(topic, bytes(4001)).result(1)
    assert sorted(len(r.value()) for r in read(kafka.bootstrap, topic)) == [1, 1, 4000]


def test_a_full_queue_holds_the_sender_up_and_keeps_the_order(kafka: Any, new_topic: Callable[..., str]) -> None:
    topic = new_topic(partitions=1)
    rows = [b"%d" % i for i in range(30_000)]
    with KafkaProducer(kafka.bootstrap, settings={"queue.buffering.max.messages": 700}) as producer:
        producer.send_records(topic, encoded(rows))
        producer.send_records(topic, encoded(rows), timestamps=np.ones(len(rows), dtype=np.int64))
    assert [r.value() for r in read(kafka.bootstrap, topic)] == rows + rows


def test_close_delivers_what_lingers(kafka: Any, topic: str) -> None:
    producer = KafkaProducer(kafka.bootstrap, linger_ms=60_000)
    futures = [producer.send(topic, b"%d" % i) for i in range(100)]
    producer.close()
    assert len({(f.result(0).partition, f.result(0).offset) for f in futures}) == 100
    with pytest.raises(ConnectorError, match="closed"):
        producer.send(topic, b"x")


def test_a_partition_that_does_not_exist_is_an_error_and_close_does_not_hang(kafka: Any, topic: str) -> None:
    with KafkaProducer(kafka.bootstrap) as producer:
        producer.send(topic, b"x").result(20)  # the partitions are known now
        with pytest.raises(ProduceError, match=r"[Uu]nknown partition"):
            producer.send_records(topic, encoded([b"a"]), partitions=np.array([9], dtype=np.int32))
        producer.send(topic, b"y").result(20)


def test_undelivered_records_are_told() -> None:
    settings = {"message.timeout.ms": 300}
    producer = KafkaProducer("127.0.0.1:9", linger_ms=0, settings=settings)
    future = producer.send("t", b"x")
    producer.send_records("t", encoded([b"a", b"b"]))
    with pytest.raises(ProduceError, match="2 records were not delivered; the first, to 't'"):
        producer.flush(20)
    with pytest.raises(ProduceError, match="timed out"):
        future.result(20)
    producer.close()


def test_a_sender_that_waits_for_room_lets_go_when_the_producer_is_killed() -> None:
    import threading

    producer = KafkaProducer("127.0.0.1:9", settings={"queue.buffering.max.messages": 5})
    raised: list[BaseException] = []

    def send() -> None:
        try:
            producer.send_records("t", encoded([b"x"] * 100))
        except ConnectorError as error:
            raised.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    while not producer._deliveries.sent.any():
        sender.join(0.01)
    producer.kill()
    sender.join(20)
    assert not sender.is_alive()
    assert "closed" in str(raised[0])


def test_an_aborted_transaction_leaves_nothing(kafka: Any, topic: str) -> None:
    with KafkaProducer(kafka.bootstrap, transactional_id=f"tx-{topic}", linger_ms=0) as producer:
        producer.init_transactions()
        for value, commit in ((b"kept", True), (b"dropped", False), (b"kept too", True)):
            producer.begin_transaction()
            producer.send_records(topic, encoded([value] * 3))
            producer.flush()  # they are in the log, whatever comes of them
            producer.commit_transaction() if commit else producer.abort_transaction()
    assert sorted(r.value() for r in read(kafka.bootstrap, topic)) == [b"kept"] * 3 + [b"kept too"] * 3
    assert len(read(kafka.bootstrap, topic, isolation="read_uncommitted")) == 9


def test_wrong_columns_are_refused(kafka: Any, topic: str) -> None:
    with KafkaProducer(kafka.bootstrap) as producer:
        with pytest.raises(ConfigurationError, match="keys has 1 rows, values has 2"):
            producer.send_records(topic, encoded([b"a", b"b"]), encoded([b"k"]))
        outside = EncodedRecords(np.zeros(3, dtype=np.uint8), np.array([0, 2, 9], dtype=np.int64))
        with pytest.raises(ConfigurationError, match="outside their data"):
            producer.send_records(topic, outside)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="acks=1"):
        KafkaProducer("127.0.0.1:9", acks=1)
    with pytest.raises(ConfigurationError, match=r"no\.such\.setting"):
        KafkaProducer("127.0.0.1:9", settings={"no.such.setting": 1})


def test_kernels_come_from_the_cache() -> None:
    code = (
        "from thalweg.kafka import _fill_kernels as f, _produce_kernels as p\n"
        "filling = (f.by_partition, f.fill_messages, f.keep_failed)\n"
        "for kernel in (*filling, p.produce_runs, p.produce_each, p.drain, p.murmur2_rows):\n"
        "    stats = kernel.stats\n"
        "    assert stats.cache_hits and not stats.cache_misses, (kernel, stats)\n"
    )
    for attempt in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if attempt:
            assert done.returncode == 0, done.stderr

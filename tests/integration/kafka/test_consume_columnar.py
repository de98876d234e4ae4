"""Both consumers on a real broker: equal in what they give, and honest about where they are."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Row
from confluent_kafka.admin import AdminClient, NewTopic

from thalweg.errors import ConfigurationError, ConnectorError, FencedError
from thalweg.kafka._messages import _READ_BYTES
from thalweg.kafka.columnar import ColumnarConsumer
from thalweg.kafka.consumer import BEGINNING, RecordConsumer
from thalweg.kafka.consumer_errors import OffsetOutOfRange
from thalweg.kafka.local_cluster import LocalKafka
from thalweg.kafka.plain import PlainConsumer

pytestmark = pytest.mark.kafka
KINDS = {"columnar": ColumnarConsumer, "plain": PlainConsumer}
Record = tuple[int, int, bytes | None, bytes | None, int]


class Maker:
    """Opens consumers, each in a group of its own unless told otherwise, and closes them after the test."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.made: list[RecordConsumer] = []

    def __call__(self, kind: str, *topics: str, hold: bool = False, **settings: object) -> RecordConsumer:
        config = {"bootstrap.servers": self.bootstrap, "group.id": uuid.uuid4().hex}
        config |= {name.replace("_", "."): str(value) for name, value in settings.items()}
        consumer = KINDS[kind](config, topics, hold_assignment=hold)
        self.made.append(consumer)
        return consumer


@pytest.fixture
def make(kafka: Any) -> Iterator[Maker]:
    maker = Maker(kafka.bootstrap)
    yield maker
    for consumer in maker.made:
        consumer.close()


@pytest.fixture
def send(kafka: Any) -> Callable[..., None]:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 16_000_000, "log_level": "0"})

    def produce(topic: str, *records: dict[str, Any]) -> None:
        for record in records:
            producer.produce(topic, **{"partition": 0, **record})
        assert producer.flush(30) == 0

    return produce


def read(consumer: RecordConsumer, count: int) -> list[Record]:
    """Reads until `count` records came; sorted by partition and offset."""
    rows: list[Record] = []
    while len(rows) < count:
        raw = consumer.poll(1000, 1000)
        if raw is None:
            continue
        columns = zip(raw.partition.tolist(), raw.offset.tolist(), raw.timestamp.tolist(), strict=True)
        rows += [(p, o, raw.key(i), raw.value(i), t) for i, (p, o, t) in enumerate(columns)]
        raw.release()
    return sorted(rows)


VARIED = [
    {"value": b"plain", "key": b"k", "timestamp": 1_700_000_000_123},
    {"value": b"no key"},
    {"value": None, "key": b"tombstone"},
    {"value": None, "key": None},
    {"value": b"", "key": b""},
    {"value": "grün ☃".encode(), "key": b"\x00\xff", "partition": 3},
    {"value": b"headers", "headers": {"a": b"1", "b": None}, "partition": 1},
    {"value": bytes(range(256)) * 20_000, "key": b"5 MB", "partition": 2},
    {"value": b"after", "partition": 2, "timestamp": 1},
]


def test_both_kinds_give_what_was_sent(topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, *VARIED)
    columnar, plain = (read(make(kind, topic), len(VARIED)) for kind in KINDS)
    assert columnar == plain
    for partition in range(4):
        sent = [(r.get("key"), r["value"]) for r in VARIED if r.get("partition", 0) == partition]
        assert [(k, v) for p, _, k, v, _ in columnar if p == partition] == sent
    assert columnar[0][4] == 1_700_000_000_123
    assert columnar[-2][4] == 1


@pytest.mark.parametrize("kind", KINDS)
def test_arrow_columns(kind: str, topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, *VARIED[:5])
    consumer = make(kind, topic)
    frames: list[pl.DataFrame] = []
    while sum(map(len, frames)) < 5:
        batch = consumer.poll_arrow(100, 1000)
        if batch is not None:
            frames.append(pl.DataFrame(pl.from_arrow(batch)))
    frame = pl.concat(frames)
    assert frame["value"].to_list() == [b"plain", b"no key", None, None, b""]
    assert frame["key"].to_list() == [b"k", None, b"tombstone", None, b""]
    assert frame["offset"].to_list() == [0, 1, 2, 3, 4]
    assert frame.schema["partition"] == pl.Int32


def test_large_records_come_in_batches_of_few_and_keep_their_bytes(
    topic: str, send: Callable[..., None], make: Maker
) -> None:
    size, count = 60_000, 600
    send(topic, *({"value": bytes([n % 251]) * size, "key": b"%d" % n, "partition": n % 4} for n in range(count)))
    read_by: dict[str, pl.DataFrame] = {}
    for kind in KINDS:
        consumer = make(kind, topic)
        kept: list[pl.DataFrame] = []
        sizes: list[int] = []
        while sum(sizes) < count:
            batch = consumer.poll_arrow(10_000, 1000)
            if batch is not None:
                sizes.append(batch.num_rows)
                frame = pl.DataFrame(pl.from_arrow(batch))
                kept += [frame.gather_every(50), frame.filter(pl.int_range(pl.len()) % 50 != 0)]
        read_by[kind] = pl.concat(kept).sort("partition", "offset")
        if kind == "columnar":
            assert max(sizes[1:]) <= _READ_BYTES // size + 1
    assert read_by["columnar"].equals(read_by["plain"])
    columnar = read_by["columnar"]
    assert columnar["key"].cast(pl.String).cast(pl.Int32).sort().to_list() == list(range(count))
    for key, value in columnar.select("key", "value").iter_rows():
        assert value == bytes([int(key) % 251]) * size


@pytest.mark.parametrize("kind", KINDS)
def test_positions_ends_and_the_brokers_evidence(kind: str, topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, {"value": b"a"}, {"value": b"b"}, {"value": b"c", "partition": 1})
    consumer = make(kind, topic)
    everywhere = {(topic, p) for p in range(4)}
    read(consumer, 3)
    while consumer.caught_up() != everywhere:
        assert consumer.poll(10, 200) is None
    assert consumer.assignment() == everywhere
    assert consumer.positions() == {(topic, 0): 2, (topic, 1): 1, (topic, 2): 0, (topic, 3): 0}
    assert consumer.end_offsets() == consumer.positions()
    send(topic, {"value": b"d"})
    read(consumer, 1)
    assert consumer.positions()[topic, 0] == 3
    while (topic, 0) not in consumer.caught_up():
        consumer.poll(10, 200)


@pytest.mark.parametrize("kind", KINDS)
def test_seek_gives_exactly_what_follows(kind: str, topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, *({"value": b"%d" % i} for i in range(50)))
    consumer = make(kind, topic)
    first = consumer.poll(7, 30_000)
    assert first is not None
    first.release()
    consumer.seek({(topic, 0): 40})
    assert [o for _, o, *_ in read(consumer, 10)] == list(range(40, 50))
    consumer.seek({(topic, 0): 45})
    assert (topic, 0) not in consumer.caught_up()
    assert [o for _, o, *_ in read(consumer, 5)] == list(range(45, 50))


@pytest.mark.parametrize("kind", KINDS)
def test_wake_ends_a_long_wait(kind: str, topic: str, make: Maker) -> None:
    consumer = make(kind, topic)
    timer = threading.Timer(0.2, consumer.wake)
    timer.start()
    assert consumer.poll(10, 280_000) is None  # the test's own time limit is the judge
    timer.join()


@pytest.mark.parametrize("kind", KINDS)
def test_committed_offsets_carry_metadata(kind: str, topic: str, make: Maker) -> None:
    consumer = make(kind, topic, group_id=f"g-{topic}")
    while not consumer.assignment():
        consumer.poll(1, 200)
    consumer.commit_sync({(topic, 0): (5, '{"e":1}'), (topic, 2): (0, "")})
    every = [(topic, p) for p in range(4)]
    assert consumer.committed(every) == {(topic, 0): (5, '{"e":1}'), (topic, 2): (0, "")}
    membership = consumer.group_metadata()
    assert membership.address
    membership.close()


@pytest.mark.parametrize("kind", KINDS)
def test_held_assignment_reads_nothing_until_it_is_started(
    kind: str, topic: str, send: Callable[..., None], make: Maker
) -> None:
    send(topic, *({"value": b"%d" % i} for i in range(5)))
    consumer = make(kind, topic, hold=True)
    while consumer.offered() is None:
        assert consumer.poll(1, 200) is None
    assert consumer.poll(10, 300) is None
    assert consumer.offered() == {(topic, p) for p in range(4)}
    assert not consumer.assignment()
    consumer.start({(topic, 0): 3, (topic, 1): BEGINNING})
    assert [o for _, o, *_ in read(consumer, 2)] == [3, 4]
    assert consumer.offered() is None
    assert not consumer.revoked


@pytest.mark.parametrize("kind", KINDS)
def test_aborted_transactions_stay_unseen(kind: str, topic: str, kafka: Any, make: Maker) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "transactional.id": uuid.uuid4().hex, "log_level": "0"})
    producer.init_transactions(30)
    for text, keep in ((b"lost", False), (b"kept", True)):
        producer.begin_transaction()
        producer.produce(topic, text, partition=0)
        producer.commit_transaction(30) if keep else (producer.flush(30), producer.abort_transaction(30))
    consumer = make(kind, topic)
    assert [v for *_, v, _ in read(consumer, 1)] == [b"kept"]
    while (topic, 0) not in consumer.caught_up():
        consumer.poll(10, 200)
    uncommitted = make(kind, topic, isolation_level="read_uncommitted")
    assert [v for *_, v, _ in read(uncommitted, 2)] == [b"lost", b"kept"]


@pytest.mark.parametrize("kind", KINDS)
def test_several_topics_come_in_batches_of_one(
    kind: str, new_topic: Callable[..., str], send: Callable[..., None], make: Maker
) -> None:
    topics = [new_topic(1), new_topic(1)]
    for topic in topics:
        send(topic, *({"value": topic.encode()} for _ in range(100)))
    consumer = make(kind, *topics)
    seen = dict.fromkeys(topics, 0)
    while sum(seen.values()) < 200:
        raw = consumer.poll(1000, 1000)
        if raw is not None:
            assert {raw.value(i) for i in range(len(raw))} == {raw.topic.encode()}
            seen[raw.topic] += len(raw)
            raw.release()
    assert seen == dict.fromkeys(topics, 100)
    assert consumer.positions() == {(topic, 0): 100 for topic in topics}


@pytest.mark.parametrize("kind", KINDS)
def test_an_offset_that_is_gone_is_an_error(
    kind: str, topic: str, kafka: Any, send: Callable[..., None], make: Maker
) -> None:
    send(topic, *({"value": b"x"} for _ in range(10)))
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})
    next(iter(admin.delete_records([Row(topic, 0, 6)]).values())).result(30)
    consumer = make(kind, auto_offset_reset="error")
    consumer.start({(topic, 0): 2})
    with pytest.raises(OffsetOutOfRange) as caught:
        read(consumer, 1)
    assert (caught.value.topic, caught.value.partition) == (topic, 0)
    assert consumer.watermarks((topic, 0)) == (6, 10)
    consumer.start({(topic, 0): 6})
    assert [o for _, o, *_ in read(consumer, 4)] == [6, 7, 8, 9]


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_instance_fences_the_first(kind: str, topic: str, make: Maker) -> None:
    settings = {"group_id": f"g-{topic}", "group_instance_id": "worker-0", "session_timeout_ms": 6000}
    first = make(kind, topic, **settings)
    while not first.assignment():
        first.poll(1, 200)
    second = make(kind, topic, **settings)
    while not second.assignment():
        second.poll(1, 200)
    with pytest.raises(FencedError, match="running twice"):
        read(first, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_unreachable_broker_is_named(kind: str) -> None:
    consumer = KINDS[kind]({"bootstrap.servers": "127.0.0.1:1"})
    with pytest.raises(ConnectorError, match=r"127\.0\.0\.1:1 .*refused.*Check that"):
        consumer.topics(1_500)
    consumer.close()


def test_records_outlive_their_consumer(topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, {"value": b"held", "key": b"k"})
    consumer = make("columnar", topic)
    raw = consumer.poll(10, 30_000)
    while raw is None:
        raw = consumer.poll(10, 30_000)
    consumer.close()
    assert (raw.value(0), raw.key(0)) == (b"held", b"k")
    raw.release()
    raw.release()  # a second time does nothing
    with pytest.raises(ConnectorError, match="closed"):
        consumer.poll()


def test_close_ends_a_poll_in_another_thread(topic: str, make: Maker) -> None:
    consumer = make("columnar", topic)
    polling = threading.Event()
    results: list[object] = []

    def poll() -> None:
        polling.set()
        results.append(consumer.poll(10, 280_000))

    thread = threading.Thread(target=poll)
    thread.start()
    polling.wait()
    consumer.close()
    thread.join()
    assert results in ([None], [])


@pytest.mark.parametrize("kind", KINDS)
def test_settings_that_can_not_work_are_refused(kind: str) -> None:
    def refused(topics: list[str], message: str, **settings: object) -> None:
        config = {name.replace("_", "."): value for name, value in settings.items()}
        with pytest.raises(Exception, match=message) as caught:
            KINDS[kind](config, topics)
        if kind == "columnar":
            assert isinstance(caught.value, ConfigurationError)

    refused([], "bootstrap.servers")
    refused(["t"], "group.id", bootstrap_servers="x:1")
    refused(["t"], "all at once", bootstrap_servers="x:1", group_id="g", group_protocol="consumer")
    refused([], "no.such.thing", bootstrap_servers="x:1", no_such_thing=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_that_dies_and_comes_back_is_waited_for(kind: str) -> None:
    with LocalKafka(fast_start=True) as kafka:
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(30)
        config = {"bootstrap.servers": kafka.bootstrap, "group.id": "g"}
        consumer = KINDS[kind](config, ["t"])
        producer.produce("t", b"before")
        producer.flush(30)
        assert [v for *_, v, _ in read(consumer, 1)] == [b"before"]
        kafka.kill()
        assert consumer.poll(10, 1000) is None
        kafka.restart()
        producer.produce("t", b"after")
        producer.flush(30)
        assert [v for *_, v, _ in read(consumer, 1)] == [b"after"]
        consumer.close()

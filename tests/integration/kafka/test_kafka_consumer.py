"""`KafkaConsumer` on a real broker: rows, frames, positions, commits that never run ahead of the work, rebalances."""

from __future__ import annotations

import asyncio
import re
import threading
import uuid
from collections.abc import Callable
from typing import Any

import confluent_kafka as ck
import polars as pl
import pytest

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka import BadRecords, KafkaConsumer, KafkaProducer, KafkaRecord
from thalweg.records import DEAD_LETTER_SCHEMA

pytestmark = pytest.mark.kafka
Send = Callable[..., None]


@pytest.fixture(params=["columnar", "plain"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test is of both consumers: librdkafka's own, and what serves where that can't be used."""
    name: str = request.param
    monkeypatch.setenv("THALWEG_PLAIN_CONSUMER", "1" if name == "plain" else "0")
    return name


@pytest.fixture
def send(kafka: Any) -> Send:
    producer = ck.Producer({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})

    def produce(topic: str, *values: bytes | None, partition: int = 0, **more: Any) -> None:
        for value in values:
            producer.produce(topic, value, partition=partition, **more)
        assert producer.flush(30) == 0

    return produce


@pytest.fixture
def group() -> str:
    return uuid.uuid4().hex


def take(consumer: KafkaConsumer, count: int) -> list[KafkaRecord]:
    """So many records; the test's time limit is the judge."""
    found: list[KafkaRecord] = []
    while len(found) < count:
        record = consumer.poll(1)
        if record is not None:
            found.append(record)
    return found


def take_frames(consumer: KafkaConsumer, count: int, **how: Any) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    while sum(frame.height for frame in frames) < count:
        frame = consumer.poll_batch(**how)
        if frame is not None:
            frames.append(frame)
    return pl.concat(frames)


def committed(bootstrap: str, group: str, topic: str, partitions: int = 1) -> list[int]:
    reader = ck.Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": "0"})
    rows = reader.committed([ck.TopicPartition(topic, p) for p in range(partitions)], timeout=20)
    reader.close()
    return [row.offset for row in rows]


def work_until(bootstrap: str, topic: str, group: str, value: bytes) -> None:
    """A worker that breaks at that record."""
    with KafkaConsumer(bootstrap, topic, group_id=group) as consumer:
        for record in consumer:
            if record.value == value:
                raise RuntimeError("broken")


def poll_on(poll: Callable[[], object]) -> None:
    """Until it raises; the test's time limit is the judge."""
    while True:
        poll()


def test_rows(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, b"a", None, b"", key=b"k", headers=[("h", b"1"), ("h", None), ("ü", b"")], timestamp=77)
    with KafkaConsumer(kafka.bootstrap, [topic], group_id=group, headers=True) as consumer:
        rows = take(consumer, 3)
    headers = [("h", b"1"), ("h", None), ("ü", b"")]
    assert rows == [KafkaRecord(topic, 0, at, 77, b"k", value, headers) for at, value in enumerate((b"a", None, b""))]


def test_rows_of_a_format_and_text_keys(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, b'{"n": 1, "s": "x"}', key="kü".encode())
    send(topic, b'{"n": 2}')
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, format="json", key_format="text") as consumer:
        rows = take(consumer, 2)
    assert [(row.key, row.value, row.headers) for row in rows] == [
        ("kü", {"n": 1, "s": "x"}, None),
        (None, {"n": 2, "s": None}, None),
    ]


def test_frames_of_several_topics(kafka: Any, new_topic: Callable[..., str], group: str, send: Send) -> None:
    topics = [new_topic(partitions=2), new_topic(partitions=1)]
    for at, topic in enumerate(topics):
        send(topic, *(b"%d-%d" % (at, n) for n in range(500)), headers=[("topic", topic.encode())])
    with KafkaConsumer(kafka.bootstrap, topics, group_id=group, headers=True) as consumer:
        frame = take_frames(consumer, 1000)
    assert frame.columns == ["value", "__key", "__topic", "__partition", "__offset", "__ts", "__headers"]
    for at, topic in enumerate(topics):
        mine = frame.filter(pl.col("__topic") == topic).sort("__offset")
        assert mine["value"].to_list() == [b"%d-%d" % (at, n) for n in range(500)]
        assert mine["__headers"].to_list() == [[{"key": "topic", "value": topic.encode()}]] * 500


def test_a_batch_can_be_taken_in_parts_and_by_rows(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, *(b"%d" % n for n in range(100)))
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, auto_commit=False) as consumer:
        rows = take(consumer, 10)
        frame = consumer.poll_batch(max_rows=20)
        assert frame is not None
        more = take(consumer, 5)
        assert consumer.positions()[topic, 0] == 10 + frame.height + 5
    values = [row.value for row in rows] + frame["value"].to_list() + [row.value for row in more]
    assert values == [b"%d" % n for n in range(len(values))]


def test_automatic_commits_follow_the_work(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, *(b"%d" % n for n in range(10)))
    with pytest.raises(RuntimeError, match="broken"):
        work_until(kafka.bootstrap, topic, group, b"6")
    assert committed(kafka.bootstrap, group, topic) == [6]  # the record in work comes again
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, auto_commit_interval=1) as consumer:
        assert take(consumer, 4)[0].value == b"6"
        while consumer.poll(0.05) is not None or committed(kafka.bootstrap, group, topic) != [10]:
            pass


def test_frames_are_committed_when_the_next_is_asked_for(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, *(b"%d" % n for n in range(10)))
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group) as consumer:
        take_frames(consumer, 10)
    assert committed(kafka.bootstrap, group, topic)[0] < 10
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group) as consumer:
        take_frames(consumer, 1)
        consumer.commit()
    assert committed(kafka.bootstrap, group, topic) == [10]


def test_manual_commits(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, *(b"%d" % n for n in range(10)))
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, auto_commit=False) as consumer:
        take(consumer, 4)
        consumer.commit()
        assert consumer.committed() == {(topic, 0): 4}
        take(consumer, 2)
        consumer.commit({(topic, 0): (5, "a note")})
        take(consumer, 4)
        assert consumer.poll(0.2) is None
    assert committed(kafka.bootstrap, group, topic) == [5]


def test_seek_by_offset_time_and_ends(kafka: Any, topic: str, group: str, send: Send) -> None:
    for n in range(10):
        send(topic, b"%d" % n, timestamp=1_000_000 + n * 1_000)
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, auto_commit=False) as consumer:
        take(consumer, 3)
        consumer.seek({(topic, 0): 7})
        assert [row.value for row in take(consumer, 2)] == [b"7", b"8"]
        consumer.seek_to_time(1_003_500, [(topic, 0)])
        assert take(consumer, 1)[0].value == b"4"
        consumer.seek_to_beginning()
        assert take(consumer, 1)[0].value == b"0"
        consumer.commit({(topic, 0): 5})
        consumer.seek_to_committed([(topic, 0)])
        assert take(consumer, 1)[0].value == b"5"
        consumer.seek_to_end()
        send(topic, b"new")
        assert take(consumer, 1)[0].value == b"new"
        assert consumer.offsets_at([(topic, 0), (topic, 1)], 9_000_000_000_000) == {(topic, 0): 11, (topic, 1): 0}
        with pytest.raises(ConfigurationError, match="not being read"):
            consumer.seek({("other", 0): 1})


def test_assign_pause_resume_and_lag_without_a_group(kafka: Any, topic: str, send: Send) -> None:
    send(topic, *(b"%d" % n for n in range(5)), partition=0)
    send(topic, *(b"%d" % n for n in range(5)), partition=1)
    with KafkaConsumer(kafka.bootstrap, start="earliest") as consumer:
        consumer.assign({(topic, 0): 3, (topic, 1): 5})
        assert [row.value for row in take(consumer, 2)] == [b"3", b"4"]
        assert consumer.poll(0.3) is None
        assert consumer.lag() == {(topic, 0): 0, (topic, 1): 0}
        consumer.pause([(topic, 1)])
        send(topic, b"held", partition=1)
        send(topic, b"free", partition=0)
        assert take(consumer, 1)[0].value == b"free"
        assert consumer.poll(0.3) is None
        assert consumer.lag(ask=True)[topic, 1] == 1
        consumer.resume()
        assert take(consumer, 1)[0].value == b"held"
        with pytest.raises(ConfigurationError, match="group_id"):
            consumer.subscribe(topic)


def test_a_pattern_meets_topics(kafka: Any, group: str, send: Send) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    stem = f"pattern-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})
    names = [f"{stem}-a", f"{stem}-b", f"x-{stem}-a"]
    for future in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        future.result(30)
    for name in names:
        send(name, name.encode())
    with KafkaConsumer(kafka.bootstrap, re.compile(f"{stem}-.*"), group_id=group) as consumer:
        assert {row.topic for row in take(consumer, 2)} == set(names[:2])
        assert consumer.poll(0.3) is None


def test_async_rows_frames_and_cancellation(kafka: Any, topic: str, group: str, send: Send) -> None:
    async def read() -> list[bytes]:
        values = []
        async with KafkaConsumer(kafka.bootstrap, topic, group_id=group, auto_commit=False) as consumer:
            async for record in consumer:
                values.append(record.value)
                if len(values) == 5:
                    break
            frame = await consumer.poll_batch_async()
            assert frame is not None
            values += frame["value"].to_list()
            waiting = asyncio.create_task(consumer.poll_batch_async(timeout=600))
            await asyncio.sleep(0.2)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.to_thread(send, topic, b"late")
            late = None
            while late is None:
                late = await consumer.poll_batch_async()
            return values + late["value"].to_list()

    send(topic, *(b"%d" % n for n in range(10)))
    assert asyncio.run(read()) == [*(b"%d" % n for n in range(10)), b"late"]


def test_records_that_cannot_be_read(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, b'{"n": 1}', b"{bad", b'{"n": 2}', b"{worse")
    letters: list[pl.DataFrame] = []
    with KafkaConsumer(
        kafka.bootstrap, topic, group_id=group, format="json", schema={"n": pl.Int64}, on_bad_records=letters.append
    ) as consumer:
        assert [row.value for row in take(consumer, 2)] == [{"n": 1}, {"n": 2}]
        while consumer.poll(0.3) is not None or sum(frame.height for frame in letters) < 2:
            pass
        consumer.commit()
    bad = pl.concat(letters)
    assert bad.schema == DEAD_LETTER_SCHEMA
    assert bad["payload"].to_list() == [b"{bad", b"{worse"]
    assert committed(kafka.bootstrap, group, topic) == [4]
    with KafkaConsumer(kafka.bootstrap, format="json", schema={"n": pl.Int64}) as consumer:
        consumer.assign({(topic, 0): 0})
        with pytest.raises(BadRecords, match=r"offset 1: MalformedJson"):
            poll_on(consumer.poll_batch)
        frame = consumer.poll_batch()
        assert frame is not None
        assert frame["n"].to_list()[0] == 1


def test_only_committed_records_come_and_markers_count_as_read(kafka: Any, topic: str, group: str) -> None:
    with KafkaProducer(kafka.bootstrap, transactional_id=f"tx-{topic}") as producer:
        producer.init_transactions()
        for commit in (True, False, True):
            producer.begin_transaction()
            producer.send(topic, str(commit), partition=0)
            producer.flush()
            producer.commit_transaction() if commit else producer.abort_transaction()
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group) as consumer:
        assert [row.value for row in take(consumer, 2)] == [b"True", b"True"]
        while consumer.lag() != dict.fromkeys([(topic, p) for p in range(4)], 0):
            assert consumer.poll(0.2) is None
    assert committed(kafka.bootstrap, group, topic) == [6]
    with KafkaConsumer(kafka.bootstrap, read_uncommitted=True) as consumer:
        consumer.assign({(topic, 0): 0})
        assert [row.value for row in take(consumer, 3)] == [b"True", b"False", b"True"]


def test_partitions_move_one_by_one_and_callbacks_hear_of_it(kafka: Any, topic: str, group: str, send: Send) -> None:
    events: list[tuple[str, frozenset[tuple[str, int]]]] = []

    def note(name: str) -> Callable[[KafkaConsumer, frozenset[tuple[str, int]]], None]:
        return lambda consumer, partitions: events.append((name, partitions))

    for partition in range(4):
        send(topic, b"x", partition=partition)
    with KafkaConsumer(
        kafka.bootstrap, topic, group_id=group, on_assign=note("assign"), on_revoke=note("revoke"), on_lost=note("lost")
    ) as first:
        take(first, 4)
        assert events == [("assign", frozenset((topic, p) for p in range(4)))]
        events.clear()
        with KafkaConsumer(kafka.bootstrap, topic, group_id=group) as second:
            while len(second.assignment()) < 2 or len(first.assignment()) > 2:
                first.poll(0.05)
                second.poll(0.05)
            assert first.assignment() | second.assignment() == {(topic, p) for p in range(4)}
            assert [(name, len(moved)) for name, moved in events if moved] == [("revoke", 2)]
            # What moved was committed before it was given away.
            moved = next(moved for name, moved in events if moved)
            assert second.committed(moved) == dict.fromkeys(moved, 1)
        while len(first.assignment()) < 4:
            first.poll(0.05)
        assert first.poll(0.3) is None  # nothing comes twice
    assert events[-1][0] == "revoke"


def test_on_assign_says_where_to_begin(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, *(b"%d" % n for n in range(5)))

    def begin(consumer: KafkaConsumer, partitions: frozenset[tuple[str, int]]) -> None:
        consumer.seek({(topic, 0): 3})

    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, on_assign=begin) as consumer:
        assert [row.value for row in take(consumer, 2)] == [b"3", b"4"]


def test_an_error_in_a_callback_is_told_and_the_group_goes_on(kafka: Any, topic: str, group: str, send: Send) -> None:
    calls: list[int] = []

    def fail(consumer: KafkaConsumer, partitions: frozenset[tuple[str, int]]) -> None:
        calls.append(1)
        raise RuntimeError("in the callback")

    send(topic, b"x")
    with KafkaConsumer(kafka.bootstrap, topic, group_id=group, on_assign=fail) as consumer:
        with pytest.raises(RuntimeError, match="in the callback"):
            poll_on(consumer.poll)
        assert take(consumer, 1)[0].value == b"x"
    assert calls == [1]


def test_a_static_member_comes_back_without_a_rebalance(kafka: Any, topic: str, group: str, send: Send) -> None:
    revoked: list[object] = []
    send(topic, b"x", partition=0)

    def open_member(name: str) -> KafkaConsumer:
        return KafkaConsumer(
            kafka.bootstrap, topic, group_id=group, instance_id=name,
            on_revoke=lambda consumer, partitions: revoked.append(partitions),
        )  # fmt: skip

    with open_member("a") as a:
        with open_member("b") as b:
            while len(b.assignment()) != 2 or len(a.assignment()) != 2:
                a.poll(0.05)
                b.poll(0.05)
            had = b.assignment()
        revoked.clear()
        with open_member("b") as b:
            while not b.assignment():
                a.poll(0.05)
                b.poll(0.05)
            assert b.assignment() == had
        assert [partitions for partitions in revoked if partitions != had] == []


def test_close_from_another_thread_ends_the_iteration(kafka: Any, topic: str, group: str) -> None:
    consumer = KafkaConsumer(kafka.bootstrap, topic, group_id=group)
    closing = threading.Timer(0.5, consumer.close)
    closing.start()
    assert list(consumer) == []
    closing.join()  # the iteration ends as soon as it begins to close
    with pytest.raises(ConnectorError, match="closed"):
        consumer.committed([(topic, 0)])


def test_a_callback_may_close_its_consumer(kafka: Any, topic: str, group: str, send: Send) -> None:
    send(topic, b"x")
    with KafkaConsumer(
        kafka.bootstrap, topic, group_id=group, on_assign=lambda consumer, partitions: consumer.close()
    ) as consumer:
        assert list(consumer) == []
    with pytest.raises(ConnectorError, match="closed"):
        consumer.committed([(topic, 0)])


def test_the_fallback_is_the_one_that_is_meant(kafka: Any, kind: str) -> None:
    with KafkaConsumer(kafka.bootstrap) as consumer:
        assert type(consumer._consumer).__name__ == {"plain": "PlainConsumer", "columnar": "ColumnarConsumer"}[kind]

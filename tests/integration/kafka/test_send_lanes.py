"""Frames spread over a topic's partitions, about a request's worth at a time, and come out whole and in order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pytest

from thalweg.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer
from thalweg.kafka._produce_kernels import RECORD_BYTES
from thalweg.kafka.local_cluster import LocalKafka
from thalweg.kafka.partitioners import open_partitioner, partition_for
from thalweg.records import EncodedRecords

pytestmark = pytest.mark.kafka

ROWS = 40_000
PADDING = "x" * 150


def numbered(start: int, rows: int) -> pl.DataFrame:
    return pl.DataFrame({"value": [f"{n:08} {PADDING}" for n in range(start, start + rows)]})


def encoded(rows: list[bytes]) -> EncodedRecords:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return EncodedRecords(np.frombuffer(b"".join(rows), np.uint8), offsets)


def numbers_by_partition(bootstrap: str, topic: str, rows: int, partitions: int) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {partition: [] for partition in range(partitions)}
    with KafkaConsumer(bootstrap, topic, group_id=f"{topic}-reader", format="text") as consumer:
        while sum(map(len, found.values())) < rows:
            frame = consumer.poll_batch(timeout=1.0)
            if frame is not None:
                for partition, value in frame.select("__partition", "value").iter_rows():
                    found[partition].append(int(value[:8]))
    return found


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("partitions", [1, 4])
def test_every_row_once_and_in_order_within_its_partition(
    kafka: Any, new_topic: Callable[..., str], partitions: int, transactional: bool
) -> None:
    topic = new_topic(partitions)
    with KafkaProducer(kafka.bootstrap, transactional_id=topic if transactional else None) as producer:
        starts = [0, 1, 334, 10_000, 10_001, 33_333]
        bounds = list(zip(starts, [*starts[1:], ROWS], strict=True))
        if transactional:
            for start, end in bounds:
                with producer.transaction():
                    assert producer.send_frame(topic, numbered(start, end - start), format="text") == end - start
        else:
            for start, end in bounds:
                assert producer.send_frame(topic, numbered(start, end - start), format="text") == end - start
    found = numbers_by_partition(kafka.bootstrap, topic, ROWS, partitions)
    assert all(numbers == sorted(numbers) for numbers in found.values())
    assert sorted(chain(*found.values())) == list(range(ROWS))
    assert min(map(len, found.values())) > 0


def test_all_that_was_handed_over_comes_back(kafka: Any, topic: str) -> None:
    """Also what is purged by an abort: a lane that is never credited would take no more records one day."""
    with KafkaProducer(kafka.bootstrap, transactional_id=topic) as producer:
        for aborted in (True, False):
            try:
                with producer.transaction():
                    producer.send_frame(topic, numbered(0, 20_000), format="text")
                    if aborted:
                        raise InterruptedError
            except InterruptedError:
                continue
        assert producer._lanes is not None
        np.testing.assert_array_equal(producer._lanes._given, producer._deliveries.lanes)
        assert producer._lanes._given.sum() == 2 * 20_000 * (9 + len(PADDING) + RECORD_BYTES)


def test_partitions_added_later_are_used_after_a_refresh(kafka: Any, new_topic: Callable[..., str]) -> None:

    topic = new_topic(1)
    with KafkaProducer(kafka.bootstrap) as producer:
        producer.send_frame(topic, numbered(0, 10), format="text")
        KafkaAdmin(kafka.bootstrap).grow_topic(topic, 3)
        producer.refresh_topic(topic)
        producer.send_frame(topic, numbered(10, ROWS - 10), format="text")
    found = numbers_by_partition(kafka.bootstrap, topic, ROWS, 3)
    assert sorted(chain(*found.values())) == list(range(ROWS))
    assert min(map(len, found.values())) > 0


@pytest.mark.parametrize("settings", [{"partitioner": "consistent"}, {"sticky.partitioning.linger.ms": 0}])
def test_who_asks_for_a_way_of_librdkafka_to_choose_gets_it(kafka: Any, topic: str, settings: dict[str, Any]) -> None:
    with KafkaProducer(kafka.bootstrap, settings=settings) as producer:
        assert producer._lanes is None
        producer.send_frame(topic, numbered(0, 1_000), format="text")
    found = numbers_by_partition(kafka.bootstrap, topic, 1_000, 4)
    assert sorted(chain(*found.values())) == list(range(1_000))


def read_all(bootstrap: str, topic: str, rows: int) -> pl.DataFrame:
    """All of a topic, each partition's in order."""
    frames: list[pl.DataFrame] = []
    with KafkaConsumer(
        bootstrap, topic, group_id=f"{topic}-reader", format="text", key_format="text", headers=True
    ) as consumer:
        while sum(frame.height for frame in frames) < rows:
            frame = consumer.poll_batch(timeout=1.0)
            if frame is not None:
                frames.append(frame)
    return pl.concat(frames).sort("__partition", "__offset")


@pytest.mark.parametrize("transactional", [False, True])
@pytest.mark.parametrize("partitions", [1, 5])
def test_keyed_rows_go_where_javas_do_and_keep_their_order(
    kafka: Any, new_topic: Callable[..., str], partitions: int, transactional: bool
) -> None:
    topic = new_topic(partitions)
    data = numbered(0, ROWS).with_columns(key=pl.int_range(pl.len()) % 997)
    data = data.with_columns(key=pl.when(pl.col("key") % 10 != 3).then(pl.format("user-{}", "key")))
    starts = [0, 1, 334, 10_000, 10_001, 33_333]
    bounds = list(zip(starts, [*starts[1:], ROWS], strict=True))
    with KafkaProducer(kafka.bootstrap, transactional_id=topic if transactional else None) as producer:
        for start, end in bounds:
            part = data.slice(start, end - start)
            if transactional:
                with producer.transaction():
                    producer.send_frame(topic, part, format="text", key="key", columns=["value"])
            else:
                producer.send_frame(topic, part, format="text", key="key", columns=["value"])
        assert producer._lanes is not None
        producer.flush()
        np.testing.assert_array_equal(producer._lanes._given, producer._deliveries.lanes)
    found = read_all(kafka.bootstrap, topic, ROWS)
    keyed = found.filter(pl.col("__key").is_not_null())
    expected = [partition_for(key.encode(), partitions) for key in keyed["__key"]]
    assert keyed["__partition"].to_list() == expected
    for (partition,), rows in keyed.group_by("__partition"):
        assert rows["value"].is_sorted(), partition
    everything = found.sort("value").select("__key", "value")
    assert everything.rows() == data.select("key", "value").rows()


def test_given_partitions_times_and_headers_stay_with_their_rows(kafka: Any, new_topic: Callable[..., str]) -> None:
    topic = new_topic(4)
    rows = 3_000
    data = numbered(0, rows).with_columns(
        place=pl.when(pl.int_range(pl.len()) % 3 != 0).then(pl.int_range(pl.len()) * 7 % 4),
        at=pl.int_range(pl.len()) + 1_700_000_000_000,
        note=pl.int_range(pl.len()).cast(pl.String),
    )
    with KafkaProducer(kafka.bootstrap) as producer:
        for start in range(0, rows, 1_000):
            producer.send_frame(
                *(topic, data.slice(start, 1_000)), format="text", partition="place", timestamp="at",
                headers={"note": pl.col("note")}, columns=["value"],
            )  # fmt: skip
    found = read_all(kafka.bootstrap, topic, rows).sort("value")
    assert found["value"].to_list() == data["value"].to_list()
    assert found["__ts"].to_list() == data["at"].to_list()
    assert [row[0]["value"].decode() for row in found["__headers"].to_list()] == data["note"].to_list()
    given = data["place"].is_not_null()
    assert found.filter(given)["__partition"].to_list() == data.filter(given)["place"].to_list()


def test_rows_that_are_too_large_are_named_in_their_order_and_the_others_sent(
    kafka: Any, new_topic: Callable[..., str]
) -> None:
    topic = new_topic(4)
    values = [b"%d" % n if n % 5 else bytes(2_000) for n in range(200)]
    keys = [b"k%d" % n for n in range(200)]
    with KafkaProducer(kafka.bootstrap, max_record_bytes=1_500) as producer:
        refused = producer.send_records(topic, encoded(values), encoded(keys))
    assert refused.tolist() == list(range(0, 200, 5))
    found = read_all(kafka.bootstrap, topic, 160)
    assert sorted(map(int, found["value"])) == [n for n in range(200) if n % 5]


@pytest.mark.parametrize(
    "partitioner", ["consistent_hash", "round_robin", lambda key, partitions: len(key) % partitions]
)
def test_partitioners_of_ours_say_where_rows_go(kafka: Any, new_topic: Callable[..., str], partitioner: Any) -> None:
    topic = new_topic(4)
    data = numbered(0, 4_000).with_columns(key=pl.lit("k") + pl.int_range(pl.len()).cast(pl.String))
    with KafkaProducer(kafka.bootstrap, partitioner=partitioner) as producer:
        producer.send_frame(topic, data, format="text", key="key", columns=["value"])
    found = read_all(kafka.bootstrap, topic, 4_000).sort("value")
    raw = encoded([key.encode() for key in data["key"]])
    chooser = open_partitioner(partitioner)
    assert chooser is not None
    assert found["__partition"].to_list() == chooser.partitions(raw, None, 4_000, 4).tolist()


def test_a_topic_that_was_made_anew_with_fewer_partitions_takes_all_rows(
    kafka: Any, new_topic: Callable[..., str]
) -> None:
    """Its partitions are known for a minute; librdkafka, which knows better, chooses then."""
    topic = new_topic(4)
    data = numbered(0, 400).with_columns(key=pl.int_range(pl.len()).cast(pl.String))
    admin = KafkaAdmin(kafka.bootstrap)
    with KafkaProducer(kafka.bootstrap) as producer:
        producer.send_frame(topic, data, format="text", key="key", columns=["value"])
        producer.flush()
        admin.delete_topic(topic)
        admin.ensure_topic(topic, 2)
        producer.partition_count(topic)  # librdkafka learns of it, our lanes don't
        producer.send_frame(topic, data, format="text", key="key", columns=["value"])
        producer.flush()
    found = read_all(kafka.bootstrap, topic, 400)
    assert found["value"].sort().to_list() == data["value"].to_list()
    assert found["__partition"].to_list() == [partition_for(key.encode(), 2) for key in found["__key"]]


@pytest.mark.slow
def test_where_nothing_comes_back_the_rest_of_a_keyed_frame_waits_in_the_buffer() -> None:
    """A broker that hangs must not hold up a sender of keyed rows before the buffer is full."""
    data = numbered(0, ROWS).with_columns(key=pl.int_range(pl.len()).cast(pl.String))
    with LocalKafka() as own, KafkaProducer(own.bootstrap) as producer:
        KafkaAdmin(own.bootstrap).ensure_topic("t", 3)
        producer.send_frame("t", data.head(1), format="text", key="key", columns=["value"])
        producer.flush()
        own.pause()
        try:
            assert producer.send_frame("t", data, format="text", key="key", columns=["value"]) == ROWS
            assert producer._lanes is not None
            under_way = producer._lanes._given - producer._deliveries.lanes
            assert (under_way[1:4] > 1_000_000).all(), under_way[1:4]
        finally:
            own.resume()
        producer.flush()
        found = read_all(own.bootstrap, "t", ROWS + 1)
    assert found["value"].sort().to_list() == sorted([*data["value"], data["value"][0]])
    for (partition,), rows in found.group_by("__partition"):
        assert rows["value"].is_sorted(), partition

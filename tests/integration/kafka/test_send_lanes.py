"""Keyless frames spread over a topic's partitions, a request's worth at a time, and come out whole and in order."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import polars as pl
import pytest

from thalweg.kafka import KafkaAdmin, KafkaConsumer, KafkaProducer

pytestmark = pytest.mark.kafka

ROWS = 40_000
PADDING = "x" * 150


def numbered(start: int, rows: int) -> pl.DataFrame:
    return pl.DataFrame({"value": [f"{n:08} {PADDING}" for n in range(start, start + rows)]})


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
        assert producer._lanes._given.sum() == 2 * 20_000 * (9 + len(PADDING))


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

"""Compacted topics on a real broker: records without a value delete in a table, and deletes are written as such."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.integration.kafka.commit_tools import read
from thalweg import App
from thalweg.analytics import count, sum_

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]

SCHEMA = {"item": str, "price": int}


def put(bootstrap: str, topic: str, records: list[tuple[str, int | None]]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for item, price in records:
        value = None if price is None else json.dumps({"item": item, "price": price})
        producer.produce(topic, value, item)
    assert producer.flush(30) == 0


def read_all(bootstrap: str, topic: str, count: int) -> list[Any]:
    """The records of a topic that is to have so many."""
    deadline = time.monotonic() + 30
    while len(found := read(bootstrap, topic)) < count:
        assert time.monotonic() < deadline, f"{len(found)} records"
    return found


def await_record(bootstrap: str, topic: str, last: Callable[[dict[str, Any]], bool]) -> None:
    """Waits until the last record of a partition is such."""
    deadline = time.monotonic() + 30
    found: list[Any] = []
    while not found or not last(json.loads(found[-1].value())):
        assert time.monotonic() < deadline, [record.value() for record in found[-5:]]
        found = [record for record in read(bootstrap, topic) if record.value() is not None]


@pytest.mark.parametrize("guarantee", ["exactly-once", pytest.param("at-least-once", marks=pytest.mark.slow)])
def test_deletes_come_and_go_as_records_without_a_value(kafka, new_topic, guarantee: str):
    source, sink = new_topic(partitions=4, cleanup_policy="compact"), new_topic(partitions=2, cleanup_policy="compact")
    totals = new_topic(partitions=1)

    def run() -> None:
        app = App(f"job-{sink}", broker=f"kafka://{kafka.bootstrap}", guarantee=guarantee)
        changes = app.table(source, key="item", schema=SCHEMA).changes
        changes.to(sink, changes="upsert")
        changes.group_by().aggregate(n=count(), total=sum_("price")).to(totals, changes=True)
        app.run(until_caught_up=True)

    put(kafka.bootstrap, source, [("tea", 5), ("milk", 2), ("rum", 9), ("tea", None), ("tea", 7), ("rum", None)])
    run()
    put(kafka.bootstrap, source, [("milk", None), ("nothing", None), ("salt", 1)])
    run()
    # A commit returns before its records can be seen in all partitions.
    await_record(kafka.bootstrap, totals, lambda record: (record["n"], record["total"]) == (2, 8))
    by_key: dict[bytes | None, list[int | None]] = {}
    for record in read_all(kafka.bootstrap, sink, 8):
        value = record.value()
        by_key.setdefault(record.key(), []).append(None if value is None else json.loads(value)["price"])
    assert by_key == {b"tea": [5, None, 7], b"milk": [2, None], b"rum": [9, None], b"salt": [1]}

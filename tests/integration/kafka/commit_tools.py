"""What the tests of commits share: a group's consumer, a simple encoder, a reader of what is committed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import confluent_kafka as ck
import numpy as np
import polars as pl

from thalweg.connectors.kafka_committer import KafkaCommitter
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.columnar import ColumnarConsumer
from thalweg.records import EncodedRecords
from thalweg.streams.connector import Commit, Guarantee, JobSettings, PartitionEpoch, SinkWrite, StateRecord

Offsets = Mapping[tuple[str, int], tuple[int, str]]


class Group(ColumnarConsumer):
    """A consumer group without members: its offsets only."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self.group = group
        super().__init__({"bootstrap.servers": bootstrap, "group.id": group})


class Source:
    """As much of a source as a committer asks for."""

    def __init__(self, topic: str, consumer: Any) -> None:
        self.topic = topic
        self.consumer = consumer


class TextEncoder:
    """One record per row: the column `v`."""

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        rows = [value.encode() for value in frame["v"]]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        return EncodedRecords(np.frombuffer(b"".join(rows), dtype=np.uint8), offsets)


def write(topic: str, values: Sequence[str], keys: Sequence[str | None] | None = None, **more: Any) -> SinkWrite:
    frame = pl.DataFrame({"v": values, "k": keys if keys is not None else values})
    return SinkWrite(topic, frame, TextEncoder(), "k", **more)


def committer(
    bootstrap: str,
    job: str,
    topic: str,
    guarantee: Guarantee = Guarantee.EXACTLY_ONCE,
    consumer: Any = None,
    *,
    slot: int = 0,
    alternating: bool = False,
    storage: str | None = None,
) -> KafkaCommitter:
    source: Any = Source(topic, consumer or Group(bootstrap, job))
    settings = JobSettings(job, slot, guarantee, checkpoint_storage=storage)
    return KafkaCommitter(settings, KafkaAdmin(bootstrap), [source], alternating=alternating)


def commit(
    topic: str, number: int, writes: Sequence[SinkWrite] = (), *states: StateRecord, partition: int = 0
) -> Commit:
    """Commit `number`: the source is at 10 × number, the largest timestamp is 1000 × number."""
    return Commit({(topic, partition): PartitionEpoch(number, number * 10, number * 1000)}, writes, states, number)


def read(bootstrap: str, topic: str, *, isolation: str = "read_committed", timeout: float = 30.0) -> list[Any]:
    """All records of a topic, up to its end as of now; partition by partition."""
    ends = KafkaAdmin(bootstrap).offsets(topic, latest=True)
    client = ck.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "test-reader",
            "enable.auto.commit": False,
            "isolation.level": isolation,
            "enable.partition.eof": True,
        }
    )
    waiting = {partition for partition, end in ends.items() if end > 0}
    client.assign([ck.TopicPartition(topic, partition, ck.OFFSET_BEGINNING) for partition in waiting])
    records: list[Any] = []
    deadline = time.monotonic() + timeout
    while waiting:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic}: partitions {waiting} were not read to their ends {ends}")
        for record in client.consume(1000, timeout=0.2):
            if record.error() is None:
                records.append(record)
                offset = record.offset() + 1
            elif record.error().code() == ck.KafkaError._PARTITION_EOF:
                offset = record.offset()
            else:
                raise ck.KafkaException(record.error())
            if offset >= ends[record.partition()]:
                waiting.discard(record.partition())
    client.close()
    return sorted(records, key=lambda record: (record.partition(), record.offset()))

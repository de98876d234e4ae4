"""Frames, single records, partitioners and transactions of `KafkaProducer`, as they come out of a real broker."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from tests.integration.kafka.commit_tools import read
from thalweg.errors import ConfigurationError, FencedError
from thalweg.formats.avro import AvroDecoder, AvroEncoder
from thalweg.kafka import KafkaConsumer, KafkaProducer, ProduceError
from thalweg.kafka.partitioners import ConsistentHash, Vectorised, partition_for

pytestmark = pytest.mark.kafka


def frame(rows: int = 1000) -> pl.DataFrame:
    return pl.DataFrame({"id": [f"k{n % 7}" for n in range(rows)], "n": range(rows), "x": [n / 8 for n in range(rows)]})


def by_place(records: list[Any]) -> dict[tuple[int, int], Any]:
    return {(r.partition(), r.offset()): r for r in records}


def test_json_with_keys_times_partitions_and_headers(kafka: Any, topic: str) -> None:
    data = frame(500).with_columns(
        at=pl.from_epoch(pl.col("n") + 1_700_000_000, time_unit="s").dt.replace_time_zone("UTC"),
        where=pl.col("n") % 4,
        note=pl.when(pl.col("n") % 3 == 0).then(pl.format("n{}", "n")),
    )
    with KafkaProducer(kafka.bootstrap) as producer:
        sent = producer.send_frame(
            topic, data, key="id", timestamp="at", partition="where", columns=["n", "x"],
            headers={"source": "test", "raw": b"\x00\xff", "note": pl.col("note")},
        )  # fmt: skip
    assert sent == 500
    records = read(kafka.bootstrap, topic)
    assert len(records) == 500
    for record in records:
        row = json.loads(record.value())
        n = row["n"]
        assert row == {"n": n, "x": n / 8}
        assert (record.key(), record.partition()) == (b"k%d" % (n % 7), n % 4)
        assert record.timestamp()[1] == (1_700_000_000 + n) * 1000
        note = [("note", b"n%d" % n)] if n % 3 == 0 else []
        assert record.headers() == [("source", b"test"), ("raw", b"\x00\xff"), *note]


def test_arrow_tables_go_by_key_and_reserved_columns_stay(kafka: Any, topic: str) -> None:
    data = frame(300).with_columns(__ts=pl.lit(1))
    with KafkaProducer(kafka.bootstrap) as producer:
        producer.send_frame(topic, data.to_arrow(), key="id")
        producer.send_frame(topic, pa.record_batch({"id": ["z", None], "n": [1, 2]}), key="id")
        producer.send_frame(topic, data.lazy().head(0), key="id")
    records = read(kafka.bootstrap, topic)
    assert len(records) == 302
    for record in records:
        assert "__ts" not in json.loads(record.value())
        if record.key() is not None:
            assert record.partition() == partition_for(record.key(), 4)
    assert sum(record.key() is None for record in records) == 1


def test_what_was_read_can_be_sent_on_with_its_headers_and_tombstones(
    kafka: Any, new_topic: Callable[..., str]
) -> None:
    first, second = new_topic(partitions=1), new_topic(partitions=1)
    headers: list[dict[str, bytes | None]] = [{}, {"a": b"1", "b": None}, {"ü": b""}, {}]
    with KafkaProducer(kafka.bootstrap, linger_ms=0) as producer:
        for n, value in enumerate([b"x", None, b"", b"y"]):
            producer.send(first, value, key=b"k", headers=headers[n], timestamp=5 + n).result(20)
        with KafkaConsumer(kafka.bootstrap, headers=True) as consumer:
            consumer.assign({(first, 0): 0})
            data: list[pl.DataFrame] = []
            while sum(part.height for part in data) < 4:
                data += [part for part in [consumer.poll_batch()] if part is not None]
        sent = pl.concat(data)
        producer.send_frame(second, sent, format="raw", key="__key", timestamp="__ts", headers="__headers")
    records = read(kafka.bootstrap, second)
    assert [(r.value(), r.key(), r.timestamp()[1]) for r in records] == [
        (value, b"k", 5 + n) for n, value in enumerate([b"x", None, b"", b"y"])
    ]
    assert [dict(r.headers() or ()) for r in records] == headers


def test_a_frame_as_one_arrow_record(kafka: Any, topic: str) -> None:
    with KafkaProducer(kafka.bootstrap) as producer:
        assert producer.send_frame(topic, frame(50), format="arrow") == 1
        with pytest.raises(ConfigurationError, match="packs 50 rows into 1"):
            producer.send_frame(topic, frame(50), format="arrow", key="id")
    with KafkaConsumer(kafka.bootstrap, topic, group_id=uuid.uuid4().hex, format="arrow") as consumer:
        found = None
        while found is None:
            found = consumer.poll_batch()
    assert found.select("id", "n", "x").equals(frame(50))
    assert found["__offset"].unique().to_list() == [0]


def test_frames_that_cannot_be_sent_are_refused_whole(kafka: Any, topic: str) -> None:
    data = pl.DataFrame({"value": ["a", "b" * 5000, "c"], "k": [1, 2, 3]})
    with KafkaProducer(kafka.bootstrap, max_record_bytes=4000) as producer:
        with pytest.raises(ProduceError, match=r"exceed 4000 bytes \(rows 1"):
            producer.send_frame(topic, data, format="text")
        for wrong, said in (
            ({"key": "nope"}, "no column nope"),
            ({"timestamp": "value"}, "times or ms"),
            ({"partition": "value"}, "give integers"),
            ({"headers": "value"}, "type String"),
        ):
            with pytest.raises(ConfigurationError, match=said):
                producer.send_frame(topic, data, **wrong)
    assert read(kafka.bootstrap, topic) == []


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_codecs(kafka: Any, topic: str, compression: str) -> None:
    with KafkaProducer(kafka.bootstrap, compression=compression) as producer:
        producer.send_frame(topic, frame(2000), columns=["n"])
    assert sorted(json.loads(r.value())["n"] for r in read(kafka.bootstrap, topic)) == list(range(2000))


def test_async_sends_wait_without_blocking(kafka: Any, topic: str) -> None:
    async def main() -> list[tuple[int, int]]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        ticker = asyncio.create_task(tick())
        # A queue of ten: most of these have to wait for room.
        with KafkaProducer(kafka.bootstrap, linger_ms=1, settings={"queue.buffering.max.messages": 10}) as producer:
            sent = await asyncio.gather(
                *(producer.send_async(topic, b"%d" % n, key="k", headers={"n": b"%d" % n}) for n in range(200))
            )
        ticker.cancel()
        assert ticks > 5
        return [(place.partition, place.offset) for place in sent]

    places = asyncio.run(main())
    assert sorted(places) == [(places[0][0], offset) for offset in range(200)]
    found = by_place(read(kafka.bootstrap, topic))
    assert [found[place].value() for place in places] == [b"%d" % n for n in range(200)]


def test_partitioners_place_rows_and_single_records_alike(kafka: Any, new_topic: Callable[..., str]) -> None:
    data = pl.DataFrame({"value": [f"v{n}" for n in range(200)], "k": [f"k{n % 50}" for n in range(200)]})
    for partitioner in (
        "consistent_hash",
        ConsistentHash(32),
        lambda key, partitions: len(key or b"") % partitions,
        Vectorised(lambda keys, partitions: keys.bin.size() % partitions),
    ):
        topic = new_topic(partitions=5)
        with KafkaProducer(kafka.bootstrap, partitioner=partitioner) as producer:
            producer.send_frame(topic, data, format="text", key="k", columns=["value"])
            for key in ("k1", "k22", None):
                producer.send(topic, b"single", key=key)
        places: dict[bytes | None, set[int]] = {}
        for record in read(kafka.bootstrap, topic):
            places.setdefault(record.key(), set()).add(record.partition())
        assert all(len(found) == 1 for key, found in places.items() if key)
    topic = new_topic(partitions=5)
    with KafkaProducer(kafka.bootstrap, partitioner="round_robin") as producer:
        producer.send_frame(topic, data, format="text", key="k", columns=["value"])
    counts = np.bincount([record.partition() for record in read(kafka.bootstrap, topic)])
    assert counts.tolist() == [40] * 5
    with KafkaProducer(kafka.bootstrap, partitioner=lambda key, partitions: 7) as producer:
        with pytest.raises(ConfigurationError, match="partition 7 of a topic that has 5"):
            producer.send(topic, b"x", key="k")
        with pytest.raises(ProduceError, match="can't be asked for"):
            producer.send(f"none-{topic}", b"x", key="k")


def test_a_transaction_commits_or_aborts_with_its_offsets(kafka: Any, new_topic: Callable[..., str]) -> None:
    source, target, group = new_topic(partitions=1), new_topic(partitions=2), uuid.uuid4().hex
    with KafkaProducer(kafka.bootstrap) as producer:
        producer.send_frame(source, frame(20), columns=["n"])
    with (
        KafkaProducer(kafka.bootstrap, transactional_id=f"tx-{target}") as producer,
        KafkaConsumer(kafka.bootstrap, source, group_id=group, auto_commit=False, format="json") as consumer,
    ):
        for attempt in range(2):
            rows: list[Any] = []
            while len(rows) < 10:
                rows += [row for row in [consumer.poll(1)] if row is not None]
            try:
                with producer.transaction():
                    producer.send_frame(target, pl.DataFrame({"n": [row.value["n"] for row in rows]}))
                    producer.send_offsets(consumer.positions(), consumer)
                    if attempt == 0:
                        raise RuntimeError("broken")
            except RuntimeError:
                assert consumer.committed() == {}
                consumer.seek_to_committed()
        assert consumer.committed() == {(source, 0): 10}
    assert sorted(json.loads(r.value())["n"] for r in read(kafka.bootstrap, target)) == list(range(10))


def test_an_older_producer_is_fenced_and_told_why(kafka: Any, topic: str) -> None:
    name = f"tx-{topic}"
    with KafkaProducer(kafka.bootstrap, transactional_id=name) as old:
        with old.transaction():
            old.send(topic, b"old")
        with KafkaProducer(kafka.bootstrap, transactional_id=name) as new, new.transaction():
            new.send(topic, b"new")
        with pytest.raises(FencedError, match=f"transactional id '{name}' has taken over"), old.transaction():
            old.send(topic, b"too late")
    assert sorted(r.value() for r in read(kafka.bootstrap, topic)) == [b"new", b"old"]
    with KafkaProducer(kafka.bootstrap) as plain, pytest.raises(ConfigurationError, match="a transactional_id"):
        plain.init_transactions()


@pytest.mark.parametrize(
    "send",
    [
        lambda producer, topic: producer.send(topic, b"too late"),
        lambda producer, topic: producer.send_frame(topic, pl.DataFrame({"value": ["too late"]})),
    ],
    ids=["record", "frame"],
)
def test_a_fence_that_comes_while_it_sends_is_told_as_one(
    kafka: Any, topic: str, monkeypatch: pytest.MonkeyPatch, send: Callable[[KafkaProducer, str], object]
) -> None:
    """Between a look at whether the producer is well and librdkafka's refusal."""
    name = f"tx-{topic}"
    with KafkaProducer(kafka.bootstrap, transactional_id=name) as old:
        old.init_transactions()
        old.begin_transaction()
        with KafkaProducer(kafka.bootstrap, transactional_id=name) as new:
            new.init_transactions()
        with pytest.raises(ProduceError):
            old.send(topic, b"too late").result(30)
        well, looks = old._check_open, [None]
        monkeypatch.setattr(old, "_check_open", lambda: looks.pop() if looks else well())
        with pytest.raises(FencedError, match="has taken over"):
            send(old, topic)
    assert read(kafka.bootstrap, topic) == []


def test_times_of_every_type(kafka: Any, topic: str) -> None:
    at = datetime(2024, 2, 29, 12, tzinfo=UTC)
    for column in (
        pl.Series([at], dtype=pl.Datetime("us", "UTC")),
        pl.Series([at.timestamp() * 1000]).cast(pl.Int64),
        pl.Series([at.replace(tzinfo=None)], dtype=pl.Datetime("ns")),
    ):
        with KafkaProducer(kafka.bootstrap) as producer:
            producer.send_frame(topic, pl.DataFrame({"value": ["x"]}).with_columns(at=column), timestamp="at")
    assert {r.timestamp()[1] for r in read(kafka.bootstrap, topic)} == {int(at.timestamp() * 1000)}


def test_rows_that_cannot_be_sent_come_back_and_the_others_go(kafka: Any, topic: str) -> None:
    data = pl.DataFrame({"value": ["a", "b" * 5000, "c", "d" * 6000], "k": [1, 2, 3, 4]})
    refused: list[pl.DataFrame] = []
    with KafkaProducer(kafka.bootstrap, max_record_bytes=4000) as producer:
        assert producer.send_frame(topic, data, format="text", key="k", on_refused=refused.append) == 2
        assert producer.send_frame(topic, data[:1], format="text", key="k", on_refused=refused.append) == 1
        assert producer.statistics.refused == 2
    assert sorted((r.key(), r.value()) for r in read(kafka.bootstrap, topic)) == [
        (b"1", b"a"),
        (b"1", b"a"),
        (b"3", b"c"),
    ]
    (found,) = refused
    assert found.select("k", "__error_class").rows() == [(2, "RecordTooLarge"), (4, "RecordTooLarge")]
    assert found["value"].str.len_bytes().to_list() == [5000, 6000]
    assert found["__error_message"][0] == "the record has 5001 bytes; at most 4000 are taken"


def test_rows_that_the_format_cannot_write_come_back(kafka: Any, topic: str) -> None:
    fields = [{"name": "n", "type": "long"}, {"name": "text", "type": "string"}]
    format = _Avro({"type": "record", "name": "R", "fields": fields})
    data = pl.DataFrame(
        {"n": [1, None, 3, 4], "text": ["a", "b", "c" * 5000, "d"], "id": ["1", "2", "3", "4"], "at": [10, 20, 30, 40]}
    )
    refused: list[pl.DataFrame] = []
    with KafkaProducer(kafka.bootstrap, max_record_bytes=4000) as producer:
        with pytest.raises(ConfigurationError, match=r"row 1: field 'n' is null.*nothing was sent"):
            producer.send_frame(topic, data, format=format, key="id")
        sent = producer.send_frame(
            topic, data, format=format, key="id", timestamp="at", headers={"of": pl.col("id")},
            columns=["n", "text"], on_refused=refused.append,
        )  # fmt: skip
    assert sent == 2
    records = read(kafka.bootstrap, topic)
    assert sorted((r.key(), r.timestamp()[1], r.headers()) for r in records) == [
        (b"1", 10, [("of", b"1")]),
        (b"4", 40, [("of", b"4")]),
    ]
    assert refused[0].select("id", "__error_class").rows() == [("2", "Unwritable"), ("3", "RecordTooLarge")]


class _Avro:
    """Avro without a registry."""

    name = "plain-avro"

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema

    def encoder(self) -> AvroEncoder:
        return AvroEncoder(self._schema)

    def decoder(self, schema: Any = None, columns: Any = None) -> AvroDecoder:
        return AvroDecoder(self._schema)

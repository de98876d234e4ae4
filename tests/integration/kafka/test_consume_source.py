"""`KafkaSource` on a real broker: what it reads, what it refuses, and who owns which partition."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka import TopicPartition as Row
from confluent_kafka.admin import AdminClient

from thalweg.connectors.kafka_source import KafkaSource
from thalweg.errors import ConfigurationError, ConnectorError, RestartRequired
from thalweg.records import MAX_DEAD_PAYLOAD, Decoded, DecodeError, RawRecords
from thalweg.streams.connector import JobSettings, SourceBatch

pytestmark = pytest.mark.kafka
ALL = {0, 1, 2, 3}


class NumberDecoder:
    """Column `n`; anything but a decimal number is an error."""

    def decode(self, raw: RawRecords) -> Decoded:
        payloads = [raw.value(row) for row in range(len(raw))]
        good = [row for row, payload in enumerate(payloads) if payload is not None and payload.isdigit()]
        bad = set(range(len(raw))) - set(good)
        errors = [DecodeError(row, "NotANumber", "no number") for row in sorted(bad)]
        frame = pl.DataFrame({"n": [int(payloads[row] or b"") for row in good]}, schema={"n": pl.Int64})
        return Decoded(frame, np.array(good, dtype=np.int64) if errors else None, errors)


class Maker:
    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.job = f"job-{uuid.uuid4().hex[:8]}"
        self.made: list[KafkaSource] = []

    def __call__(self, topic: str, *, slot: int = 0, start: str = "earliest", **options: Any) -> KafkaSource:
        job = JobSettings(self.job, slot=slot, start=start, clock=lambda: 777)
        source = KafkaSource(self.bootstrap, topic, NumberDecoder(), job, **options)
        self.made.append(source)
        return source


@pytest.fixture(params=["columnar", "plain"])
def make(kafka: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maker]:
    monkeypatch.setenv("THALWEG_PLAIN_CONSUMER", "1" if request.param == "plain" else "0")
    maker = Maker(kafka.bootstrap)
    yield maker
    for source in maker.made:
        source.close()


@pytest.fixture
def send(kafka: Any) -> Callable[..., None]:
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 16_000_000, "log_level": "0"})

    def produce(topic: str, *values: bytes | None, partition: int = 0, **fields: Any) -> None:
        for value in values:
            producer.produce(topic, value, partition=partition, **fields)
        assert producer.flush(30) == 0

    return produce


def read(source: KafkaSource, count: int) -> list[SourceBatch]:
    """Polls until `count` records came."""
    batches: list[SourceBatch] = []
    while sum(batch.received for batch in batches) < count:
        batch = source.poll(1000, 1000)
        if batch is not None:
            batches.append(batch)
    return batches


def offsets(batches: list[SourceBatch], partition: int = 0) -> list[int]:
    frames = [batch.frame.filter(pl.col("__partition") == partition) for batch in batches]
    return [offset for frame in frames for offset in frame["__offset"].to_list()]


def test_rows_and_dead_letters_account_for_every_record(topic: str, send: Callable[..., None], make: Maker) -> None:
    big = b"x" * 5_000_000
    send(topic, b"1", b"oops", b"3", None, key=b"k", timestamp=1_700_000_000_000)
    send(topic, big, b"7", partition=1)
    source = make(topic, broker_timestamps=True)
    assert source.open() == [0, 1, 2, 3]
    batches = read(source, 6)
    frame = pl.concat([batch.frame for batch in batches]).sort("__partition", "__offset")
    assert frame.rows(named=True) == [
        {"n": 1, "__partition": 0, "__offset": 0, "__ingested": 777, "__ts": 1_700_000_000_000},
        {"n": 3, "__partition": 0, "__offset": 2, "__ingested": 777, "__ts": 1_700_000_000_000},
        {"n": 7, "__partition": 1, "__offset": 1, "__ingested": 777, "__ts": frame["__ts"][2]},
    ]
    dead = pl.concat([batch.dead for batch in batches if batch.dead is not None]).sort("partition", "offset")
    assert dead["offset"].to_list() == [1, 3, 0]
    assert dead["key"].to_list() == [b"k", b"k", None]
    assert [None if p is None else len(p) for p in dead["payload"]] == [4, None, MAX_DEAD_PAYLOAD]
    assert dead["payload_size"].to_list() == [4, None, 5_000_000]
    assert dead["payload_sha256"].to_list() == [None, None, hashlib.sha256(big).hexdigest()]
    moved = {p: offset for batch in batches for p, offset in batch.positions.items()}
    assert moved == {0: 4, 1: 2}
    while source.caught_up() != ALL:
        assert source.poll(10, 200) is None
    assert source.lag() == dict.fromkeys(range(4), 0)


def test_seek_before_and_while_reading(topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, *(b"%d" % n for n in range(10)))
    send(topic, b"1", b"2", partition=1)
    source = make(topic)
    source.open()
    source.seek({0: 6})
    batches = read(source, 6)
    assert (offsets(batches, 0), offsets(batches, 1)) == ([6, 7, 8, 9], [0, 1])
    source.seek({0: 8})
    assert offsets(read(source, 2), 0) == [8, 9]
    with pytest.raises(ConnectorError, match="partitions \\[9\\]"):
        source.seek({9: 0})


def test_latest_starts_at_the_end_as_of_now(topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, b"1", b"2")
    source = make(topic, start="latest")
    source.open()
    source.seek({})
    send(topic, b"3")
    assert offsets(read(source, 1)) == [2]


def test_committed_offsets_of_the_group_come_before_the_start_setting(
    topic: str, send: Callable[..., None], make: Maker
) -> None:
    send(topic, *(b"%d" % n for n in range(5)))
    first = make(topic)
    first.open()
    first.consumer.commit_sync({(topic, 0): (3, "")})
    first.close()
    second = make(topic)
    second.open()
    assert offsets(read(second, 2)) == [3, 4]


def test_an_unknown_topic_is_told_with_close_names(topic: str, make: Maker) -> None:
    with pytest.raises(ConnectorError, match=f"no topic '{topic}s'.*did you mean '{topic}'"):
        make(f"{topic}s").open()


def test_an_unreachable_broker_is_named() -> None:
    source = KafkaSource("127.0.0.1:1", "t", NumberDecoder(), JobSettings("j"), connect_timeout=2.0)
    with pytest.raises(ConnectorError, match=r"127\.0\.0\.1:1 answered within 2 s.*advertised\.listeners"):
        source.open()


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigurationError, match="earliest"):
        KafkaSource("x:1", "t", NumberDecoder(), JobSettings("j", start="middle"))
    with pytest.raises(ConfigurationError, match="on_trimmed"):
        KafkaSource("x:1", "t", NumberDecoder(), JobSettings("j"), on_trimmed="maybe")
    with pytest.raises(ConnectorError, match="not open"):
        KafkaSource("x:1", "t", NumberDecoder(), JobSettings("j")).poll(1, 0)


def test_what_retention_removed_stops_the_job_or_is_skipped_aloud(
    topic: str, kafka: Any, send: Callable[..., None], make: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    send(topic, *(b"%d" % n for n in range(10)))
    send(topic, b"1", b"2", partition=1)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})
    next(iter(admin.delete_records([Row(topic, 0, 6)]).values())).result(30)
    strict = make(topic)
    strict.open()
    strict.seek({0: 2, 1: 1})
    with pytest.raises(ConnectorError, match=r"removed 4 events \(offsets 2 to 5\).*retention"):
        read(strict, 10)
    strict.close()
    lenient = make(topic, on_trimmed="skip")
    lenient.open()
    lenient.seek({0: 2, 1: 1})
    batches = read(lenient, 5)
    assert (offsets(batches, 0), offsets(batches, 1)) == ([6, 7, 8, 9], [1])
    assert "removed 4 events" in caplog.text


def test_what_others_have_read_and_removed_meanwhile_is_not_missed(
    topic: str, kafka: Any, send: Callable[..., None], make: Maker
) -> None:
    """A worker that was paused, and wakes up after others have its partitions."""
    send(topic, *[b"%d" % n for n in range(10)])
    source = make(topic, on_trimmed="skip")
    source.open()
    source.consumer.commit_sync({(topic, 0): (8, "")})
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})
    next(iter(admin.delete_records([Row(topic, 0, 7)]).values())).result(30)
    source.seek({0: 3})
    with pytest.raises(RestartRequired, match="gone on without this worker"):
        read(source, 1)


def test_a_position_beyond_the_end_is_never_skipped(topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, b"1")
    source = make(topic, on_trimmed="skip")
    source.open()
    source.seek({0: 50})
    with pytest.raises(ConnectorError, match="ends at offset 1, but the job's last commit is at 50"):
        read(source, 1)


def test_a_second_worker_takes_its_half_after_the_first_has_let_go(
    topic: str, send: Callable[..., None], make: Maker
) -> None:
    first = make(topic)
    assert set(first.open()) == ALL
    first.seek({})
    second = make(topic, slot=1)
    opened: list[int] = []
    joining = threading.Thread(target=lambda: opened.extend(second.open()))
    joining.start()
    with pytest.raises(RestartRequired, match="anew"):
        read(first, 1)
    first.close()
    again = make(topic)
    ours = set(again.open())
    joining.join()
    assert ours | set(opened) == ALL
    assert len(ours) == len(opened) == 2


def attend(source: KafkaSource, seconds: float) -> None:
    """As one does who waits for something else before it reads."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        source.attend(50)


def test_a_worker_that_has_not_begun_to_read_hears_of_another_one(topic: str, make: Maker) -> None:
    """Or two that open several sources each could wait for each other, one in each of two groups."""
    first, second = make(topic), make(topic, slot=1)
    assert set(first.open()) == ALL
    opened: list[int] = []
    joining = threading.Thread(target=lambda: opened.extend(second.open()))
    joining.start()
    with pytest.raises(RestartRequired, match="anew"):
        attend(first, 60)
    kept = first.open()
    joining.join(60)
    assert not joining.is_alive()
    assert sorted([*kept, *opened]) == sorted(ALL)
    assert len(kept) == len(opened) == 2


def test_a_slot_that_was_killed_comes_back_without_disturbing_the_others(
    topic: str, kafka: Any, send: Callable[..., None], make: Maker
) -> None:
    """Static membership: a new process in the same slot takes the partitions over; the group is not dealt anew."""
    other = make(topic, slot=1)
    other.open()
    code = (
        "import sys, time; from thalweg.connectors.kafka_source import KafkaSource; "
        "from thalweg.streams.connector import JobSettings; "
        "s = KafkaSource(sys.argv[1], sys.argv[2], None, JobSettings(sys.argv[3])); "
        "print(sorted(s.open()), flush=True); time.sleep(250)"
    )
    arguments = [sys.executable, "-c", code, kafka.bootstrap, topic, make.job]
    worker = subprocess.Popen(arguments, stdout=subprocess.PIPE, env={**os.environ, "THALWEG_PLAIN_CONSUMER": "0"})
    try:
        other.seek({})
        with pytest.raises(RestartRequired):
            read(other, 1)
        other.close()
        other = make(topic, slot=1)
        kept = set(other.open())
        assert worker.stdout is not None
        taken = eval(worker.stdout.readline())
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert worker.stdout is not None
        worker.stdout.close()
    heir = make(topic)
    assert heir.open() == taken
    assert set(taken) | kept == ALL
    other.seek({})
    send(topic, b"5", partition=min(kept))
    assert offsets(read(other, 1), min(kept)) == [0]  # and no RestartRequired on the way


def test_wake_and_reopen(topic: str, send: Callable[..., None], make: Maker) -> None:
    send(topic, b"1")
    source = make(topic)
    source.open()
    read(source, 1)
    source.wake()
    assert source.poll(10, 280_000) is None
    source.open()
    assert offsets(read(source, 1)) == [0]

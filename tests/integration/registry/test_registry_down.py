"""A registry that goes down while records of a schema come that nobody has read: they wait, and nothing is lost."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import polars as pl
import pytest

from tests.integration.registry.test_registry import V1, V2, framed
from tests.servers.apicurio import Apicurio
from tests.servers.gate import Gate
from tests.unit.formats.conftest import raw_records
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.errors import NotReady
from thalweg.formats.patience import serves_others
from thalweg.kafka import KafkaConsumer
from thalweg.kafka.schema_registry import AvroFormat, SchemaRegistryClient
from thalweg.streams import App

pytestmark = pytest.mark.kafka
OLD, NEW = {"id": 1, "note": "old"}, {"id": 2, "price": 0.5, "note": "new"}


@dataclass
class Outage:
    """A registry with two schemas, of which clients know the first; then nobody reaches it.

    The server itself stays up behind a gate: one that starts anew has lost its schemas, and says so of each.
    """

    server: Apicurio
    topic: str
    ids: tuple[int, int] = (0, 0)
    port: int = 0

    def start(self) -> None:
        self._gate = Gate(self.server.url, None, port=self.port).__enter__()
        self.port, self.url = self._gate.port, self._gate.url
        self._is_down = False

    def start_again(self) -> None:
        """Where an earlier test has ended with it down."""
        if self._is_down:
            self.start()

    def stop(self) -> None:
        self._is_down = True
        self._gate.__exit__(None, None, None)

    def hang(self) -> None:
        """From now on it takes questions, and does not answer."""
        self._gate.open.clear()

    def answer(self) -> None:
        self._gate.open.set()

    def register(self) -> None:
        client = SchemaRegistryClient(self.url)
        subject = f"{self.topic}-value"
        self.ids = client.register(subject, V1), client.register(subject, V2)
        client.close()

    def format(self, wait: str | None = None, **access: Any) -> AvroFormat:
        """A format whose client has read the first schema."""
        client = SchemaRegistryClient(self.url, **{"retries": 0, "timeout": 2, **access})
        client.schema(self.ids[0])
        return AvroFormat(client, schema=V2, wait=wait)

    def payloads(self) -> list[bytes]:
        return framed(self.ids[0], V1, OLD) + framed(self.ids[1], V2, NEW) + framed(self.ids[0], V1, OLD)


@pytest.fixture(scope="module")
def outage() -> Iterator[Outage]:
    with Apicurio() as server:
        made = Outage(server, f"topic-{uuid.uuid4().hex[:8]}")
        made.start()
        made.register()
        yield made
        made.stop()


def until(condition: Callable[[], bool], worker: Worker | None = None) -> None:
    """The test's time limit is the judge."""
    while not condition():
        if worker is not None and worker.error is not None:
            raise worker.error
        time.sleep(0.05)


class Worker(threading.Thread):
    def __init__(self, app: App) -> None:
        super().__init__(daemon=True)
        self.app = app
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.app.run()
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.app.stop()
        self.join()
        if self.error is not None:
            raise self.error


def notes(consumer: KafkaConsumer) -> list[str]:
    return [record.value["note"] for record in [consumer.poll(0.2)] if record is not None]


def test_readers_wait_for_it_and_go_on(
    kafka: Any, topic: str, outage: Outage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    readers: dict[str, list[Any]] = {"kafka": [], "embedded": []}
    log = tmp_path / "data.db"
    with EmbeddedLog(log) as opened:
        opened.ensure_topic("orders", 1)
    workers = []
    for name, broker, source in (
        ("kafka", f"kafka://{kafka.bootstrap}", topic),
        ("embedded", f"sqlite:///{log}", "orders"),
    ):
        app = App(f"{name}-{topic}", broker=broker)
        app.stream(source, format=outage.format()).subscribe(lambda row, name=name: readers[name].append(row.note))
        workers.append(Worker(app))
    consumer = KafkaConsumer(kafka.bootstrap, topic, group_id=topic, format=outage.format(), auto_commit_interval=1)
    outage.stop()
    producer = ck.Producer({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})
    for payload in outage.payloads():
        producer.produce(topic, payload, partition=0)
    assert producer.flush(30) == 0
    with EmbeddedLog(log) as opened:
        opened.append_records("orders", outage.payloads())
    with caplog.at_level(logging.WARNING):
        rows: list[str] = []
        while caplog.text.count("waits, nothing is lost") < 3:
            rows += notes(consumer)
        assert notes(consumer) + notes(consumer) == []
        assert consumer.committed().get((topic, 0), 0) <= len(rows) < 2
        assert consumer.lag(ask=True)[topic, 0] == 3 - len(rows)
        assert all(worker.is_alive() for worker in workers)
        assert workers[0].app.status().sources[0].lag >= 2
        outage.start()
        while len(rows) < 3:
            rows += notes(consumer)
        for name, worker in zip(readers, workers, strict=True):
            until(lambda name=name: len(readers[name]) >= 3, worker)  # more where a busy machine made it start again
    assert [rows, *(found[-3:] for found in readers.values())] == [["old", "new", "old"]] * 3
    seen = len(readers["kafka"])
    assert "goes on after" in caplog.text
    producer.produce(topic, outage.payloads()[0], partition=0)  # nothing stays paused
    producer.flush(30)
    until(lambda: len(readers["kafka"]) > seen, workers[0])
    while consumer.poll(1) is None:
        pass
    consumer.close()
    for worker in workers:
        worker.end()


def test_after_a_set_time_they_are_dead_letters(kafka: Any, topic: str, outage: Outage) -> None:
    format = outage.format(wait="500ms")
    outage.stop()
    producer = ck.Producer({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})
    for payload in outage.payloads():
        producer.produce(topic, payload, partition=0)
    assert producer.flush(30) == 0
    letters: list[pl.DataFrame] = []
    with KafkaConsumer(kafka.bootstrap, format=format, on_bad_records=letters.append) as consumer:
        consumer.assign({(topic, 0): 0})
        frames: list[pl.DataFrame] = []
        while sum(frame.height for frame in frames) < 2 or not letters:
            frames += [frame for frame in [consumer.poll_batch(timeout=0.2)] if frame is not None]
    assert pl.concat(frames)["note"].to_list() == ["old", "old"]
    [letter] = pl.concat(letters).to_dicts()
    assert (letter["offset"], letter["error_class"]) == (1, "SchemaUnavailable")
    assert "does not answer" in letter["error_message"]


def test_only_the_partition_waits_whose_schema_a_silent_registry_has(
    kafka: Any, new_topic: Callable[..., str], outage: Outage, tmp_path: Path
) -> None:
    """The client's own settings (a minute until it gives up) must not hold the others."""
    outage.start_again()
    topic, log = new_topic(2), tmp_path / "data.db"
    old, new = outage.ids

    def payload(number: int, note: str) -> bytes:
        return framed(number, V1 if number == old else V2, {"id": 0, "note": note})[0]

    stuck, free = [payload(old, "a"), payload(new, "b"), payload(old, "c")], [payload(old, f"{n}") for n in range(30)]
    with EmbeddedLog(log) as opened:
        opened.ensure_topic(topic, 2)
    seen: dict[str, list[str]] = {"kafka": [], "embedded": [], "consumer": []}
    workers = []
    for name, broker in (("kafka", f"kafka://{kafka.bootstrap}"), ("embedded", f"sqlite:///{log}")):
        app = App(f"{name}-{topic}", broker=broker)
        format = outage.format(retries=5, timeout=10)
        app.stream(topic, format=format).subscribe(lambda row, name=name: seen[name].append(row.note))
        workers.append(Worker(app))
    consumer = KafkaConsumer(
        kafka.bootstrap, topic, group_id=topic, format=outage.format(retries=5, timeout=10), auto_commit_interval=1
    )
    producer = ck.Producer({"bootstrap.servers": kafka.bootstrap, "log_level": "0"})

    def send(payloads: list[bytes], partition: int) -> None:
        for each in payloads:
            producer.produce(topic, each, partition=partition)
        assert producer.flush(30) == 0
        with EmbeddedLog(log) as opened:
            opened.append_records(topic, payloads, partition=partition)

    def all_have(wanted: list[str]) -> bool:
        seen["consumer"] += notes(consumer)
        for worker in workers:
            if worker.error is not None:
                raise worker.error
        return all(set(found) >= set(wanted) for found in seen.values())

    outage.hang()
    try:
        send(stuck, 0)
        send(free[:10], 1)
        while not all_have(["a", *map(str, range(10))]):
            pass
        send(free[10:], 1)  # what comes while the other partition waits goes through too
        send([payload(old, "d")], 0)
        while not all_have(["a", *map(str, range(30))]):
            pass
        assert consumer.lag(ask=True) == {(topic, 0): 3, (topic, 1): 0}
        assert consumer.committed().get((topic, 0), 0) <= 1
        assert workers[0].app.status().sources[0].lag >= 2  # as last heard: it is paused
        assert not {"b", "c", "d"} & {note for found in seen.values() for note in found}
    finally:
        outage.answer()
    while not all_have(["a", "b", "c", "d"]):
        pass
    for found in seen.values():
        assert sorted(set(found)) == sorted(found)  # nothing twice
        assert [note for note in found if note.isalpha()] == ["a", "b", "c", "d"]
        assert [note for note in found if note.isdigit()] == [str(n) for n in range(30)]
    while consumer.lag(ask=True) != {(topic, 0): 0, (topic, 1): 0}:
        seen["consumer"] += notes(consumer)
    consumer.close()
    for worker in workers:
        worker.end()


def test_a_decoder_alone_waits_for_the_answer(outage: Outage) -> None:
    outage.start_again()
    raw = raw_records(outage.payloads())
    decoder = outage.format(retries=5, timeout=10).for_topic(outage.topic).decoder()
    patient = outage.format(retries=5, timeout=10).for_topic(outage.topic).decoder()
    serves_others(decoder)
    outage.hang()
    with pytest.raises(NotReady, match="does not answer") as lacking:
        decoder.decode(raw)
    assert lacking.value.rows == [1]
    threading.Timer(0.2, outage.answer).start()
    assert patient.decode(raw).frame["note"].to_list() == ["old", "new", "old"]
    while True:
        with suppress(NotReady):
            assert decoder.decode(raw).frame["note"].to_list() == ["old", "new", "old"]
            break

"""A worker that is gone holds nobody up; one that was only taken for gone, and wakes up, begins again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.integration.kafka.commit_tools import commit, read, write
from thalweg.connectors import kafka_producers
from thalweg.connectors.kafka import KafkaBroker
from thalweg.connectors.kafka_committer import KafkaCommitter
from thalweg.connectors.kafka_source import KafkaSource
from thalweg.errors import ConnectorError, FencedError, RestartRequired
from thalweg.formats import open_format
from thalweg.kafka.admin import KafkaAdmin
from thalweg.streams.connector import JobSettings, PartitionEpoch, StateRecord

pytestmark = pytest.mark.kafka


@dataclass
class Worker:
    """A worker as a process of its own would be: with its own broker object, session after session."""

    bootstrap: str
    job: JobSettings
    topic: str
    partitions: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.broker = KafkaBroker(f"kafka://{self.bootstrap}")
        self.opened: list[Any] = []

    def join(self) -> None:
        source = self.broker.source(self.topic, open_format("raw").decoder(), self.job)
        assert isinstance(source, KafkaSource)
        self.source = source
        self.opened.append(source)
        self.partitions = list(source.open())

    def recover(self) -> Any:
        committer = self.broker.committer(self.job, [self.source])
        assert isinstance(committer, KafkaCommitter)
        self.committer = committer
        self.opened.append(committer)
        return committer.recover([(self.topic, p) for p in self.partitions])

    def commit(self, number: int, output: str, *values: str) -> None:
        self.committer.commit(self._commit(number, output, values))

    def leave_open(self, number: int, output: str, *values: str) -> None:
        """Does all of a commit but its end."""
        prepared = self.committer.prepare(self._commit(number, output, values))
        for topic, offsets in prepared.offsets.items():
            prepared.producer.send_offsets(offsets, self.committer._memberships[topic].address)
        prepared.producer.flush()

    def _commit(self, number: int, output: str, values: Sequence[str]) -> Any:
        partition = self.partitions[0]
        state = StateRecord(partition, "sum", b"%d" % number, False)
        return commit(self.topic, number, [write(output, values)], state, partition=partition)

    def wait_until_dealt_out_anew(self) -> None:
        """As the group does when a member has given no sign of life for six seconds."""
        deadline = time.monotonic() + 60
        with pytest.raises(RestartRequired, match="anew"):
            self._attend(deadline)
        self.committer.close()
        self.join()

    def _attend(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            self.source.attend(50)

    def close(self) -> None:
        for part in reversed(self.opened):
            part.close()
        self.broker.close()


@pytest.fixture
def two(kafka: Any, topic: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Worker, Worker]]:
    """Two workers of a job, each with half of the partitions. No transaction ends by its timeout."""
    monkeypatch.setattr(kafka_producers, "TRANSACTION_TIMEOUT_MS", 600_000)
    workers = tuple(Worker(kafka.bootstrap, JobSettings(f"job-{topic}", slot), topic) for slot in (0, 1))
    first, second = workers
    first.join()
    joining = threading.Thread(target=second.join)
    joining.start()
    with pytest.raises(RestartRequired, match="anew"):
        first._attend(time.monotonic() + 60)
    first.join()
    joining.join()
    for worker in workers:
        assert len(worker.partitions) == 2
        worker.recover()
    yield first, second
    for worker in workers:
        worker.close()


def test_what_a_gone_worker_had_under_way_ends_when_another_takes_over(
    kafka: Any, two: tuple[Worker, Worker], new_topic: Callable[..., str]
) -> None:
    heir, dead = two
    output = new_topic()
    dead.commit(1, output, "kept")
    dead.leave_open(2, output, "never committed")
    dead.source.close()  # a static member: the group waits for it as for one that was killed
    heir.wait_until_dealt_out_anew()
    recovered = heir.recover()
    assert recovered.epochs == {(heir.topic, dead.partitions[0]): PartitionEpoch(1, 10, 1000)}
    assert [state.payload for state in recovered.states] == [b"1"]
    heir.commit(1, output, "after it")
    assert sorted(r.value().decode() for r in read(kafka.bootstrap, output)) == ["after it", "kept"]


def test_a_worker_that_was_taken_for_gone_begins_again(
    two: tuple[Worker, Worker], new_topic: Callable[..., str]
) -> None:
    heir, sleeper = two
    output = new_topic()
    sleeper.commit(1, output, "kept")
    sleeper.source.close()
    heir.wait_until_dealt_out_anew()
    heir.recover()
    with pytest.raises(RestartRequired, match="took this one for gone"):
        sleeper.commit(2, output, "refused")


def test_a_job_that_may_not_look_at_its_groups_goes_on_without(
    two: tuple[Worker, Worker],
    new_topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker, _ = two
    worker.commit(1, new_topic(), "kept")
    worker.committer.close()

    def refused(admin: KafkaAdmin, group: str) -> None:
        raise ConnectorError(f"consumer group {group!r}: not authorized")

    monkeypatch.setattr(KafkaAdmin, "describe_group", refused)
    assert [state.payload for state in worker.recover().states] == [b"1"]
    assert "can't see whether a worker of the job is gone: consumer group" in caplog.text


def test_another_instance_in_the_same_slot_ends_the_first(
    kafka: Any, two: tuple[Worker, Worker], new_topic: Callable[..., str]
) -> None:
    _, first = two
    output = new_topic()
    first.commit(1, output, "kept")
    second = Worker(kafka.bootstrap, first.job, first.topic)
    second.join()
    second.recover()
    with pytest.raises(FencedError):
        first.commit(2, output, "refused")
    second.commit(2, output, "after it")
    assert sorted(r.value().decode() for r in read(kafka.bootstrap, output)) == ["after it", "kept"]
    second.close()

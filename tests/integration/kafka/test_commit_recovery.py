"""Commits on a real broker: all or nothing, one instance only, and state that is right or an error."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kafka.commit_tools import Group, Offsets, commit, committer, read, write
from tests.integration.kafka.commit_worker import numbers
from thalweg.connectors.kafka_changelog import CHUNK
from thalweg.errors import ConfigurationError, FencedError, RestartRequired, StateError
from thalweg.kafka._produce_api import GroupMembership, api
from thalweg.kafka.admin import KafkaAdmin
from thalweg.streams.batch import MIN_TIME
from thalweg.streams.connector import Commit, Guarantee, PartitionEpoch, StateRecord

pytestmark = pytest.mark.kafka

BOTH = [Guarantee.EXACTLY_ONCE, Guarantee.AT_LEAST_ONCE]


def state(payload: bytes, *, full: bool = False, operator: str = "sum", partition: int = 0) -> StateRecord:
    return StateRecord(partition, operator, payload, full)


def values(kafka: Any, topic: str) -> list[str]:
    return sorted(record.value().decode() for record in read(kafka.bootstrap, topic))


def payloads(worker: Any, topic: str) -> list[bytes]:
    return [found.payload for found in worker.recover([(topic, 0)]).states]


@pytest.fixture
def output(new_topic: Callable[..., str]) -> str:
    return new_topic()


@pytest.mark.parametrize("guarantee", BOTH)
def test_what_was_committed_comes_back(kafka: Any, topic: str, output: str, guarantee: Guarantee) -> None:
    job = f"job-{topic}"
    worker = committer(kafka.bootstrap, job, topic, guarantee)
    assert worker.recover([(topic, p) for p in range(4)]).epochs == {}
    large = random.Random(3).randbytes(CHUNK * 2 + 5)
    worker.commit(commit(topic, 1, [write(output, ["a", "b"])], state(b"1"), state(large, operator="window")))
    worker.commit(commit(topic, 2, [write(output, ["c"])], state(b"2")))
    # An epoch for a partition that has seen nothing yet: its offset does not move, its name does.
    worker.commit(Commit({(topic, 1): PartitionEpoch(1, 0, MIN_TIME)}, [], [state(b"3")], 3))
    worker.close()

    again = committer(kafka.bootstrap, job, topic, guarantee)
    recovered = again.recover([(topic, p) for p in range(4)])
    assert recovered.epochs == {(topic, 0): PartitionEpoch(2, 20, 2000), (topic, 1): PartitionEpoch(1, 0, MIN_TIME)}
    assert [s.payload for s in recovered.states] == [b"1", large, b"2", b"3"]
    assert values(kafka, output) == ["a", "b", "c"]
    again.commit(commit(topic, 3, [], state(b"9", full=True)))
    again.close()
    third = committer(kafka.bootstrap, job, topic, guarantee)
    assert payloads(third, topic) == [large, b"9"]
    third.close()


class Stale(Group):
    """A member of a generation that is over: what a rebalance leaves behind."""

    def group_metadata(self) -> GroupMembership:
        import ctypes

        make = api().rd_kafka_consumer_group_metadata_new_with_genid
        make.restype = ctypes.c_void_p
        make.argtypes = [ctypes.c_char_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p]
        return GroupMembership(make(self.group.encode(), 7, b"gone", None))


def test_an_aborted_commit_leaves_nothing(kafka: Any, topic: str, output: str) -> None:
    job = f"job-{topic}"
    worker = committer(kafka.bootstrap, job, topic)
    worker.recover([(topic, 0)])
    worker.commit(commit(topic, 1, [write(output, ["kept"])], state(b"1")))
    worker.close()

    stale = committer(kafka.bootstrap, job, topic, consumer=Stale(kafka.bootstrap, job))
    stale.recover([(topic, 0)])
    with pytest.raises(RestartRequired):
        stale.commit(commit(topic, 2, [write(output, ["dropped"])], state(b"2")))
    with pytest.raises(RestartRequired, match="recover first"):
        stale.commit(commit(topic, 2, [write(output, ["dropped"])], state(b"2")))
    stale.close()

    again = committer(kafka.bootstrap, job, topic)
    assert payloads(again, topic) == [b"1"]
    assert values(kafka, output) == ["kept"]
    again.close()


def test_recover_after_an_abort_goes_on_in_the_same_committer(kafka: Any, topic: str, output: str) -> None:
    class Once(Stale):
        stale = True

        def group_metadata(self) -> GroupMembership:
            was, self.stale = self.stale, False
            return super().group_metadata() if was else GroupMembership.of_group(self.group)

    worker = committer(kafka.bootstrap, f"job-{topic}", topic, consumer=Once(kafka.bootstrap, f"job-{topic}"))
    worker.recover([(topic, 0)])
    with pytest.raises(RestartRequired):
        worker.commit(commit(topic, 1, [write(output, ["x"])], state(b"1")))
    assert worker.recover([(topic, 0)]).states == []
    worker.commit(commit(topic, 1, [write(output, ["x"])], state(b"1")))
    assert payloads(worker, topic) == [b"1"]
    worker.close()
    assert values(kafka, output) == ["x"]


def test_a_newer_instance_fences_the_older_off(kafka: Any, topic: str, output: str) -> None:
    job = f"job-{topic}"
    old = committer(kafka.bootstrap, job, topic)
    old.recover([(topic, 0)])
    old.commit(commit(topic, 1, [write(output, ["1"])], state(b"1")))
    new = committer(kafka.bootstrap, job, topic)
    new.recover([(topic, 0)])
    with pytest.raises(FencedError, match="has taken over"):
        old.commit(commit(topic, 2, [write(output, ["old"])], state(b"old")))
    new.commit(commit(topic, 2, [write(output, ["new"])], state(b"new")))
    assert payloads(new, topic) == [b"1", b"new"]
    assert values(kafka, output) == ["1", "new"]
    old.close()
    new.close()


def test_at_least_once_passes_over_state_that_no_offset_names(kafka: Any, topic: str) -> None:
    class DiesBeforeOffsets(Group):
        broken = False

        def commit_sync(self, offsets: Offsets) -> None:
            if self.broken:
                raise RestartRequired("the process dies here")
            super().commit_sync(offsets)

    job = f"job-{topic}"
    consumer = DiesBeforeOffsets(kafka.bootstrap, job)
    for first in (True, False):  # the first time there are no offsets at all
        consumer.broken = True
        worker = committer(kafka.bootstrap, job, topic, Guarantee.AT_LEAST_ONCE, consumer)
        assert payloads(worker, topic) == ([] if first else [b"named"])
        with pytest.raises(RestartRequired):
            worker.commit(commit(topic, 1, [], state(b"never named")))
        worker.close()
        if first:
            consumer.broken = False
            worker = committer(kafka.bootstrap, job, topic, Guarantee.AT_LEAST_ONCE, consumer)
            assert payloads(worker, topic) == []
            worker.commit(commit(topic, 1, [], state(b"named")))
            worker.close()
    last = committer(kafka.bootstrap, job, topic, Guarantee.AT_LEAST_ONCE)
    assert payloads(last, topic) == [b"named"]
    last.commit(commit(topic, 2, [], state(b"2")))
    assert payloads(last, topic) == [b"named", b"2"]
    last.close()


def committed_job(kafka: Any, topic: str, guarantee: Guarantee = Guarantee.EXACTLY_ONCE) -> str:
    """A job with three commits of state behind it."""
    job = f"job-{topic}"
    worker = committer(kafka.bootstrap, job, topic, guarantee)
    worker.recover([(topic, 0)])
    for number in (1, 2, 3):
        worker.commit(commit(topic, number, [], state(b"%d" % number)))
    worker.close()
    return job


@pytest.mark.parametrize("damage", ["deleted", "trimmed", "recreated"])
def test_missing_state_is_an_error(kafka: Any, topic: str, damage: str) -> None:
    job = committed_job(kafka, topic)
    admin = KafkaAdmin(kafka.bootstrap)
    if damage == "trimmed":
        admin.delete_records(f"{job}-changelog", {0: 2})
    else:
        admin.delete_topic(f"{job}-changelog")
        while admin.exists(f"{job}-changelog"):
            time.sleep(0.05)
    if damage == "recreated":
        admin.ensure_topic(f"{job}-changelog", 1)
    worker = committer(kafka.bootstrap, job, topic)
    with pytest.raises(StateError, match=r"Restore it, or start the job under a new name|is missing"):
        worker.recover([(topic, 0)])
    worker.close()


@pytest.mark.parametrize("guarantee", BOTH)
def test_offsets_from_elsewhere_do_not_get_old_state(kafka: Any, topic: str, guarantee: Guarantee) -> None:
    job = committed_job(kafka, topic, guarantee)
    Group(kafka.bootstrap, job).commit_sync({(topic, 0): (5, "")})
    worker = committer(kafka.bootstrap, job, topic, guarantee)
    with pytest.raises(StateError, match=r"was set from outside.*holds state up to epoch 3"):
        worker.recover([(topic, 0)])
    KafkaAdmin(kafka.bootstrap).delete_topic(worker.changelog_topic)
    while KafkaAdmin(kafka.bootstrap).exists(worker.changelog_topic):
        time.sleep(0.05)
    recovered = worker.recover([(topic, 0)])  # as the message says
    assert recovered.epochs == {(topic, 0): PartitionEpoch(0, 5, MIN_TIME)}
    assert recovered.states == []
    worker.close()


@pytest.mark.parametrize("guarantee", BOTH)
def test_lost_offsets_are_not_a_fresh_start(kafka: Any, topic: str, guarantee: Guarantee) -> None:
    job = committed_job(kafka, topic, guarantee)
    admin = KafkaAdmin(kafka.bootstrap)
    admin._client.delete_consumer_groups([job])[job].result(20)
    worker = committer(kafka.bootstrap, job, topic, guarantee)
    with pytest.raises(StateError, match="has no committed offsets"):
        worker.recover([(topic, 0)])
    worker.close()


@pytest.mark.parametrize("at", ["offsets", "state"])
@pytest.mark.parametrize("guarantee", BOTH)
def test_a_first_commit_of_another_worker_is_no_state_without_offsets(
    kafka: Any, topic: str, guarantee: Guarantee, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes just after one that starts has been told that there are no offsets, or that there is no state."""
    job = f"job-{topic}"
    first = committer(kafka.bootstrap, job, topic, guarantee)
    first.recover([(topic, 0)])
    commits = [1, 2]  # at least once, one alone may be what a crash leaves

    def overtaken(ask: Callable[..., Any]) -> Callable[..., Any]:
        def told(*arguments: Any) -> Any:
            answer = ask(*arguments)
            while commits:
                number = commits.pop(0)
                first.commit(commit(topic, number, [], state(b"%d" % number)))
            return answer

        return told

    consumer = Group(kafka.bootstrap, job)
    second = committer(kafka.bootstrap, job, topic, guarantee, consumer, slot=1)
    where, asked = (consumer, "committed") if at == "offsets" else (second._epochs, "highest_epoch")
    monkeypatch.setattr(where, asked, overtaken(getattr(where, asked)))
    recovered = second.recover([(topic, 1)])
    assert (recovered.epochs, recovered.states) == ({}, [])
    second.commit(commit(topic, 1, [], state(b"second", partition=1), partition=1))
    for worker in (first, second):
        worker.close()
    last = committer(kafka.bootstrap, job, topic, guarantee)
    assert [s.payload for s in last.recover([(topic, 0), (topic, 1)]).states] == [b"1", b"2", b"second"]
    last.close()


@pytest.mark.parametrize("alternating", [False, True])
def test_a_crash_before_the_first_commit_leaves_a_fresh_start_in_a_checkpoint_store(
    kafka: Any, topic: str, tmp_path: Path, alternating: bool
) -> None:
    """What is in the store is there before its transaction ends: with two producers that may be two epochs."""
    storage, job = tmp_path.as_uri(), f"job-{topic}"
    dies = committer(kafka.bootstrap, job, topic, alternating=alternating, storage=storage)
    dies.recover([(topic, 0)])
    for number in range(1, dies.most_under_way + 1):
        dies.prepare(commit(topic, number, [], state(b"%d" % number)))
    dies.close()
    worker = committer(kafka.bootstrap, job, topic, alternating=alternating, storage=storage)
    assert payloads(worker, topic) == []
    for number in (1, 2, 3):
        worker.commit(commit(topic, number, [], state(b"new %d" % number)))
    worker.close()
    KafkaAdmin(kafka.bootstrap)._client.delete_consumer_groups([job])[job].result(20)
    last = committer(kafka.bootstrap, job, topic, alternating=alternating, storage=storage)
    with pytest.raises(StateError, match=r"has no committed offsets.*checkpoint storage.*up to epoch 3"):
        last.recover([(topic, 0)])
    last.close()


def test_full_snapshots_keep_the_changelog_short(kafka: Any, topic: str) -> None:
    worker = committer(kafka.bootstrap, f"job-{topic}", topic)
    worker.recover([(topic, 0)])
    for number in range(1, 31):
        worker.commit(commit(topic, number, [], state(b"%d" % number, full=number % 10 == 0)))
    worker.close()  # ends the deletion that is under way
    admin = KafkaAdmin(kafka.bootstrap)
    start = admin.offsets(worker.changelog_topic, latest=False)[0]
    end = admin.offsets(worker.changelog_topic, latest=True)[0]
    assert 0 < end - start <= 4  # the last epoch, its marker and what the end offset had not shown yet
    again = committer(kafka.bootstrap, f"job-{topic}", topic)
    assert payloads(again, topic) == [b"30"]
    again.close()


@pytest.mark.parametrize("guarantee", BOTH)
def test_another_worker_takes_partition_and_state_over(kafka: Any, topic: str, guarantee: Guarantee) -> None:
    job = f"job-{topic}"
    first = committer(kafka.bootstrap, job, topic, guarantee)
    first.recover([(topic, 0)])
    first.commit(commit(topic, 1, [], state(b"first")))
    second = committer(kafka.bootstrap, job, topic, guarantee, slot=1)
    recovered = second.recover([(topic, 1)])  # the group has offsets, this partition has none: nothing is lost
    assert (recovered.epochs, recovered.states) == ({}, [])
    second.commit(commit(topic, 1, [], state(b"second", partition=1), partition=1))
    second.commit(commit(topic, 2, [], state(b"more", partition=1), partition=1))
    second.close()
    recovered = first.recover([(topic, 0), (topic, 1)])
    assert [(s.state_partition, s.payload) for s in recovered.states] == [(0, b"first"), (1, b"second"), (1, b"more")]
    assert {p: epoch.epoch for (_, p), epoch in recovered.epochs.items()} == {0: 1, 1: 2}
    first.close()


def test_a_transaction_left_open_by_a_dead_worker_delays_recovery_and_spoils_nothing(kafka: Any, topic: str) -> None:
    job = f"job-{topic}"
    dead = committer(kafka.bootstrap, job, topic)
    dead.recover([(topic, 0)])
    dead.commit(commit(topic, 1, [], state(b"1")))
    dead.prepare(commit(topic, 2, [], state(b"never committed"))).producer.flush()
    other = committer(kafka.bootstrap, job, topic, slot=1)  # another slot: it does not fence the dead one off
    assert payloads(other, topic) == [b"1"]
    other.commit(commit(topic, 2, [], state(b"2")))
    # Its first commit lies behind the open transaction: readers wait until the broker gives that up.
    third = committer(kafka.bootstrap, job, topic, slot=2)
    assert payloads(third, topic) == [b"1", b"2"]
    for worker in (dead, other, third):
        worker.close()


def test_job_names_must_do_for_topics(kafka: Any, topic: str) -> None:
    with pytest.raises(ConfigurationError, match="job name 'my job'"):
        committer(kafka.bootstrap, "my job", topic)


def test_state_partitions_may_become_more(kafka: Any, topic: str) -> None:
    worker = committer(kafka.bootstrap, f"job-{topic}", topic)
    worker.recover([(topic, 0)])
    worker.commit(commit(topic, 1, [], state(b"1")))
    worker.commit(commit(topic, 2, [], *[state(b"p%d" % p, partition=p, full=True) for p in range(3)]))
    recovered = worker.recover([(topic, 0)])
    assert [(s.state_partition, s.payload) for s in recovered.states] == [(0, b"p0"), (1, b"p1"), (2, b"p2")]
    worker.close()


@pytest.mark.parametrize("guarantee", BOTH)
def test_a_record_beyond_the_topics_limit_becomes_a_dead_letter(
    kafka: Any, topic: str, new_topic: Callable[..., str], guarantee: Guarantee
) -> None:
    import hashlib

    small = new_topic(partitions=1, max_message_bytes="50000")
    worker = committer(kafka.bootstrap, f"job-{topic}", topic, guarantee)
    rows = write(small, ["a", "x" * 60_000, "b", "y" * 49_000], ["ka", "kx", None, "ky"])
    worker.recover([(topic, 0)])
    with pytest.raises(RestartRequired, match="takes batches of 50000 bytes only"):
        worker.commit(commit(topic, 1, [rows]))
    worker.recover([(topic, 0)])
    worker.commit(commit(topic, 1, [rows]))
    assert worker.outputs.refused == 1
    worker.close()
    assert values(kafka, small) == ["a", "b", "y" * 49_000]
    (letter,) = read(kafka.bootstrap, f"{small}.dlq")
    headers = {name: value.decode() for name, value in letter.headers()}
    assert letter.key() == b"kx"
    assert letter.value() == b"x" * 60_000
    assert headers["error_class"] == "RecordTooLarge"
    assert headers["payload_size"] == "60000"
    assert headers["payload_sha256"] == hashlib.sha256(b"x" * 60_000).hexdigest()
    assert headers["topic"] == small


@pytest.mark.parametrize("guarantee", BOTH)
def test_killed_at_any_moment(kafka: Any, topic: str, output: str, guarantee: Guarantee) -> None:
    job = f"job-{topic}"
    rng = random.Random(11)
    root = Path(__file__).resolve().parents[3]
    for _ in range(4):
        arguments = [kafka.bootstrap, job, topic, output, str(guarantee)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.kafka.commit_worker", *arguments],
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(rng.randint(1, 12)):
            process.stdout.readline()
        time.sleep(rng.random() * 0.02)
        process.kill()
        process.wait()
        process.stdout.close()
        worker = committer(kafka.bootstrap, job, topic, guarantee)
        recovered = worker.recover([(topic, 0)])
        worker.close()
        epoch = recovered.epochs[topic, 0].epoch
        assert numbers(recovered) == list(range(1, epoch + 1))
        assert recovered.epochs[topic, 0].position == epoch * 10
        written = Counter(values(kafka, output))
        expected = {f"{n}-{i}" for n in range(1, epoch + 1) for i in range(3)}
        if guarantee == Guarantee.EXACTLY_ONCE:
            assert written == Counter(expected)
        else:
            assert expected <= set(written) <= expected | {f"{epoch + 1}-{i}" for i in range(3)}

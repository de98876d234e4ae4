"""Retry topics and dead letters on a real broker."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.dead_letter import crashing, killed_replay
from thalweg.errors import ConfigurationError, FencedError
from thalweg.kafka import DeadLetterQueue, KafkaProducer, KafkaRecord, RetryingConsumer, RetryPolicy
from thalweg.kafka.dead_letter.store import KafkaLetters

pytestmark = pytest.mark.kafka

MakeTopic = Callable[..., str]


def fill(kafka: Any, topic: str, values: list[str], **record: Any) -> None:
    with KafkaProducer(kafka.bootstrap) as producer:
        for value in values:
            producer.send(topic, value, key=value, **record)


class Flaky:
    """Fails for a value as often as it says: "a!2" twice, "a!9" nine times."""

    def __init__(self) -> None:
        self.calls: dict[str, list[KafkaRecord]] = defaultdict(list)
        self.order: list[str] = []

    def __call__(self, record: KafkaRecord) -> None:
        value = record.value.decode()
        self.calls[value].append(record)
        failures = int(value.partition("!")[2] or 0)
        if len(self.calls[value]) <= failures:
            raise TimeoutError(f"attempt {len(self.calls[value])} of {value}")
        self.order.append(value)


def test_records_are_tried_again_and_do_not_hold_the_others(kafka: Any, new_topic: MakeTopic) -> None:
    topic = new_topic(partitions=2)
    values = [f"{n}" for n in range(50)] + ["once!1", "twice!2", "never!9"] + [f"{n}" for n in range(50, 100)]
    fill(kafka, topic, values, headers={"trace": b"t-1"}, timestamp=1_700_000_000_000)
    handler = Flaky()
    policy = RetryPolicy.of(["600ms", "900ms"])
    with RetryingConsumer(kafka.bootstrap, topic, handler, group_id=topic, retries=policy, max_rows=20) as worker:
        worker.run(until_idle=0.5)
    assert sorted(handler.order[:100]) == sorted(f"{n}" for n in range(100))  # all others first
    assert handler.order[100:] == ["once!1", "twice!2"]
    assert {value: len(calls) for value, calls in handler.calls.items() if len(calls) > 1} == {
        "once!1": 2, "twice!2": 3, "never!9": 3,
    }  # fmt: skip
    topics = [record.topic for record in handler.calls["never!9"]]
    assert topics == [topic, f"{topic}.retry-1", f"{topic}.retry-2"]
    with DeadLetterQueue(kafka.bootstrap, topic) as queue:
        (letter,) = queue.letters()
        first = handler.calls["never!9"][0]
        assert (letter.topic, letter.partition, letter.offset) == (topic, first.partition, first.offset)
        assert (letter.timestamp, letter.attempt, letter.error_class) == (1_700_000_000_000, 3, "TimeoutError")
        assert letter.error_message == "attempt 3 of never!9"
        assert letter.details is not None
        assert "Traceback" in letter.details
        assert (letter.key, letter.payload, letter.headers) == (b"never!9", b"never!9", {"trace": b"t-1"})


def test_some_errors_are_given_up_at_once(kafka: Any, topic: str) -> None:
    fill(kafka, topic, ["good", "bad"])

    def handle(record: KafkaRecord) -> None:
        if record.value == b"bad":
            raise KeyError("no such customer")

    with RetryingConsumer(kafka.bootstrap, topic, handle, group_id=topic, give_up_on=(KeyError,)) as worker:
        assert worker.run(until_idle=0.3) == 2
    with DeadLetterQueue(kafka.bootstrap, topic) as queue:
        assert [(each.error_class, each.attempt) for each in queue.letters()] == [("KeyError", 1)]
    with RetryingConsumer(kafka.bootstrap, topic, handle, group_id=topic) as worker:
        assert worker.run(until_idle=0.3) == 0  # what was handled is committed


@pytest.mark.slow
def test_a_poison_pill_is_set_aside_after_a_few_crashes(kafka: Any, new_topic: MakeTopic, tmp_path: Path) -> None:
    topic, done = new_topic(partitions=1), tmp_path / "done"
    fill(kafka, topic, [*map(str, range(10)), "poison", *map(str, range(10, 20))])
    command = [sys.executable, crashing.__file__, kafka.bootstrap, topic, topic, str(done), "poison"]
    codes = []
    while 0 not in codes:
        codes.append(subprocess.run(command, check=False, timeout=60).returncode)
        assert len(codes) < 8
    assert codes[:-1] == [-9] * (len(codes) - 1)
    assert len(codes) > 2
    assert set(done.read_text().split()) == set(map(str, range(20)))
    with DeadLetterQueue(kafka.bootstrap, topic) as queue:
        (letter,) = queue.letters()
        assert (letter.error_class, letter.payload, letter.offset) == ("PoisonPill", b"poison", 10)


def dead_letters(kafka: Any, topic: str) -> None:
    fill(kafka, topic, ["a", "b", "c"], headers={"own": b"1"})

    def fail(record: KafkaRecord) -> None:
        raise ValueError(record.value.decode())

    with RetryingConsumer(kafka.bootstrap, topic, fail, group_id=topic, retries=RetryPolicy(())) as worker:
        worker.run(until_idle=0.3)


def test_letters_are_edited_and_replayed_once(kafka: Any, new_topic: MakeTopic) -> None:
    topic = new_topic(partitions=1)
    dead_letters(kafka, topic)
    with DeadLetterQueue(kafka.bootstrap, topic) as queue, DeadLetterQueue(kafka.bootstrap, topic) as other:
        first, second, third = queue.letters()
        queue.edit(first.id, "mended")
        queue.discard(second.id)
        assert other.replay([first.id]).letters == (first.id,)
        assert queue.replay([first.id]).skipped == {first.id: "it is replayed already"}
        assert queue.replay().letters == (third.id,)
        assert other.replay().letters == ()
        assert queue.summary().sort("state").select("state", "letters").rows() == [("discarded", 1), ("replayed", 2)]
        with pytest.raises(ConfigurationError, match="replayed already"):
            queue.edit(first.id, "again")
    seen: list[KafkaRecord] = []
    with RetryingConsumer(kafka.bootstrap, topic, seen.append, group_id=topic) as worker:
        worker.run(until_idle=0.3)
    assert [record.value for record in seen] == [b"mended", b"c"]
    assert dict(seen[0].headers or ()) == {"own": b"1", "replay_of": f"{topic}.dlq:{first.id}".encode()}


def test_a_replay_that_ends_half_way_has_sent_nothing(kafka: Any, new_topic: MakeTopic) -> None:
    topic = new_topic(partitions=1)
    dead_letters(kafka, topic)
    with DeadLetterQueue(kafka.bootstrap, topic) as queue:
        # Another replay sends its records, and its process ends before the commit.
        crashed = KafkaProducer(kafka.bootstrap, transactional_id=f"thalweg-dlq-{topic}")
        crashed.init_transactions()
        crashed.begin_transaction()
        crashed.send(topic, b"half")
        assert len(queue.replay()) == 3
        with pytest.raises(FencedError):
            crashed.commit_transaction()
        crashed.kill()
        assert len(queue.replay()) == 0
    values = KafkaLetters(kafka.bootstrap)._read(topic)["value"].to_list()
    assert values == [b"a", b"b", b"c", b"a", b"b", b"c"]


def test_a_replay_that_is_killed_half_way_is_as_if_it_had_never_begun(kafka: Any, new_topic: MakeTopic) -> None:
    topic = new_topic(partitions=1)
    dead_letters(kafka, topic)
    command = [sys.executable, killed_replay.__file__, kafka.bootstrap, topic, "3"]
    assert subprocess.run(command, check=False, timeout=60).returncode == -9
    with DeadLetterQueue(kafka.bootstrap, topic) as queue:
        assert [letter.state for letter in queue.letters()] == ["open"] * 3
        assert len(queue.replay()) == 3
        assert [letter.state for letter in queue.letters(state="replayed")] == ["replayed"] * 3
    values = KafkaLetters(kafka.bootstrap)._read(topic)["value"].to_list()
    assert values == [b"a", b"b", b"c", b"a", b"b", b"c"]

"""Two transactional producers that take turns: no epoch counts without the one before, whoever fails and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.kafka.commit_tools import commit, committer, read, write
from thalweg.errors import FencedError, RestartRequired
from thalweg.streams.connector import Guarantee, StateRecord

pytestmark = pytest.mark.kafka


@pytest.fixture
def output(new_topic: Callable[..., str]) -> str:
    return new_topic()


def state(number: int) -> StateRecord:
    return StateRecord(0, "sum", b"%d" % number)


def epoch(topic: str, output: str, number: int) -> Any:
    return commit(topic, number, [write(output, [f"{number}"])], state(number))


def values(kafka: Any, topic: str) -> list[str]:
    return sorted(record.value().decode() for record in read(kafka.bootstrap, topic))


def held(worker: Any, topic: str) -> tuple[int, list[bytes]]:
    """Position and state after a recovery."""
    recovered = worker.recover([(topic, 0)])
    position = recovered.epochs[topic, 0].position if recovered.epochs else 0
    return position, [record.payload for record in recovered.states]


def test_epochs_are_prepared_ahead_and_count_in_order(kafka: Any, topic: str, output: str) -> None:
    worker = committer(kafka.bootstrap, f"job-{topic}", topic, alternating=True)
    assert worker.most_under_way == 2
    worker.recover([(topic, 0)])
    first, second = (worker.prepare(epoch(topic, output, number)) for number in (1, 2))
    assert first.producer is not second.producer
    worker.finish(first)
    third = worker.prepare(epoch(topic, output, 3))
    assert third.producer is first.producer
    worker.finish(second)
    worker.finish(third)
    assert values(kafka, output) == ["1", "2", "3"]
    assert held(worker, topic) == (30, [b"1", b"2", b"3"])
    worker.close()


def test_records_of_an_epoch_lie_before_those_of_the_next(
    kafka: Any, topic: str, new_topic: Callable[..., str]
) -> None:
    """The first one's are many, and on their way yet when the second is prepared, on a connection of its own."""
    output = new_topic(1)
    worker = committer(kafka.bootstrap, f"job-{topic}", topic, alternating=True)
    worker.recover([(topic, 0)])
    epochs: list[Any] = []
    many = [f"1-{number:06d}" * 20 for number in range(60_000)]
    for number, rows in enumerate((many, ["2"]), start=1):
        epochs.append(worker.prepare(commit(topic, number, [write(output, rows)])))
    for prepared in epochs:
        worker.finish(prepared)
    found = [record.value().decode() for record in read(kafka.bootstrap, output)]
    assert found == [*many, "2"]
    worker.close()


def test_with_at_least_once_there_is_one_producer(kafka: Any, topic: str) -> None:
    worker = committer(kafka.bootstrap, f"job-{topic}", topic, Guarantee.AT_LEAST_ONCE, alternating=True)
    assert worker.most_under_way == 1
    worker.close()


@pytest.mark.parametrize("alternating", [True, False], ids=["two", "one"])
@pytest.mark.parametrize("finished", [0, 1])
def test_a_zombie_finishes_neither_epoch(kafka: Any, topic: str, output: str, finished: int, alternating: bool) -> None:
    """Also where the instance that takes over writes with one producer, and so has no use for the other's id."""
    job = f"job-{topic}"
    zombie = committer(kafka.bootstrap, job, topic, alternating=True)
    zombie.recover([(topic, 0)])
    prepared = [zombie.prepare(epoch(topic, output, number)) for number in (1, 2)]
    if finished:
        zombie.finish(prepared[0])

    new = committer(kafka.bootstrap, job, topic, alternating=alternating)
    assert held(new, topic) == (10 * finished, [b"1"][:finished])
    with pytest.raises(FencedError):
        zombie.finish(prepared[finished])
    for other in prepared[finished + 1 :]:
        zombie.abandon(other)
    with pytest.raises(RestartRequired, match="recover first"):
        zombie.prepare(epoch(topic, output, 3))
    zombie.close()

    new.commit(commit(topic, finished + 1, [write(output, ["new"])], StateRecord(0, "sum", b"new")))
    assert values(kafka, output) == [*["1"][:finished], "new"]
    assert held(new, topic) == (10 * (finished + 1), [*[b"1"][:finished], b"new"])
    new.close()


def test_an_abandoned_epoch_leaves_nothing_and_readers_do_not_wait_for_it(kafka: Any, topic: str, output: str) -> None:
    """The second epoch may not count once the first has failed: it is aborted at once, not by its timeout."""
    job = f"job-{topic}"
    worker = committer(kafka.bootstrap, job, topic, alternating=True)
    worker.recover([(topic, 0)])
    first, second = (worker.prepare(epoch(topic, output, number)) for number in (1, 2))
    worker.abandon(second)
    worker.abandon(first)
    other = committer(kafka.bootstrap, f"other-{topic}", topic)  # fences nobody off
    other.recover([(topic, 0)])
    other.commit(commit(topic, 1, [write(output, ["other"])]))
    assert values(kafka, output) == ["other"]
    other.close()
    assert held(worker, topic) == (0, [])
    worker.commit(epoch(topic, output, 1))
    assert values(kafka, output) == ["1", "other"]
    worker.close()

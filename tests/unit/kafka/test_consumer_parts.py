"""What a consumer is made of, without a broker."""

from __future__ import annotations

import ctypes
import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from thalweg.errors import ConfigurationError, ConnectorError, FencedError, RestartRequired
from thalweg.kafka import _librdkafka, consumer, consumer_errors
from thalweg.kafka._librdkafka import LibraryUnusable, library_path, version_of
from thalweg.kafka._produce_api import Failure
from thalweg.kafka._reading_progress import ReadingProgress
from thalweg.kafka._retry import until_settled
from thalweg.kafka._waker import Waker
from thalweg.kafka.consumer_config import consumer_config
from thalweg.kafka.consumer_errors import OffsetOutOfRange, raise_for, raise_not_committed
from thalweg.kafka.plain import PlainConsumer
from thalweg.records import RawRecords


def records(*places: tuple[int, int]) -> RawRecords:
    """Records at these (partition, offset)."""
    n = len(places)
    none = (np.zeros(n, np.uint64), np.full(n, -1, np.int64))
    partition, offset = np.array(places, dtype=np.int64).reshape(n, 2).T
    return RawRecords("t", *none, *none, partition.astype(np.int32), offset.copy(), np.zeros(n, np.int64))


def test_progress_follows_what_was_handed_out() -> None:
    progress = ReadingProgress()
    assert progress.handed_out(records((0, 5), (1, 7), (0, 6))) == {0: 7, 1: 8}
    assert progress.handed_out(records((1000, 3))) == {1000: 4}
    assert progress.positions() == {("t", 0): 7, ("t", 1): 8, ("t", 1000): 4}


def test_the_end_is_the_end_until_something_comes_after_it() -> None:
    progress = ReadingProgress()
    progress.handed_out(records((0, 5)))
    assert progress.caught_up() == frozenset()
    progress.reached_end(("t", 0), 6)
    progress.reached_end(("t", 1), 0)
    assert progress.caught_up() == {("t", 0), ("t", 1)}
    assert progress.positions()["t", 1] == 0
    progress.handed_out(records((0, 6)))
    assert progress.caught_up() == {("t", 1)}
    progress.restart({("t", 1): 0})
    assert progress.caught_up() == frozenset()
    progress.reached_end(("t", 0), 9)  # behind the last record stand only transaction markers
    assert progress.caught_up() == {("t", 0)}
    progress.keep_only(frozenset())
    assert progress.positions() == progress.ends() == {}


def test_a_logical_position_is_not_known_before_the_first_record() -> None:
    progress = ReadingProgress()
    progress.restart({("t", 0): consumer.BEGINNING, ("t", 1): 4})
    assert progress.positions() == {("t", 1): 4}


def test_a_wake_before_the_wait_counts() -> None:
    waker = Waker()
    waker.wake()
    waker.wait(200)  # the test's time limit is the judge
    waiting = threading.Thread(target=waker.wait, args=(200,))
    waiting.start()
    waker.wake()
    waiting.join()
    for _ in range(100_000):  # never blocks, however full
        waker.wake()
    waker.wait(200)
    waker.close()
    waker.wake()


def test_settings_become_text_above_the_defaults() -> None:
    config = consumer_config(
        {"bootstrap.servers": "a:1", "group.id": "g", "enable.auto.commit": True, "fetch.wait.max.ms": 7}, ["t"]
    )
    assert config["enable.auto.commit"] == "true"
    assert config["fetch.wait.max.ms"] == "7"
    assert config["isolation.level"] == "read_committed"


@pytest.mark.parametrize(
    ("settings", "topics", "message"),
    [
        ({}, [], "bootstrap.servers"),
        ({"bootstrap.servers": "a:1"}, ["t"], "needs a group.id"),
        ({"bootstrap.servers": "a:1", "error_cb": print}, [], "error_cb"),
        (
            {"bootstrap.servers": "a:1", "group.id": "g", "partition.assignment.strategy": "cooperative-sticky"},
            ["t"],
            "all at once",
        ),
    ],
)
def test_settings_that_can_not_work(settings: dict[str, object], topics: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        consumer_config(settings, topics)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (82, FencedError, "running twice"),
        (-147, RestartRequired, "max.poll.interval"),
        (-140, OffsetOutOfRange, "no offset 9"),
        (3, ConnectorError, "topic 't', partition 4 is gone"),
        (29, ConnectorError, "ACLs"),
        (26, ConnectorError, "boom"),
    ],
)
def test_errors_that_the_reader_must_know(code: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        raise_for(Failure(code, "NAME", "boom"), "t", 4, 9)


def test_a_passing_error_is_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_errors, "_complaints", {})
    with caplog.at_level(logging.WARNING, "thalweg.kafka"):
        for _ in range(50):
            raise_for(Failure(-195, "_TRANSPORT", "connection refused"))
    assert [record.getMessage() for record in caplog.records] == [
        "the consumer group: connection refused (_TRANSPORT); librdkafka tries again"
    ]


def test_a_commit_that_failed_means_to_start_again() -> None:
    raise_not_committed(Failure(-168, "_NO_OFFSET", "nothing to commit"))
    for code in (22, 25, 27, -185):
        with pytest.raises(RestartRequired, match="not committed"):
            raise_not_committed(Failure(code, "NAME", "boom"))


def test_the_wheel_s_library_is_found() -> None:
    assert version_of(ctypes.CDLL(str(library_path()))) >= (2, 0, 0)


def test_the_extension_s_own_library_is_found_where_the_wheel_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from confluent_kafka import cimpl

    candidates = list(_librdkafka._candidates())
    assert candidates[-1] == Path(cimpl.__file__)
    monkeypatch.setattr(_librdkafka, "_candidates", lambda: candidates[-1:])
    assert library_path.__wrapped__() == Path(cimpl.__file__)


@pytest.mark.parametrize(("version", "ok"), [((1, 9, 2), False), ((2, 0, 0), True), ((3, 0, 0), False)])
def test_an_unknown_version_is_not_touched(
    version: tuple[int, int, int], ok: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_librdkafka, "version_of", lambda library: version)
    if ok:
        assert library_path.__wrapped__().exists()
    else:
        with pytest.raises(LibraryUnusable, match="is not known"):
            library_path.__wrapped__()


def test_the_plain_consumer_serves_where_the_library_is_not_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_librdkafka, "_candidates", lambda: iter(()))
    monkeypatch.setattr(consumer, "library_path", library_path.__wrapped__)
    monkeypatch.delenv("THALWEG_PLAIN_CONSUMER", raising=False)
    opened = consumer.open_consumer({"bootstrap.servers": "127.0.0.1:1"})
    assert isinstance(opened, PlainConsumer)
    assert "reinstall" in caplog.text
    opened.close()


def test_a_request_is_asked_again_while_the_cluster_settles() -> None:
    answers = iter([5, 6, 15, 0])
    assert until_settled(lambda remaining: next(answers), 60_000) == 0
    assert list(answers) == []
    answers = iter([6, 29, 0])
    assert until_settled(lambda remaining: next(answers), 60_000) == 29
    assert until_settled(lambda remaining: 6, 150) == 6

"""The commit pipeline: epochs are prepared ahead, finished in order, and none after one that failed."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from thalweg.errors import RestartRequired
from thalweg.streams.connector import Commit
from thalweg.streams.engine.commits import CommitPipeline, Epoch


class Ahead:
    """A committer of which each step waits until it is let go, or fails."""

    def __init__(self, most: int, *, fails: str = "") -> None:
        self.most_under_way = most
        self.done: list[str] = []
        self.changed = threading.Condition()
        self._fails = fails
        self._open: set[str] = set()

    def let(self, *steps: str) -> None:
        with self.changed:
            self._open.update(steps)
            self.changed.notify_all()

    def step(self, name: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: name in self._open, 30), f"{name} was not let go"
            self.done.append(name)
            self.changed.notify_all()
        if name == self._fails:
            raise RestartRequired(f"{name} failed")

    def reached(self, *steps: str) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: set(steps) <= set(self.done), 30), self.done

    def prepare(self, commit: Commit) -> int:
        self.step(f"prepare {commit.number}")
        return commit.number

    def finish(self, prepared: int) -> None:
        self.step(f"finish {prepared}")

    def abandon(self, prepared: int) -> None:
        with self.changed:
            self.done.append(f"abandon {prepared}")
            self.changed.notify_all()

    def commit(self, commit: Commit) -> None:
        raise AssertionError("it prepares ahead")


def pipeline(committer: Any) -> CommitPipeline:
    return CommitPipeline(committer, 1, 1, 128, threading.Event())


def epoch(number: int) -> Epoch:
    return Epoch({}, (), (), False, number)


def test_the_next_epoch_is_prepared_while_one_is_being_finished() -> None:
    committer = Ahead(2)
    pipe = pipeline(committer)
    pipe.submit(epoch(1))
    assert not pipe.busy
    assert not pipe.idle
    pipe.submit(epoch(2))
    assert pipe.busy
    with pytest.raises(RuntimeError, match="is on its way"):
        pipe.submit(epoch(3))
    committer.let("prepare 1", "prepare 2")
    committer.reached("prepare 1", "prepare 2")
    assert pipe.durable == 0
    committer.let("finish 2")
    committer.let("finish 1")
    assert pipe.wait(30)
    assert committer.done == ["prepare 1", "prepare 2", "finish 1", "finish 2"]
    assert (pipe.submitted, pipe.durable, pipe.figures.count) == (2, 2, 2)
    assert pipe.idle
    assert pipe.stop()


def test_with_room_for_one_nothing_overlaps() -> None:
    committer = Ahead(1)
    pipe = pipeline(committer)
    pipe.submit(epoch(1))
    assert pipe.busy
    committer.let("prepare 1", "finish 1")
    assert pipe.wait(30)
    pipe.submit(epoch(2))
    committer.let("prepare 2", "finish 2")
    assert pipe.wait(30)
    assert committer.done == ["prepare 1", "finish 1", "prepare 2", "finish 2"]
    assert pipe.stop()


@pytest.mark.parametrize(
    ("fails", "done", "durable"),
    [
        ("finish 1", ["prepare 1", "prepare 2", "finish 1", "abandon 2"], 0),
        ("prepare 2", ["prepare 1", "prepare 2", "finish 1"], 1),
        ("finish 2", ["prepare 1", "prepare 2", "finish 1", "finish 2"], 1),
    ],
)
def test_after_a_failure_nothing_later_counts(fails: str, done: list[str], durable: int) -> None:
    committer = Ahead(2, fails=fails)
    pipe = pipeline(committer)
    pipe.submit(epoch(1))
    pipe.submit(epoch(2))
    committer.let("prepare 1", "prepare 2")
    committer.reached("prepare 1", "prepare 2")
    committer.let("finish 1", "finish 2")
    committer.reached(*done)
    assert pipe.stop()
    assert committer.done == done
    assert pipe.durable == durable
    with pytest.raises(RestartRequired, match=f"{fails} failed"):
        pipe.wait(1)
    with pytest.raises(RestartRequired, match=f"{fails} failed"):
        pipe.submit(epoch(3))


def test_an_epoch_that_can_not_be_prepared_drops_what_waits_behind_it() -> None:
    committer = Ahead(2, fails="prepare 1")
    pipe = pipeline(committer)
    pipe.submit(epoch(1))
    pipe.submit(epoch(2))
    committer.let("prepare 1", "prepare 2", "finish 1", "finish 2")
    assert pipe.stop()
    assert committer.done == ["prepare 1"]
    assert pipe.durable == 0

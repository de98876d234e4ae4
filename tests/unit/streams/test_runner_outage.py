"""A broker that goes away and comes back: a job that has worked waits for it, one that never has says so and ends."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from typing import Any

import pytest
from polars.testing import assert_frame_equal
from tests.unit.streams.memory_broker import Commit, MemoryBroker, MemoryCommitter
from tests.unit.streams.test_runner import eventually, filled, make_app, output, undisturbed

from thalweg.errors import ConnectorError, RestartRequired
from thalweg.streams.connector import JobSettings, Source
from thalweg.streams.engine import runner
from thalweg.streams.engine.session import Session


class Away(MemoryBroker):
    """A broker that loses the commit after the second, and then can't be reached `attempts` times."""

    def __init__(self, attempts: int) -> None:
        self.__dict__.update(vars(filled()))
        self.attempts = attempts
        self.refused = 0
        self.lost = False
        self.fail = self._lose

    def _lose(self, at: str, commit: Commit) -> None:
        if at == "before" and commit.number == 3 and not self.lost:
            self.lost = True
            raise RestartRequired("the broker took too long")

    def committer(self, job: JobSettings, sources: Sequence[Source]) -> MemoryCommitter:
        if self.lost and self.refused < self.attempts:
            self.refused += 1
            raise ConnectorError("the cluster does not answer")
        return super().committer(job, sources)


def in_background(app: Any, **arguments: Any) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            app.run(**arguments)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, errors


def test_a_job_that_has_worked_waits_for_its_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_RESTARTS", 2)
    height = undisturbed().height
    broker = Away(attempts=5)
    app = make_app(broker)
    thread, errors = in_background(app)
    try:
        assert eventually(lambda: broker.refused > 2 and app.status().state == "restarting")
        assert "the cluster does not answer" in str(app.status().error)
        assert eventually(lambda: broker.output("out").height == height)
    finally:
        app.stop()
        thread.join(20)
    assert errors == []
    assert broker.refused == 5
    assert_frame_equal(output(broker), undisturbed())


def test_a_run_that_is_to_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MAX_RESTARTS", 2)
    with pytest.raises(ConnectorError, match="gave up after 2 restarts without a commit: the cluster does not answer"):
        make_app(Away(attempts=1_000)).run(until_caught_up=True)


def test_a_run_for_some_time_says_what_it_waited_for() -> None:
    # Where the machine is slow the time is over before the second attempt: then it is the loss itself.
    with pytest.raises(ConnectorError, match=r"the cluster does not answer|the broker took too long"):
        make_app(Away(attempts=1_000)).run(seconds=1)


def test_a_lost_session_is_gone_before_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions: list[weakref.ref[Session]] = []

    class Noted(Session):
        def open(self) -> None:
            sessions.append(weakref.ref(self))
            assert sum(session() is not None for session in sessions) == 1, "two sessions' frames at a time"
            super().open()

    monkeypatch.setattr(runner, "Session", Noted)
    make_app(Away(attempts=2)).run(until_caught_up=True)
    assert len(sessions) == 4


def test_a_job_that_waits_can_be_stopped() -> None:
    broker = Away(attempts=1_000)
    app = make_app(broker)
    thread, errors = in_background(app)
    assert eventually(lambda: broker.refused > 1)
    app.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert errors == []
    assert app.status().state == "stopped"

"""What other threads ask of a running job, answered as of a commit: queries and savepoints.

A question waits for the next commit boundary, where the engine answers it from the state that this commit makes
durable; the asker gets the answer when the commit is. So an answer never shows what a crash could undo, and costs no
second copy of the state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from thalweg.errors import StateError
from thalweg.streams.connector import PartitionEpoch, TopicPartition

if TYPE_CHECKING:
    from thalweg.streams.engine.dataflow import Dataflow
    from thalweg.streams.engine.exchange.tasks import ScaledDataflow
    from thalweg.streams.engine.state_codec import PlacedDelta


@dataclass(frozen=True)
class Boundary:
    """The job between two batches, as a commit makes it durable."""

    dataflow: Dataflow | ScaledDataflow
    epochs: Mapping[TopicPartition, PartitionEpoch]
    """Of all partitions."""
    deltas: Sequence[PlacedDelta]
    """What the commit writes; all state where the question asked for it."""
    state_partitions: int
    key_groups: int
    alone: bool = True
    """No other worker holds a part of the job."""
    exchange: str | None = None
    """The topic through which rows move between workers; nothing was under way in it where all state was asked for."""


Answer = Callable[[Boundary], Any]


@dataclass(eq=False)
class _Question:
    answer: Answer
    whole: bool
    future: Future[Any] = field(default_factory=Future)
    result: Any = None
    commits: int = 0
    """How many commits have to be durable before the asker may know."""


class Requests:
    """The mailbox of a job: `ask` from any thread, the rest by the engine's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Question] = []
        self._answered: list[_Question] = []
        self._wake: threading.Event | None = None
        self._closed = "the job is not running"

    def ask(self, answer: Answer, *, whole: bool = False, timeout: float) -> Any:
        """Has `answer` called at the next commit boundary, and waits until that commit is durable.

        Args:
            answer: called on the engine's thread; what it gives must not change afterwards.
            whole: whether it needs all state as deltas: the commit is then a checkpoint.
            timeout: seconds.

        Raises:
            StateError: the job is not running, ends before it can answer, or takes longer.
        """
        with self._lock:
            if self._wake is None:
                raise StateError(self._closed)
        future = self.put(answer, whole=whole)
        try:
            return future.result(timeout)
        except TimeoutError:
            with self._lock:
                self._waiting = [other for other in self._waiting if other.future is not future]
            raise StateError(f"the job did not answer within {timeout:g} s: its commits may be stuck") from None

    def put(self, answer: Answer, *, whole: bool = False) -> Future[Any]:
        """Like `ask`, for a job that may be yet to start, and without waiting."""
        question = _Question(answer, whole)
        with self._lock:
            self._waiting.append(question)
            if self._wake is not None:
                self._wake.set()
        return question.future

    @property
    def pending(self) -> bool:
        """Whether anyone still waits for an answer."""
        return bool(self._waiting or self._answered)

    @property
    def waiting(self) -> bool:
        """Whether a commit is asked for."""
        return bool(self._waiting)

    @property
    def wants_all(self) -> bool:
        """Whether it is to be a checkpoint."""
        return any(question.whole for question in self._waiting)

    def open(self, wake: threading.Event) -> None:
        """The job runs: questions set `wake`."""
        with self._lock:
            self._wake = wake

    def answer(self, boundary: Boundary, commits: int, *, whole: bool = True) -> None:
        """Answers what waits, with what this many commits make durable.

        Args:
            whole: the boundary has all state; otherwise who asked for that goes on waiting.
        """
        with self._lock:
            questions = [question for question in self._waiting if whole or not question.whole]
            self._waiting = [question for question in self._waiting if question not in questions]
        for question in questions:
            try:
                question.result, question.commits = question.answer(boundary), commits
                self._answered.append(question)
            except Exception as error:
                question.future.set_exception(error)

    def confirm(self, durable: int) -> None:
        """This many commits are durable: who was answered with no more than those gets the answer."""
        confirmed = [question for question in self._answered if question.commits <= durable]
        self._answered = [question for question in self._answered if question.commits > durable]
        for question in confirmed:
            question.future.set_result(question.result)

    def lost(self) -> None:
        """What was answered last did not become durable: it waits again."""
        with self._lock:
            self._waiting = [*self._answered, *self._waiting]
            self._answered = []

    def close(self, reason: str) -> None:
        """The job has ended."""
        with self._lock:
            self._wake, self._closed = None, reason
            questions = [*self._answered, *self._waiting]
            self._answered, self._waiting = [], []
        for question in questions:
            question.future.set_exception(StateError(reason))

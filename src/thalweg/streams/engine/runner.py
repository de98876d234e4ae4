"""Runs a job: sessions one after the other until it is told to stop, or fails for good."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from thalweg.errors import ConnectorError, FencedError, RestartRequired, SourceClosed, StateError
from thalweg.streams.batch import MIN_TIME
from thalweg.streams.connector import Broker
from thalweg.streams.engine.memory import give_back
from thalweg.streams.engine.session import Session
from thalweg.streams.engine.settings import SessionSettings
from thalweg.streams.engine.status import (
    CommitStatus,
    JobStatus,
    OperatorStatus,
    Rate,
    SourceStatus,
    copy_accounts,
)
from thalweg.streams.operator import Memory
from thalweg.streams.plan.graph import Plan

logger = logging.getLogger(__name__)

IDLE_WAIT = 0.05
"""Seconds that the idle loop sleeps at most: processing time and idleness need a look at the clock."""
STATUS_EVERY = 0.1
MAX_RESTARTS = 10
"""Restarts in a row without a commit between them."""


def wall_clock() -> int:
    """Now, ms UTC."""
    return time.time_ns() // 1_000_000


class Runner:
    """Runs a plan on a broker; `run` blocks, everything else may be called from any thread.

    Args:
        plan: resolved and checked.
        broker: not closed by the runner.
        settings: of the app.
        clock: the job's clock, ms UTC.
    """

    def __init__(
        self, plan: Plan, broker: Broker, settings: SessionSettings, clock: Callable[[], int] = wall_clock
    ) -> None:
        self.plan = plan
        self.settings = settings
        self._broker = broker
        self._clock = clock
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._restarts = 0
        self._in_a_row = 0
        self._committed = False
        self._patient = False
        self._started = time.monotonic()
        self._next_status = 0.0
        self._rates = {source.topic: Rate() for source in plan.sources}
        self._status = JobStatus(settings.job.name, "new", str(settings.job.guarantee))

    def run(self, *, seconds: float | None = None, until_caught_up: bool = False) -> None:
        """Runs until stopped: by `stop`, after `seconds`, or when everything that the broker had is processed.

        It ends cleanly in each case: the batch is finished, the last epoch is committed.

        Raises:
            ThalwegError: what stopped the job; nothing of the broken epoch is committed.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        self._patient = not until_caught_up
        self.settings.requests.open(self._wake)
        try:
            while (lost := self._attempt(deadline, until_caught_up)) is not None:
                give_back(lost)
                if not self._back_off(deadline):
                    raise lost
                if self._stop.is_set():  # what was open is lost already; what was committed stays
                    self._set_state("stopped")
                    return
        except BaseException as error:
            self._set_state("failed", error)
            raise
        finally:
            self.settings.requests.close(f"job {self.settings.job.name!r} has ended")

    def stop(self) -> None:
        """Asks the job to end cleanly; returns at once."""
        self._stop.set()
        self._wake.set()

    def status(self) -> JobStatus:
        """The job as it was within the last moments."""
        return self._status

    def _attempt(self, deadline: float | None, until_caught_up: bool) -> ConnectorError | None:
        """One session; None when the job has ended, or why it is to start again."""
        session = Session(self.plan, self._broker, self.settings, self._clock, self._wake, self._stop.is_set)
        self._set_state("starting")
        opened = False
        try:
            session.open()
            opened = True
            self._loop(session, deadline, until_caught_up)
            self._set_state("stopping")
            session.finish()
            self._publish(session, "stopped")
        except RestartRequired as error:
            self._lost(session, error)
            return error
        except (FencedError, SourceClosed):
            raise
        except ConnectorError as error:
            # A job that ran before finds its broker away: that passes. One that has just been started is told.
            if opened or not self._committed:
                raise
            self._lost(session, error)
            return error
        finally:
            session.close()
        return None

    def _lost(self, session: Session, error: ConnectorError) -> None:
        """Notes that a session ended before its time; raises where there is no sense in another one."""
        pipeline = getattr(session, "pipeline", None)
        if pipeline is not None and pipeline.figures.count:
            self._in_a_row = 0
            self._committed = True
            self.settings = replace(self.settings, savepoint=None)  # what it held is committed now
        # One that has worked goes on trying, as long as an outage may take. One that has not may never do.
        if self._in_a_row >= MAX_RESTARTS and not (self._committed and self._patient):
            raise ConnectorError(f"gave up after {MAX_RESTARTS} restarts without a commit: {error}") from error
        self.settings.requests.lost()
        logger.warning("starting again from the last commit: %s", error)
        self._set_state("restarting", error)

    def _loop(self, session: Session, deadline: float | None, until_caught_up: bool) -> None:
        self._publish(session, "running")
        while not self._stop.is_set() and (deadline is None or time.monotonic() < deadline):
            self._wake.clear()
            busy = session.step()
            if time.monotonic() >= self._next_status:
                self._publish(session, "running")
            if self.settings.state_only and not self.settings.requests.pending:
                return
            if busy or session.has_queued():
                continue
            if until_caught_up and session.caught_up():
                return
            self._wake.wait(self._pause(session, deadline))
        if self.settings.state_only and self.settings.requests.pending and not self._stop.is_set():
            raise StateError(f"the state of job {self.settings.job.name!r} was not at rest in time: raise the timeout")

    def _pause(self, session: Session, deadline: float | None) -> float:
        """How long there is nothing to do, at most; a commit on its way wakes the loop when it is done."""
        wait = IDLE_WAIT
        if session.uncommitted and not session.pipeline.busy:
            wait = min(wait, session.commit_in())
        if deadline is not None:
            wait = min(wait, deadline - time.monotonic())
        return max(0.0, wait)

    def _back_off(self, deadline: float | None) -> bool:
        """Waits before the next session; false where there is no time left for one."""
        self._restarts += 1
        self._in_a_row += 1
        delay = min(10.0, 0.05 * 2 ** min(self._in_a_row, 10)) * random.uniform(0.5, 1.0)
        self._stop.wait(delay)
        return deadline is None or time.monotonic() < deadline

    # -- status

    def _set_state(self, state: str, error: BaseException | None = None) -> None:
        text = f"{type(error).__name__}: {error}" if error is not None else None
        self._status = replace(self._status, state=state, restarts=self._restarts, error=text)

    def _publish(self, session: Session, state: str) -> None:
        now = time.monotonic()
        self._next_status = now + STATUS_EVERY
        session.measure_memory(now)
        figures = session.pipeline.figures
        self._status = JobStatus(
            name=self.settings.job.name,
            state=state,
            guarantee=str(self.settings.job.guarantee),
            uptime_ms=int((now - self._started) * 1000),
            clock=self._clock(),
            sources=[self._source(session, topic, now) for topic in session.prefetchers],
            operators=self._operators(session),
            commits=CommitStatus(
                figures.count,
                figures.last_ms,
                figures.longest_ms,
                figures.last_bytes,
                figures.checkpoints,
                figures.full_bytes,
                figures.delta_bytes,
            ),
            checkpoint=session.checkpointing.status(now, figures, session.pipeline.uploads),
            state_backend=session.state_status(),
            latency=session.latencies.status(),
            pressure=session.pressure.status(),
            written=session.outputs.written,
            dead=session.outputs.dead_rows,
            late=session.outputs.late_rows,
            restarts=self._restarts,
        )

    def _source(self, session: Session, topic: str, now: float) -> SourceStatus:
        watermarks = session.dataflow.source(topic).watermarks
        prefetcher = session.prefetchers[topic]
        received = session.received[topic]
        return SourceStatus(
            topic,
            received,
            self._rates[topic].at(now, received),
            None if watermarks.event_time == MIN_TIME else watermarks.event_time,
            sum(prefetcher.lag().values()),
            prefetcher.queued,
            len(watermarks.idle),
        )

    def _operators(self, session: Session) -> list[OperatorStatus]:
        """Each operator once, however many tasks run it."""
        accounts = copy_accounts(session.dataflow.accounts())
        batches: Counter[str] = Counter()
        stateful: dict[str, bool] = {}
        for stage in session.dataflow.stages:
            batches[stage.operator.id] += stage.batches
            stateful[stage.operator.id] = stage.stateful
        return [
            OperatorStatus(name, accounts[name], batches[name], keeps, session.memory.get(name, Memory()))
            for name, keeps in stateful.items()
        ]


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the job cleanly, the second Ctrl-C at once. Only the main thread can arrange that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        logger.info("%s: ending after the last commit", signal.Signals(number).name)
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

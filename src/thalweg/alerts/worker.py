"""The threads that carry out what is due: one for what time brings about, one for each channel.

Tasks are leased from the store, so several instances on one store share them; a task whose worker dies is taken over
when its lease ends. Each is carried out at least once, with the same key at each repetition.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

from thalweg.alerts.leases import Leases
from thalweg.alerts.sending import Sender
from thalweg.alerts.store.base import Changes, Store, Task
from thalweg.alerts.timers import Timers
from thalweg.errors import ConnectorError
from thalweg.faults import fault_point

logger = logging.getLogger(__name__)

IDLE = 0.5
"""Seconds that a thread sleeps at most: another instance may have put tasks that this one can take."""
BATCH = 20
TIMER_LANE = ""


class Worker:
    """Carries out tasks in threads (`start`), or in the caller's thread (`run_due`).

    Args:
        lanes: the names of the channels.
        each_round: called by the timer thread each round, also when nothing is due.
        lease: ms for which a task is taken.
    """

    def __init__(
        self,
        store: Store,
        sender: Sender,
        timers: Timers,
        clock: Callable[[], int],
        lanes: Callable[[], list[str]],
        each_round: Callable[[], None],
        lease: int,
    ) -> None:
        self._store = store
        self._sender = sender
        self._timers = timers
        self._clock = clock
        self._lanes = lanes
        self._each_round = each_round
        self._leases = Leases(store, clock, lease)
        self._keeper: threading.Thread | None = None
        self._owner = uuid.uuid4().hex
        self._wakes: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._stopping = False
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def start(self) -> None:
        """Begins, with what an earlier process has left; lanes that came since the last call begin too."""
        with self._lock:
            if self._stopping:
                return
            if not self._threads:
                self._store.recover()
                self._keeper = threading.Thread(target=self._leases.keep, name="thalweg-alerts-leases", daemon=True)
                self._keeper.start()
            for lane in [TIMER_LANE, *self._lanes()]:
                if lane in self._threads:
                    continue
                self._wakes[lane] = threading.Event()
                name = f"thalweg-alerts-{lane or 'timers'}"
                self._threads[lane] = threading.Thread(target=self._run, args=(lane,), name=name, daemon=True)
                self._threads[lane].start()

    def wake(self) -> None:
        """Says that there may be something to do."""
        for wake in list(self._wakes.values()):
            wake.set()

    def stop(self, timeout: float) -> None:
        """Does what is due now, then ends; what is left stays in the store."""
        self._stopping = True
        self.wake()
        deadline = time.monotonic() + timeout
        for thread in list(self._threads.values()):
            thread.join(max(0.0, deadline - time.monotonic()))
        self._leases.end()
        if self._keeper is not None:
            self._keeper.join(max(0.0, deadline - time.monotonic()))

    def flush(self, timeout: float) -> bool:
        """Waits until nothing is due; false if something still is."""
        deadline = time.monotonic() + timeout
        while True:
            due = self._store.next_due()
            if due is None or due > self._clock():
                return True
            if time.monotonic() > deadline:
                return False
            self.wake()
            time.sleep(0.01)

    def run_due(self, lane: str | None = None) -> int:
        """Carries out what is due, in this thread; returns how many messages got through."""
        sent = 0
        while tasks := self._leases.take(self._owner, lane, BATCH):
            fault_point("alerts.claimed")
            try:
                for number, task in enumerate(tasks):
                    if lane and self._sender.pause(lane, self._clock()):
                        self._give_back(tasks[number:])
                        return sent
                    sent += self._carry_out(task)
                    self._leases.release([task])
            finally:
                self._leases.release(tasks)
        return sent

    def _give_back(self, tasks: list[Task]) -> None:
        """They are as they were before they were taken, as far as they still are ours."""
        self._store.apply(Changes(tasks=[task for task in tasks if self._leases.holds(task)]), synced=False)

    def _carry_out(self, task: Task) -> bool:
        """Whether a message got through."""
        if not self._leases.holds(task):  # this process stood still for long: another does it
            return False
        if task.lane == TIMER_LANE:
            self._timers.run(task)
            self.wake()
            return False
        return self._sender.send(task)

    def _run(self, lane: str) -> None:
        try:
            while True:
                wake = self._wakes[lane]
                wake.clear()
                ending = self._stopping
                try:
                    if lane == TIMER_LANE:
                        self._each_round()
                    if ending or not self._sender.pause(lane, self._clock()):
                        self.run_due(lane)
                except ConnectorError as error:
                    # A store that is locked, full or away for a while must not end delivery for good.
                    logger.error("alerts: %s; trying again", error)
                    if not ending:
                        wake.wait(IDLE)
                        continue
                if ending:
                    return
                wake.wait(self._pause(lane))
        except BaseException as error:
            self.error = error
            logger.exception("alert delivery ended; what is pending stays in the store")

    def _pause(self, lane: str) -> float:
        now = self._clock()
        if wait := self._sender.pause(lane, now):
            return min(IDLE, wait / 1000)
        try:
            due = self._store.next_due(lane)
        except ConnectorError:
            return IDLE
        if due is None:
            return IDLE
        # What is due, and yet was not taken, is leased by another.
        return IDLE if due <= now else min(IDLE, (due - now) / 1000)

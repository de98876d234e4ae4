"""Keeps the workers of a job running: starts them, starts crashed ones again, adds and takes away.

It knows nothing of Kafka: who does what is settled by the consumer group. A worker is a process in a *slot*; started
again in the same slot it is back at once.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from thalweg.errors import ConfigurationError, FencedError, MissingExtraError, PlanError, StateError, ThalwegError
from thalweg.streams.worker import SLOT, WORKERS

logger = logging.getLogger(__name__)

REFUSED = 78
"""A worker's exit code: it can't run as it is, and starting it again would not help."""
FENCED = 79
"""A worker's exit code: another one has taken its slot."""
HEALTHY = 30.0
"""Seconds after which a worker counts as having been well."""
GIVE_UP = 10
"""Crashes in a row, none of them after a healthy time."""
LOOK_EVERY = 0.05


def exit_code(error: ThalwegError) -> int:
    """What a supervised worker ends with."""
    if isinstance(error, FencedError):
        return FENCED
    return REFUSED if isinstance(error, ConfigurationError | PlanError | StateError | MissingExtraError) else 1


def worker_command(script: Path, arguments: Sequence[str]) -> list[str]:
    """What a worker is started with."""
    return [sys.executable, "-m", "thalweg.cli", "run", str(script), "--", *arguments]


@dataclass
class _Slot:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    crashes: int = 0
    """In a row."""
    due: float = 0.0
    """When it is to be started."""
    leaving: bool = False


class Supervisor:
    """Runs `workers` processes in the slots from `first_slot` on.

    SIGTERM and SIGINT end all of them in order (the second time at once); SIGTTIN adds a worker, SIGTTOU takes one
    away.

    Args:
        command: starts one worker; slot and number of workers are told by the environment.
        log: where to say what happens, in lines.
        backoff: seconds before the first restart; doubled with each crash in a row, up to 30 s.
    """

    def __init__(
        self,
        command: Sequence[str],
        workers: int,
        *,
        first_slot: int = 0,
        log: Callable[[str], None] = logger.warning,
        backoff: float = 0.1,
        healthy: float = HEALTHY,
    ) -> None:
        if workers < 1 or first_slot < 0:
            raise ConfigurationError(f"{workers} workers from slot {first_slot} on: there must be one at least, from 0")
        self.restarts = 0
        self._command = list(command)
        self._slots = [_Slot(first_slot + number) for number in range(workers)]
        self._log = log
        self._backoff = backoff
        self._healthy = healthy
        self._failed = False
        self._ending = 0
        self._wake = threading.Event()

    @property
    def pids(self) -> dict[int, int]:
        """The process of each slot that has one now."""
        return {slot.number: slot.process.pid for slot in list(self._slots) if slot.process is not None}

    def run(self) -> int:
        """Runs until all workers have ended; returns the exit code: 0 when all of them ended well."""
        with self._signals():
            while self._slots:
                for slot in list(self._slots):
                    self._look_after(slot)
                self._wake.wait(LOOK_EVERY)
                self._wake.clear()
        return 1 if self._failed else 0

    def add(self) -> None:
        """One more worker, in the next free slot."""
        if not self._ending:
            self._slots.append(_Slot(max((slot.number for slot in self._slots), default=-1) + 1))
            self._wake.set()

    def remove(self) -> None:
        """One worker less: the one in the highest slot commits what it has done, and leaves."""
        staying = [slot for slot in self._slots if not slot.leaving]
        if len(staying) > 1:
            self._end(staying[-1])

    def stop(self) -> None:
        """Ends all workers in order; called again, at once."""
        self._ending += 1
        for slot in list(self._slots):
            self._end(slot)

    # -- one slot

    def _look_after(self, slot: _Slot) -> None:
        if slot.process is None:
            if slot.leaving:
                self._slots.remove(slot)
            elif time.monotonic() >= slot.due:
                self._start(slot)
            return
        code = slot.process.poll()
        if code is not None:
            slot.process = None
            self._ended(slot, code)

    def _start(self, slot: _Slot) -> None:
        environment = {**os.environ, SLOT: str(slot.number), WORKERS: str(len(self._slots))}
        # Not in our process group: Ctrl-C comes here only, and is passed on.
        slot.process = subprocess.Popen(self._command, env=environment, start_new_session=True)
        slot.started = time.monotonic()

    def _ended(self, slot: _Slot, code: int) -> None:
        if code == 0 or slot.leaving:
            self._slots.remove(slot)
        elif code == REFUSED:
            self._fail(f"worker {slot.number} can't run; ending all")
            self._slots.remove(slot)
            self.stop()
        elif code == FENCED:
            self._fail(
                f"another worker took over slot {slot.number}; leaving it to that one. Does another host use the same "
                "slots? Give each its own with --first-slot"
            )
            self._slots.remove(slot)
        else:
            self._crashed(slot, code)

    def _crashed(self, slot: _Slot, code: int) -> None:
        well = time.monotonic() - slot.started >= self._healthy
        slot.crashes = 1 if well else slot.crashes + 1
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        if slot.crashes >= GIVE_UP:
            self._fail(f"worker {slot.number} {how}, for the {slot.crashes}th time in a row; ending all")
            self._slots.remove(slot)
            self.stop()
            return
        delay = min(30.0, self._backoff * 2 ** (slot.crashes - 1)) * random.uniform(0.75, 1.25)
        self.restarts += 1
        self._log(f"worker {slot.number} {how}; starting it again in {delay:.1f} s")
        slot.due = time.monotonic() + delay

    def _fail(self, message: str) -> None:
        self._failed = True
        self._log(message)

    def _end(self, slot: _Slot) -> None:
        slot.leaving = True
        if slot.process is not None:
            slot.process.send_signal(signal.SIGKILL if self._ending > 1 else signal.SIGTERM)
        self._wake.set()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        actions: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGTTIN: self.add,
            signal.SIGTTOU: self.remove,
        }

        def handle(number: int, frame: FrameType | None) -> None:
            actions[number]()

        before = {number: signal.signal(number, handle) for number in actions}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

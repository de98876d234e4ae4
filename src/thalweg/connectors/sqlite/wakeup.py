"""Telling readers that something came: at once within a process, by a look at the file for other processes' writes."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path

_PAUSES = ((2.0, 0.002), (float("inf"), 0.005))
"""While the last change is at most so many seconds ago, look again after so many."""


class Signal:
    """Wakes the readers of one file that live in this process.

    Writers of this process notify; for those of others one thread per file, however many readers there are, watches
    `PRAGMA data_version` while anybody reads.
    """

    def __init__(self, path: Path) -> None:
        self.version = 0
        self.write_lock = threading.Lock()
        """Held around write transactions: threads of one process queue here, not in SQLite's sleeping retries."""
        self._path = path
        self._condition = threading.Condition()
        self._watch_lock = threading.Lock()
        self._readers = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        with self._condition:
            self.version += 1
            self._condition.notify_all()

    def wait(self, seen: int, seconds: float) -> bool:
        """Returns when the version is no longer `seen` (true), or after `seconds` (false)."""
        with self._condition:
            return self._condition.wait_for(lambda: self.version != seen, seconds)

    # -- other processes

    def watch(self) -> None:
        """A reader has come: the file is watched until as many `unwatch` as `watch` were called."""
        with self._watch_lock:
            self._readers += 1
            if self._readers == 1:
                self._stop = threading.Event()
                self._thread = threading.Thread(
                    target=self._run, args=(self._stop,), name=f"thalweg-watch-{self._path.name}", daemon=True
                )
                self._thread.start()

    def unwatch(self) -> None:
        """A reader has gone."""
        with self._watch_lock:
            self._readers -= 1
            if self._readers == 0 and self._thread is not None:
                self._stop.set()
                self._thread.join()
                self._thread = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                connection = sqlite3.connect(self._path, isolation_level=None)
                try:
                    self._look(connection, stop)
                finally:
                    connection.close()
            except sqlite3.Error:
                # The readers meet the same error by themselves, and say it to whom it concerns.
                self.notify()
                stop.wait(0.2)

    def _look(self, connection: sqlite3.Connection, stop: threading.Event) -> None:
        seen, changed = None, time.monotonic()
        while not stop.is_set():
            (version,) = connection.execute("PRAGMA data_version").fetchone()
            now = time.monotonic()
            if version != seen:
                seen, changed = version, now
                self.notify()
            time.sleep(next(pause for until, pause in _PAUSES if now - changed <= until))


_signals: dict[str, Signal] = {}
_signals_lock = threading.Lock()


def signal_of(path: Path) -> Signal:
    """The one signal that all users of a file in this process share."""
    real = os.path.realpath(path)
    with _signals_lock:
        return _signals.setdefault(real, Signal(Path(real)))

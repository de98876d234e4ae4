"""What the job has said so far, kept for whoever shows it: written by the engine's thread, read by the view's."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl

from thalweg.demo.attacks import Kind
from thalweg.demo.feed import now_ms
from thalweg.demo.score import Score

FEED_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Note:
    """One line of the feed of matches and alerts."""

    at: int
    """ms UTC: when it was reported."""
    label: str
    text: str
    severity: str


@dataclass(slots=True)
class Shown:
    """A copy of the board at one moment."""

    cores: dict[int, dict[str, Any]] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    processes: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    routes_end: int | None = None
    payments: list[dict[str, Any]] = field(default_factory=list)
    payments_end: int | None = None
    notes: list[Note] = field(default_factory=list)
    windows: int = 0
    matches: int = 0
    alerts: int = 0
    suppressed: int = 0
    cpu_alerts: list[tuple[int, int]] = field(default_factory=list)
    """(core, end of its window in ms UTC)"""


class Board:
    """Takes results, gives copies.

    Args:
        score: told of every match and alert.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        self._lock = threading.Lock()
        self._shown = Shown()
        self._notes: deque[Note] = deque(maxlen=FEED_LENGTH)

    def copy(self) -> Shown:
        with self._lock:
            shown = self._shown
            return replace(shown, cores=dict(shown.cores), notes=list(self._notes), cpu_alerts=list(shown.cpu_alerts))

    # -- subscribers

    def cores(self, frame: pl.DataFrame) -> None:
        with self._lock:
            self._shown.windows += frame.height
            for row in frame.to_dicts():
                self._shown.cores[row["core"]] = row

    def machine(self, frame: pl.DataFrame) -> None:
        with self._lock:
            self._shown.windows += frame.height
            self._shown.machine = frame.row(-1, named=True)

    def processes(self, frame: pl.DataFrame) -> None:
        rows = _newest(frame).sort("cpu", descending=True).to_dicts()
        with self._lock:
            self._shown.windows += frame.height
            self._shown.processes = rows

    def routes(self, frame: pl.DataFrame) -> None:
        rows = _newest(frame).sort("n", descending=True).to_dicts()
        with self._lock:
            self._shown.windows += frame.height
            self._shown.routes, self._shown.routes_end = rows, rows[0]["window_end"]

    def payments(self, frame: pl.DataFrame) -> None:
        rows = _newest(frame).sort("total", descending=True).to_dicts()
        with self._lock:
            self._shown.windows += frame.height
            self._shown.payments, self._shown.payments_end = rows, rows[0]["window_end"]

    def match(self, kind: Kind, key: str, event_time: int, text: str) -> None:
        now = now_ms()
        first = self._score.report(kind, key, event_time, now)
        with self._lock:
            self._shown.matches += 1
            if first:
                self._notes.append(Note(now, kind.value, text, "match"))

    def decided(self, status: str, kind: Kind, key: str, event_time: int) -> None:
        """An alert rule matched; "suppressed" ones count too: the attack was seen."""
        self._score.report(kind, key, event_time, now_ms())
        self._count(status)

    def cpu(self, status: str, core: int, window_end: int) -> None:
        """The CPU rule matched a core's window."""
        with self._lock:
            self._shown.cpu_alerts.append((core, window_end))
        self._count(status)

    def _count(self, status: str) -> None:
        with self._lock:
            if status == "suppressed":
                self._shown.suppressed += 1
            else:
                self._shown.alerts += 1

    def alert(self, label: str, text: str, severity: str) -> None:
        """An alert was delivered."""
        with self._lock:
            self._notes.append(Note(now_ms(), label, text, severity))


def _newest(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows of the latest window: a batch may hold several."""
    return frame.filter(pl.col("window_end") == pl.col("window_end").max())

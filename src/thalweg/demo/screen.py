"""What a moment of the demo looks like as data: gathered once, drawn by the live view, the lines and the summary."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thalweg import App
from thalweg.demo.board import Board, Shown
from thalweg.demo.feed import Feed
from thalweg.demo.score import Summary, Verdict
from thalweg.streams.engine.status import JobStatus

_HISTORY = 240


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that there is to show."""

    elapsed: float
    """Seconds since the start."""
    now: int
    shown: Shown
    status: JobStatus
    watermark: int | None
    """The least of all sources, ms UTC."""
    lag: int
    verdicts: Sequence[Verdict]
    summary: Summary
    rates: Sequence[float]
    """Events per second, twice a second, the newest last."""
    first_tick: int
    """Of this run."""
    sent: int
    damaged: int
    file: Path
    file_bytes: int
    resumed: bool
    seed: int
    threshold: float
    burst: str
    ends_after: float | None

    @property
    def rate(self) -> float:
        return self.rates[-1] if self.rates else 0.0


class Gatherer:
    """Makes moments of the running parts.

    Args:
        app, board, feed: the parts.
        file: the log.
        threshold: CPU percent that the rule watches.
        ends_after: seconds; None: when the viewer stops it.
    """

    def __init__(
        self, app: App, board: Board, feed: Feed, file: Path, threshold: float, ends_after: float | None
    ) -> None:
        self._app, self._board, self._feed = app, board, feed
        self._file, self._threshold, self._ends_after = file, threshold, ends_after
        self._started = time.monotonic()
        self._rates: deque[float] = deque(maxlen=_HISTORY)
        self._next_rate = 0.0

    def begin(self) -> None:
        """The time shown counts from here."""
        self._started = time.monotonic()

    def moment(self, ahead: int = 100) -> Moment:
        status = self._app.status()
        if time.monotonic() >= self._next_rate:
            self._next_rate = time.monotonic() + 0.5
            self._rates.append(status.rate)
        watermarks = [source.watermark for source in status.sources]
        known = [w for w in watermarks if w is not None]
        watermark = min(known) if known and len(known) == len(watermarks) else None
        score = self._feed.score
        return Moment(
            elapsed=time.monotonic() - self._started,
            now=time.time_ns() // 1_000_000,
            shown=self._board.copy(),
            status=status,
            watermark=watermark,
            lag=sum(source.lag + source.queued for source in status.sources),
            verdicts=score.verdicts(watermark or 0, ahead),
            summary=score.summary(watermark or 0),
            rates=list(self._rates),
            first_tick=score.run.first_tick,
            sent=self._feed.sent,
            damaged=self._feed.damaged,
            file=self._file,
            file_bytes=_size(self._file),
            resumed=bool(self._feed.earlier),
            seed=score.run.seed,
            threshold=self._threshold,
            burst=self._burst(),
            ends_after=self._ends_after,
        )

    def _burst(self) -> str:
        """What became of the burst of CPU, in words."""
        feed = self._feed
        if feed.burst is None:
            return "no burst of its own"
        if feed.burst_due is None:
            where = f"core {feed.burst.core}" if feed.burst.pinned else "a core"
            return f"a burst of {feed.burst.seconds:.0f} s on {where} itself, on purpose"
        if feed.burst_started is None:
            return f"burst in {max(0.0, (feed.burst_due - time.time() * 1000) / 1000):.0f} s"
        start, end = feed.burst_started, feed.burst_started + int(feed.burst.seconds * 1000) + 1_500
        seen = [
            core
            for core, window_end in self._board.copy().cpu_alerts
            if start < window_end <= end and (core == feed.burst.core or not feed.burst.pinned)
        ]
        if seen:
            return "burst found"
        return "burst under way" if time.time() * 1000 < end else "burst MISSED"


def _size(file: Path) -> int:
    total = 0
    for name in (file, Path(f"{file}-wal")):
        try:
            total += os.stat(name).st_size
        except FileNotFoundError:
            continue
    return total

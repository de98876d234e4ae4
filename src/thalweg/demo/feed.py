"""The producer of the demo: traffic and vitals, appended to the embedded log every tenth of a second."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import polars as pl

from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.demo import traffic, vitals
from thalweg.demo.score import Run, Score, first_whole_tick
from thalweg.demo.traffic import Traffic
from thalweg.demo.vitals import Burst, Vitals

RUNS = "demo-runs"
PARTITIONS = {"logins": 2, "payments": 2, "requests": 2, "cpu": 1, "machine": 1, "processes": 1}
KEYS = {"logins": "user", "payments": "user", "requests": "ip"}
KEEP = "6h"
KEEP_BYTES = 64 * 1024 * 1024  # per partition


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Feed:
    """Generates until it is stopped, in a thread of its own.

    Args:
        path: the log's file.
        source: the seeded traffic.
        burst: made once, when `burst_at` is reached.
        burst_at: seconds after the start; None: never.
    """

    def __init__(self, path: Path, source: Traffic, burst: Burst | None, burst_at: float | None) -> None:
        self._log = EmbeddedLog(path, retention=KEEP, retention_bytes=KEEP_BYTES)
        self._traffic = source
        self.burst, self._burst_at = burst, burst_at
        self.burst_started: int | None = None
        """ms UTC."""
        self.burst_due: int | None = None
        self.sent = 0
        self.damaged = 0
        self.error: BaseException | None = None
        for topic, partitions in PARTITIONS.items():
            self._log.ensure_topic(topic, partitions)
        self._log.ensure_topic(RUNS)
        self._log.set_retention(RUNS, None)
        self.earlier = self._earlier_runs()
        self.score = Score(self._begin(), self.earlier)
        self._vitals = Vitals()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-feed", daemon=True)

    # -- where it goes on

    def _earlier_runs(self) -> list[Run]:
        rows = self._log.read(RUNS).to_dicts()
        runs = [Run(row["seed"], row["first_tick"], row["started"], row["first_tick"]) for row in rows]
        following = [run.started for run in runs[1:]]
        # Of a run that another one followed it is enough to know that it ended before that.
        ended = [replace(run, last_tick=run.tick_at(until)) for run, until in zip(runs, following, strict=False)]
        return [*ended, *(replace(run, last_tick=self._last_tick(run)) for run in runs[-1:])]

    def _last_tick(self, run: Run) -> int:
        """The newest tick in the log: record times are tick times."""
        newest = run.started
        for partition in range(PARTITIONS["requests"]):
            end = self._log.end("requests", partition)
            times = self._log.records("requests", partition=partition, start=max(0, end - 1))["timestamp"]
            newest = max(newest, *times.to_list(), run.started)
        return run.tick_at(newest)

    def _begin(self) -> Run:
        last = self.earlier[-1] if self.earlier else None
        seed = self._traffic.seed
        first = first_whole_tick(seed, last.last_tick + 1) if last is not None and last.seed == seed else 0
        return Run(seed, first, now_ms(), first)

    # -- running

    def start(self) -> None:
        run = self.score.begin(now_ms())
        self._log.append(RUNS, [{"seed": run.seed, "first_tick": run.first_tick, "started": run.started}])
        if self._burst_at is not None:
            self.burst_due = self.score.run.started + int(self._burst_at * 1000)
        self._thread.start()

    def stop(self) -> None:
        """Ends after the tick in hand."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.burst is not None:
            self.burst.stop()
        self._log.close()

    def _run(self) -> None:
        try:
            tick = self.score.run.first_tick
            while not self._stopping.is_set():
                self._tick(tick)
                tick += 1
                # By the plan, not by the pause: a tick that took long is made up for.
                self._stopping.wait(max(0.0, self.score.run.time_of(tick) / 1000 - time.time()))
        except BaseException as error:  # shown by the main thread, which ends the demo
            self.error = error

    def _tick(self, tick: int) -> None:
        at = self.score.run.time_of(tick)
        frames = self._traffic.tick(tick, at)
        self.score.advance(tick)
        for topic in traffic.TOPICS:
            self._append(topic, frames[topic], at)
        if damaged := self._traffic.damaged(tick):
            self._log.append_records("requests", [damaged], timestamps=[at], partition=0)
            self.damaged += 1
            self.sent += 1
        now = now_ms()
        sample = self._vitals.sample(now)
        for topic in vitals.TOPICS:
            self._append(topic, sample[topic], now)
        self._maybe_burn(now)

    def _append(self, topic: str, frame: pl.DataFrame, at: int) -> None:
        times = pl.Series([at] * frame.height, dtype=pl.Int64)
        self.sent += self._log.append(topic, frame, key=KEYS.get(topic), timestamps=times)

    def _maybe_burn(self, now: int) -> None:
        if self.burst is None or self.burst_due is None or self.burst_started is not None or now < self.burst_due:
            return
        self.burst_started = now
        self.burst.start()

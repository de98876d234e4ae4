"""This machine's own vitals by psutil, ten times a second; and the known burst of CPU that the demo makes itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import polars as pl
import psutil

TOPICS = ("cpu", "machine", "processes")

SCHEMAS: dict[str, dict[str, Any]] = {
    "cpu": {"ts": pl.Int64, "core": pl.Int64, "percent": pl.Float64},
    "machine": {
        "ts": pl.Int64,
        "cpu": pl.Float64,
        "memory": pl.Float64,
        "memory_used": pl.Int64,
        "disk_read": pl.Float64,
        "disk_write": pl.Float64,
        "net_in": pl.Float64,
        "net_out": pl.Float64,
    },
    "processes": {"ts": pl.Int64, "pid": pl.Int64, "name": pl.String, "cpu": pl.Float64, "memory": pl.Int64},
}
"""Percentages are 0 to 100 of one core (a process with two busy threads has 200); rates are bytes per second."""

TOP = 6
"""Processes reported at each sample."""
_SCAN_EVERY = 1.0  # seconds between two looks at all processes; the busiest of them are sampled every time


class Vitals:
    """Samples the machine. Every call gives what happened since the call before."""

    def __init__(self) -> None:
        self.cores = psutil.cpu_count() or 1
        self._last = time.monotonic()
        self._disk = psutil.disk_io_counters()  # None where the system doesn't tell (some containers)
        self._net = psutil.net_io_counters()
        self._watched: dict[int, psutil.Process] = {}
        self._used: dict[int, float] = {}
        self._next_scan = 0.0
        psutil.cpu_percent(percpu=True)

    def sample(self, now: int) -> dict[str, pl.DataFrame]:
        """One sample by topic, for `now` (ms UTC)."""
        percents = psutil.cpu_percent(percpu=True)
        rows: dict[str, list[dict[str, Any]]] = {
            "cpu": [{"ts": now, "core": core, "percent": percent} for core, percent in enumerate(percents)],
            "machine": [{"ts": now, "cpu": sum(percents) / max(1, len(percents)), **self._rates()}],
            "processes": [{"ts": now, **process} for process in self._processes()],
        }
        return {topic: pl.DataFrame(rows[topic], schema=SCHEMAS[topic]) for topic in TOPICS}

    def _rates(self) -> dict[str, float]:
        now, disk, net = time.monotonic(), psutil.disk_io_counters(), psutil.net_io_counters()
        seconds = max(1e-3, now - self._last)
        memory = psutil.virtual_memory()

        def rate(new: Any, old: Any, name: str) -> float:
            return max(0.0, (getattr(new, name) - getattr(old, name)) / seconds) if new and old else 0.0

        rates = {
            "memory": memory.percent,
            "memory_used": memory.total - memory.available,
            "disk_read": rate(disk, self._disk, "read_bytes"),
            "disk_write": rate(disk, self._disk, "write_bytes"),
            "net_in": rate(net, self._net, "bytes_recv"),
            "net_out": rate(net, self._net, "bytes_sent"),
        }
        self._last, self._disk, self._net = now, disk, net
        return rates

    def _processes(self) -> list[dict[str, Any]]:
        if time.monotonic() >= self._next_scan:
            self._scan()
        found: list[dict[str, Any]] = []
        for pid, process in list(self._watched.items()):
            try:
                with process.oneshot():
                    cpu, memory, name = process.cpu_percent(), process.memory_info().rss, process.name()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                del self._watched[pid]  # it ended, or is none of our business
                continue
            found.append({"pid": pid, "name": name, "cpu": cpu, "memory": memory})
        return sorted(found, key=lambda row: -float(row["cpu"]))[:TOP]

    def _scan(self) -> None:
        """Chooses whom to watch: looking at every process each time would cost more than the whole job."""
        self._next_scan = time.monotonic() + _SCAN_EVERY
        busy = []
        for process in psutil.process_iter():
            try:
                times = process.cpu_times()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            used = times.user + times.system
            before = self._used.get(process.pid, 0.0 if self._used else used)
            busy.append((used - before, used, process))
        self._used = {process.pid: used for _, used, process in busy}
        busy.sort(key=lambda item: (-item[0], -item[1]))
        chosen = {process.pid: process for _, _, process in busy[: 2 * TOP]}
        # A process that is watched on keeps its handle, which holds the times of the sample before.
        self._watched = {pid: self._watched.get(pid, process) for pid, process in chosen.items()}


_BURN = """
import os, sys, time
core, seconds = int(sys.argv[1]), float(sys.argv[2])
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {core})
end = time.monotonic() + seconds
parent = os.getppid()
while time.monotonic() < end and os.getppid() == parent:
    for _ in range(100_000):
        pass
"""


class Burst:
    """Burns one core for a few seconds in a process of its own, on purpose: a CPU alert that must come.

    Args:
        seconds: how long.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.pinned = hasattr(os, "sched_setaffinity")
        allowed = sorted(os.sched_getaffinity(0)) if self.pinned else [0]
        self.core = allowed[-1]
        """Where it runs, when it is pinned; where it can't be (macOS, Windows) the system moves it about."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-c", _BURN, str(self.core), str(self.seconds)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """Ends it early; does nothing when it has ended."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

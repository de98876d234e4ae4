"""The demo's job: one `App`, through the public API alone, as a user would write it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thalweg import App, DataStream, col
from thalweg.analytics import average, count, max_, percentile, sum_
from thalweg.demo.board import Board
from thalweg.demo.feed import KEEP, KEEP_BYTES
from thalweg.demo.watch import Watch
from thalweg.streams import SlidingWindow, TumblingWindow, WatermarkGenerator


@dataclass
class Login:
    ts: int
    user: str
    ip: str
    success: bool
    device: str


@dataclass
class Payment:
    ts: int
    user: str
    amount: float
    country: str
    home_country: str
    merchant: str


@dataclass
class Request:
    ts: int
    ip: str
    route: str
    url: str
    status: int
    ms: float


@dataclass
class CoreSample:
    ts: int
    core: int
    percent: float


@dataclass
class MachineSample:
    ts: int
    cpu: float
    memory: float
    memory_used: int
    disk_read: float
    disk_write: float
    net_in: float
    net_out: float


@dataclass
class ProcessSample:
    ts: int
    pid: int
    name: str
    cpu: float
    memory: int


LATE = WatermarkGenerator("400ms")
"""The traffic comes up to 300 ms out of order."""


@dataclass
class Job:
    """The app, and what has to be closed after it."""

    app: App
    watched: Watch

    def close(self) -> None:
        self.watched.close()


def alert_stores(file: Path) -> tuple[Path, Path]:
    """Where the alerts of a log are kept: beside it."""
    return file.with_name(f"{file.stem}-fraud-alerts.db"), file.with_name(f"{file.stem}-cpu-alerts.db")


def build(file: Path, board: Board, threshold: float) -> Job:
    """The whole job.

    Args:
        file: the embedded log; the alerts are kept beside it.
        board: gets the results.
        threshold: percent of one core, averaged over a second, that raises an alert.
    """
    app = App(
        "demo",
        broker=f"sqlite:///{file}",
        guarantee="exactly-once",
        commit_interval="50ms",
        retention=KEEP,
        retention_bytes=KEEP_BYTES,
        on_trimmed="skip",  # after a long pause events are gone that the job had not read: it goes on without them
    )
    watched = Watch(board, alert_stores(file))
    watched.cores(vitals(app, board), threshold)
    watched.payments(payments(app, board))
    watched.requests(requests(app, board))
    watched.logins(app.stream("logins", schema=Login, timestamp="ts", watermark=LATE))
    return Job(app, watched)


def vitals(app: App, board: Board) -> DataStream:
    """The machine, its processes and its cores; the windows of the cores are returned."""
    samples = app.stream("cpu", schema=CoreSample, timestamp="ts")
    cores = (
        samples.key_by("core")
        .window(TumblingWindow("1s"))
        .aggregate(mean=average("percent"), max=max_("percent"), p95=percentile("percent", 95))
    )
    cores.subscribe_batches(board.cores)
    cores.to("cpu-by-core")

    machine = app.stream("machine", schema=MachineSample, timestamp="ts").window(TumblingWindow("1s"))
    machine.aggregate(
        memory=average("memory"),
        used=max_("memory_used"),
        disk_read=average("disk_read"),
        disk_write=average("disk_write"),
        net_in=average("net_in"),
        net_out=average("net_out"),
    ).subscribe_batches(board.machine)

    processes = app.stream("processes", schema=ProcessSample, timestamp="ts").key_by("pid", "name")
    busiest = processes.window(TumblingWindow("1s")).aggregate(cpu=average("cpu"), memory=max_("memory"))
    busiest.subscribe_batches(board.processes)
    return cores


def payments(app: App, board: Board) -> DataStream:
    stream = app.stream("payments", schema=Payment, timestamp="ts", watermark=LATE)
    by_country = (
        stream.key_by("country")
        .window(TumblingWindow("5s"))
        .aggregate(n=count(), total=sum_("amount"), p95=percentile("amount", 95))
    )
    by_country.subscribe_batches(board.payments)
    by_country.to("payments-by-country")
    return stream


def requests(app: App, board: Board) -> DataStream:
    stream = app.stream("requests", schema=Request, timestamp="ts", watermark=LATE)
    by_route = (
        stream.key_by("route")
        .window(SlidingWindow("10s", "1s"))
        .aggregate(
            n=count(),
            errors=sum_(col("status") >= 500),
            p50=percentile("ms", 50),
            p95=percentile("ms", 95),
            p99=percentile("ms", 99),
        )
    )
    by_route.subscribe_batches(board.routes)
    by_route.to("requests-by-route")
    return stream

"""Whole jobs on each backend, killed with SIGKILL: the output is that of the undisturbed run, exactly once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from tests.servers.redis import RedisServer

from thalweg import App, col
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.streams import CheckpointConfig, SessionWindow, StateBackend, ValueState

_JOB = """
import sys
from thalweg import App, col
from thalweg.streams import *

path, backend = sys.argv[1:]
checkpoint = CheckpointConfig(interval=300, backend=eval(backend))
app = App("job", broker=f"sqlite:///{path}", commit_interval=5, max_batch_rows=200, checkpoint=checkpoint)
keyed = app.stream("in", timestamp="t", watermark=100).key_by("k")
keyed.window(TumblingWindow(100)).aggregate(n=col("v").count(), s=col("v").sum()).to("windows")
keyed.window(SessionWindow(15)).aggregate(n=col("v").count(), s=col("v").sum()).to("sessions")

class Running(ProcessFunction):
    total = ValueState(int, default=0)
    recent = ListState(int)

    def on_event(self, event, ctx):
        self.total.set(self.total.get() + event.v)
        self.recent.set([*self.recent.get(), event.v][-5:])
        if len(self.recent) == 5 and event.v > 40:
            return {"total": self.total.get(), "sum": sum(self.recent), "t": event.t}

keyed.process(Running).to("process")
print("up", flush=True)
app.run(until_caught_up=True)
status = app.status()
print(status.state_backend.spilled_bytes, status.state_backend.resident_bytes, status.checkpoint.count, flush=True)
"""

TOPICS = {"windows": ["window_end", "k"], "sessions": ["window_end", "k"], "process": ["t", "k"]}


def fill(path: Path, count: int = 4000) -> EmbeddedLog:
    log = EmbeddedLog(path)
    dice = random.Random(7)
    rows: list[dict[str, Any]] = [
        {"t": n + dice.randint(0, 99), "k": f"k{dice.randint(0, 200)}", "v": dice.randint(-5, 50)} for n in range(count)
    ]
    log.ensure_topic("in", 2)
    for start in range(0, count, 100):
        log.append("in", rows[start : start + 100], key="k")
    return log


def results(log: EmbeddedLog) -> dict[str, pl.DataFrame]:
    return {topic: log.read(topic).sort(*order) for topic, order in TOPICS.items()}


def start(path: Path, backend: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _JOB, str(path), backend], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pl.DataFrame]:
    path = tmp_path_factory.mktemp("calm") / "data.db"
    log = fill(path)
    assert start(path, "StateBackend.memory()").wait(300) == 0
    return results(log)


@pytest.mark.parametrize("kind", ["spill", "rocksdb", "redis"])
def test_kill_9_changes_nothing_on_any_backend(tmp_path, undisturbed, kind):
    with RedisServer() as server:
        backend = {
            "spill": f"StateBackend.memory(limit=2000, spill_to={str(tmp_path / 'spill')!r})",
            "rocksdb": f"StateBackend.rocksdb({str(tmp_path / 'rocks')!r}, memory_limit=2000)",
            "redis": f"StateBackend.redis({server.url!r}, memory_limit=2000)",
        }[kind]
        log = fill(tmp_path / "data.db")
        dice, kills = random.Random(kind), 0
        for _ in range(2):
            job = start(tmp_path / "data.db", backend)
            assert job.stdout is not None
            assert job.stdout.readline() == "up\n"
            time.sleep(dice.uniform(0.4, 1.5))
            if job.poll() is None:
                job.send_signal(signal.SIGKILL)
                kills += 1
            job.communicate(timeout=30)
        last = start(tmp_path / "data.db", backend)
        out, _ = last.communicate(timeout=300)
        assert last.returncode == 0
    spilled, resident, _ = map(int, out.splitlines()[-1].split())
    assert kills > 0
    assert spilled > 0
    assert resident < 100_000
    found = results(log)
    for topic, frame in undisturbed.items():
        assert frame.height > 100
        assert_frame_equal(found[topic], frame)


@pytest.mark.parametrize("kind", ["memory", "rocksdb"])
def test_a_job_shows_its_state_and_checkpoints(tmp_path, kind):
    fill(tmp_path / "data.db", 1500)
    limit = {"memory": StateBackend.memory(), "rocksdb": StateBackend.rocksdb(str(tmp_path / "r"), memory_limit=1000)}
    app = App(
        "job",
        broker=f"sqlite:///{tmp_path / 'data.db'}",
        checkpoint=CheckpointConfig(interval=1, backend=limit[kind]),
        commit_interval=1,
        max_batch_rows=100,
    )
    keyed = app.stream("in", timestamp="t", watermark=100).key_by("k")
    keyed.window(SessionWindow("1h")).aggregate(n=col("v").count()).to("out")

    def keep(event: Any, ctx: Any) -> None:
        ctx["last"].set(event.v)

    keyed.process(keep, state={"last": ValueState(int)}, uid="kept").subscribe(print)
    app.run(until_caught_up=True)
    status = app.status()
    assert status.checkpoint.count >= 2
    assert status.checkpoint.last_bytes > 0
    assert status.checkpoint.longest_ms >= status.checkpoint.last_ms > 0
    assert status.checkpoint.under_way_ms is None
    assert status.state_backend.backend == kind
    assert (status.state_backend.spilled_bytes > 0) is (kind == "rocksdb")
    kept = next(operator for operator in status.operators if operator.id == "kept")
    assert kept.memory.rows >= 200
    assert not list((tmp_path / "r").glob("*")), "the run leaves nothing behind"

"""Whole jobs on the embedded log, JSON in and out, killed with SIGKILL at moments of the operating system's choice."""

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

from thalweg import App, col
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.streams import TumblingWindow

_JOB = """
import sys
from thalweg import App, col
from thalweg.streams import TumblingWindow

app = App("job", broker=f"sqlite:///{sys.argv[1]}", commit_interval=5, max_batch_rows=200)
events = app.stream("in", timestamp="t", watermark=100)
counts = events.filter(col("v") >= 0).key_by("k").window(TumblingWindow(100))
counts.aggregate(n=col("v").count(), s=col("v").sum(), m=col("v").mean()).to("out")
print("up", flush=True)
app.run(until_caught_up=True)
print("done", flush=True)
"""


def fill(path: Path, count: int = 4000) -> EmbeddedLog:
    log = EmbeddedLog(path)
    rng = random.Random(7)
    rows: list[dict[str, Any]] = [
        {"t": n + rng.randint(0, 99), "k": f"k{rng.randint(0, 20)}", "v": rng.randint(-5, 50)} for n in range(count)
    ]
    log.ensure_topic("in", 2)
    for start in range(0, count, 100):
        log.append("in", rows[start : start + 100], key="k")
    return log


def results(log: EmbeddedLog) -> pl.DataFrame:
    return log.read("out").select("k", "window_start", "window_end", "n", "s", "m").sort("window_end", "k")


def run_job(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", _JOB, str(path)], stdout=subprocess.PIPE, text=True)


def test_kill_9_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    undisturbed = fill(tmp_path / "calm.db")
    calm = run_job(tmp_path / "calm.db")
    assert calm.wait(120) == 0
    log = fill(tmp_path / "killed.db")
    rng = random.Random(3)
    kills = 0
    for _ in range(4):
        job = run_job(tmp_path / "killed.db")
        assert job.stdout is not None
        assert job.stdout.readline() == "up\n"
        time.sleep(rng.uniform(0.3, 1.5))
        if job.poll() is None:
            job.send_signal(signal.SIGKILL)
            kills += 1
        job.wait(30)
    last = run_job(tmp_path / "killed.db")
    assert last.wait(120) == 0
    assert results(undisturbed).height > 500
    assert_frame_equal(results(log), results(undisturbed), abs_tol=0, rel_tol=1e-9)
    assert kills > 0


def test_bad_records_become_dead_letters_with_their_reason(tmp_path: Path) -> None:
    log = EmbeddedLog(tmp_path / "data.db")
    log.ensure_topic("in", 1)
    good, better = b'{"t": 10, "k": "a", "v": 1}', b'{"t": 500, "k": "a", "v": 3}'
    log.append_records("in", [good, b"{", b'{"t": null, "k": "a", "v": 2}', b'{"k": "a"}', None, better])
    app = App("job", broker=f"sqlite:///{tmp_path / 'data.db'}")
    app.stream("in", timestamp="t").window(TumblingWindow(100)).aggregate(n=col("v").count()).to("out")
    app.run(until_caught_up=True)
    assert log.read("out").to_dicts() == [{"window_start": 0, "window_end": 100, "n": 1}]
    letters = log.records("in.dlq")
    assert len(letters) == 4
    assert all(operator.account.closes for operator in app.status().operators)


def test_a_stream_of_results_feeds_a_second_job(tmp_path: Path) -> None:
    log = fill(tmp_path / "data.db", 1000)
    first = App("first", broker=f"sqlite:///{tmp_path / 'data.db'}")
    windows = first.stream("in", timestamp="t", watermark=100).key_by("k").window(TumblingWindow(100))
    windows.aggregate(n=col("v").count()).to("middle")
    first.run(until_caught_up=True)
    second = App("second", broker=f"sqlite:///{tmp_path / 'data.db'}")
    per_window = (
        second.stream("middle").window(TumblingWindow(100)).aggregate(total=col("n").sum())
    )  # the record's time
    per_window.to("out")
    second.run(until_caught_up=True)
    expected = log.read("middle").group_by("window_end").agg(total=pl.col("n").sum()).sort("window_end")
    got = log.read("out").select("window_end", "total").sort("window_end")
    assert got.height > 3
    assert_frame_equal(got, expected.head(got.height))


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_both_guarantees_give_the_same_undisturbed(tmp_path: Path, guarantee: str) -> None:
    log = fill(tmp_path / "data.db", 500)
    app = App("job", broker=f"sqlite:///{tmp_path / 'data.db'}", guarantee=guarantee)
    app.stream("in", timestamp="t").filter(lambda e: e.v > 10).map(lambda e: {"k": e.k, "w": e.v * 2}).to("out")
    app.run(until_caught_up=True)
    source = log.read("in").filter(pl.col("v") > 10)
    assert log.read("out").height == source.height
    assert log.read("out")["w"].sum() == source["v"].sum() * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_after_a_last_commit(tmp_path: Path, number: signal.Signals) -> None:
    log = fill(tmp_path / "data.db", 500)
    program = _JOB.replace("run(until_caught_up=True)", "run()").replace("commit_interval=5", "commit_interval='1h'")
    program = program.replace('print("up"', 'events.subscribe_batches(lambda f: print("got"))\nprint("up"')
    job = subprocess.Popen(
        [sys.executable, "-u", "-c", program, str(tmp_path / "data.db")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    assert job.stdout.readline() == "up\n"
    assert job.stdout.readline() == "got\n"
    job.send_signal(number)
    out, err = job.communicate(timeout=60)
    assert (job.returncode, out.replace("got\n", ""), err) == (0, "done\n", "")
    assert log.jobs()["position"].sum() > 0
    rest = run_job(tmp_path / "data.db")
    assert rest.wait(60) == 0
    calm = fill(tmp_path / "calm.db", 500)
    assert run_job(tmp_path / "calm.db").wait(60) == 0
    assert_frame_equal(results(log), results(calm), abs_tol=0, rel_tol=1e-9)


def test_arrow_packs_rows_and_takes_no_keys(tmp_path):
    from thalweg import App
    from thalweg.connectors.sqlite_log import EmbeddedLog
    from thalweg.errors import PlanError

    log = EmbeddedLog(tmp_path / "log.db")
    log.append("in", [{"k": "a", "ts": 1}, {"k": "b", "ts": 2}], key="k")
    broker = f"sqlite:///{tmp_path / 'log.db'}"
    schema = {"k": str, "ts": int}
    packing = App("packing", broker=broker)
    packing.stream("in", schema=schema, timestamp="ts").key_by("k").to("out", format="arrow")
    packing.run(until_caught_up=True)
    reading, got = App("reading", broker=broker), []
    reading.stream("out", format="arrow").subscribe(lambda row: got.append(row.k))
    reading.run(until_caught_up=True)
    assert got == ["a", "b"]
    refused = App("refused", broker=broker)
    refused.stream("in", schema=schema, timestamp="ts").to("out", format="arrow", key="k")
    with pytest.raises(PlanError, match="leave key out"):
        refused.run(until_caught_up=True)

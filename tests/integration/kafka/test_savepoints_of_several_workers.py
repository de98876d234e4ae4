"""A job on several workers is ended in the middle of its work, saved, and goes on upgraded, with other workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer

from tests.integration.kafka import savepoint_job
from tests.reliability import crash
from thalweg.errors import StateError
from thalweg.streams import App
from thalweg.streams.savepoints import Savepoint

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]

JOB = Path(__file__).with_name("savepoint_job.py")
PARTITIONS = 4
Row = dict[str, Any]


def events(first: int, last: int) -> list[Row]:
    """One event every 5 ms, of 40 keys."""
    keys = np.random.default_rng(7).integers(0, 40, last)
    return [{"k": f"k{keys[row]}", "t": 5 * row, "v": row} for row in range(first, last)]


def feed(bootstrap: str, topic: str, rows: list[Row]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for row in rows:
        producer.produce(topic, json.dumps(row), row["k"].encode(), row["v"] % PARTITIONS)
        producer.poll(0)
    assert producer.flush(30) == 0


def thalweg(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "thalweg.cli", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=crash.ROOT, env=os.environ
    )


def done(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=150)
    assert process.returncode == code, err[-4000:]
    return out + err


def written(bootstrap: str, topic: str) -> list[Row]:
    return [json.loads(value) for value in crash.read_committed(bootstrap, topic)]


def expected(rows: list[Row]) -> dict[tuple[str, int], int]:
    """The windows that the watermark has passed: each partition's own is a second behind its newest event."""
    newest = [max(row["t"] for row in rows if row["v"] % PARTITIONS == p) for p in range(PARTITIONS)]
    counts = Counter((row["k"], row["t"] // 1_000 * 1_000) for row in rows)
    return {place: n for place, n in counts.items() if place[1] + 1_000 <= min(newest) - 1_000}


def check(bootstrap: str, sink: str, rows: list[Row], *, again: bool = False) -> None:
    found = written(bootstrap, sink)
    windows = {(row["k"], row["window_start"]): row["n"] for row in found}
    assert windows == expected(rows)
    assert again or len(found) == len(windows)
    last = {row["n"]: row["times"] for row in written(bootstrap, f"{sink}-sizes")}
    assert last == dict(Counter(windows.values()))


def test_stop_save_upgrade_and_go_on_with_other_workers(kafka, new_topic, tmp_path):
    source, sink = new_topic(partitions=PARTITIONS), new_topic(partitions=1)
    rows = events(0, 24_000)
    job = ("1", f"job-{sink}", f"kafka://{kafka.bootstrap}", source, sink)
    upgraded = ("2", *job[1:], "caught-up")
    saved = str(tmp_path / "job.savepoint")
    feed(kafka.bootstrap, source, rows[:12_000])
    running = thalweg("run", str(JOB), "--workers", "2", "--", *job, "100")
    deadline = time.monotonic() + 60
    while not written(kafka.bootstrap, sink):  # in the middle: rows are on their way between the two
        assert time.monotonic() < deadline, "no output"
        assert running.poll() is None
        time.sleep(0.05)
    running.terminate()
    done(running)
    said = done(thalweg("savepoint", "create", str(JOB), saved, "--", *job, "100"))
    assert f"job {job[1]}" in said
    holds = Savepoint.read(saved)
    assert holds.exchanged
    assert {topic for topic, _ in holds.epochs} == {source}
    assert {record.state_partition for record in holds.records} == set(range(PARTITIONS))
    assert {"counts", "sizes"} <= {operator.id for operator in holds.operators}
    feed(kafka.bootstrap, source, rows[12_000:])
    done(thalweg("savepoint", "resume", "--workers", "3", str(JOB), saved, "--", *upgraded))
    check(kafka.bootstrap, sink, rows)
    # Back to the savepoint once more: what came after it is undone in the state, read again and written again.
    done(thalweg("savepoint", "resume", "--workers", "2", str(JOB), saved, "--", *upgraded))
    check(kafka.bootstrap, sink, rows, again=True)
    # And so does one worker alone, which keeps the exchange.
    done(thalweg("savepoint", "resume", str(JOB), saved, "--", *upgraded))
    check(kafka.bootstrap, sink, rows, again=True)


def once_alone(app: App, path: Path) -> Savepoint:
    """Saves as soon as the group misses the workers that have ended: their sessions last for some seconds."""
    deadline = time.monotonic() + 40
    while True:
        try:
            return app.savepoint(path)
        except StateError as error:
            if "several workers" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def test_a_savepoint_of_a_running_job_that_is_alone_on_its_exchange(kafka, new_topic, tmp_path):
    """Reading pauses until nothing is under way, and goes on; what was saved is the job at one moment."""
    source, sink = new_topic(partitions=PARTITIONS), new_topic(partitions=1)
    rows = events(0, 12_000)
    job = ("1", f"job-{sink}", f"kafka://{kafka.bootstrap}", source, sink)
    feed(kafka.bootstrap, source, rows[:2_000])
    done(thalweg("run", str(JOB), "--workers", "2", "--", *job, "caught-up"))
    app = savepoint_job.build(*job)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(app.run)
        feeding = pool.submit(feed, kafka.bootstrap, source, rows[2_000:])
        while app.status().state != "running":
            assert not running.done(), running.result()
            time.sleep(0.05)
        try:
            saved = once_alone(app, tmp_path / "alone.savepoint")
        finally:
            feeding.result()
            app.stop()
        running.result(60)
    assert saved.exchanged
    assert sum(epoch.position for epoch in saved.epochs.values()) <= len(rows)
    done(thalweg("run", str(JOB), "--workers", "2", "--", *job, "caught-up"))
    check(kafka.bootstrap, sink, rows)
    done(
        thalweg(
            "savepoint",
            "resume",
            "--workers",
            "2",
            str(JOB),
            str(tmp_path / "alone.savepoint"),
            "--",
            *job,
            "caught-up",
        )
    )
    check(kafka.bootstrap, sink, rows, again=True)


def test_a_savepoint_is_refused_while_other_workers_run(kafka, new_topic, tmp_path):
    source, sink = new_topic(partitions=PARTITIONS), new_topic(partitions=1)
    job = ("1", f"job-{sink}", f"kafka://{kafka.bootstrap}", source, sink, "100")
    feed(kafka.bootstrap, source, events(0, 4_000))
    running = thalweg("run", str(JOB), "--workers", "1", "--first-slot", "1", "--", *job)
    deadline = time.monotonic() + 60
    while not written(kafka.bootstrap, sink):
        assert time.monotonic() < deadline, "no output"
        time.sleep(0.1)
    said = done(thalweg("savepoint", "create", str(JOB), str(tmp_path / "none"), "--", *job), code=1)
    assert "other workers running" in said
    assert not (tmp_path / "none").exists()
    running.terminate()
    done(running)

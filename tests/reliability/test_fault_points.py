"""kill -9 at every step of the commit protocol, as the code names them: the output is that of an undisturbed run."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.reliability import crash
from tests.servers.redis import RedisServer
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.partitioners import partition_for

SOURCES = crash.ROOT / "src/thalweg"
RATE = 20_000
EVENTS = RATE * 6
ONCE = {"engine.restored", "kafka.fenced", "kafka.recovered"}
"""Points that a process comes to once, when it starts."""
FEW = ["engine.captured", "kafka.offsets-sent", "kafka.committed", "snapshot.written"]

Start = Callable[[str], "subprocess.Popen[bytes]"]
Settings = Mapping[str, str] | Sequence[Mapping[str, str]]


def points(*families: str) -> list[str]:
    """Every fault point in the code, in the order of files and lines; of some families ("kafka.…") only."""
    found: list[str] = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fault_point":
                argument = node.args[0]
                assert isinstance(argument, ast.Constant), f"{path}: name fault points by a string"
                found.append(str(argument.value))
    assert len(set(found)) == len(found), "a fault point's name is used twice"
    return [name for name in found if not families or name.split(".")[0] in families]


def test_every_family_of_fault_points_is_killed_at():
    assert {name.split(".")[0] for name in points()} == {
        *("alerts", "engine", "kafka", "kafka-alo", "snapshot", "sqlite", "storage")
    }
    assert set(FEW) <= set(points())


def kill_at_each(names: Iterable[str], start: Start, log: Path) -> None:
    """Lets a process live for each point, until it kills itself there: from its second commit on, if it gets so far."""
    for name in names:
        process = start(f"{name}:{1 if name in ONCE else 2}")
        code = process.wait(120)
        assert code == -signal.SIGKILL, f"{name} was not reached (code {code}):\n{log.read_text()[-4000:]}"


def same(results: pl.DataFrame, events: pl.DataFrame, late: int, *, again: bool = False) -> None:
    """Compares with what the design's rules say; `again`: at-least-once may give a result more than once."""
    expected, expected_late = crash.expected(events)
    if again:
        results = results.with_columns(pl.col("average").round(9)).unique().sort("sensor_id", "window_start")
        assert late >= expected_late > 0
    else:
        assert late == expected_late > 0
    assert_frame_equal(results, expected, check_exact=False, rel_tol=1e-9, abs_tol=1e-9)


# -- the embedded log


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("guarantee", "kind"),
    [
        ("exactly-once", "memory"),
        pytest.param("exactly-once", "spill", marks=pytest.mark.slow),
        pytest.param("exactly-once", "rocksdb", marks=pytest.mark.slow),
        pytest.param("exactly-once", "redis", marks=pytest.mark.slow),
        pytest.param("at-least-once", "memory", marks=pytest.mark.slow),
    ],
)
def test_killed_at_every_point_on_the_embedded_log(tmp_path, guarantee, kind):
    with RedisServer() as redis:
        kill_on_the_embedded_log(tmp_path, guarantee, backend_at(kind, tmp_path, redis))


def kill_on_the_embedded_log(tmp_path: Path, guarantee: str, backend: str) -> None:
    place = pl.col("sensor_id").map_elements(lambda s: partition_for(s.encode(), crash.PARTITIONS), pl.Int64)
    events = crash.readings(EVENTS, RATE).with_columns(partition=place)
    broker = f"sqlite:///{tmp_path}/data.db"
    with EmbeddedLog(tmp_path / "data.db") as topics:
        topics.ensure_topic("in", crash.PARTITIONS)
        topics.append("in", events.select("sensor_id", "ts", "value").to_dicts(), key="sensor_id")
    settings = {"JOB_NAME": "killed", "JOB_BROKER": broker, "JOB_SOURCE": "in", "JOB_SINK": "out",
                "JOB_GUARANTEE": guarantee, "JOB_BATCH_ROWS": "500", "JOB_BACKEND": backend}  # fmt: skip
    log = tmp_path / "job.log"

    def start(fault: str) -> subprocess.Popen[bytes]:
        return run([sys.executable, str(crash.JOB), "--until-caught-up"], {**settings, "THALWEG_FAULT": fault}, log)

    kill_at_each(points("engine", "sqlite"), start, log)
    assert start("").wait(120) == 0, log.read_text()[-4000:]
    with EmbeddedLog(tmp_path / "data.db") as topics:
        results = topics.read("out").select("sensor_id", "window_start", "average", "n")
        same(
            results.sort("sensor_id", "window_start"),
            events,
            len(topics.read("in.dlq")),
            again=guarantee != "exactly-once",
        )


# -- Kafka


def kill_on_kafka(
    bootstrap: str, topic: str, sink: str, guarantee: str, names: Iterable[str], settings: Settings
) -> None:
    """Kills the job at each of the points, and compares its output with that of an undisturbed run.

    Args:
        settings: more of the job's settings: one mapping for all its lives, or one after the other, in turns.
    """
    events = crash.readings(EVENTS, RATE)
    crash.feed(bootstrap, topic, events, 1e9, threading.Event())
    job = crash.Job(bootstrap, topic, sink, guarantee)
    turns = cycle([settings] if isinstance(settings, Mapping) else settings)

    def start(fault: str) -> subprocess.Popen[bytes]:
        more = {"THALWEG_FAULT": fault, "JOB_BATCH_ROWS": "500", "JOB_CHECKPOINT": "100", **next(turns)}
        return run([sys.executable, str(crash.JOB), "--until-caught-up"], {**job.environment, **more}, job.log)

    kill_at_each(names, start, job.log)
    assert start("").wait(120) == 0, job.log.read_text()[-4000:]
    again = guarantee != "exactly-once"
    late = len(crash.read_committed(bootstrap, f"{topic}.dlq"))
    same(crash.results_of(bootstrap, sink), events, late, again=again)


@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_killed_at_some_points_on_kafka_each_time_with_another_backend(kafka, topic, new_topic, tmp_path):
    """Working state is rebuilt at each start, so lives on different backends follow each other, the last one in memory
    alone. With two producers; the rest of the matrix is slow."""
    with RedisServer() as redis:
        turns = [{"JOB_BACKEND": backend_at(kind, tmp_path, redis)} for kind in ("rocksdb", "redis", "spill", "memory")]
        kill_on_kafka(kafka.bootstrap, topic, new_topic(), "exactly-once", FEW, turns)


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("producers", [1, 2])
@pytest.mark.parametrize("kind", ["memory", "spill", "rocksdb", "redis"])
def test_killed_at_every_point_on_kafka(kafka, topic, new_topic, tmp_path, kind, producers):
    with RedisServer() as redis:
        settings = {"JOB_BACKEND": backend_at(kind, tmp_path, redis), "JOB_PRODUCERS": str(producers)}
        kill_on_kafka(
            kafka.bootstrap, topic, new_topic(), "exactly-once", points("engine", "kafka", "snapshot"), settings
        )


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["memory", "rocksdb", "redis"])
def test_killed_at_every_point_on_kafka_at_least_once(kafka, topic, new_topic, tmp_path, kind):
    names = [*points("engine", "kafka-alo", "snapshot"), *sorted(ONCE)]
    with RedisServer() as redis:
        settings = {"JOB_BACKEND": backend_at(kind, tmp_path, redis)}
        kill_on_kafka(kafka.bootstrap, topic, new_topic(), "at-least-once", names, settings)


def backend_at(kind: str, folder: Path, redis: RedisServer) -> str:
    """As the job takes it: with a memory limit that sends nearly all state to the place."""
    places = {"memory": "memory", "spill": f"memory {folder}/spill", "redis": f"redis {redis.url}"}
    return places.get(kind, f"{kind} {folder}/{kind}")


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_every_point_with_state_in_a_shared_folder(kafka, topic, new_topic, tmp_path, workers):
    sink = new_topic()
    events = crash.readings(EVENTS, RATE)
    crash.feed(kafka.bootstrap, topic, events, 1e9, threading.Event())
    job = crash.Job(kafka.bootstrap, topic, sink)
    job.environment |= {"JOB_STORAGE": (tmp_path / "shared").as_uri(), "THALWEG_WORKERS": str(workers)}

    def start(fault: str) -> subprocess.Popen[bytes]:
        more = {"THALWEG_FAULT": fault, "JOB_BATCH_ROWS": "500", "JOB_CHECKPOINT": "100"}
        return run([sys.executable, str(crash.JOB), "--until-caught-up"], {**job.environment, **more}, job.log)

    kill_at_each(points("engine", "kafka", "storage", "snapshot"), start, job.log)
    job.finish()
    same(crash.results_of(kafka.bootstrap, sink), events, len(crash.read_committed(kafka.bootstrap, f"{topic}.dlq")))
    assert not KafkaAdmin(kafka.bootstrap).exists(f"{job.name}-changelog")
    epochs = list((tmp_path / "shared" / job.name).glob("*/*"))
    assert len(epochs) > 4
    for name in epochs:
        name.unlink()
    refused = run([sys.executable, str(crash.JOB), "--until-caught-up"], job.environment, job.log)
    assert refused.wait(60) == 1
    assert "is missing, and the committed offsets build on it" in job.log.read_text()


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("producers", [1, 2])
@pytest.mark.parametrize("action", ["KILL", "STOP"])
def test_one_of_two_workers_fails_at_every_point_and_the_other_takes_over(kafka, topic, new_topic, action, producers):
    """Rows move between the two. Killed, the worker stays away, its partitions go to the others, and the next one comes
    in another slot; stopped, it wakes up late, as a zombie whose partitions another has: what it had under way must not
    count."""
    sink = new_topic()
    rate = 1_000
    events = crash.readings(rate * 500, rate)
    stop = threading.Event()
    job = crash.Job(kafka.bootstrap, topic, sink)
    environment = {**job.environment, "THALWEG_WORKERS": "2", "JOB_PRODUCERS": str(producers), "JOB_CHECKPOINT": "200"}
    command = [sys.executable, str(crash.JOB)]
    with ThreadPoolExecutor(1) as pool:
        feeding = pool.submit(crash.feed, kafka.bootstrap, topic, events, rate, stop)
        try:
            steady = run(command, {**environment, "THALWEG_SLOT": "0"}, job.log)
            for number, name in enumerate(points("engine", "kafka", "snapshot")):
                fault = f"{name}:{1 if name in ONCE else 2}:{action}"
                slot = str(1 + number % 2)
                worker = run(command, {**environment, "THALWEG_SLOT": slot, "THALWEG_FAULT": fault}, job.log)
                if action == "KILL":
                    assert worker.wait(120) == -signal.SIGKILL, f"{name}:\n{job.log.read_text()[-4000:]}"
                else:
                    late_awakening(worker, name, job.log)
                assert steady.poll() is None, f"{name}:\n{job.log.read_text()[-4000:]}"
        finally:
            stop.set()
        feeding.result()
    steady.terminate()
    assert steady.wait(60) == 0, job.log.read_text()[-4000:]
    finish = [sys.executable, str(crash.JOB), "--until-caught-up"]
    assert run(finish, {**environment, "THALWEG_SLOT": "0"}, job.log).wait(120) == 0, job.log.read_text()[-4000:]
    same(crash.results_of(kafka.bootstrap, sink), events, len(crash.read_committed(kafka.bootstrap, f"{topic}.dlq")))


def late_awakening(worker: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Lets a worker that has stopped itself sleep until others have its work; it wakes up, begins again, and ends."""
    await_stopped(worker, name)
    time.sleep(12)  # longer than its session, and than its transaction may take
    worker.send_signal(signal.SIGCONT)
    time.sleep(2)
    worker.terminate()
    assert worker.wait(60) == 0, f"{name}:\n{log.read_text()[-4000:]}"


def await_stopped(process: subprocess.Popen[bytes], name: str) -> None:
    """Waits until the process has stopped itself."""
    deadline = time.monotonic() + 120
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert process.poll() is None, f"{name}: the worker ended"
        assert time.monotonic() < deadline, f"{name} was not reached"
        time.sleep(0.05)


# -- processes

_running: list[subprocess.Popen[bytes]] = []


def run(command: list[str], settings: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **settings}, cwd=crash.ROOT, stdout=output, stderr=output
        )
    _running.append(process)
    return process


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Ends what a failed test has left running."""
    yield
    while _running:
        process = _running.pop()
        if process.poll() is None:
            process.kill()
            process.wait()

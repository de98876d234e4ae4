"""Runs one engine on the workload and reads what it wrote, with the broker's own clock as the watch."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.spine.workload import PARTITIONS, Workload, records

HERE = Path(__file__).resolve().parent
VENVS = HERE.parent / ".venvs"
FLINK_CONNECTOR = ("org.apache.flink", "flink-sql-connector-kafka", "4.0.1-2.0")


def say(text: str) -> None:
    print(f"[bench] {text}", flush=True)


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = platform.processor() or "unknown"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "os": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def create_topic(bootstrap: str, topic: str, *, log_append_time: bool = False) -> None:
    config = {"message.timestamp.type": "LogAppendTime"} if log_append_time else {}
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1, config=config)])[topic].result(30)


def load(bootstrap: str, topic: str, workload: Workload) -> None:
    """Writes the workload's readings as JSON, keyed by sensor, sensor n on partition n % PARTITIONS."""
    create_topic(bootstrap, topic)
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for frame in workload.frames():
        for partition, key, value in records(frame):
            while True:
                try:
                    producer.produce(topic, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.05)
        producer.poll(0)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} readings did not reach the broker")


def read_results(
    bootstrap: str, topic: str, expected: pl.DataFrame, process: subprocess.Popen[bytes], patience: float
) -> pl.DataFrame:
    """Reads committed results until those expected came, the process ended, or nothing came for `patience` seconds."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"reader-{topic}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    values: list[bytes] = []
    times: list[int] = []
    last = time.monotonic()
    while not complete(values, expected) and time.monotonic() - last < patience:
        # The reader is lazy on purpose: it must not take the cores from the engine it watches.
        time.sleep(0.5)
        while messages := consumer.consume(10_000, timeout=0.1):
            good = [m for m in messages if m.error() is None]
            values += [m.value() for m in good]
            times += [m.timestamp()[1] for m in good]
            last = time.monotonic()
        if process.poll() is not None and time.monotonic() - last > 3:
            break
    consumer.close()
    rows = [json.loads(value) for value in values]
    results = pl.DataFrame(
        {
            "sensor_id": pl.Series([row["sensor_id"] for row in rows], dtype=pl.String),
            "window_start": pl.Series([row["window_start"] for row in rows], dtype=pl.Int64),
            "average": pl.Series([row["average"] for row in rows], dtype=pl.Float64),
            "appended": pl.Series(times, dtype=pl.Int64),
        }
    )
    return results.filter(pl.col("window_start") <= expected["window_start"].max())


def complete(values: list[bytes], expected: pl.DataFrame) -> bool:
    """Whether all expected results are there. Results of later windows may have come between them, so that their number
    alone does not tell; only once it is reached are they looked at."""
    if len(values) < expected.height:
        return False
    last = expected["window_start"].max()
    return sum(json.loads(value)["window_start"] <= last for value in values) >= expected.height


def differences(results: pl.DataFrame, expected: pl.DataFrame) -> str | None:
    """None where the results hold every expected row once, equal within 1e-9; else what is wrong."""
    if twice := results.height - results.unique(["sensor_id", "window_start"]).height:
        return f"{twice} results came twice"
    joined = expected.join(results, on=["sensor_id", "window_start"], how="full", suffix="_got")
    missing = joined.filter(pl.col("average_got").is_null()).height
    extra = joined.filter(pl.col("average").is_null()).height
    off = joined.filter(
        (pl.col("average") - pl.col("average_got")).abs() > 1e-9 * pl.col("average").abs() + 1e-12
    ).height
    return f"{missing} missing, {extra} unexpected, {off} differ" if missing or extra or off else None


def steady_rate(results: pl.DataFrame, workload: Workload) -> float:
    """Events per second between the results of the window at 30 % and of the last: start-up left out."""
    arrived = workload.arrived_when_closed()
    done = results.group_by("window_start").agg(pl.col("appended").max()).sort("window_start")
    done = done.filter(pl.col("window_start").is_in(list(arrived)))
    first, last = done.row(int(done.height * 0.3)), done.row(done.height - 1)
    return (arrived[last[0]] - arrived[first[0]]) / max(last[1] - first[1], 1) * 1_000


def peer_python(peer: str) -> Path:
    """The interpreter of the peer's own virtual environment, made where it is missing."""
    if peer in ("thalweg", "confluent"):
        return Path(sys.executable)
    venv = VENVS / peer
    stamp = venv / ".ready"
    requirements = HERE / "peers" / f"{peer}.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        say(f"installing {peer} into its own environment …")
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "-q", "-r", requirements], check=True)
        stamp.write_text(requirements.read_text())
    return venv / "bin/python"


def flink_connector() -> Path:
    """Flink's Kafka connector from Maven Central."""
    group, artifact, version = FLINK_CONNECTOR
    jar = Path.home() / ".m2/repository" / group.replace(".", "/") / artifact / version / f"{artifact}-{version}.jar"
    if not jar.exists():
        say("fetching Flink's Kafka connector …")
        goal = ["dependency:get", "-Dtransitive=false", f"-Dartifact={group}:{artifact}:{version}"]
        subprocess.run(["mvn", "-q", "-B", *goal], check=True)
    return jar


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process and its living children."""
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            times = member.cpu_times()
            total += times.user + times.system
    return total


@dataclass
class Run:
    """One engine's figures. `rate` and `cpu_us` are per input event; memory is the peak of the process tree."""

    engine: str
    events: int
    rate: float
    seconds: float
    cpu_us: float
    memory_mib: float
    problem: str | None


def run_engine(
    peer: str,
    bootstrap: str,
    source: str,
    workload: Workload,
    *,
    label: str | None = None,
    environment: dict[str, str] | None = None,
    patience: float = 90,
) -> Run:
    """Runs the peer on the loaded topic until its results are complete, checks them, and ends it."""
    label = label or peer
    sink = f"{source}-{label}-{time.time_ns()}"
    create_topic(bootstrap, sink, log_append_time=True)
    expected = workload.expected()
    python = peer_python(peer)
    with tempfile.TemporaryDirectory() as state, tempfile.TemporaryFile() as log:
        settings = {
            "BENCH_BOOTSTRAP": bootstrap,
            "BENCH_INPUT": source,
            "BENCH_OUTPUT": sink,
            "BENCH_STATE": state,
            "BENCH_EVENTS": str(workload.events),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        }
        if peer == "flink":
            settings["BENCH_FLINK_JAR"] = str(flink_connector())
            settings["JAVA_TOOL_OPTIONS"] = f"-Djava.io.tmpdir={state}"  # it leaves files behind when it is killed
        started = time.monotonic()
        process = subprocess.Popen(
            [python, HERE / "peers" / f"{peer}_job.py"],
            env={**os.environ, **settings},
            cwd=state,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        watched = psutil.Process(process.pid)
        try:
            results = read_results(bootstrap, sink, expected, process, patience)
            seconds = time.monotonic() - started
            with suppress(psutil.Error):
                memory = sum(p.memory_info().rss for p in [watched, *watched.children(recursive=True)])
                cpu = cpu_seconds(watched)
            if process.poll() is not None:
                memory, cpu = 0, 0.0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        problem = differences(results, expected)
        if problem or results.is_empty():
            log.seek(0)
            say(f"{label}: {problem}; its last words:\n{log.read().decode(errors='replace')[-2000:]}")
    rate = 0.0 if problem else steady_rate(results, workload)
    return Run(label, workload.events, rate, seconds, cpu / workload.events * 1e6, memory / 2**20, problem)

"""`make bench-nexmark`: Nexmark q0 to q8 from Kafka to Kafka, Thalweg against Flink SQL: parallelism 1, one broker, the
same topics, results compared with each other's and with DuckDB's.

    python -m benchmarks.nexmark.run [--events 2000000] [--queries q0,q3] [--only thalweg,flink] [--repeats 1]

The rate is of input events (all three streams), between the result at 30 % and the last one by the broker's clock, so
that start-up is left out for both. Writes `benchmarks/results/nexmark.json` and `nexmark.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from confluent_kafka import Consumer, TopicPartition

from benchmarks.nexmark.generator import chunks, load
from benchmarks.nexmark.reference import run_sql
from benchmarks.nexmark.workload import WORKLOAD, Comparison
from benchmarks.spine.harness import cpu_seconds, flink_connector, machine, peer_python, say

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PREFIX = "nexmark-"
FRACTION = 0.3
PATIENCE, QUIET = 120.0, 6.0
"""Seconds until the first result, and after the last one."""


@dataclass
class Run:
    """One query on one engine. Rate and CPU are per input event; memory is the process tree's at the end."""

    query: str
    engine: str
    events: int
    results: int
    rate: float
    cpu_us: float
    memory_mib: float
    problem: str | None


def measure(engine: str, query: str, bootstrap: str, events: int, tables: dict[str, pl.DataFrame]) -> Run:
    """Runs a query until nothing more comes out."""
    from thalweg.kafka import KafkaAdmin

    sink = f"{query}-{engine}-{time.time_ns()}"
    KafkaAdmin(bootstrap).create_topic(sink, partitions=1, config={"message.timestamp.type": "LogAppendTime"})
    settings = {"BOOTSTRAP": bootstrap, "PREFIX": PREFIX, "OUTPUT": sink, "QUERY": query}
    settings |= {"SQL": json.dumps(WORKLOAD[query].flink)}
    if engine == "flink":
        settings["FLINK_JAR"] = str(flink_connector())
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [peer_python(engine), ROOT / "benchmarks" / "nexmark" / f"{engine}_job.py"],
            env={
                **os.environ,
                **{f"BENCH_{name}": value for name, value in settings.items()},
                "PYTHONPATH": str(ROOT),
                "JAVA_TOOL_OPTIONS": f"-Djava.io.tmpdir={folder}",  # Flink leaves files behind when it is killed
            },
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            rows, times = read_results(bootstrap, sink, process)
            watched = psutil.Process(process.pid)
            cpu = cpu_seconds(watched)
            memory = sum(p.memory_info().rss for p in [watched, *watched.children(recursive=True)])
        except psutil.Error:
            cpu, memory = 0.0, 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        problem = differences(rows, WORKLOAD[query], tables)
        if problem:
            log.seek(0)
            say(f"{engine} {query}: {problem}; its last words:\n{log.read().decode(errors='replace')[-1500:]}")
    rate = 0.0 if problem else steady_rate(times, events)
    return Run(query, engine, events, len(rows), rate, cpu / events * 1e6, memory / 2**20, problem)


def read_results(bootstrap: str, topic: str, process: subprocess.Popen[bytes]) -> tuple[list[Any], list[int]]:
    """Committed results in order, with when the broker got each; until nothing came for a while."""
    group = {"group.id": f"reader-{topic}", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": bootstrap, "isolation.level": "read_committed", **group})
    consumer.assign([TopicPartition(topic, 0, 0)])
    rows: list[Any] = []
    times: list[int] = []
    last = time.monotonic()
    while time.monotonic() - last < (QUIET if rows else PATIENCE) and (process.poll() is None or not rows):
        # The reader is lazy on purpose: it must not take the cores from the engine that it watches.
        time.sleep(0.5)
        while messages := consumer.consume(10_000, timeout=0.1):
            good = [message for message in messages if message.error() is None]
            rows += [message.value() for message in good]
            times += [message.timestamp()[1] for message in good]
            last = time.monotonic()
        if process.poll() is not None and time.monotonic() - last > 3:
            break
    consumer.close()
    return rows, times


def steady_rate(times: list[int], events: int) -> float:
    """Events per second between the result at 30 % and the last."""
    first, last = times[int(len(times) * FRACTION)], times[-1]
    return (1 - FRACTION) * events / max(last - first, 1) * 1_000


def differences(rows: list[Any], comparison: Comparison, tables: dict[str, pl.DataFrame]) -> str | None:
    """None where the results are those of DuckDB, but for windows that the input leaves open."""
    wanted = run_sql(comparison.duckdb, tables)
    found = pl.DataFrame([json.loads(row) for row in rows if row], infer_schema_length=None)
    if not found.height:
        return "no results"
    if comparison.key:
        found = found.unique(comparison.key, keep="last", maintain_order=True)
    if comparison.window_end:
        end = pl.col(comparison.window_end)
        closed = min(int(frame["date_time"].max()) for frame in tables.values())  # type: ignore[arg-type]
        limit = closed if comparison.window_end == "ends" else closed // 10_000 * 10_000 - 1
        found, wanted = found.filter(end <= limit), wanted.filter(end <= limit)
    found, wanted = _plain(found.select(wanted.columns)), _plain(wanted)
    if found.height != wanted.height:
        return f"{found.height} results instead of {wanted.height}"
    for name, dtype in wanted.schema.items():
        same = (
            (found[name] - wanted[name]).abs() <= 1e-9 * wanted[name].abs()
            if dtype.is_float()
            else (found[name] == wanted[name])
        )
        if not same.all():
            return f"{(~same).sum()} of {wanted.height} results differ in {name}"
    return None


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    numbers = [pl.col(n).cast(pl.Float64) for n, t in frame.schema.items() if t.is_decimal() or t.is_float()]
    numbers += [pl.col(n).cast(pl.Int64) for n, t in frame.schema.items() if t.is_integer()]
    return frame.with_columns(numbers).sort(frame.columns)


def markdown(runs: list[Run], host: dict[str, object], events: int) -> str:
    """The figures as a table: the ratio is the point."""
    lines = [
        f"# Nexmark from Kafka, {events:,} events, parallelism 1",
        "",
        f"{host['cpu']}, {host['cores']} cores shared with the broker and the reader. Results equal DuckDB's.",
        "Events/s are those between the result at 30 % and the last one: where a query gives few results, all in one",
        "burst (q3, q8), they say little, and the CPU that an event costs says more.",
        "",
        "| query | Thalweg, events/s | Flink SQL, events/s | ratio | CPU per event, µs (Thalweg / Flink) | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for query in dict.fromkeys(run.query for run in runs):
        of = {run.engine: run for run in runs if run.query == query}
        mine, theirs = of.get("thalweg"), of.get("flink")
        ratio = f"{mine.rate / theirs.rate:.1f}×" if mine and theirs and theirs.rate else "–"
        cells = [
            f"{run.rate:,.0f}" if run and not run.problem else (run.problem if run else "–") for run in (mine, theirs)
        ]
        cpu = " / ".join(f"{run.cpu_us:.2f}" if run else "–" for run in (mine, theirs))
        less = f"{theirs.cpu_us / mine.cpu_us:.1f}×" if mine and theirs and mine.cpu_us else "–"
        lines.append(f"| {query} | {cells[0]} | {cells[1]} | {ratio} | {cpu} | {less} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    from thalweg.kafka.local_cluster import LocalKafka

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--queries", default=",".join(WORKLOAD))
    parser.add_argument("--only", default="thalweg,flink")
    parser.add_argument("--repeats", type=int, default=1, help="the median counts; the engines take turns")
    options = parser.parse_args()
    parts = list(chunks(options.events))
    tables = {name: pl.concat([dict(part.items())[name] for part in parts]) for name in ("person", "auction", "bid")}
    host = machine()
    best: list[Run] = []
    with LocalKafka() as kafka:
        say(f"loading {options.events:,} events …")
        load(kafka.bootstrap, PREFIX, options.events)
        for query in options.queries.split(","):
            runs: dict[str, list[Run]] = {}
            for _ in range(options.repeats):
                for engine in options.only.split(","):
                    runs.setdefault(engine, []).append(measure(engine, query, kafka.bootstrap, options.events, tables))
                    say(f"{runs[engine][-1]}")
            best += [sorted(group, key=lambda run: run.rate)[len(group) // 2] for group in runs.values()]
    when = datetime.now(UTC).isoformat(timespec="seconds")
    RESULTS.mkdir(exist_ok=True)
    result = {"when": when, "machine": host, "events": options.events, "runs": [asdict(run) for run in best]}
    (RESULTS / "nexmark.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / "nexmark.md").write_text(markdown(best, host, options.events))
    print(markdown(best, host, options.events))


if __name__ == "__main__":
    main()

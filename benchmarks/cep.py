"""Patterns: events per second on one core, against Flink's CEP job on the same events.

    make bench-cep [ARGS="--quick --json"]

Events come at 100,000 a second of event time, in batches of `--batch` rows as decoded frames. Measured is the operator
that a job runs (conditions, order, automaton, matches), pinned to one core with Polars on one thread. Flink's job
(Java, parallelism 1, heap state, object reuse) makes the same events from their numbers and may use all cores; its rate
is that after the first fifth. What both find is compared: number of matches, of events in them, the sum of their
numbers. Rates are given per second, and per second of CPU (all threads of the process), which other load on the machine
hardly touches; the ratio is that of the latter. At the end a job on Kafka is timed, from the event that completes a
match to the match on its topic (`cep_latency.py`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import numpy as np
import polars as pl
import psutil

from thalweg.cep import Pattern, PatternBuilder
from thalweg.cep.sequence.conditions import Conditions
from thalweg.cep.sequence.operator import Detect
from thalweg.streams.batch import OFFSET, PARTITION, TIMESTAMP, WATERMARK, Batch, Watermark

RATE = 100
"""Events per ms of event time."""
SCHEMA = pl.Schema({"id": pl.Int64(), "user": pl.String(), "kind": pl.Int64()})
RESULTS = Path(__file__).parent / "results" / "cep.json"


@dataclass(frozen=True)
class Case:
    """What is measured: a pattern's shape over so many keys."""

    name: str
    shape: str
    keys: int
    within: int
    """ms."""
    peer_events: int
    """How many events Flink gets; 0: none."""


CASES = [
    Case("three steps, 1 s", "steps", 100_000, 1_000, 0),
    Case("three steps, 10 s", "steps", 100_000, 10_000, 2_000_000),
    Case("three steps, 100 s", "steps", 100_000, 100_000, 2_000_000),
    Case("strict times(3), 60 s", "strict", 100_000, 60_000, 2_000_000),
    Case("a b+ c, 1,000 keys, 10 s", "kleene", 1_000, 10_000, 1_000_000),
    Case("a, rising b{3}, 1,000 keys", "rising", 1_000, 10_000, 0),
    Case("100 patterns, 10 s", "hundred", 100_000, 10_000, 0),
]


def mixed(numbers: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """A hash of each number, as in Bench.java."""
    z = numbers * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(1)


def events(first: int, count: int, keys: int) -> pl.DataFrame:
    """Events in order of time, one partition."""
    numbers = np.arange(first, first + count, dtype=np.uint64)
    ids = numbers.astype(np.int64)
    users = (mixed(numbers * np.uint64(2) + np.uint64(1)) % np.uint64(keys)).astype(np.int64)
    return pl.DataFrame(
        {
            "id": ids,
            "user": pl.Series(users).cast(pl.String) + "@example.org",
            "kind": (mixed(numbers * np.uint64(2) + np.uint64(2)) % np.uint64(50)).astype(np.int64),
            TIMESTAMP: ids // RATE,
            WATERMARK: ids // RATE - 1,
            PARTITION: pl.Series(np.zeros(count), dtype=pl.Int32),
            OFFSET: ids,
        }
    )


def patterns(case: Case) -> list[Pattern]:
    """As a user would write them."""
    if case.shape == "hundred":
        return [_steps(f"p{n}", n % 48, case.within) for n in range(100)]
    if case.shape == "steps":
        return [_steps("abc", 1, case.within)]
    if case.shape == "strict":
        strict = PatternBuilder.create("aaa").where("a", lambda e: e.kind < 5).times(3).consecutive()
        return [strict.within(case.within).build()]
    if case.shape == "rising":  # its condition on the partial match runs in Python
        defined = "DEFINE a AS kind == 1, b AS kind in [2, 3] && (COUNT(b) == 0 || id > LAST(b.id))"
        return [Pattern.parse("abbb", f"PATTERN (a -> b->{{3}}) WITHIN {case.within}ms {defined}")]
    loop = PatternBuilder.create("ab+c").where("a", lambda e: e.kind == 1).followed_by("b", lambda e: e.kind == 2)
    return [loop.one_or_more().followed_by("c", lambda e: e.kind == 3).within(case.within).build()]


def _steps(name: str, first: int, within: int) -> Pattern:
    kind = pl.col("kind")
    builder = PatternBuilder.create(name).where("a", kind == first).followed_by("b", kind == first + 1)
    return builder.followed_by("c", kind == first + 2).within(within).build()


def measure(case: Case, count: int, batch: int) -> dict[str, Any]:
    """Events per second through a fresh operator, and what it finds."""
    frame = events(0, count, case.keys)
    wanted = patterns(case)
    operator = Detect("bench", wanted, ["user"], Conditions(wanted, SCHEMA))
    operator.warm_up()
    list(operator.on_batch(Batch(frame[:0])))
    found: list[pl.DataFrame] = []
    warm, cpu, warm_rows, alive = 0.0, 0.0, 0, 0
    for start in range(0, count, batch):
        if start >= count // 5 and not warm:
            warm, cpu, warm_rows = time.perf_counter(), time.process_time(), count - start
        rows = frame[start : start + batch]
        last = int(rows.get_column(TIMESTAMP)[-1])
        found += [out.frame for out in operator.on_batch(Batch(rows))]
        found += [out.frame for out in operator.on_watermark(Watermark(last, last))]
        alive = max(alive, operator.engine.alive)
    seconds, cpu = time.perf_counter() - warm, time.process_time() - cpu
    for out in operator.on_watermark(Watermark(2**50, 2**50)):
        found.append(out.frame)
    left = {"keys": len(operator.engine.codes), "partial_matches": operator.engine.alive}
    rates = {"events_per_second": round(warm_rows / seconds), "events_per_cpu_second": round(warm_rows / cpu)}
    return {**rates, "most_partial_matches": alive, "left": left, **_summary(found)}


def _summary(found: list[pl.DataFrame]) -> dict[str, int]:
    matches = taken = ids = 0
    for frame in found:
        matches += frame.height
        for lists in frame.get_column("events").struct.unnest().get_columns():
            each = lists.explode().drop_nulls().struct.field("id")
            taken += each.len()
            ids += int(each.sum())
    return {"matches": matches, "taken": taken, "ids": ids}


def peer(case: Case) -> dict[str, Any]:
    """Flink's job on the same events."""
    from benchmarks.flink_cep.java import command

    java = command(Path(__file__).parent / "flink_cep" / "Bench.java", "-Xmx2g")
    arguments = [case.shape, str(case.peer_events), str(case.keys), str(case.within)]
    done = subprocess.run([*java, *arguments], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"Flink's job failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def memory(partial_matches: int) -> dict[str, float]:
    """Resident bytes per live partial match: each of a key of its own, holding one event, then two."""
    case = Case("memory", "kleene", partial_matches, 3_600_000, 0)
    wanted = patterns(case)
    operator = Detect("bench", wanted, ["user"], Conditions(wanted, SCHEMA))
    operator.warm_up()
    process = psutil.Process()
    before = process.memory_info().rss
    size = 50_000
    for start in range(0, partial_matches, size):
        numbers = np.arange(start, min(start + size, partial_matches))
        rows = events(start, len(numbers), 1).with_columns(
            pl.Series("user", numbers).cast(pl.String) + "@example.org", pl.lit(1, pl.Int64).alias("kind")
        )
        list(operator.on_batch(Batch(rows)))
        last = int(rows.get_column(TIMESTAMP)[-1]) + 1
        list(operator.on_watermark(Watermark(last, last)))
    alive = operator.engine.alive
    return {"partial_matches": alive, "bytes_each": round((process.memory_info().rss - before) / alive)}


def latencies(rate: int, seconds: int) -> dict[str, Any]:
    """Of a job at a fixed rate, with each guarantee."""
    from benchmarks.cep_latency import GUARANTEES, measure
    from benchmarks.spine.latency import warm_broker
    from thalweg.kafka.local_cluster import LocalKafka

    results: dict[str, Any] = {}
    with LocalKafka() as kafka:
        warm_broker(kafka.bootstrap)
        measure(kafka.bootstrap, rate, 25, GUARANTEES[-1])  # not counted: a job's commits are to be compiled as well
        for guarantee in GUARANTEES:
            found = measure(kafka.bootstrap, rate, seconds, guarantee)
            results[f"latency at {rate:,} events/s, {guarantee}"] = asdict(found)
            print(
                f"latency, {guarantee}, {rate:,} events/s: p50 {found.p50:.1f} p95 {found.p95:.1f} p99 {found.p99:.1f}"
                f" max {found.max:.1f} ms over {found.matches} matches; generator late by {found.behind_ms:.1f} ms at"
                f" most, {found.missing} matches amiss",
                flush=True,
            )
    return results


def _say(name: str, rates: dict[str, Any], rest: str) -> None:
    per_second, per_cpu = rates["events_per_second"], rates["events_per_cpu_second"]
    print(f"{name:26} {per_second:>11,} events/s {per_cpu:>11,} per CPU second  {rest}", flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--events", type=int, default=4_000_000)
    options.add_argument("--batch", type=int, default=20_000)
    options.add_argument("--quick", action="store_true", help="fewer events, and no Flink")
    options.add_argument("--json", action="store_true", help=f"write {RESULTS.relative_to(Path.cwd())}")
    options.add_argument("--case", action="append", choices=[case.name for case in CASES])
    options.add_argument("--rate", type=int, default=100_000, help="events per second of the latency runs")
    options.add_argument("--latency-seconds", type=int, default=40, help="0: no latency runs")
    options.add_argument("--only-latency", action="store_true")
    options.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.memory:
        print(json.dumps(memory(given.memory)))
        return
    if given.only_latency:
        found = latencies(given.rate, given.latency_seconds)
        if given.json:
            RESULTS.write_text(json.dumps(json.loads(RESULTS.read_text()) | found, indent=2) + "\n")
        return
    cores = psutil.Process().cpu_affinity()
    results: dict[str, Any] = {}
    for case in CASES:
        if given.case and case.name not in given.case:
            continue
        psutil.Process().cpu_affinity(cores[:1])
        count = given.events // 8 if given.quick else given.events
        if case.shape in ("hundred", "rising"):
            count //= 4
        results[case.name] = mine = measure(case, count, given.batch)
        _say(case.name, mine, f"{mine['matches']:,} matches")
        psutil.Process().cpu_affinity(cores)
        if case.peer_events and not given.quick:
            mine["flink"] = theirs = peer(case)
            mine["ratio"] = round(mine["events_per_cpu_second"] / theirs["events_per_cpu_second"], 1)
            same = measure(case, case.peer_events, given.batch)
            mine["same_results"] = all(same[name] == theirs[name] for name in ("matches", "taken", "ids"))
            agree = "the same matches" if mine["same_results"] else f"OTHER MATCHES: {theirs} against {same}"
            _say("  Flink CEP", theirs, f"{mine['ratio']} ×, {agree}")
    if not given.case:
        for size in (100_000, 400_000) if given.quick else (250_000, 500_000, 1_000_000):
            run = [sys.executable, "-m", "benchmarks.cep", "--memory", str(size)]
            fact = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
            results[f"memory, {size:,} partial matches"] = fact
            print(f"memory: {fact['partial_matches']:,} partial matches, {fact['bytes_each']} bytes each", flush=True)
        if given.latency_seconds and not given.quick:
            results |= latencies(given.rate, given.latency_seconds)
    if given.json:
        RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""The alert engine: many rules, many open alerts, and the time from an event to the request that tells of it.

    python -m benchmarks.alerts [--quick] [--only rules,lists,latency,job] [--rates 10000,100000]

Rules: 1,000 conditions of two to five comparisons (drawn, the same each time) over 100,000 events in batches of 10,000,
on one core, alerts decided and stored in SQLite. Lists: 100,000 open alerts in SQLite and in Redis, listed and filtered
in several ways, newest hundred each. Latency: a generator appends JSON events to the embedded log at a fixed rate
whatever the job does (open loop); a job evaluates ten rules, stores alerts in SQLite and posts them to a local HTTP
server; from the time at which an event was to be sent to the arrival of its request. Job: the same in a whole job over
Kafka, at 50,000 and 100,000 events/s, at least once and exactly once (see `alert_job.py`). All on one machine. Results
land in `results/` as JSON and Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # one core means one

import polars as pl
from tests.servers.redis import RedisServer

from benchmarks.alert_job import measure as measure_job
from benchmarks.arrivals import Arrival, arrivals
from benchmarks.rules import drawn_rules, payments
from benchmarks.spine.harness import machine
from benchmarks.spine.latency import warm_broker
from thalweg.alerts import Alert, AlertManager, AlertRule, ChannelLimits, Severity, Status, WebhookChannel
from thalweg.alerts.store import Changes, New, Store, open_store
from thalweg.connectors.sqlite_log import EmbeddedLog
from thalweg.kafka.local_cluster import LocalKafka

RESULTS = Path(__file__).with_name("results")
TICK = 0.005
"""Seconds between two appends of the generator."""
HITS = 20
"""Events per second that alert."""
WARM_UP = 2
"""Seconds whose alerts do not count."""
PREPARE = 3
"""Seconds until the first event: the generator must be up."""


def measure_rules(rules: int, events: int) -> dict[str, float]:
    """Seconds of `process_frame` over all events; `cpu_s` is what the process used, the machine may be busy."""
    frame = payments(events).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("__ts"))
    frame = frame.with_columns(pl.lit(0, pl.Int32).alias("__partition"), pl.col("__ts").alias("__offset"))
    with tempfile.TemporaryDirectory() as folder:
        manager = AlertManager(f"sqlite:///{folder}/alerts.db", deliver=False)
        for rule in drawn_rules(rules):
            condition = f"amount > 5000 && {rule.condition.text}"
            manager.add_rule(AlertRule(id=rule.id, name=rule.id, condition=condition, by=["country", "kind"]))
        manager.process_frame(frame[:10].with_columns(amount=0.0))  # compiled
        alerts = 0
        started, used = time.perf_counter(), time.process_time()
        for part in frame.iter_slices(10_000):
            alerts += len(manager.process_frame(part)[0])
        seconds, used = time.perf_counter() - started, time.process_time() - used
        manager.close()
    return {
        "rules": rules,
        "events": events,
        "alerts": alerts,
        "seconds": round(seconds, 3),
        "cpu_s": round(used, 3),
        "events_per_s": round(events / seconds),
        "events_per_cpu_s": round(events / used),
    }


def measure_lists(url: str, count: int) -> dict[str, float]:
    """Milliseconds (median of five) of each way to list."""
    store = open_store(url)
    severities = list(Severity)
    for start in range(0, count, 1_000):
        store.apply(Changes(new=[New(_open_alert(n, severities)) for n in range(start, min(start + 1_000, count))]))
    ways: dict[str, Callable[[Store], Any]] = {
        "newest": lambda s: s.find(limit=100),
        "by status": lambda s: s.find(status=["acknowledged"], limit=100),
        "by two statuses": lambda s: s.find(status=["triggered", "acknowledged"], limit=100),
        "by severity": lambda s: s.find(severity="critical", limit=100),
        "by rule": lambda s: s.find(rule="rule-77", limit=100),
        "by rule, severity, status": lambda s: s.find(rule="rule-77", severity="high", status=["triggered"], limit=100),
        "by status and severity, few": lambda s: s.find(severity="critical", status=["acknowledged"], limit=100),
        "a page in the middle": lambda s: s.find(before=(count // 2, "x"), limit=100),
        "counts": lambda s: s.counts(),
    }
    found = {name: round(statistics.median(_ms(way, store) for _ in range(5)), 2) for name, way in ways.items()}
    store.close()
    return {"open": count, **found}


def _open_alert(number: int, severities: list[Severity]) -> Alert:
    severity = severities[number % 5]
    # Hardly any critical one is acknowledged: a filter by both has to look for it.
    acknowledged = number % 3 == 0 and (severity is not Severity.CRITICAL or number % 1_000 == 0)
    return Alert(
        f"{number:032x}", f"rule-{number % 997}", "v", "High CPU", severity,
        Status.ACKNOWLEDGED if acknowledged else Status.TRIGGERED, f"f{number}", {"host": f"h{number}", "cpu": 97},
        number, number, {"team": "core"}, last_event_time=number, decisions=(),
    )  # fmt: skip


def _ms(way: Callable[[Store], Any], store: Store) -> float:
    started = time.perf_counter()
    way(store)
    return (time.perf_counter() - started) * 1_000


# -- from event to request


def measure_latency(rate: int, seconds: int) -> dict[str, float]:
    """Percentiles in ms; `behind_ms`: how late the generator itself was at worst."""
    with tempfile.TemporaryDirectory() as folder, arrivals() as (url, found):
        with EmbeddedLog(f"{folder}/log.db") as log:
            log.ensure_topic("events", partitions=2)
        job = _part("job", folder, url)
        until_up(folder, found, job)
        start = time.time() + PREPARE
        generator = _part("generate", folder, str(rate), str(seconds), str(start), stdout=subprocess.PIPE)
        behind = float(generator.communicate(timeout=PREPARE + 6 * seconds + 60)[0] or "nan")
        expected = HITS * seconds
        deadline = time.monotonic() + 60
        while len(found) < expected and time.monotonic() < deadline and job.poll() is None:
            time.sleep(0.05)
        job.terminate()
        job.wait(30)
    if len(found) < expected:
        raise RuntimeError(f"{len(found)} of {expected} alerts arrived")
    sent = [(one.at, one.event["sent"]) for one in found]
    waited = sorted((at - due) * 1_000 for at, due in sent if due >= start + WARM_UP)
    quantiles = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    figures = {name: round(waited[int(q * (len(waited) - 1))], 1) for name, q in quantiles.items()}
    return {"rate": rate, "alerts": len(waited), **figures, "behind_ms": round(behind, 1)}


def until_up(folder: str, found: list[Arrival], job: subprocess.Popen[str]) -> None:
    """Until the job has told of a first event: its start is not what is measured here."""
    with EmbeddedLog(f"{folder}/log.db") as log:
        log.append("events", pl.DataFrame({"host": ["first"], "cpu": [95.0], "load": [100.0], "sent": [0.0]}))
    deadline = time.monotonic() + 120
    while not found and job.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    found.clear()


def _part(name: str, *arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.alerts", "--part", name, *arguments]
    return subprocess.Popen(command, stdout=stdout, text=True)


def job(folder: str, url: str) -> None:
    """Ten rules of which one matches; every alert is told by its own request."""
    from thalweg import App

    manager = AlertManager(f"sqlite:///{folder}/alerts.db")
    manager.add_channel("hook", WebhookChannel(url, allow_private=True), limits=ChannelLimits(per_minute=None))
    for number in range(10):
        condition = f"cpu > {90 + number} && load < {10 + number}" if number else "cpu > 90"
        manager.add_rule(
            AlertRule(id=f"r{number}", name="CPU", condition=condition, notification_channels=["hook"], by=["host"])
        )
    app = App("bench-alerts", broker=f"sqlite:///{folder}/log.db")
    schema = {"host": pl.String, "cpu": pl.Float64, "load": pl.Float64, "sent": pl.Float64}
    app.stream("events", schema=schema).alert(manager)
    app.run()


def generate(folder: str, rate: int, seconds: int, start: float) -> float:
    """Appends event i at `start` + i / rate, however long that takes; returns the worst delay, ms."""
    total, gap = rate * seconds, rate // HITS
    worst, done = 0.0, 0
    with EmbeddedLog(f"{folder}/log.db") as log:
        while done < total:
            due = min(total, int((time.time() - start) * rate))
            if due <= done:
                time.sleep(TICK)
                continue
            worst = max(worst, time.time() - start - done / rate)
            index = pl.int_range(done, due, eager=True)
            frame = pl.select(
                host=pl.concat_str(pl.lit("h"), index % 1_000),
                cpu=pl.when(index % gap == gap // 2).then(95.0).otherwise((index % 80).cast(pl.Float64)),
                load=(index % 50).cast(pl.Float64) + 100.0,
                sent=index / rate + start,
            )
            log.append("events", frame)
            done = due
    return worst * 1_000


# -- the report


def measure(args: argparse.Namespace) -> dict[str, Any]:
    wanted = args.only.split(",")
    when = datetime.now(UTC).isoformat(timespec="seconds")
    found: dict[str, Any] = {"when": when, "machine": machine(), "load_before": round(os.getloadavg()[0], 1)}
    if "rules" in wanted:
        found["rules"] = measure_rules(1_000, 100_000)
    if "lists" in wanted:
        count = 20_000 if args.quick else 100_000
        with tempfile.TemporaryDirectory() as folder, RedisServer() as redis:
            found["lists"] = {
                "sqlite": measure_lists(f"sqlite:///{folder}/alerts.db", count),
                "redis": measure_lists(redis.url, count),
            }
    if "latency" in wanted:
        seconds = 6 if args.quick else 15
        found["latency"] = [measure_latency(int(rate), seconds) for rate in args.rates.split(",")]
    if "job" in wanted:
        seconds = 12 if args.quick else 35
        with LocalKafka() as kafka:
            warm_broker(kafka.bootstrap)
            measure_job(kafka.bootstrap, 100_000, 20, "exactly-once")  # not counted: commits are to be compiled as well
            found["job"] = [
                measure_job(kafka.bootstrap, rate, seconds, guarantee)
                for rate in (50_000, 100_000)
                for guarantee in ("at-least-once", "exactly-once")
            ]
    found["load_after"] = round(os.getloadavg()[0], 1)
    return found


def markdown(found: dict[str, Any]) -> str:
    """The results as a page."""
    where = found["machine"]
    lines = [
        *("# Alerts", ""),
        f"Measured {found['when']} on {where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, "
        f"{where['os']}, Python {where['python']}; everything that takes part shares it. "
        f"Load {found['load_before']} before, {found['load_after']} after.",
    ]
    if "rules" in found:
        lines += ["", "## Rules on one core", "", *_table([found["rules"]])]
    if "lists" in found:
        stores = found["lists"]
        rows = [{"ms": way, **{s: stores[s][way] for s in stores}} for way in stores["sqlite"] if way != "open"]
        lines += ["", f"## Listing {stores['sqlite']['open']:,} open alerts", "", *_table(rows)]
    if "latency" in found:
        lines += ["", "## From event to request, ms", "", *_table(found["latency"])]
    if "job" in found:
        lines += ["", "## The same in a whole job over Kafka, ms", "", *_table(found["job"])]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    shown = [f"{value:,}" if isinstance(value, (int, float)) else str(value) for row in rows for value in row.values()]
    width = len(rows[0])
    body = ["| " + " | ".join(shown[n : n + width]) + " |" for n in range(0, len(shown), width)]
    return ["| " + " | ".join(rows[0]) + " |", "|---" * width + "|", *body]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="rules,lists,latency,job")
    parser.add_argument("--rates", default="10000,100000")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part and args.part[0] == "job":
        job(*args.part[1:])
    elif args.part:
        folder, rate, seconds, start = args.part[1:]
        print(generate(folder, int(rate), int(seconds), float(start)))
    else:
        found = measure(args)
        (RESULTS / "alerts.json").write_text(json.dumps(found, indent=2) + "\n")
        (RESULTS / "alerts.md").write_text(markdown(found))
        print(markdown(found))


if __name__ == "__main__":
    main()

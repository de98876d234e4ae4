"""`make bench`: Thalweg against its peers on one broker, one topic, one machine, in one run.

    python benchmarks/run.py               everything: 3 M events, peers, latency (about 25 minutes on 2 cores)
    python benchmarks/run.py --quick       1 M events, short latency runs
    python benchmarks/run.py --only thalweg,flink --no-latency

Writes `benchmarks/results/spine.json` and `spine.md`. Speed is judged by ratios inside a run, not by absolute figures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.spine import report  # noqa: E402
from benchmarks.spine.harness import HERE, Run, load, machine, run_engine, say  # noqa: E402
from benchmarks.spine.latency import Latency, measure, warm_broker  # noqa: E402
from benchmarks.spine.workload import Workload  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
SLOW = {"bytewax": 6, "quix": 6}
"""Peers that get a fraction of the events: their rate is the same, and nobody waits for an hour."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--repeats", type=int, default=3, help="runs of the fast engines; the median counts")
    parser.add_argument("--only", default="thalweg,confluent,flink,bytewax,quix", help="engines, by comma")
    parser.add_argument("--rates", default="10000,50000,100000", help="events per second for the latency runs")
    parser.add_argument("--latency-seconds", type=int, default=30)
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--no-micro", action="store_true", help="leave out the consume and decode benchmarks")
    parser.add_argument("--quick", action="store_true", help="1 M events, one repeat, 15 s of latency")
    parser.add_argument("--output", default="spine", help="name of the result files in benchmarks/results")
    options = parser.parse_args()
    if options.quick:
        options.events, options.repeats, options.latency_seconds = 1_000_000, 1, 15
    return options


def median(runs: list[Run]) -> Run:
    good = sorted((run for run in runs if run.problem is None), key=lambda run: run.rate)
    return good[len(good) // 2] if good else runs[0]


def throughput(bootstrap: str, engines: list[str], events: int, repeats: int) -> list[Run]:
    """The sensor job on each engine. The fast engines take turns, a slow minute of the machine hits all."""
    full = Workload(events)
    say(f"loading {events:,} readings …")
    load(bootstrap, "sensors", full)
    runs: dict[str, list[Run]] = {}
    variants = {
        "thalweg": [("thalweg", "exactly-once"), ("thalweg-at-least-once", "at-least-once")],
        "flink": [("flink", "")],
    }
    for _ in range(repeats):
        for engine in (e for e in engines if e in variants):
            for label, guarantee in variants[engine]:
                runs.setdefault(label, []).append(
                    run_engine(
                        engine, bootstrap, "sensors", full, label=label, environment={"BENCH_GUARANTEE": guarantee}
                    )
                )
                say(f"{label}: {runs[label][-1].rate:,.0f} events/s {runs[label][-1].problem or '(results equal)'}")
    for engine in (e for e in engines if e in SLOW):
        part = Workload(max(events // SLOW[engine], 150_000))
        load(bootstrap, f"sensors-{engine}", part)
        closings = {"quix": "key", "quix-per-partition": "partition"} if engine == "quix" else {engine: ""}
        for label, closing in closings.items():
            settings = {"BENCH_CLOSING": closing}
            found = run_engine(
                engine, bootstrap, f"sensors-{engine}", part, label=label, environment=settings, patience=120
            )
            runs[label] = [found]
            say(f"{label}: {found.rate:,.0f} events/s {found.problem or '(results equal)'}")
    return [median(group) for group in runs.values()]


def loop(bootstrap: str, events: int) -> dict[str, float]:
    """Events per second of the plain `confluent_kafka` loop, without and with `json.loads`."""
    settings = {"BENCH_BOOTSTRAP": bootstrap, "BENCH_INPUT": "sensors", "BENCH_EVENTS": str(events)}
    script = HERE / "peers" / "confluent_loop.py"
    output = subprocess.run([sys.executable, script], env={**os.environ, **settings}, check=True, capture_output=True)
    return {name: events / seconds for name, seconds in json.loads(output.stdout).items()}


def consume(bootstrap: str, events: int) -> dict[str, object]:
    """Kafka to columns against `confluent_kafka`, on the topic that is loaded."""
    say("consume …")
    script = [sys.executable, ROOT / "benchmarks/consume.py", "--json", "--events", str(events)]
    output = subprocess.run(
        [*script, "--bootstrap", bootstrap, "--topic", "sensors"], check=True, capture_output=True, cwd=ROOT
    )
    result: dict[str, object] = json.loads(output.stdout.splitlines()[-1])
    return result


def json_decode() -> dict[str, object]:
    """JSON to columns against Polars, both on one thread; rates in million records per second."""
    say("JSON decode …")
    with tempfile.NamedTemporaryFile() as file:
        script = [sys.executable, ROOT / "benchmarks/json_decode.py", "--json", file.name]
        subprocess.run(script, check=True, capture_output=True, cwd=ROOT)
        shapes = json.loads(Path(file.name).read_text())
    return {shape.pop("shape"): shape for shape in shapes}


def main() -> None:
    from thalweg.kafka.local_cluster import LocalKafka

    options = arguments()
    engines = options.only.split(",")
    result: dict[str, object] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "events": options.events,
    }
    with LocalKafka() as kafka:
        result["throughput"] = [
            asdict(run) for run in throughput(kafka.bootstrap, engines, options.events, options.repeats)
        ]
        if "confluent" in engines:
            result["confluent_loop"] = loop(kafka.bootstrap, options.events)
            say(f"confluent loop: {result['confluent_loop']}")
        if not options.no_micro:
            result["consume"] = consume(kafka.bootstrap, options.events)
            result["json_decode"] = json_decode()
        if not options.no_latency:
            latencies: list[Latency] = []
            say("warming the broker up …")
            warm_broker(kafka.bootstrap)
            for guarantee in ("at-least-once", "exactly-once"):
                for rate in map(int, options.rates.split(",")):
                    latencies.append(measure("thalweg", kafka.bootstrap, rate, options.latency_seconds, guarantee))
                    say(f"{latencies[-1]}")
            result["latency"] = [asdict(latency) for latency in latencies]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.output}.json").write_text(json.dumps(result, indent=2) + "\n")
    (RESULTS / f"{options.output}.md").write_text(report.markdown(result))
    print(report.markdown(result))


if __name__ == "__main__":
    main()

"""What state costs: per event in both shapes from a thousand to a million keys, in commits, memory, and at a restart.

python benchmarks/state.py [--quick] [--keys 1000000] [--only events,checkpoint,recovery,memory,backends,latency]
                           [--write] [--shapes window]

One operator driven by hand, without a broker; then the state backends (a Redis server is started), and the latency of
the sensor job on each of them (a Kafka broker is started). Writes `benchmarks/results/state.json` and `.md`; `--quick`
is a tenth of the keys, without the latency, and writes nothing. Rough on a shared machine: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.servers.redis import RedisServer  # noqa: E402

from benchmarks.spine.harness import machine  # noqa: E402
from benchmarks.state_report import markdown  # noqa: E402
from benchmarks.state_shapes import HOUR, OPEN_WINDOWS, ROWS, SHAPES, fill, filled, send, take  # noqa: E402
from thalweg.streams import StateBackend  # noqa: E402
from thalweg.streams.engine.state_codec import decode, encode, merge  # noqa: E402
from thalweg.streams.operator import Operator  # noqa: E402
from thalweg.streams.state.pool import StatePool, using  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
PARTS = ("events", "checkpoint", "recovery", "memory", "backends", "latency")
RATE, SECONDS = 50_000, 15
"""Of the latency runs."""
WARM_UP = 5
"""Batches before memory is measured."""


def cost_per_event(operator: Operator, rows: int, keys: int, touched: int, repeat: int) -> float:
    """Nanoseconds of CPU per event (median of batches) with `keys` keys held, of which a batch touches `touched`."""
    dice = np.random.default_rng(3)
    times = []
    for turn in range(repeat + 2):
        chosen = dice.integers(0, keys, touched)
        times.append(send(operator, dice.choice(chosen, rows), 1_001 + turn))
    return statistics.median(times[2:]) / rows * 1e9


def events(operators: dict[int, Operator], rows: int, repeat: int) -> dict[str, Any]:
    """CPU per event by the number of keys held. The sizes take turns: a slow moment of the machine hits all of them."""
    costs: dict[str, dict[int, list[float]]] = {
        which: {size: [] for size in operators} for which in ("touched", "uniform")
    }
    for _ in range(3):
        for size, operator in operators.items():
            for which, touched in (("touched", 1_000), ("uniform", rows)):
                costs[which][size].append(cost_per_event(operator, rows, size, touched, repeat))
    best = {which: {size: round(min(times), 1) for size, times in of.items()} for which, of in costs.items()}
    return {**best, "rows_per_batch": rows}


def size_of(operator: Operator, *, full: bool) -> int:
    return sum(len(record.payload) for record in encode("bench", operator.snapshot(full=full), 1))


def checkpoint(make: Callable[[], Operator], operator: Operator, keys: int) -> dict[str, Any]:
    """Bytes that a commit writes when one key in a hundred has changed, against a full snapshot of those alone."""
    dice = np.random.default_rng(5)
    whole = size_of(operator, full=True)
    dirty = dice.choice(keys, keys // 100, replace=False)
    take(operator, dirty, 1_500)
    delta = size_of(operator, full=False)
    alone = filled(make, 0)
    for _ in range(2):  # they have been updated before, like all others
        take(alone, dirty, 1_500)
    return {"full_bytes": whole, "delta_bytes": delta, "changed_state_bytes": size_of(alone, full=True)}


def recovery(make: Callable[[], Operator], operator: Operator, rows: int) -> dict[str, Any]:
    """Seconds from a full snapshot in wire form to the first batch done."""
    records = encode("bench", operator.snapshot(full=True), 1)
    assert decode(records[0]).delta.puts
    began = time.perf_counter()
    restored = make()
    restored.restore(merge(records).of_operators()["bench"])
    seconds = time.perf_counter() - began
    send(restored, np.arange(rows), 2_000)
    return {
        "restore_seconds": round(seconds, 2),
        "to_first_batch_seconds": round(time.perf_counter() - began, 2),
        "snapshot_bytes": sum(len(record.payload) for record in records),
    }


def three_open_windows(name: str, keys: int) -> dict[str, int]:
    """What three open windows of every key take: run in a process of its own, whose growth is what counts.

    A thousand keys go first, in batches as large as those to come: what batches need besides state is there then.
    """
    operator = OPEN_WINDOWS[name]()
    operator.warm_up()
    for _ in range(WARM_UP):
        send(operator, np.arange(ROWS) % 1_000, -10 * HOUR)
    before = psutil.Process().memory_info().rss
    for number in range(3):
        fill(operator, keys, 1_000 + number * HOUR)
    held = operator.memory()
    return {"rows": held.rows, "bytes": held.bytes, "resident_growth": psutil.Process().memory_info().rss - before}


def of_shape(name: str, keys: int, repeat: int, wanted: list[str]) -> dict[str, Any]:
    """All parts of one step, so that it is filled once."""
    make, rows = SHAPES[name]
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= keys and "events" in wanted] or [keys]
    operators = {size: filled(make, size) for size in sizes}
    largest = operators[sizes[-1]]
    held = largest.memory()
    found: dict[str, Any] = {
        "memory": {"rows": held.rows, "bytes": held.bytes, "bytes_per_key": round(held.bytes / sizes[-1], 1)}
    }
    if "checkpoint" in wanted:
        found["checkpoint"] = checkpoint(make, largest, sizes[-1])
    if "recovery" in wanted:
        found["recovery"] = recovery(make, largest, rows)
    if "events" in wanted:
        found["events"] = events(operators, rows, repeat)
    return {part: figures for part, figures in found.items() if part in wanted}


def backends(keys: int, repeat: int, redis: str) -> dict[str, Any]:
    """Cost per event of `process_batches` (1,000 keys per batch) with a sixteenth of the state in memory."""
    make, rows = SHAPES["keyed columns: process_batches"]
    limit = filled(make, keys).memory().bytes // 16
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = {
            "memory": StateBackend.memory(),
            "files": StateBackend.memory(limit=limit, spill_to=f"{folder}/files"),
            "rocksdb": StateBackend.rocksdb(f"{folder}/rocksdb", memory_limit=limit),
            "redis": StateBackend.redis(redis, memory_limit=limit),
        }
        for name, backend in chosen.items():
            pool: StatePool = backend.open("bench")
            with using(pool):
                cost = cost_per_event(filled(make, keys), rows, keys, 1_000, repeat)
            found[name] = {
                "ns_per_event": round(cost, 1),
                "spilled_bytes": pool.spilled_bytes,
                "loaded_bytes": pool.loaded_bytes,
            }
            pool.close()
            print(f"{name}: {found[name]}", flush=True)
    return found


def latency(redis: str) -> list[dict[str, Any]]:
    """Open-loop latency of the sensor job over Kafka, on each backend."""
    from benchmarks.spine.latency import measure, warm_broker
    from thalweg.kafka.local_cluster import LocalKafka

    found = []
    with LocalKafka() as kafka:
        warm_broker(kafka.bootstrap)
        for name, named in {"memory": "", "files": "files", "rocksdb": "rocksdb", "redis": redis}.items():
            for guarantee in ("at-least-once", "exactly-once"):
                run = measure("thalweg", kafka.bootstrap, RATE, SECONDS, guarantee, {"BENCH_BACKEND": named})
                found.append({"backend": name, **asdict(run)})
                print(f"{found[-1]}", flush=True)
    return found


@contextmanager
def redis_server(wanted: list[str]) -> Iterator[str]:
    """Its URL; nothing is started where no part needs it."""
    if not {"backends", "latency"} & set(wanted):
        yield ""
        return
    with RedisServer() as server:
        yield server.url


def run(keys: int, repeat: int, shapes: list[str], wanted: list[str]) -> dict[str, Any]:
    results: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "keys": keys,
    }
    by_step = [part for part in wanted if part in ("events", "checkpoint", "recovery", "memory")]
    for name in shapes if by_step else []:
        for part, figures in of_shape(name, keys, repeat, by_step).items():
            results.setdefault(part, {})[name] = figures
            print(f"{name}, {part}: {figures}", flush=True)
    if "memory" in wanted:
        results["memory"] = {"held": results["memory"], "three_open_windows": {}}
        for name in OPEN_WINDOWS:
            with ProcessPoolExecutor(1, get_context("spawn")) as process:
                found = process.submit(three_open_windows, name, keys).result()
            results["memory"]["three_open_windows"][name] = found
            print(f"three open windows, {name}: {found}", flush=True)
    with redis_server(wanted) as redis:
        if "backends" in wanted:
            results["backends"] = backends(keys, repeat, redis)
        if "latency" in wanted:
            results["latency"] = latency(redis)
    return results


def with_earlier(results: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """With the parts of an earlier run that this one has not measured, and when that was."""
    kept = [name for name in PARTS if name in before and name not in results]
    earlier = {name: before.get("earlier", {}).get(name, before["when"]) for name in kept}
    return {**results, **{name: before[name] for name in kept}, "earlier": earlier}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--only", help=f"parts, by comma: {','.join(PARTS)}")
    parser.add_argument("--write", action="store_true", help="write what `--only` measures; other parts stay")
    parser.add_argument("--shapes", default="", help="only the steps whose name has this text")
    arguments = parser.parse_args()
    keys = arguments.keys // 10 if arguments.quick else arguments.keys
    wanted = arguments.only.split(",") if arguments.only else list(PARTS[:-1] if arguments.quick else PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    shapes = [name for name in SHAPES if arguments.shapes in name]
    results = run(keys, 3 if arguments.quick else 4, shapes, wanted)
    whole = len(shapes) == len(SHAPES) and not arguments.quick
    if whole and arguments.write:
        results = with_earlier(results, json.loads((RESULTS / "state.json").read_text()))
    print(markdown(results))
    if whole and (arguments.write or len(wanted) == len(PARTS)):
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "state.json").write_text(json.dumps(results, indent=2) + "\n")
        (RESULTS / "state.md").write_text(markdown(results))


if __name__ == "__main__":
    main()

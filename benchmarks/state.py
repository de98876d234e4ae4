"""What state costs: per event in both shapes from a thousand to a million keys, in checkpoints, and at a restart.

python benchmarks/state.py [--quick] [--keys 1000000] [--only events,checkpoint,recovery,memory,backends]
                           [--shapes window] [--redis redis://host:6379/0]

One operator driven by hand, without a broker. Writes `benchmarks/results/state.json` and `.md`; `--quick` is a tenth of
the keys and writes nothing. Rough on a shared machine: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.spine.harness import machine  # noqa: E402
from thalweg.analytics import average, count  # noqa: E402
from thalweg.streams import App, ListState, ProcessFunction, StateBackend, ValueState  # noqa: E402
from thalweg.streams.batch import MIN_TIME, Batch, Watermark  # noqa: E402
from thalweg.streams.engine.state_codec import decode, encode, merge  # noqa: E402
from thalweg.streams.operator import Operator, OperatorContext  # noqa: E402
from thalweg.streams.plan.window import WindowAggregateNode  # noqa: E402
from thalweg.streams.state.pool import StatePool, using  # noqa: E402
from thalweg.streams.windows import GlobalWindow, SessionWindow, TumblingWindow, Window  # noqa: E402

ROWS = 65_536
RESULTS = ROOT / "benchmarks" / "results"


class Running(ProcessFunction):
    """A running mean: two values per key."""

    total = ValueState(float, default=0.0)
    n = ValueState(int, default=0)

    def on_event(self, event: Any, ctx: Any) -> Any:
        self.total.set(self.total.get() + event.value)
        self.n.set(self.n.get() + 1)


class Recent(ProcessFunction):
    """The last five values of each key."""

    recent = ListState(float)

    def on_event(self, event: Any, ctx: Any) -> Any:
        self.recent.set([*self.recent.get()[-4:], event.value])


def running_batches(frame: pl.DataFrame, ctx: Any) -> None:
    """The same as `Running`, on columns."""
    sums = frame.group_by("key").agg(pl.col("value").sum(), pl.len().cast(pl.Int64).alias("m"))
    joined = ctx.values().join(sums, on="key", maintain_order="left")
    ctx.set_values(joined.select("key", total=pl.col("total") + pl.col("value"), n=pl.col("n") + pl.col("m")))


def window(kind: Window) -> Callable[[], Operator]:
    aggregates = {"avg": average("value"), "n": count()}
    node = WindowAggregateNode(window=kind, keys=("key",), aggregates=aggregates)
    return lambda: node.build(OperatorContext("bench", [None]))


def process(function: Any, *, frames: bool = False) -> Callable[[], Operator]:
    keyed = App("bench").stream("in").key_by("key")
    states = {"total": ValueState(float, default=0.0), "n": ValueState(int, default=0)}
    stream = keyed.process_batches(function, state=states) if frames else keyed.process(function)
    return lambda: stream.node.build(OperatorContext("bench", [None], options={"topics": ("in",)}))


SHAPES: dict[str, tuple[Callable[[], Operator], int]] = {
    "frame log: tumbling window": (window(TumblingWindow("1h")), ROWS),
    "keyed index: session window": (window(SessionWindow("1h")), ROWS),
    "keyed index: aggregate over all time": (window(GlobalWindow()), ROWS),
    "keyed columns: process_batches": (process(running_batches, frames=True), ROWS),
    "keyed columns: process, two values": (process(Running), ROWS // 8),
    "keyed columns: process, a list of five": (process(Recent), ROWS // 8),
}
"""Name → operator, and how many rows a batch has: per-row functions get fewer."""


def batch(keys: np.ndarray[Any, Any], stamp: int) -> Batch:
    return Batch(
        pl.DataFrame(
            {
                "key": pl.Series(keys).cast(pl.String),
                "value": (keys % 97).astype(np.float64),
                "__ts": np.full(len(keys), stamp, dtype=np.int64),
                "__wm": np.full(len(keys), MIN_TIME, dtype=np.int64),
            }
        )
    )


def send(operator: Operator, keys: np.ndarray[Any, Any], stamp: int) -> float:
    """CPU seconds of all threads that a batch takes, the snapshot for its commit included."""
    events = batch(keys, stamp)
    began = time.process_time()
    for _ in operator.on_batch(events):
        pass
    for _ in operator.on_watermark(Watermark(0, stamp)):
        pass
    operator.snapshot()
    return time.process_time() - began


def filled(make: Callable[[], Operator], keys: int) -> Operator:
    """An operator that holds every key."""
    operator = make()
    operator.warm_up()
    for start in range(0, keys, ROWS):
        send(operator, np.arange(start, min(keys, start + ROWS)), 1_000)
    return operator


def cost_per_event(operator: Operator, rows: int, keys: int, touched: int, repeat: int) -> float:
    """Nanoseconds of CPU per event (median of batches) with `keys` keys held, of which a batch touches `touched`."""
    dice = np.random.default_rng(3)
    times = []
    for turn in range(repeat + 2):
        chosen = dice.integers(0, keys, touched)
        times.append(send(operator, dice.choice(chosen, rows), 1_001 + turn))
    return statistics.median(times[2:]) / rows * 1e9


def events(keys: int, repeat: int) -> dict[str, Any]:
    """CPU per event as the number of keys held grows; each batch touches 1,000 of them, or a random one per event."""
    sizes = [size for size in (1_000, 10_000, 100_000, 1_000_000) if size <= keys]
    found: dict[str, Any] = {}
    for name, (make, rows) in SHAPES.items():
        fixed: dict[int, float] = {}
        uniform: dict[int, float] = {}
        for size in sizes:
            operator = filled(make, size)
            fixed[size] = round(cost_per_event(operator, rows, size, 1_000, repeat), 1)
            uniform[size] = round(cost_per_event(operator, rows, size, rows, repeat), 1)
        found[name] = {
            "ns_per_event_1000_keys_touched": fixed,
            "ratio": round(max(fixed.values()) / fixed[1_000], 2),
            "ns_per_event_uniform": uniform,
            "rows_per_batch": rows,
        }
        print(f"{name}: {fixed} ratio {found[name]['ratio']}; uniform {uniform}", flush=True)
    return found


def size_of(operator: Operator, *, full: bool) -> int:
    return sum(len(record.payload) for record in encode("bench", operator.snapshot(full=full), 1))


def checkpoint(keys: int) -> dict[str, Any]:
    """Bytes that a commit writes when one key in a hundred has changed, against a full snapshot of those alone."""
    dice = np.random.default_rng(5)
    found = {}
    for name, (make, _) in SHAPES.items():
        operator = filled(make, keys)
        whole = size_of(operator, full=True)
        dirty = dice.choice(keys, keys // 100, replace=False)
        for _ in operator.on_batch(batch(dirty, 1_500)):
            pass
        delta = size_of(operator, full=False)
        alone = filled(make, 0)
        for _ in range(2):  # they have been updated once, like all others
            for _ in alone.on_batch(batch(dirty, 1_500)):
                pass
        changed = size_of(alone, full=True)
        found[name] = {
            "full_bytes": whole,
            "delta_bytes": delta,
            "changed_state_bytes": changed,
            "delta_to_changed": round(delta / changed, 2),
            "delta_to_full": round(delta / whole, 4),
        }
        print(f"{name}: {found[name]}", flush=True)
    return found


def recovery(keys: int) -> dict[str, Any]:
    """Seconds from a full snapshot in wire form to the first batch done."""
    found = {}
    for name, (make, rows) in SHAPES.items():
        records = encode("bench", filled(make, keys).snapshot(full=True), 1)
        began = time.perf_counter()
        operator = make()
        operator.restore(merge(records).of_operators()["bench"])
        restored = time.perf_counter() - began
        send(operator, np.arange(rows), 2_000)
        found[name] = {
            "restore_seconds": round(restored, 2),
            "to_first_batch_seconds": round(time.perf_counter() - began, 2),
            "snapshot_bytes": sum(len(record.payload) for record in records),
        }
        assert decode(records[0]).delta.puts
        print(f"{name}: {found[name]}", flush=True)
    return found


def memory(keys: int) -> dict[str, Any]:
    """What each key costs in memory, and three open windows of all keys."""
    found: dict[str, Any] = {}
    for name, (make, _) in SHAPES.items():
        held = filled(make, keys).memory()
        found[name] = {"rows": held.rows, "bytes": held.bytes, "bytes_per_key": round(held.bytes / keys, 1)}
        print(f"{name}: {found[name]}", flush=True)
    operator = window(TumblingWindow("1h"))()
    for number in range(3):
        for start in range(0, keys, ROWS):
            send(operator, np.arange(start, min(keys, start + ROWS)), 1_000 + number * 3_600_000)
    held = operator.memory()
    found["three open windows"] = {"rows": held.rows, "bytes": held.bytes}
    print(f"three open windows: {found['three open windows']}", flush=True)
    return found


def backends(keys: int, repeat: int, redis_url: str | None) -> dict[str, Any]:
    """Cost per event of `process_batches` (1,000 keys per batch) with a sixteenth of the state in memory."""
    make, rows = SHAPES["keyed columns: process_batches"]
    whole = filled(make, keys).memory().bytes
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = {
            "memory": StateBackend.memory(),
            "files": StateBackend.memory(limit=whole // 16, spill_to=f"{folder}/files"),
            "rocksdb": StateBackend.rocksdb(f"{folder}/rocksdb", memory_limit=whole // 16),
        }
        if redis_url is not None:
            chosen["redis"] = StateBackend.redis(redis_url, memory_limit=whole // 16)
        for name, backend in chosen.items():
            pool: StatePool = backend.open("bench")
            with using(pool):
                cost = cost_per_event(filled(make, keys), rows, keys, 1_000, repeat)
            found[name] = {"ns_per_event": round(cost, 1), "spilled_bytes": pool.spilled_bytes}
            pool.close()
            print(f"{name}: {found[name]}", flush=True)
    return found


def table(results: dict[str, Any]) -> str:
    lines = ["# State", "", f"{results['keys']:,} keys. {results['machine']}", ""]
    for part in ("events", "checkpoint", "recovery", "memory", "backends"):
        if part in results:
            lines += [f"## {part}", "", "| | " + " | ".join(next(iter(results[part].values()))) + " |"]
            lines.append("|---" * (1 + len(next(iter(results[part].values())))) + "|")
            lines += [f"| {name} | " + " | ".join(map(str, row.values())) + " |" for name, row in results[part].items()]
            lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--only", default="events,checkpoint,recovery,memory,backends")
    parser.add_argument("--redis", help="redis://host:port/db, to measure that backend too")
    parser.add_argument("--shapes", default="", help="only those whose name has this text")
    arguments = parser.parse_args()
    for name in [name for name in SHAPES if arguments.shapes not in name]:
        del SHAPES[name]
    keys = arguments.keys // 10 if arguments.quick else arguments.keys
    repeat = 5 if arguments.quick else 15
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "events": lambda: events(keys, repeat),
        "checkpoint": lambda: checkpoint(keys),
        "recovery": lambda: recovery(keys),
        "memory": lambda: memory(keys),
        "backends": lambda: backends(keys, repeat, arguments.redis),
    }
    results: dict[str, Any] = {"machine": machine(), "keys": keys}
    for part in arguments.only.split(","):
        print(f"-- {part}", flush=True)
        results[part] = parts[part]()
    if not arguments.quick and not arguments.shapes and set(parts) <= results.keys():
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "state.json").write_text(json.dumps(results, indent=2) + "\n")
        (RESULTS / "state.md").write_text(table(results))


if __name__ == "__main__":
    main()

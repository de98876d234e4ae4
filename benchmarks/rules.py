"""Rules, state machines and correlations on one core, through the operators that a job runs.

    python -m benchmarks.rules [--rules 1000] [--events 100000] [--json] [--only rules|machine|correlation]

Rules: 1,000 conditions of two to five comparisons over five columns (drawn, the same each time), as texts, in one
evaluation, without actions; the same rules with a query for each stand beside it. Machine: orders of 100,000 keys
through four states with a timeout, per event. Correlation: two streams by 100,000 keys within ten seconds. Decoding and
writing are not in it.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from thalweg.cep import EventCorrelator, Rule, RuleEngine, State, StateMachine, Transition
from thalweg.cep.correlate.operator import Correlate
from thalweg.cep.machine.compiled import CompiledMachine
from thalweg.cep.machine.operator import Track
from thalweg.streams.batch import OFFSET, PARTITION, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.operator import Operator

KEYS = 100_000
RATE = 100
"""Events per ms of event time."""
BATCH = 65_536
COUNTRIES = ["DE", "FR", "US", "GB", "IT", "ES", "PL", "NL"]


def payments(count: int, seed: int = 1) -> pl.DataFrame:
    dice = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "amount": dice.exponential(500, count).round(2),
            "country": dice.choice(COUNTRIES, count),
            "kind": dice.choice([f"kind-{n}" for n in range(50)], count),
            "score": dice.random(count),
            "age": dice.integers(0, 100, count),
        }
    )


def drawn_rules(count: int) -> list[Rule]:
    dice = random.Random(1)
    tests: list[Callable[[], str]] = [
        lambda: f"amount > {dice.randrange(0, 3000, 50)}",
        lambda: f"country == '{dice.choice(COUNTRIES)}'",
        lambda: f"kind in ['kind-{dice.randrange(50)}', 'kind-{dice.randrange(50)}']",
        lambda: f"score < {dice.randrange(1, 100) / 100}",
        lambda: f"age >= {dice.randrange(100)}",
    ]
    return [
        Rule(
            id=f"rule-{number}",
            priority=dice.randrange(100),
            condition=" && ".join(test() for test in dice.sample(tests, dice.randint(2, 5))),
        )
        for number in range(count)
    ]


def measure_rules(count: int, events: int) -> dict[str, float]:
    rules, frame = drawn_rules(count), payments(events)
    started = time.perf_counter()
    engine = RuleEngine(rules)
    parsed = time.perf_counter() - started
    engine.dry_run(frame[:10])  # compiled
    best = min(_seconds(lambda: engine.dry_run(frame)) for _ in range(3))
    result = engine.dry_run(frame)
    single = [RuleEngine([rule]) for rule in rules[:: max(1, count // 50)]]
    for one in single:
        one.dry_run(frame[:10])
    apart = sum(_seconds(lambda one=one: one.dry_run(frame)) for one in single) / len(single) * count  # type: ignore[misc]
    return {
        "rules": count,
        "events": events,
        "firings": len(result),
        "parse_s": round(parsed, 3),
        "evaluate_s": round(best, 3),
        "events_per_s": round(events / best),
        "evaluations_per_s": round(events * count / best),
        "one_query_each_s": round(apart, 3),
    }


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def keyed(count: int, seed: int = 1, **columns: pl.Series) -> pl.DataFrame:
    dice = np.random.default_rng(seed)
    times = np.arange(count) // RATE
    return pl.DataFrame(
        {
            "order": dice.integers(0, KEYS, count),
            "type": dice.choice(["create", "pay", "ship", "view", "cancel"], count),
            "amount": dice.random(count) * 1000,
            TIMESTAMP: times,
            WATERMARK: times - 1,
            PARTITION: pl.Series(np.zeros(count), dtype=pl.Int32),
            OFFSET: np.arange(count),
        }
    )


def machine() -> StateMachine:
    return StateMachine(
        id="orders",
        initial="new",
        key="order",
        states={
            "new": State(),
            "open": State(timeout="5s", on_timeout="lost"),
            "paid": State(timeout="5s", on_timeout="late"),
            "late": State(error=True),
            "lost": State(error=True),
            "shipped": State(final=True),
        },
        transitions=[
            Transition("new", "open", trigger="create"),
            Transition("open", "paid", trigger="pay", guard=pl.col("amount") > 100),
            Transition("paid", "shipped", trigger="ship"),
            Transition(["open", "paid"], "lost", trigger="cancel"),
        ],
    )


def measure(operator: Operator, inputs: list[pl.DataFrame], commit: int = 5) -> dict[str, float]:
    """Sends the inputs side by side, batch by batch; a snapshot every few batches, as a job commits."""
    operator.warm_up()
    total = sum(frame.height for frame in inputs)
    found = 0
    started = time.perf_counter()
    for number, start in enumerate(range(0, inputs[0].height, BATCH)):
        for port, frame in enumerate(inputs):
            list(operator.on_batch(Batch(frame[start : start + BATCH]), port))
        last = int(inputs[0][start : start + BATCH].get_column(TIMESTAMP)[-1])
        found += sum(len(batch) for batch in operator.on_watermark(Watermark(last, last)) if batch.port == "main")
        if number % commit == 0:
            operator.snapshot()
    seconds = time.perf_counter() - started
    return {"events": total, "results": found, "seconds": round(seconds, 3), "events_per_s": round(total / seconds)}


def measure_machine(count: int) -> dict[str, float]:
    frame = keyed(count)
    schema = pl.Schema({n: t for n, t in frame.schema.items() if not n.startswith("__")})
    return measure(Track("track", CompiledMachine(machine(), schema), ["order"], (), schema), [frame])


def measure_correlation(count: int) -> dict[str, float]:
    inputs = [keyed(count // 2, seed) for seed in (1, 2)]
    correlator = EventCorrelator(["a", "b"], "order", "10s", 2)
    return measure(Correlate("correlate", correlator, [["order"], ["order"]], ["a", "b"]), inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--only", choices=["rules", "machine", "correlation"])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "rules": lambda: measure_rules(args.rules, args.events),
        "machine": lambda: measure_machine(10 * args.events),
        "correlation": lambda: measure_correlation(10 * args.events),
    }
    results = {name: measure() for name, measure in measures.items() if args.only in (None, name)}
    if args.json:
        print(json.dumps(results, indent=2))
        return
    for name, figures in results.items():
        print(name, " ".join(f"{key}={value:,}" for key, value in figures.items()))


if __name__ == "__main__":
    main()

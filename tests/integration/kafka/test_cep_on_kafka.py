"""A state machine, rules and a correlation over Kafka topics: what a dry run over the same events gives, once each."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.reliability.crash import read_committed
from thalweg import App
from thalweg.cep import EventCorrelator, Rule, RuleEngine, State, StateMachine, Transition

MACHINE = StateMachine(
    id="session",
    initial="out",
    key="user",
    states={
        "out": State(),
        "in": State(timeout=300, on_timeout="lost"),
        "paid": State(final=True),
        "lost": State(error=True),
    },
    transitions=[Transition("out", "in", trigger="login"), Transition("in", "paid", trigger="pay")],
)
RULES = [Rule(id="high", condition="n > 8", priority=2, stop=True), Rule(id="pay", condition="type == 'pay'")]


def events(count: int, seed: int) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    return [
        {
            # Far apart enough that no two events of one user, in any stream, have one time.
            "t": 4 * n + seed,
            "user": f"u{dice.randint(0, 40)}",
            "type": dice.choice(["login", "pay", "view"]),
            "n": dice.randint(0, 10),
        }
        for n in range(count)
    ]


def written(bootstrap: str, topic: str) -> list[dict[str, Any]]:
    return [json.loads(value) for value in read_committed(bootstrap, topic)]


@pytest.mark.kafka
def test_on_kafka_as_in_a_dry_run(kafka: Any, new_topic: Callable[..., str]):
    one, two, changes, fired, correlated = (new_topic() for _ in range(5))
    sent = {one: events(2_000, 1), two: events(2_000, 2)}
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
    for topic, rows in sent.items():
        for row in rows:
            producer.produce(topic, json.dumps(row), row["user"])
            producer.poll(0)
    assert producer.flush(30) == 0
    app = App(f"cep-{one}", broker=f"kafka://{kafka.bootstrap}", commit_interval=20)
    settings: dict[str, Any] = {
        "schema": {"t": int, "user": str, "type": str, "n": int},
        "timestamp": "t",
        "watermark": 10_000,
        "idle_timeout": None,
    }
    streams = {name: app.stream(topic, **settings) for name, topic in (("one", one), ("two", two))}
    correlator = EventCorrelator(["one", "two"], "user", 50)
    both = streams["one"].union(streams["two"])
    both.track(MACHINE).to(changes)
    both.apply_rules(RuleEngine(RULES)).to(fired)
    app.correlate(correlator, streams).to(correlated)
    last = {"t": 100_000, "user": "last", "type": "none", "n": 0}
    for topic in sent:
        for partition in range(4):
            producer.produce(topic, json.dumps(last), partition=partition)
    assert producer.flush(30) == 0
    app.run(until_caught_up=True)

    everything = sorted([*sent[one], *sent[two]], key=lambda e: e["t"])
    replay = MACHINE.replay(everything, timestamp="t", until=90_000)
    names = ["user", "from_state", "to_state", "trigger", "since", "at", "step"]
    assert sorted(tuple(row[name] for name in names) for row in written(kafka.bootstrap, changes)) == sorted(
        replay.changes.select(names).rows()
    )
    expected = RuleEngine(RULES).dry_run(everything).matches.select("t", "user", "rule").rows()
    assert sorted((r["t"], r["user"], r["rule"]) for r in written(kafka.bootstrap, fired)) == sorted(expected)
    found = correlator.replay({"one": sent[one], "two": sent[two]}, timestamp="t")
    names = ["user", "window_start", "window_end", "count"]
    assert sorted(tuple(row[name] for name in names) for row in written(kafka.bootstrap, correlated)) == sorted(
        found.select(names).rows()
    )
    assert found.height > 100
    assert all(p["topic"] in (one, two) for row in written(kafka.bootstrap, correlated) for p in row["provenance"])

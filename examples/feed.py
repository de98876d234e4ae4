"""Sends sample events for the examples, to the broker in THALWEG_BROKER (without it: the embedded log data.db).

python examples/feed.py sensor-stream | requests | transactions | loads
"""

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

Event = dict[str, Any]


def sensor_stream(now: int) -> Iterator[Event]:
    """Ten minutes of three sensors, one reading a second each; now and then one makes no sense."""
    dice = random.Random(1)
    for second in range(600):
        for sensor in ("attic", "cellar", "kitchen"):
            value = -273.0 if dice.random() < 0.01 else round(dice.gauss(20.0, 2.0), 2)
            yield {"sensor_id": sensor, "ts": now - (600 - second) * 1000, "value": value}


def requests(now: int) -> Iterator[Event]:
    """Ordinary requests; one address probes and gets through, another one probes and is kept out."""
    start = now - 60_000
    for i in range(200):
        yield {"ts": start + i * 100, "ip": f"10.0.0.{i % 20}", "url": f"/products?id={i}", "status_code": 200}
    probe = "/products?id=1' UNION SELECT login, hash FROM users--"
    for ip, status_codes in (("203.0.113.7", (403, 500, 200)), ("203.0.113.8", (403, 403, 403))):
        for i, status_code in enumerate(status_codes):
            yield {"ts": start + 21_000 + i * 1000, "ip": ip, "url": probe, "status_code": status_code}
    yield {"ts": now, "ip": "10.0.0.1", "url": "/", "status_code": 200}


def transactions(now: int) -> Iterator[Event]:
    """Ordinary transactions; ada's card is used abroad twice within a minute, bob buys a car at home."""

    def transaction(ago: int, user: str, amount: float, location: str) -> Event:
        known = {"id": user, "home_location": "DE"}
        return {"ts": now - ago, "type": "transaction", "amount": amount, "location": location, "user": known}

    for i in range(100):
        yield transaction(120_000 - i * 500, f"user-{i % 10}", 10.0 + i, "DE" if i % 7 else "FR")
    yield transaction(65_000, "ada", 12_500.0, "BR")
    yield transaction(40_000, "ada", 14_900.0, "BR")
    yield transaction(30_000, "bob", 31_000.0, "DE")
    yield transaction(0, "user-1", 12.0, "DE")


def loads(now: int) -> Iterator[Event]:
    """Twenty minutes of five hosts, each ten seconds: web-1 is hot for four minutes, web-2 for once, build-1 always;
    web-3 falls silent; db-1's disk fills up."""
    for step in range(120):
        minute = step / 6
        cpu = {
            "web-1": 97.0 if 5 <= minute < 9 else 30.0,
            "web-2": 99.0 if step == 60 else 40.0,
            "web-3": 20.0,
            "build-1": 98.0,
            "db-1": 50.0,
        }
        for host, percent in cpu.items():
            if host != "web-3" or minute < 10:
                disk = 60.0 + 2 * minute if host == "db-1" else 40.0
                yield {"ts": now - (120 - step) * 10_000, "host": host, "cpu": percent, "disk": round(disk, 1)}


TOPICS = {
    "sensor-stream": (sensor_stream, "sensor_id"),
    "requests": (requests, "ip"),
    "transactions": (transactions, None),
    "loads": (loads, "host"),
}


def send(topic: str, broker: str, now: int | None = None) -> int:
    """Sends the sample events of a topic; returns how many."""
    make, key = TOPICS[topic]
    events = list(make(now if now is not None else time.time_ns() // 1_000_000))
    if broker.startswith("sqlite:"):
        from thalweg.connectors.sqlite_log import EmbeddedLog

        with EmbeddedLog(broker) as log:
            return log.append(topic, events, key=key)

    from thalweg.connectors.kafka import KafkaBroker
    from thalweg.kafka import KafkaProducer

    kafka = KafkaBroker(broker)
    kafka.ensure_topic(topic, 1)
    kafka.close()
    with KafkaProducer(brokers=broker.removeprefix("kafka://").split(",")) as producer:
        for event in events:
            producer.send(topic, json.dumps(event).encode(), key=event[key] if key else None)
    return len(events)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in TOPICS:
        sys.exit(__doc__)
    url = os.environ.get("THALWEG_BROKER", "sqlite:///data.db")
    print(f"{send(sys.argv[1], url)} events to {sys.argv[1]} in {url}")

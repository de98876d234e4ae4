"""How fast a frame's records reach a broker: Thalweg's columns, `confluent_kafka`, and Kafka's own perf test in Java.

    python -m benchmarks.produce [--records 2000000] [--brokers host:port]

Same broker, same topic settings, same client settings (acks all, idempotent, 1 MB batches, 5 ms linger, no
compression), records of 100 bytes with a key of 8 (Java's tool has none). Without `--brokers` a broker is started.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from thalweg.kafka._local_install import KAFKA_VERSION, find_runtime
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.local_cluster import LocalKafka
from thalweg.kafka.producer import KafkaProducer
from thalweg.records import EncodedRecords

RECORD_BYTES = 100
KEYS = 1000
PARTITIONS = 4


def records(count: int, width: int, distinct: int) -> EncodedRecords:
    """Rows of equal width."""
    row = np.arange(count, dtype=np.int64) % distinct
    data = np.full((count, width), ord("x"), dtype=np.uint8)
    for digit in range(6):
        data[:, digit] = ord("0") + row // 10 ** (5 - digit) % 10
    return EncodedRecords(data.reshape(-1), np.arange(count + 1, dtype=np.int64) * width)


def thalweg(brokers: str, topic: str, count: int, *, timestamps: bool = False) -> None:
    values, keys = records(count, RECORD_BYTES, count), records(count, 8, KEYS)
    stamps = np.full(count, 1_700_000_000_000, dtype=np.int64) if timestamps else None
    with KafkaProducer(brokers, linger_ms=5) as producer:
        for start in range(0, count, 50_000):  # frames as an engine would hand them over
            part = slice(start, min(start + 50_000, count))
            producer.send_records(
                topic,
                EncodedRecords(values.data, values.offsets[part.start : part.stop + 1]),
                EncodedRecords(keys.data, keys.offsets[part.start : part.stop + 1]),
                timestamps=None if stamps is None else stamps[part],
            )


def confluent(brokers: str, topic: str, count: int) -> None:
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "enable.idempotence": True,
            "linger.ms": 5,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 500_000,
            "partitioner": "murmur2_random",
        }
    )
    body = b"x" * RECORD_BYTES
    keys = [b"%06dxx" % k for k in range(KEYS)]
    for n in range(count):
        while True:
            try:
                producer.produce(topic, body, keys[n % KEYS])
                break
            except BufferError:
                producer.poll(0.05)
        if n % 10_000 == 0:
            producer.poll(0)
    producer.flush()


def java(brokers: str, topic: str, count: int) -> float:
    """Kafka's perf test; returns its own rate, which leaves out the start of the JVM."""
    settings = [
        "acks=all",
        "enable.idempotence=true",
        "linger.ms=5",
        "batch.size=1000000",
        f"bootstrap.servers={brokers}",
    ]
    settings += ["buffer.memory=268435456", "compression.type=none"]
    arguments = [
        "--topic",
        topic,
        "--num-records",
        str(count),
        "--record-size",
        str(RECORD_BYTES),
        "--throughput",
        "-1",
    ]
    command = find_runtime(KAFKA_VERSION).command(
        f"perf-{uuid.uuid4().hex[:6]}",
        Path(tempfile.gettempdir()),
        ["-Xmx1g"],
        "org.apache.kafka.tools.ProducerPerformance",
        [*arguments, "--producer-props", *settings],
    )
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.findall(r"([\d.]+) records/sec", done.stdout)[-1])


def measured(call: Callable[[str, str, int], None], brokers: str, topic: str, count: int) -> dict[str, float]:
    """Records per second of wall clock, and microseconds of this process' CPU per record."""
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    call(brokers, topic, count)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"records_per_s": round(count / seconds), "cpu_us_per_record": round(cpu / count * 1e6, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--brokers")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with ExitStack() as stack:
        brokers = options.brokers or stack.enter_context(LocalKafka()).bootstrap
        admin = KafkaAdmin(brokers)
        contenders: dict[str, Callable[[str, str, int], None]] = {
            "thalweg": thalweg,
            "thalweg, with timestamps": lambda b, t, n: thalweg(b, t, n, timestamps=True),
            "confluent_kafka": confluent,
        }
        results: dict[str, list[dict[str, float]]] = {}
        for _ in range(options.rounds):  # in turns: the machine's moods hit all alike
            for name, call in contenders.items():
                topic = _fresh(admin)
                results.setdefault(name, []).append(measured(call, brokers, topic, options.records))
                admin.delete_topic(topic)
            topic = _fresh(admin)
            rate = java(brokers, topic, options.records)
            results.setdefault("kafka-producer-perf-test", []).append({"records_per_s": round(rate)})
            admin.delete_topic(topic)
    best = {name: max(runs, key=lambda run: run["records_per_s"]) for name, runs in results.items()}
    reference = best["kafka-producer-perf-test"]["records_per_s"]
    for run in best.values():
        run["ratio_to_java"] = round(run["records_per_s"] / reference, 2)
    print(json.dumps({"records": options.records, "rounds": options.rounds, "best": best, "all": results}, indent=2))


def _fresh(admin: KafkaAdmin) -> str:
    topic = f"produce-{uuid.uuid4().hex[:8]}"
    admin.ensure_topic(topic, PARTITIONS)
    return topic


if __name__ == "__main__":
    main()

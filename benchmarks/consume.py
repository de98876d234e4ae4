"""Kafka to columns against `confluent_kafka`: the same topic, from its beginning to its end, one consumer at a time.

    python benchmarks/consume.py [--events N] [--repeats N] [--bootstrap HOST:PORT --topic NAME] [--json]

Without --bootstrap it starts a broker and writes the sensor workload (4 partitions, about 90 bytes a record).
`columns` is `poll_arrow`: payloads, keys, partitions, offsets and timestamps copied into Arrow. `records` is `poll`, as
a decoder has it. The peer calls `consume(10_000)` and then `value()` of each message, once with its own settings and
once with ours. Timed from the first batch to the last, both exclusive of joining the group; every run must see the same
number of records and payload bytes. CPU is that of the whole process, librdkafka's threads included; the broker shares
the cores, so the rates scatter more than the CPU does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from confluent_kafka import Consumer, TopicPartition

from benchmarks.spine.harness import load, machine
from benchmarks.spine.workload import Workload
from thalweg.kafka.columnar import ColumnarConsumer
from thalweg.kafka.consumer_config import DEFAULTS
from thalweg.kafka.local_cluster import LocalKafka

Chunks = Iterator[tuple[int, int]]
"""(records, payload bytes) of each batch."""


@dataclass(frozen=True)
class Input:
    bootstrap: str
    topic: str
    records: int

    def settings(self) -> dict[str, str]:
        return {"bootstrap.servers": self.bootstrap, "group.id": uuid.uuid4().hex}


def columns(source: Input) -> Chunks:
    """`poll_arrow`."""
    with ColumnarConsumer(source.settings(), [source.topic]) as consumer:
        while True:
            batch = consumer.poll_arrow(100_000, 1_000)
            if batch is not None:
                yield batch.num_rows, batch.column("value").buffers()[2].size


def records(source: Input) -> Chunks:
    """`poll`, without a copy."""
    with ColumnarConsumer(source.settings(), [source.topic]) as consumer:
        while True:
            raw = consumer.poll(100_000, 1_000)
            if raw is not None:
                counted = len(raw), int(raw.value_length.sum())
                raw.release()
                yield counted


def confluent(source: Input, **settings: str) -> Chunks:
    """`Consumer.consume()` and `.value()`."""
    consumer = Consumer(
        {**settings, **source.settings(), "enable.auto.commit": "false", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([source.topic])
    try:
        while True:
            messages = consumer.consume(10_000, 1.0)
            rows = size = 0
            for message in messages:
                if message.error() is None:
                    size += len(message.value())
                    rows += 1
            if rows:
                yield rows, size
    finally:
        consumer.close()


CONTENDERS: dict[str, Callable[[Input], Chunks]] = {
    "columns": columns,
    "confluent, its defaults": confluent,
    "records": records,
    "confluent, our settings": lambda source: confluent(source, **DEFAULTS),
}


def run(contender: Callable[[Input], Chunks], source: Input) -> tuple[float, float, int]:
    """Records per second, CPU microseconds per record, and payload bytes."""
    chunks = contender(source)
    first, size = next(chunks)
    seen = first
    started, cpu = time.perf_counter(), time.process_time()
    while seen < source.records:
        rows, chunk = next(chunks)
        seen += rows
        size += chunk
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    chunks.close()  # type: ignore[attr-defined]
    if seen != source.records:
        raise RuntimeError(f"{seen} records came, {source.records} are there")
    return (seen - first) / seconds, cpu / (seen - first) * 1e6, size


def count(bootstrap: str, topic: str) -> int:
    """How many records the topic holds."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex})
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in partitions]
    consumer.close()
    return sum(high - low for low, high in ends)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=3_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--bootstrap")
    parser.add_argument("--topic", default="sensors")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    with ExitStack() as stack:
        bootstrap = options.bootstrap
        if bootstrap is None:
            bootstrap = stack.enter_context(LocalKafka()).bootstrap
            load(bootstrap, options.topic, Workload(options.events))
        source = Input(bootstrap, options.topic, count(bootstrap, options.topic))
        runs: dict[str, list[tuple[float, float, int]]] = {name: [] for name in CONTENDERS}
        for _ in range(options.repeats):
            for name, contender in CONTENDERS.items():
                runs[name].append(run(contender, source))
                print(
                    f"{name:26} {runs[name][-1][0]:>12,.0f} records/s {runs[name][-1][1]:6.2f} µs CPU/record",
                    flush=True,
                )
    if len({size for group in runs.values() for *_, size in group}) != 1:
        raise RuntimeError("the consumers did not see the same payloads")
    rates = {name: statistics.median(rate for rate, *_ in group) for name, group in runs.items()}
    cpu = {name: statistics.median(used for _, used, _ in group) for name, group in runs.items()}
    result = {
        "machine": machine(),
        "records": source.records,
        "records_per_second": {name: round(rate) for name, rate in rates.items()},
        "cpu_us_per_record": {
            name: round(statistics.median(c for _, c, _ in group), 3) for name, group in runs.items()
        },
        "columns_over_confluent": round(rates["columns"] / rates["confluent, its defaults"], 2),
        "columns_over_confluent_by_cpu": round(cpu["confluent, its defaults"] / cpu["columns"], 2),
        "columns_over_confluent_with_our_settings": round(rates["columns"] / rates["confluent, our settings"], 2),
    }
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

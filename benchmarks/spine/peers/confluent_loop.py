"""The plain loop: `confluent_kafka` consume, value, decode. No windows: only what every Python job pays first.

Prints one JSON line: seconds for consume + value, and for consume + value + `json.loads`, over all events of the topic.
"""

import json
import os
import sys
import time

from confluent_kafka import Consumer, TopicPartition

EVENTS = int(os.environ["BENCH_EVENTS"])


def run(decode: bool) -> float:
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["BENCH_BOOTSTRAP"],
            "group.id": f"loop-{os.getpid()}-{decode}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.max.messages.kbytes": 262_144,
        }
    )
    topic = os.environ["BENCH_INPUT"]
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
    seen, started, checked = 0, None, 0.0
    while seen < EVENTS:
        messages = consumer.consume(10_000, timeout=1.0)
        if started is None and messages:  # the first fetch is start-up; the rest is the rate
            started, first = time.perf_counter(), len(messages)
        if decode:
            for message in messages:
                checked += json.loads(message.value())["temperature"]
        else:
            for message in messages:
                checked += len(message.value())
        seen += len(messages)
    elapsed = time.perf_counter() - started
    consumer.close()
    return elapsed * seen / (seen - first)


if __name__ == "__main__":
    json.dump({"consume": run(decode=False), "consume_decode": run(decode=True)}, sys.stdout)
    print()

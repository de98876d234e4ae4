"""One contender of `kafka_clients.py`, alone in its process, so that its memory and CPU are its own.

    python -m benchmarks.kafka_worker '{"side": "consume", "name": "columns", "brokers": …, "topic": …, "records": …}'

Prints one JSON object: records per second, CPU microseconds per record (both of the timed part only), payload bytes.
Start-up, joining, and the first record (which learns the topic's leaders) are before the clock.
"""

from __future__ import annotations

import json
import random
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import polars as pl

BATCH = 10_000
KEYS = 1_000
TRANSACTION_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    side: str
    name: str
    brokers: str
    topic: str
    records: int
    payloads: str = ""
    """A file with one payload per line."""
    codec: str = "none"
    transactional: bool = False
    keyed: bool = False

    @property
    def poll(self) -> int:
        """Records a call: not more than an eighth of them, so that there is something left to time."""
        return min(100_000, self.records // 8)


# ---------------------------------------------------------------- consuming: (records, payload bytes) of each batch

Chunks = Iterator[tuple[int, int]]


def settings(task: Task) -> dict[str, str]:
    return {"bootstrap.servers": task.brokers, "group.id": uuid.uuid4().hex}


def columns(task: Task) -> Chunks:
    """Payloads, keys, partitions, offsets and timestamps in Arrow."""
    from thalweg.kafka.columnar import ColumnarConsumer

    with ColumnarConsumer(settings(task), [task.topic]) as consumer:
        while True:
            batch = consumer.poll_arrow(task.poll, 1_000)
            if batch is not None:
                yield batch.num_rows, batch.column("value").buffers()[2].size


def frames(task: Task) -> Chunks:
    """`KafkaConsumer.poll_batch`: a Polars frame, automatic commits on."""
    from thalweg.kafka import KafkaConsumer

    with KafkaConsumer(task.brokers, task.topic, group_id=uuid.uuid4().hex) as consumer:
        while True:
            frame = consumer.poll_batch(task.poll)
            if frame is not None:
                yield frame.height, int(frame["value"].bin.size().sum())


def c_queue(task: Task) -> Chunks:
    """librdkafka alone: messages counted as they leave its queue and given back, nothing read of them."""
    from thalweg.kafka import _consume_kernels as kernels
    from thalweg.kafka._consume_api import address, api
    from thalweg.kafka.columnar import ColumnarConsumer

    pointers = np.zeros(task.poll, dtype=np.int64)
    destroy = address("rd_kafka_message_destroy")
    with ColumnarConsumer({**settings(task), "enable.partition.eof": "false"}, [task.topic]) as consumer:
        while True:
            found = api().rd_kafka_consume_batch_queue(consumer._queue, 0, pointers.ctypes.data, len(pointers))
            if found == 0:
                consumer._waker.wait(0.1)
                continue
            kernels.destroy(pointers[:found], destroy)
            yield found, 0


def confluent_consume(task: Task, **more: str) -> Chunks:
    """`Consumer.consume()` and `.value()`."""
    from confluent_kafka import Consumer

    own = {"enable.auto.commit": "false", "auto.offset.reset": "earliest"}
    consumer = Consumer({**more, **settings(task), **own})
    consumer.subscribe([task.topic])
    try:
        while True:
            rows = size = 0
            for message in consumer.consume(min(BATCH, task.poll), 1.0):
                if message.error() is None:
                    size += len(message.value())
                    rows += 1
            if rows:
                yield rows, size
    finally:
        consumer.close()


def confluent_tuned(task: Task) -> Chunks:
    """The same with our librdkafka settings."""
    from thalweg.kafka.consumer_config import DEFAULTS

    return confluent_consume(task, **DEFAULTS)


CONSUMERS: dict[str, Callable[[Task], Chunks]] = {
    "columns": columns,
    "frames": frames,
    "c_queue": c_queue,
    "confluent": confluent_consume,
    "confluent_tuned": confluent_tuned,
}


def consume(task: Task) -> dict[str, float]:
    chunks = CONSUMERS[task.name](task)
    first, size = next(chunks)
    seen = first
    started, cpu = time.perf_counter(), time.process_time()
    while seen < task.records:
        rows, chunk = next(chunks)
        seen += rows
        size += chunk
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if seen != task.records:
        raise RuntimeError(f"{seen} records came, {task.records} are there")
    timed = seen - first
    if not timed:
        raise RuntimeError(f"all {seen} records came in one batch: too few to time")
    return {"rate": timed / seconds, "cpu_us": cpu / timed * 1e6, "bytes": size}


# ---------------------------------------------------------------- producing


def send_frame(task: Task, payloads: list[bytes]) -> Callable[[], None]:
    """`send_frame` of frames as an engine hands them over."""
    from thalweg.kafka import KafkaProducer

    producer = KafkaProducer(
        task.brokers, linger_ms=5, compression=task.codec, transactional_id=task.topic if task.transactional else None
    )
    data = list(_frames(payloads, task))
    how: dict[str, Any] = {"format": "raw"} | ({"key": "key", "columns": ["value"]} if task.keyed else {})
    if task.transactional:
        with producer.transaction():
            producer.send_frame(task.topic, data[0].head(1), **how)
    else:
        producer.send_frame(task.topic, data[0].head(1), **how)
        producer.flush()

    def run() -> None:
        waiting = iter(data)
        if not task.transactional:
            for frame in waiting:
                producer.send_frame(task.topic, frame, **how)
            producer.close()
            return
        frame = next(waiting, None)
        while frame is not None:
            until = time.monotonic() + TRANSACTION_SECONDS
            with producer.transaction():
                while frame is not None and time.monotonic() < until:
                    producer.send_frame(task.topic, frame, **how)
                    frame = next(waiting, None)
        producer.close()

    return run


def produce_batch(task: Task, payloads: list[bytes], *, ready: bool = False) -> Callable[[], None]:
    """`confluent_kafka.Producer.produce_batch` of the same frames: its dicts are part of the work, unless `ready`."""
    from confluent_kafka import Producer

    config = {
        "bootstrap.servers": task.brokers,
        "enable.idempotence": True,
        "acks": "all",
        "linger.ms": 5,
        "batch.size": 1_000_000,
        "compression.type": task.codec,
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 262_144,
        "partitioner": "murmur2_random",
    }
    producer = Producer(config | ({"transactional.id": task.topic} if task.transactional else {}))
    frames = list(_frames(payloads, task))
    dicts = list(map(_dicts, frames)) if ready else None
    if task.transactional:
        producer.init_transactions(30)
        producer.begin_transaction()
    producer.produce(task.topic, payloads[0])
    producer.flush()
    if task.transactional:
        producer.commit_transaction(30)

    def put(batch: list[dict[str, object]]) -> None:
        left = batch
        while left:
            try:
                taken = producer.produce_batch(task.topic, left)
            except BufferError:
                taken = 0
            left = left[taken:]
            producer.poll(0.01 if left else 0)

    def run() -> None:
        until = time.monotonic() + TRANSACTION_SECONDS
        if task.transactional:
            producer.begin_transaction()
        for at, frame in enumerate(frames):
            if task.transactional and time.monotonic() > until:
                producer.commit_transaction(60)
                producer.begin_transaction()
                until = time.monotonic() + TRANSACTION_SECONDS
            put(dicts[at] if dicts is not None else _dicts(frame))
        if task.transactional:
            producer.commit_transaction(60)
        if producer.flush(60):
            raise RuntimeError("not all records were delivered")

    return run


def produce_batch_ready(task: Task, payloads: list[bytes]) -> Callable[[], None]:
    """`produce_batch` of dicts that are there before the clock starts."""
    return produce_batch(task, payloads, ready=True)


PRODUCERS: dict[str, Callable[[Task, list[bytes]], Callable[[], None]]] = {
    "send_frame": send_frame,
    "produce_batch": produce_batch,
    "produce_batch_ready": produce_batch_ready,
}


def _frames(payloads: list[bytes], task: Task) -> Iterator[pl.DataFrame]:
    """By chance, as Java's tool takes them: how well they compress depends on how often they come again."""
    rng = random.Random(1)
    keys = [b"sensor-%d" % n for n in range(KEYS)]
    for start in range(0, task.records, BATCH):
        rows = min(BATCH, task.records - start)
        columns = {"value": rng.choices(payloads, k=rows)} | ({"key": rng.choices(keys, k=rows)} if task.keyed else {})
        yield pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.Binary))


def _dicts(frame: pl.DataFrame) -> list[dict[str, object]]:
    """What `produce_batch` takes."""
    values = frame["value"].to_list()
    if "key" not in frame.columns:
        return [{"value": value} for value in values]
    return [{"value": value, "key": key} for value, key in zip(values, frame["key"].to_list(), strict=True)]


def produce(task: Task) -> dict[str, float]:
    payloads = Path(task.payloads).read_bytes().splitlines()
    run = PRODUCERS[task.name](task, payloads)
    started, cpu = time.perf_counter(), time.process_time()
    run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    size = sum(map(len, payloads)) / len(payloads) * task.records
    return {"rate": task.records / seconds, "cpu_us": cpu / task.records * 1e6, "bytes": size}


if __name__ == "__main__":
    task = Task(**json.loads(sys.argv[1]))
    print(json.dumps(consume(task) if task.side == "consume" else produce(task)))

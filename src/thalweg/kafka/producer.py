"""The producer: whole columns of records to librdkafka without a Python object each, and single records with a future.

Delivery is counted by *generation*: `barrier()` closes one, `wait(generation)` returns when every record sent until
then is with the broker, while other threads go on sending.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka import _produce_api as native
from thalweg.kafka._consume_api import PartitionList
from thalweg.kafka._delivery import (
    Deliveries,
    DeliveryFailure,
    ProduceError,
    RecordMetadata,
    raise_failures,
    raise_if_fenced,
)
from thalweg.kafka._produce_api import api
from thalweg.kafka._send_columns import ColumnSender, Headers, Records
from thalweg.records import EncodedRecords, Int32s, Int64s

__all__ = ["DeliveryFailure", "Headers", "KafkaProducer", "ProduceError", "ProducerStatistics", "RecordMetadata"]

_SLICE_MS = 50
_HURRY_MS = 3


@dataclass(slots=True)
class ProducerStatistics:
    """What a producer has done since it was made."""

    sent: int
    failed: int
    refused: int
    """Too large: never sent."""


class KafkaProducer:
    """Sends records to Kafka.

    Args:
        brokers: `host:port` or several of them, as a list or separated by commas.
        client_id: shown in the broker's logs and metrics.
        transactional_id: makes every record part of a transaction (`begin_transaction` …); one live producer per id.
        idempotent: no duplicates and no reordering through retries.
        acks: -1 (all in-sync replicas), 1 or 0; idempotent producers need -1.
        compression: "none", "gzip", "snappy", "lz4" or "zstd".
        batch_size: bytes per partition and request.
        linger_ms: how long a record may wait for others.
        max_record_bytes: key and value of one record; larger ones are refused. Keep it at or below the broker's limit.
        settings: any other librdkafka setting, by its name (`{"security.protocol": "SSL"}`); it wins.

    Raises:
        ConfigurationError: a setting that can't work.
    """

    def __init__(
        self,
        brokers: str | Sequence[str],
        *,
        client_id: str = "thalweg",
        transactional_id: str | None = None,
        idempotent: bool = True,
        acks: int = -1,
        compression: str = "none",
        batch_size: int = 1_000_000,
        linger_ms: float = 5,
        max_record_bytes: int = 1_000_000,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        if (idempotent or transactional_id) and acks != -1:
            raise ConfigurationError(f"acks={acks}: an idempotent producer needs acks=-1 (or set idempotent=False)")
        config: dict[str, object] = {
            "bootstrap.servers": brokers if isinstance(brokers, str) else ",".join(brokers),
            "client.id": client_id,
            "acks": acks,
            "enable.idempotence": idempotent or transactional_id is not None,
            "compression.type": compression,
            "batch.size": batch_size,
            "linger.ms": linger_ms,
            "partitioner": "murmur2_random",
            # Room for keys and headers: the limit itself is checked before, exactly.
            "message.max.bytes": min(max(max_record_bytes + 65_536, 1_000_000), 1_000_000_000),
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 262_144,
        }
        if transactional_id is not None:
            config["transactional.id"] = transactional_id
        if settings and "message.max.bytes" in settings:
            raise ConfigurationError("set max_record_bytes instead of message.max.bytes")
        config |= settings or {}
        self.transactional_id = transactional_id
        self.max_record_bytes = max_record_bytes
        self._handle = native.new_producer({name: _text(value) for name, value in config.items()})
        self._queue = api().rd_kafka_queue_get_main(self._handle)
        self._topics: dict[str, int] = {}
        self._send_lock = threading.Lock()
        self._deliveries = Deliveries(self._queue)
        self._sender = ColumnSender(self._handle, self._deliveries, self._check_open)
        self._generation = 1
        self._waited = 0
        self._sent = 0
        self._refused = 0
        self._poller: threading.Thread | None = None
        self._closing = False
        self._closed = False

    # ---------------------------------------------------------------- single records

    def send(
        self,
        topic: str,
        value: bytes | str | None,
        *,
        key: bytes | str | None = None,
        headers: Mapping[str, bytes] | None = None,
        timestamp: int | None = None,
        partition: int = -1,
    ) -> Future[RecordMetadata]:
        """Sends one record; the future gives its place, or raises `ProduceError`.

        Args:
            value: text is sent as UTF-8; None is a tombstone.
            key: chooses the partition, as in Java, unless `partition` is given.
            timestamp: ms UTC; None: now.

        Raises:
            ConnectorError: the producer is closed, or can't go on.
        """
        future: Future[RecordMetadata] = Future()
        opaque = self._deliveries.expect(future)
        payload, key_bytes = _bytes(value), _bytes(key)
        if len(payload or b"") + len(key_bytes or b"") > self.max_record_bytes:
            self._refused += 1
            self._deliveries.forget(opaque)
            text = f"the record has {len(payload or b'')} bytes; max_record_bytes is {self.max_record_bytes}"
            future.set_exception(ProduceError(text, native.failure(native.MSG_SIZE_TOO_LARGE)))
            return future
        records = Records(
            values=_one(payload),
            keys=None if key_bytes is None else _one(key_bytes),
            null_values=np.array([payload is None]),
            timestamps=None if timestamp is None else np.array([timestamp], dtype=np.int64),
            partitions=np.array([partition], dtype=np.int32),
            headers=None if headers is None else Headers.of_rows([headers]),
        )
        try:
            self._send(topic, records, opaque)
        except BaseException:
            self._deliveries.forget(opaque)
            raise
        self._poll_in_background()
        return future

    # ---------------------------------------------------------------- columns

    def send_records(
        self,
        topic: str,
        values: EncodedRecords,
        keys: EncodedRecords | None = None,
        *,
        null_keys: npt.NDArray[np.bool_] | None = None,
        timestamps: Int64s | None = None,
        partitions: Int32s | None = None,
        headers: Headers | None = None,
        max_record_bytes: int | None = None,
    ) -> Int64s:
        """Sends many records, in order; returns when librdkafka has them (waiting for room where its queue is full).

        Args:
            null_keys: rows without a key.
            timestamps: ms UTC; None: now.
            partitions: -1 where the key (or, without one, chance) chooses. Must exist: librdkafka does not check.
            max_record_bytes: key and value of one record, where the topic's limit is known.

        Returns:
            The rows that are too large: not sent, ascending.

        Raises:
            ConnectorError: the producer is closed, or can't go on.
        """
        records = Records(values, keys, null_keys, timestamps, partitions, headers)
        return self._send(topic, records, None, max_record_bytes)

    def _send(self, topic: str, records: Records, opaque: int | None, limit: int | None = None) -> Int64s:
        with self._send_lock:
            self._check_open()
            handle = self._topic(topic)
            refused = self._sender.send(handle, records, limit or self.max_record_bytes, self._generation, opaque)
            self._sent += len(records.values) - len(refused)
            self._refused += len(refused)
        return refused

    def refresh_topic(self, topic: str, timeout: float = 10.0) -> None:
        """Learns of partitions that were added to a topic.

        Raises:
            ProduceError: the broker does not answer.
        """
        with self._send_lock:
            self._check_open()
            failure = native.refresh_topic(self._handle, self._topic(topic), int(timeout * 1000))
        if failure is not None:
            raise ProduceError(f"the partitions of {topic!r} can't be asked for: {failure}", failure)

    # ---------------------------------------------------------------- delivery

    def barrier(self) -> int:
        """Closes the current generation and returns its number, for `wait`."""
        with self._send_lock:
            self._generation += 1
            return self._generation - 1

    def wait(self, generation: int, timeout: float) -> None:
        """Returns when all columns sent up to this barrier are with the broker.

        Raises:
            ProduceError: some are not, and never will be; or the time is over; or the producer is broken.
            FencedError: another producer has taken over.
        """
        self._wait(generation, time.monotonic() + timeout, hurry=False)

    def flush(self, timeout: float = 60.0) -> None:
        """Returns when everything sent so far is with the broker; nothing lingers meanwhile.

        Raises:
            ProduceError, FencedError: as `wait`.
        """
        deadline = time.monotonic() + timeout
        self._wait(self.barrier(), deadline, hurry=True)
        while self._deliveries.futures:
            self._hurry()
            self._deliveries.drain(_HURRY_MS, None)
            self._check_time(deadline)

    def _wait(self, generation: int, deadline: float, *, hurry: bool) -> None:
        while self._waited < generation:
            if hurry:
                self._hurry()
            if self._deliveries.drain(_HURRY_MS if hurry else _SLICE_MS, self._waited + 1):
                self._waited += 1
            else:
                self._check_time(deadline)
            self._raise_fatal()
        raise_failures(self.take_failures())

    def _hurry(self) -> None:
        """librdkafka lets nothing linger as long as this call lasts; it ends early when nothing is under way."""
        api().rd_kafka_flush(self._handle, _HURRY_MS)

    def _check_time(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            late = api().rd_kafka_outq_len(self._handle)
            raise ProduceError(
                f"{late} records were not taken by the broker in time; is it up, are enough replicas in sync?",
                native.failure(native.TIMED_OUT),
            )

    def close(self, timeout: float = 60.0) -> None:
        """Delivers what was sent, then frees the producer; a second call does nothing.

        Raises:
            ProduceError: something could not be delivered (the producer is freed all the same).
        """
        if self._closed:
            return
        try:
            if not native.fatal_error(self._handle):
                self.flush(timeout)
        finally:
            self.kill()

    def kill(self) -> None:
        """Frees the producer and drops what it has not delivered: for one that is fenced or broken."""
        self._closing = True  # a sender that waits for room gives up
        with self._send_lock:
            if self._closed:
                return
            self._closed = True
        if self._poller is not None:
            self._poller.join()
        lib = api()
        lib.rd_kafka_purge(self._handle, native.PURGE_QUEUE | native.PURGE_INFLIGHT)
        self._deliveries.drain(0, None)
        self._deliveries.abandon(native.failure(native.DESTROYED))
        for topic in self._topics.values():
            lib.rd_kafka_topic_destroy(topic)
        lib.rd_kafka_queue_destroy(self._queue)
        lib.rd_kafka_destroy(self._handle)

    @property
    def statistics(self) -> ProducerStatistics:
        """Counts since the producer was made."""
        return ProducerStatistics(self._sent, self._deliveries.failed, self._refused)

    def take_failures(self) -> list[DeliveryFailure]:
        """The records that did not reach the broker since the last call (at most a thousand kept)."""
        return self._deliveries.take_failures()

    def __enter__(self) -> KafkaProducer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is None:
            self.close()
        else:
            self.kill()

    # ---------------------------------------------------------------- transactions

    def init_transactions(self, timeout: float = 30.0) -> None:
        """Registers the transactional id, fences an earlier instance off and ends its open transaction.

        Raises:
            ProduceError, FencedError
        """
        self._transaction("init_transactions", lambda ms: api().rd_kafka_init_transactions(self._handle, ms), timeout)

    def begin_transaction(self) -> None:
        """Opens a transaction: all that is sent until its end is seen together, or never."""
        self._transaction("begin_transaction", lambda _: api().rd_kafka_begin_transaction(self._handle), 10.0)

    def send_offsets(
        self, offsets: Mapping[tuple[str, int], tuple[int, str]], group_metadata: int, timeout: float = 10.0
    ) -> None:
        """Commits a consumer's offsets (next offset to read, metadata) with the open transaction.

        Args:
            group_metadata: address of an rd_kafka_consumer_group_metadata_t.
        """
        with PartitionList(offsets) as rows:
            self._transaction(
                "send_offsets_to_transaction",
                lambda ms: api().rd_kafka_send_offsets_to_transaction(self._handle, rows.pointer, group_metadata, ms),
                timeout,
            )

    def commit_transaction(self, timeout: float = 10.0) -> None:
        """Ends the open transaction; waits for its records first."""
        self.wait(self.barrier(), timeout)
        self._transaction("commit_transaction", lambda ms: api().rd_kafka_commit_transaction(self._handle, ms), timeout)

    def abort_transaction(self, timeout: float = 10.0) -> None:
        """Ends the open transaction as if it had never been."""
        api().rd_kafka_purge(self._handle, native.PURGE_QUEUE | native.PURGE_INFLIGHT)
        self._deliveries.drain(_SLICE_MS, self._generation)
        self._transaction("abort_transaction", lambda ms: api().rd_kafka_abort_transaction(self._handle, ms), timeout)
        self._deliveries.take_failures()  # purged on purpose

    def _transaction(self, step: str, call: Callable[[int], int | None], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            problem = native.take_error(call(max(int((deadline - time.monotonic()) * 1000), 1)))
            if problem is None:
                return
            self._deliveries.drain(0, None)
            raise_if_fenced(self._handle, self.transactional_id, problem)
            if not problem.retriable or time.monotonic() >= deadline:
                raise ProduceError(f"{step} of {self.transactional_id!r} failed: {problem}", problem)

    # ---------------------------------------------------------------- inside

    def _topic(self, name: str) -> int:
        handle = self._topics.get(name)
        if handle is None:
            handle = api().rd_kafka_topic_new(self._handle, name.encode(), None)
            if not handle:
                raise ConfigurationError(f"{name!r} can't be a topic's name")
            self._topics[name] = cast(int, handle)
        return handle

    def _check_open(self) -> None:
        if self._closing:
            raise ConnectorError("the Kafka producer is closed")
        self._raise_fatal()

    def _raise_fatal(self) -> None:
        fatal = native.fatal_error(self._handle)
        if fatal is not None:
            raise_if_fenced(self._handle, self.transactional_id, fatal)
            raise ProduceError(f"the Kafka producer can't go on: {fatal}", fatal)

    def _poll_in_background(self) -> None:
        if self._poller is None:
            self._poller = threading.Thread(target=self._poll, name="thalweg-kafka-delivery", daemon=True)
            self._poller.start()

    def _poll(self) -> None:
        while not self._closed:
            self._deliveries.drain(_SLICE_MS, None)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _one(value: bytes | None) -> EncodedRecords:
    body = value or b""
    return EncodedRecords(np.frombuffer(body, dtype=np.uint8), np.array([0, len(body)], dtype=np.int64))

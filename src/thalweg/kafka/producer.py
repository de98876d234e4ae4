"""The producer: whole columns of records to librdkafka without a Python object each, and single records with a future.

Delivery is counted by *generation*: `barrier()` closes one, `wait(generation)` returns when every record sent until
then is with the broker, while other threads go on sending.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.formats import Format
from thalweg.formats.writable import refused_rows
from thalweg.kafka import _produce_api as native
from thalweg.kafka._column_sender import ColumnSender
from thalweg.kafka._consume_api import partition_states
from thalweg.kafka._delivering import ProducerStatistics
from thalweg.kafka._delivery import (
    DeliveryFailure,
    ProduceError,
    RecordMetadata,
)
from thalweg.kafka._frame_records import FrameLayout, FrameLike, HeaderSource, raise_refused
from thalweg.kafka._lanes import Lanes
from thalweg.kafka._send_columns import Headers, Records
from thalweg.kafka._single_record import send_one
from thalweg.kafka._transactions import Transactions
from thalweg.kafka.partitioners import Partitioner, checked, open_partitioner
from thalweg.kafka.security import client_settings
from thalweg.kafka.tokens import Tokens
from thalweg.records import EncodedRecords, Int32s, Int64s

if TYPE_CHECKING:
    import polars as pl

    from thalweg.kafka.security import KafkaSecurity

__all__ = ["DeliveryFailure", "Headers", "KafkaProducer", "ProduceError", "ProducerStatistics", "RecordMetadata"]

_ROOM_MS = 5
_CHOOSING = {"partitioner", "sticky.partitioning.linger.ms"}
"""Settings that say how librdkafka chooses partitions: then it does."""
_PARTITIONS_AGE = 60.0
"""Seconds after which a topic's partitions are counted again, for partitioners of ours."""


class KafkaProducer(Transactions):
    """Sends records to Kafka.

    Args:
        brokers: `host:port` or several of them, as a list or separated by commas.
        client_id: shown in the broker's logs and metrics.
        transactional_id: makes every record part of a transaction (`with producer.transaction():`); one live producer
            per id: a second one fences the first off.
        idempotent: no duplicates and no reordering through retries.
        acks: -1 (all in-sync replicas), 1 or 0; idempotent producers need -1.
        compression: "none", "gzip", "snappy", "lz4" or "zstd".
        batch_size: bytes per partition and request.
        linger_ms: how long a record may wait for others.
        max_record_bytes: key and value of one record; larger ones are refused. Keep it at or below the broker's limit.
        buffer_bytes: memory for records that are not delivered yet; when it is full, sending waits. (Frames and columns
            wait earlier: for a partition that has a request under way.)
        delivery_timeout: when a record that no broker takes is given up (5 minutes; in a transaction its timeout).
        partitioner: of records with a key: "murmur2" (Java's), "consistent_hash", "round_robin", "sticky", a
            `Partitioner`, or a function of (key, partitions).
        security: see `KafkaSecurity`.
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
        buffer_bytes: int = 256 * 1024 * 1024,
        delivery_timeout: Duration | None = None,
        partitioner: str | Partitioner | Callable[[bytes | None, int], int] = "murmur2",
        security: KafkaSecurity | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        if (idempotent or transactional_id) and acks != -1:
            raise ConfigurationError(f"acks={acks}: an idempotent producer needs acks=-1 (or set idempotent=False)")
        config: dict[str, object] = {
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
            "queue.buffering.max.kbytes": max(buffer_bytes // 1024, 1),
        }
        if transactional_id is not None:
            config["transactional.id"] = transactional_id
            # What follows a commit at once is refused until its markers are written: a few milliseconds, not 100.
            config["retry.backoff.ms"] = 2
        if settings and "message.max.bytes" in settings:
            raise ConfigurationError("set max_record_bytes instead of message.max.bytes")
        if delivery_timeout is not None:
            config["message.timeout.ms"] = milliseconds(delivery_timeout, name="delivery_timeout", minimum=1)
        connection = client_settings(brokers, security, settings)
        config |= connection
        self._partitioner = open_partitioner(partitioner)
        super().__init__({name: _text(value) for name, value in config.items()}, connection, transactional_id)
        self.max_record_bytes = max_record_bytes
        self._sender = ColumnSender(self._handle, self._deliveries, self._while_waiting)
        self._partition_counts: dict[str, tuple[int, float]] = {}
        self._lanes = (
            None
            if _CHOOSING & (settings or {}).keys() or config["enable.idempotence"] not in (True, "true")
            else Lanes(self._handle, self._deliveries.lanes, batch_size, linger_ms / 1000)
        )

    # ---------------------------------------------------------------- single records

    def send(
        self,
        topic: str,
        value: bytes | str | None,
        *,
        key: bytes | str | None = None,
        headers: Mapping[str, bytes | None] | None = None,
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
        offer = self._offer(topic, _bytes(value), _bytes(key), partition, timestamp, headers, future)
        while not offer():
            self._deliveries.drain(_ROOM_MS, None)
            self._while_waiting()
        return future

    async def send_async(
        self,
        topic: str,
        value: bytes | str | None,
        *,
        key: bytes | str | None = None,
        headers: Mapping[str, bytes | None] | None = None,
        timestamp: int | None = None,
        partition: int = -1,
    ) -> RecordMetadata:
        """`send`, awaited until the broker has the record; waiting for room or delivery blocks no event loop.

        Raises:
            ProduceError: it was not delivered.
            ConnectorError: the producer is closed, or can't go on.
        """
        future: Future[RecordMetadata] = Future()
        offer = self._offer(topic, _bytes(value), _bytes(key), partition, timestamp, headers, future)
        while not offer():
            await asyncio.sleep(_ROOM_MS / 1000)
            self._while_waiting()
        return await asyncio.wrap_future(future)

    def _offer(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        timestamp: int | None,
        headers: Mapping[str, bytes | None] | None,
        future: Future[RecordMetadata],
    ) -> Callable[[], bool]:
        """A function that hands the record over if there is room; whether there was."""
        size = len(value or b"") + len(key or b"")
        if size > self.max_record_bytes:
            self._refused += 1
            text = f"the record has {size} bytes; max_record_bytes is {self.max_record_bytes}"
            future.set_exception(ProduceError(text, native.failure(native.MSG_SIZE_TOO_LARGE)))
            return lambda: True
        if partition < 0 and self._partitioner is not None:
            chosen = self._partitions(topic, None if key is None else _one(key), None, 1)
            partition = -1 if chosen is None else int(chosen[0])
        self._poll_in_background()
        opaque = self._deliveries.expect(future)

        def offer() -> bool:
            try:
                with self._send_lock:
                    self._check_open()
                    error = send_one(
                        self._handle, self._topic(topic), value, key, partition, opaque, timestamp, headers
                    )
                    self._sent += not error
            except BaseException:
                self._deliveries.forget(opaque)
                raise
            if error and error != native.QUEUE_FULL:
                self._deliveries.forget(opaque)
                self._raise_fatal()  # a producer that was fenced off, or is broken, says so
                failure = native.failure(error)
                raise ProduceError(f"a record to {topic!r} can't be sent: {failure}", failure)
            return not error

        return offer

    # ---------------------------------------------------------------- frames and columns

    def send_frame(
        self,
        topic: str,
        frame: FrameLike,
        *,
        format: str | Format = "json",
        key: str | None = None,
        timestamp: str | None = None,
        partition: str | None = None,
        headers: HeaderSource | None = None,
        columns: Sequence[str] | None = None,
        max_record_bytes: int | None = None,
        on_refused: Callable[[pl.DataFrame], object] | None = None,
    ) -> int:
        """Sends a frame's rows, in order; returns how many records they are, once librdkafka has them.

        Args:
            frame: a Polars frame, or an Arrow table or batch.
            format: of the values: "json", "raw" and "text" (a column `value`; null is a tombstone), "arrow" (the frame
                as one record), or a `Format` object (Avro with a registry).
            key: the column of keys (text, bytes, or anything as its text); null: no key.
            timestamp: the column of record times (Datetime, Date, or integer ms UTC); null: now.
            partition: the column of partitions; null: the key's.
            headers: for each header its value for all records (text, bytes), or an expression; a null leaves it out.
                Or the name of a column of List(Struct(key, value)).
            columns: the columns of the values; None: all but `partition`, a column of `headers`, and those that start
                with two underscores.
            max_record_bytes: key, value and headers of one record, where the topic's limit is known.
            on_refused: gets the rows that can't be sent, with the columns `__error_class` ("RecordTooLarge", or what
                the format says: "Unwritable", "InvalidValue") and `__error_message`, once the others are sent. Without
                it such a row raises, and none of the frame is sent.

        Raises:
            ConfigurationError: columns that are missing or of a wrong type, or a row that the format can't write.
            ProduceError: records that are too large (it names rows).
            ConnectorError: the producer is closed, or can't go on.
        """
        made = FrameLayout(format, key, timestamp, partition, headers, columns).records(frame, topic)
        limit = max_record_bytes or self.max_record_bytes
        too_large = made.too_large(limit)
        if on_refused is None:
            raise_refused(topic, made.errors, too_large, limit)
        self._send(topic, made.records, limit)
        if on_refused is not None and (made.errors or too_large):
            self._refused += len(made.errors)
            on_refused(refused_rows(made.frame, [*made.errors, *too_large]))
        return len(made.records.values) - len(too_large)

    def send_records(
        self,
        topic: str,
        values: EncodedRecords,
        keys: EncodedRecords | None = None,
        *,
        null_keys: npt.NDArray[np.bool_] | None = None,
        null_values: npt.NDArray[np.bool_] | None = None,
        timestamps: Int64s | None = None,
        partitions: Int32s | None = None,
        headers: Headers | None = None,
        max_record_bytes: int | None = None,
    ) -> Int64s:
        """Sends many records, each partition's in order; returns when librdkafka has them (waiting for room).

        Args:
            null_keys: rows without a key.
            null_values: rows without a value (tombstones), whatever their payload.
            timestamps: ms UTC; None: now.
            partitions: -1 where the key (or, without one, chance) chooses. Must exist: librdkafka does not check.
            max_record_bytes: key and value of one record, where the topic's limit is known.

        Returns:
            The rows that are too large: not sent, ascending.

        Raises:
            ConnectorError: the producer is closed, or can't go on.
        """
        records = Records(values, keys, null_keys, timestamps, partitions, headers, null_values=null_values)
        return self._send(topic, records, max_record_bytes or self.max_record_bytes)

    def _send(self, topic: str, records: Records, limit: int) -> Int64s:
        if self._partitioner is not None:
            chosen = self._partitions(topic, records.keys, records.null_keys, len(records.values))
            given = records.partitions
            records.partitions = chosen if given is None or chosen is None else np.where(given < 0, chosen, given)
        with self._send_lock:
            self._check_open()
            handle = self._topic(topic)
            lanes = None if self._lanes is None else self._lanes.of(topic, handle)
            refused = self._sender.send(handle, records, limit, self._generation, lanes)
            self._sent += len(records.values) - len(refused)
            self._refused += len(refused)
        return refused

    def _partitions(
        self, topic: str, keys: EncodedRecords | None, nulls: npt.NDArray[np.bool_] | None, rows: int
    ) -> Int32s | None:
        if self._partitioner is None:
            return None
        count = self.partition_count(topic)
        return checked(self._partitioner.partitions(keys, nulls, rows, count), rows, count)

    def partition_count(self, topic: str, timeout: float = 10.0) -> int:
        """How many partitions a topic has; asked again after a minute.

        Raises:
            ProduceError: no such topic, or no broker answers.
        """
        count, since = self._partition_counts.get(topic, (0, 0.0))
        if count and time.monotonic() - since < _PARTITIONS_AGE:
            return count
        with self._send_lock:
            self._check_open()
            code, states = partition_states(self._handle, self._topic(topic), int(timeout * 1000))
        if code or not states:
            problem = native.failure(code or native.UNKNOWN_PARTITION)
            raise ProduceError(f"the partitions of {topic!r} can't be asked for: {problem}", problem)
        self._partition_counts[topic] = len(states), time.monotonic()
        return len(states)

    def refresh_topic(self, topic: str, timeout: float = 10.0) -> None:
        """Learns of partitions that were added to a topic.

        Raises:
            ProduceError: the broker does not answer.
        """
        with self._send_lock:
            self._check_open()
            self._partition_counts.pop(topic, None)
            if self._lanes is not None:
                self._lanes.forget(topic)
            failure = native.refresh_topic(self._handle, self._topic(topic), int(timeout * 1000))
        if failure is not None:
            raise ProduceError(f"the partitions of {topic!r} can't be asked for: {failure}", failure)


def _text(value: object) -> object:
    """A setting as librdkafka has it: text, but for what gives OAuth tokens."""
    if isinstance(value, Tokens):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _bytes(value: bytes | str | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _one(value: bytes | None) -> EncodedRecords:
    body = value or b""
    return EncodedRecords(np.frombuffer(body, dtype=np.uint8), np.array([0, len(body)], dtype=np.int64))

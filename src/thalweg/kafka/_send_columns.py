"""Columns of records to librdkafka's queue."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thalweg.errors import ConfigurationError
from thalweg.formats.raw import RowBytes
from thalweg.kafka import _produce_api as native
from thalweg.kafka._delivery import Deliveries, ProduceError
from thalweg.kafka._header_columns import HeaderColumns
from thalweg.kafka._lanes import NO_LANE, TopicLanes
from thalweg.kafka._produce_api import address, api
from thalweg.kafka._produce_kernels import (
    MESSAGE_WORDS,
    RING,
    VU_WORDS,
    failed_messages,
    fill_messages,
    produce_each,
)
from thalweg.records import EncodedRecords, Int32s, Int64s

_BATCH = 10_000
"""Messages per call, as many as librdkafka puts into a request: 720 KB of addresses."""
_FIXED_FIELDS = 7
_WAIT_MS = 50
_ROOM_MS = 5

_EVERYWHERE = 1 << 62
_NONE64 = np.zeros(0, dtype=np.int64)
_NONE32 = np.zeros(0, dtype=np.int32)
_NONE_BOOL = np.zeros(0, dtype=np.bool_)
_NO_HEADERS = np.zeros((0, 3), dtype=np.int64)
_EMPTY = np.zeros(1, dtype=np.uint8)
"""An address for empty payloads: a null address would make a tombstone."""


@dataclass(slots=True)
class Headers:
    """Record headers of many rows, flat: row i has `values[offsets[i]:offsets[i + 1]]`, (name, value) each."""

    offsets: Int64s
    values: Sequence[tuple[str, bytes]]

    @classmethod
    def of_rows(cls, rows: Sequence[Mapping[str, bytes]]) -> Headers:
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return cls(offsets, [item for row in rows for item in row.items()])

    def sizes(self) -> Int64s:
        """Bytes of each row's headers."""
        sizes = np.array([len(name.encode()) + len(value) + 4 for name, value in self.values], dtype=np.int64)
        total = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        return np.diff(total[self.offsets])

    def table(self) -> tuple[npt.NDArray[np.int64], object]:
        """For each header the address of its name, the address and the length of its value; and what keeps them."""
        names = {name: ctypes.create_string_buffer(name.encode()) for name, _ in self.values}
        body = b"".join(value for _, value in self.values) or b"\0"
        at = np.frombuffer(body, dtype=np.uint8).ctypes.data
        table = np.zeros((len(self.values), 3), dtype=np.int64)
        for row, (name, value) in zip(table, self.values, strict=True):
            row[:] = ctypes.addressof(names[name]), at, len(value)
            at += len(value)
        return table, (names, body)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class Records:
    """n records to send, as columns. None: no row has one."""

    values: EncodedRecords | RowBytes
    keys: EncodedRecords | None = None
    null_keys: npt.NDArray[np.bool_] | None = None
    timestamps: Int64s | None = None
    partitions: Int32s | None = None
    headers: Headers | HeaderColumns | None = None
    null_values: npt.NDArray[np.bool_] | None = None

    def sizes(self) -> Int64s:
        """Bytes of each record: key, value and headers."""
        values = self.values
        sizes = values.lengths if isinstance(values, RowBytes) else np.diff(values.offsets)
        if self.keys is not None:
            sizes = sizes + np.diff(self.keys.offsets)
        return sizes if self.headers is None else sizes + self.headers.sizes()

    def check(self) -> None:
        """Refuses columns that don't fit together: the kernels trust them.

        Raises:
            ConfigurationError
        """
        rows = len(self.values)
        columns: dict[str, Any] = {
            "keys": self.keys,
            "null_keys": self.null_keys,
            "timestamps": self.timestamps,
            "partitions": self.partitions,
            "null_values": self.null_values,
        }
        for name, column in columns.items():
            if column is not None and len(column) != rows:
                raise ConfigurationError(f"{name} has {len(column)} rows, values has {rows}")
        if self.headers is not None and len(self.headers.offsets) != rows + 1:
            raise ConfigurationError(f"headers has {len(self.headers.offsets) - 1} rows, values has {rows}")


@dataclass(slots=True)
class Buffer:
    """One of the two byte columns: row i is `sizes[i]` bytes at `base + offsets[i]`; all lie below `end`.

    Without `sizes` row i ends where row i + 1 begins.
    """

    base: int
    offsets: Int64s
    sizes: Int64s
    end: int
    keep: object

    @classmethod
    def of(cls, records: EncodedRecords | RowBytes | None) -> Buffer:
        if records is None:
            return cls(_EMPTY.ctypes.data, _NONE64, _NONE64, 0, _EMPTY)
        if isinstance(records, RowBytes):  # offsets from address zero
            return cls(0, records.addresses, records.lengths, _EVERYWHERE, records.keep)
        data = np.ascontiguousarray(records.data) if len(records.data) else _EMPTY
        return cls(data.ctypes.data, np.ascontiguousarray(records.offsets, dtype=np.int64), _NONE64, len(data), data)


class ColumnSender:
    """Hands records to librdkafka, which copies them. Not for several threads at once: it reuses its buffers."""

    def __init__(self, handle: int, deliveries: Deliveries, check: Callable[[], None]) -> None:
        self._deliveries = deliveries
        self._check = check
        self._messages = np.zeros((_BATCH, MESSAGE_WORDS), dtype=np.int64)
        self._rows = np.zeros(_BATCH, dtype=np.int64)
        self._failed = np.zeros((1, 2), dtype=np.int64)
        names = ("produceva", "error_code", "error_destroy")
        self._calls = np.array([address(f"rd_kafka_{name}") for name in names] + [handle, 0], dtype=np.int64)

    def send(
        self, topic: int, records: Records, limit: int, generation: int, lanes: TopicLanes | None = None
    ) -> Int64s:
        """Sends them in order; returns the rows that are larger than `limit`, which are left out.

        Args:
            topic: an rd_kafka_topic_t.
            generation: which `Deliveries` counts them in.
            lanes: where records go that have neither key nor partition; None: librdkafka chooses.

        Raises:
            ProduceError: librdkafka refuses for another reason than size or want of room.
        """
        records.check()
        values, keys = Buffer.of(records.values), Buffer.of(records.keys)
        each = None
        if records.timestamps is not None or records.partitions is not None or records.headers is not None:
            each = _Each.of(records)
        refused = np.zeros(len(records.values), dtype=np.int64)
        span = np.array([0, len(records.values), limit, 0, values.end, keys.end, -1, _EVERYWHERE, 0], dtype=np.int64)
        lane = NO_LANE
        while span[0] < span[1]:
            if lanes is not None:
                lane = lanes.choose(self._wait_for_room)
                span[6], span[7] = lane.partition, lane.room
            opaque = lane.number * RING + generation % RING
            count = fill_messages(
                *(values.base, values.offsets, values.sizes, keys.base, keys.offsets),
                _NONE_BOOL if records.null_keys is None else np.ascontiguousarray(records.null_keys),
                _NONE_BOOL if records.null_values is None else np.ascontiguousarray(records.null_values),
                _NONE32 if records.partitions is None else np.ascontiguousarray(records.partitions, dtype=np.int32),
                _NONE64 if records.headers is None else records.headers.sizes(),
                *(span, refused, opaque, self._messages, self._rows),
            )
            if count < 0:
                raise ConfigurationError("the offsets of the records point outside their data")
            if lanes is not None:
                lanes.sent(lane, int(span[8]), full=count == _BATCH)
            self._hand_over(topic, count, each, generation % RING, lane.partition)
        return refused[: span[3]]

    def _wait_for_room(self) -> None:
        """What was handed over is whole requests: nothing of it lingers while we wait for some to come back."""
        api().rd_kafka_flush(int(self._calls[3]), 1)
        self._deliveries.drain(_ROOM_MS, None)
        self._check()

    def _hand_over(self, topic: int, count: int, each: _Each | None, slot: int, partition: int) -> None:
        """Sends the filled messages; where librdkafka's queue is full, waits for deliveries and sends the rest."""
        first = 0
        while first < count:
            self._deliveries.sent[slot] += count - first
            taken, error = (
                self._send_batch(topic, first, count, partition)
                if each is None
                else self._send_each(topic, first, count, each)
            )
            self._deliveries.sent[slot] -= count - first - taken
            first += taken
            if error == native.QUEUE_FULL:
                self._deliveries.drain(_WAIT_MS, None)
                self._check()
            elif error in native.GONE_CODES and partition >= 0:  # our knowledge of the topic is too old
                partition = -1
                self._messages[first:count, 2] = -1
            elif error:
                failure = native.failure(error)
                raise ProduceError(f"{count - first} records can't be sent: {failure}", failure)

    def _send_batch(self, topic: int, first: int, count: int, partition: int) -> tuple[int, int]:
        """Returns how many were taken before the first failure, and its error."""
        messages = self._messages[first:count]
        good = api().rd_kafka_produce_batch(
            topic, partition, native.F_COPY, messages.ctypes.data_as(ctypes.c_void_p), len(messages)
        )
        if good == len(messages):
            return good, 0
        # When the queue is full nothing after the first failure is taken, so `good` counts a prefix.
        failed_messages(messages, len(messages), self._rows[first:count], self._failed)
        return good, int(self._failed[0, 1])

    def _send_each(self, topic: int, first: int, count: int, each: _Each) -> tuple[int, int]:
        self._calls[4] = topic
        error = np.zeros(1, dtype=np.int64)
        taken = produce_each(
            *(self._calls, self._messages[first:count], self._rows[first:count], count - first),
            *(each.timestamps, each.header_offsets, each.headers, each.vus, error),
        )
        return int(taken), int(error[0])


@dataclass(slots=True)
class _Each:
    """What only `rd_kafka_produceva` takes."""

    timestamps: Int64s
    header_offsets: Int64s
    headers: npt.NDArray[np.int64]
    vus: npt.NDArray[np.int64]
    keep: object

    @classmethod
    def of(cls, records: Records) -> _Each:
        timestamps = _NONE64 if records.timestamps is None else np.ascontiguousarray(records.timestamps, dtype=np.int64)
        if records.headers is None or not len(records.headers):
            return cls(timestamps, _NONE64, _NO_HEADERS, _vus(0), None)
        offsets = np.ascontiguousarray(records.headers.offsets, dtype=np.int64)
        headers, keep = records.headers.table()
        return cls(timestamps, offsets, headers, _vus(int(np.diff(offsets).max(initial=0))), keep)


def _vus(headers: int) -> npt.NDArray[np.int64]:
    return np.zeros((_FIXED_FIELDS + headers, VU_WORDS), dtype=np.int64)

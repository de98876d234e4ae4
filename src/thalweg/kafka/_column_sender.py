"""Columns of records to librdkafka's queue."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from thalweg.errors import ConfigurationError
from thalweg.kafka import _produce_api as native
from thalweg.kafka._delivery import Deliveries, ProduceError
from thalweg.kafka._fill_kernels import by_partition, fill_messages, keep_failed
from thalweg.kafka._lanes import EVERYWHERE, TopicLanes
from thalweg.kafka._produce_api import address, api
from thalweg.kafka._produce_kernels import MESSAGE_WORDS, RING, VU_WORDS, produce_each, produce_runs
from thalweg.kafka._send_columns import Buffer, Records
from thalweg.records import Int64s

_BATCH = 10_000
"""Messages per call, as many as librdkafka puts into a request: 720 KB of addresses."""
_FIXED_FIELDS = 7
_WAIT_MS = 50
_ROOM_MS = 5
_PATIENCE = 0.2
"""Seconds that records of a given partition wait for what is under way to it; then librdkafka keeps them."""

_HEAD, _END, _PARTITION, _OPAQUE, _ROOM, _TAKEN = range(6)
"""Columns of the groups of `fill_messages`."""
_NONE64 = np.zeros(0, dtype=np.int64)
_NONE32 = np.zeros(0, dtype=np.int32)
_NONE_BOOL = np.zeros(0, dtype=np.bool_)
_NO_HEADERS = np.zeros((0, 3), dtype=np.int64)

Groups = npt.NDArray[np.int64]
"""Rows that go to one partition each; see `fill_messages`."""


class ColumnSender:
    """Hands records to librdkafka, which copies them. Not for several threads at once: it reuses its buffers."""

    def __init__(self, handle: int, deliveries: Deliveries, check: Callable[[], None]) -> None:
        self._deliveries = deliveries
        self._check = check
        self._messages = np.zeros((_BATCH, MESSAGE_WORDS), dtype=np.int64)
        self._rows = np.zeros(_BATCH, dtype=np.int64)
        self._produce_batch = address("rd_kafka_produce_batch")
        names = ("produceva", "error_code", "error_destroy")
        self._calls = np.array([address(f"rd_kafka_{name}") for name in names] + [handle, 0], dtype=np.int64)

    def send(
        self, topic: int, records: Records, limit: int, generation: int, lanes: TopicLanes | None = None
    ) -> Int64s:
        """Sends them, each partition's in order; returns the rows that are larger than `limit`, which are left out.

        Args:
            topic: an rd_kafka_topic_t.
            generation: which `Deliveries` counts them in.
            lanes: where records go, and when; None: librdkafka chooses for those without a partition.

        Raises:
            ProduceError: librdkafka refuses for another reason than size or want of room.
        """
        records.check()
        batch = _Batch.of(records, limit, topic, generation % RING)
        if lanes is None:
            self._send_anywhere(batch)
        elif records.keys is None and records.partitions is None:
            self._send_in_turns(batch, lanes)
        else:
            self._send_placed(batch, lanes)
        return np.sort(batch.refused[: batch.span[1]])

    def _send_anywhere(self, batch: _Batch) -> None:
        groups = batch.one_group()
        if batch.records.partitions is not None and batch.each is None:
            batch.each = _Each.of(batch.records)  # a batch of librdkafka's would lose partitions that do not exist
        groups[0, _ROOM] = EVERYWHERE
        while groups[0, _HEAD] < groups[0, _END]:
            self._hand_over(batch, self._fill(batch, groups))

    def _send_in_turns(self, batch: _Batch, lanes: TopicLanes) -> None:
        """Records without key and partition: a request's worth to one partition after the other."""
        groups = batch.one_group()
        while groups[0, _HEAD] < groups[0, _END]:
            lane = lanes.choose(self._wait_for_room)
            groups[0, _PARTITION:_TAKEN] = lane.partition, batch.opaque(lane.number), lane.room
            count = self._fill(batch, groups)
            lanes.sent(lane, int(groups[0, _TAKEN]))
            self._hand_over(batch, count, lanes)

    def _send_placed(self, batch: _Batch, lanes: TopicLanes) -> None:
        """Records with keys or partitions: each partition's in order, and about a request's worth under way to each."""
        order, groups = batch.by_partition(lanes)
        partitions = groups[:, _PARTITION].copy()
        waiting, full = 0.0, False
        while (left := groups[:, _HEAD] < groups[:, _END]).any():
            groups[:, _ROOM] = lanes.rooms(partitions, waited=waiting > 0)
            count = self._fill(batch, groups, order)
            if count:
                lanes.handed_over(partitions, groups[:, _TAKEN])
                self._hand_over(batch, count, lanes)
                waiting = 0.0
                full |= bool(((groups[:, _TAKEN] > 0) & (groups[:, _HEAD] < groups[:, _END])).any())
            elif (groups[:, _ROOM] > 0)[left].any():  # what there was room for was too large
                continue
            elif waiting < _PATIENCE:
                # Requests that are as full as they get are sent at once; the others may linger once.
                waiting += self._wait_for_room(hurry=full or waiting > 0)
                full = False
            else:
                lanes.let_go(partitions[left])

    def _fill(self, batch: _Batch, groups: Groups, order: Int64s = _NONE64) -> int:
        count = fill_messages(*batch.columns, batch.span, order, groups, batch.refused, self._messages, self._rows)
        if count < 0:
            raise ConfigurationError("the offsets of the records point outside their data")
        return int(count)

    def _wait_for_room(self, *, hurry: bool = True) -> float:
        """Waits a little for some of what was handed over to come back, and lets nothing linger; returns how long."""
        began = time.monotonic()
        if hurry:
            api().rd_kafka_flush(int(self._calls[3]), 1)
        self._deliveries.drain(_ROOM_MS, None)
        self._check()
        return time.monotonic() - began

    def _hand_over(self, batch: _Batch, count: int, lanes: TopicLanes | None = None) -> None:
        """Sends the filled messages; where librdkafka's queue is full, waits for deliveries and sends the rest."""
        while count:
            self._deliveries.sent[batch.slot] += count
            left, error = self._send_batch(batch, count) if batch.each is None else self._send_each(batch, count)
            self._deliveries.sent[batch.slot] -= left
            count = left
            if error == native.QUEUE_FULL:
                self._deliveries.drain(_WAIT_MS, None)
                self._check()
            elif error in native.GONE_CODES and lanes is not None and batch.records.partitions is None:
                lanes.stale = True  # our knowledge of the topic is too old: librdkafka chooses, by the keys
                self._messages[:count, 2] = -1
            elif error:
                self._check()  # a producer that was fenced off, or is broken, says so
                failure = native.failure(error)
                raise ProduceError(f"{count} records can't be sent: {failure}", failure)

    def _send_batch(self, batch: _Batch, count: int) -> tuple[int, int]:
        """Returns how many were not taken (they are the first messages then), and the first one's error."""
        taken = produce_runs(self._produce_batch, batch.topic, self._messages, count)
        if taken == count:
            return 0, 0
        error = np.zeros(1, dtype=np.int64)
        return int(keep_failed(self._messages, count, self._rows, error)), int(error[0])

    def _send_each(self, batch: _Batch, count: int) -> tuple[int, int]:
        each = batch.each
        assert each is not None
        self._calls[4] = batch.topic
        error = np.zeros(1, dtype=np.int64)
        taken = produce_each(
            *(self._calls, self._messages, self._rows, count),
            *(each.timestamps, each.header_offsets, each.headers, each.vus, error),
        )
        self._messages[: count - taken] = self._messages[taken:count].copy()
        self._rows[: count - taken] = self._rows[taken:count].copy()
        return count - int(taken), int(error[0])


@dataclass(slots=True)
class _Batch:
    """Records on their way, in the forms that the kernels take."""

    records: Records
    topic: int
    slot: int
    columns: tuple[object, ...]
    """The first arguments of `fill_messages`."""
    span: Int64s
    refused: Int64s
    each: _Each | None
    keep: object

    @classmethod
    def of(cls, records: Records, limit: int, topic: int, slot: int) -> _Batch:
        values, keys = Buffer.of(records.values), Buffer.of(records.keys)
        columns = (
            *(values.base, values.offsets, values.sizes, keys.base, keys.offsets),
            _NONE_BOOL if records.null_keys is None else np.ascontiguousarray(records.null_keys),
            _NONE_BOOL if records.null_values is None else np.ascontiguousarray(records.null_values),
            _NONE32 if records.partitions is None else np.ascontiguousarray(records.partitions, dtype=np.int32),
            _NONE64 if records.headers is None else records.headers.sizes(),
        )
        each = None if records.timestamps is None and records.headers is None else _Each.of(records)
        span = np.array([limit, 0, values.end, keys.end], dtype=np.int64)
        refused = np.zeros(len(records.values), dtype=np.int64)
        return cls(records, topic, slot, columns, span, refused, each, (values, keys))

    def one_group(self) -> Groups:
        """All rows, for librdkafka to place."""
        return np.array([[0, len(self.records.values), -1, self.opaque(0), 0, 0]], dtype=np.int64)

    def by_partition(self, lanes: TopicLanes) -> tuple[Int64s, Groups]:
        """The rows by partition, and a group for each partition that has some."""
        partitions = lanes.place(self.records)
        starts = np.zeros(lanes.partitions + 1, dtype=np.int64)
        order = np.empty(len(partitions), dtype=np.int64)
        by_partition(partitions, starts, order)
        present = np.flatnonzero(np.diff(starts))
        groups = np.zeros((len(present), 6), dtype=np.int64)
        groups[:, _HEAD], groups[:, _END], groups[:, _PARTITION] = starts[present], starts[present + 1], present
        groups[:, _OPAQUE] = self.opaque(lanes.numbers[present])
        self.columns = (*self.columns[:7], _NONE32, self.columns[8])  # each group knows its partition
        return order, groups

    def opaque(self, lane: int | Int64s) -> int | Int64s:
        """What comes back with the delivery report of a message to this lane."""
        return lane * RING + self.slot


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

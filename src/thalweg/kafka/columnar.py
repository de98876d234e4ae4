"""The columnar consumer: librdkafka's batch queue, read by kernels.

The queue is read without waiting (`rd_kafka_consume_batch_queue` would wait until its array is full); between reads the
thread sleeps on a socket that librdkafka writes to when the queue is no longer empty. All of librdkafka's callbacks run
inside these reads, on the polling thread; a ctypes callback must not raise, so they only take notes.
"""

from __future__ import annotations

import ctypes
import json
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.errors import ConnectorError
from thalweg.kafka import _consume_api as native
from thalweg.kafka._consume_api import PartitionList, TopicPartition, api
from thalweg.kafka._in_use import InUse
from thalweg.kafka._membership import Membership
from thalweg.kafka._messages import ConsumerHandle, MessageReader
from thalweg.kafka._produce_api import FATAL, STATE, GroupMembership, failure, fatal_error, take_error
from thalweg.kafka._reading_progress import ReadingProgress
from thalweg.kafka._rebalancing import ListenedMembership, RebalanceListener
from thalweg.kafka._records import without
from thalweg.kafka._retry import PASSING, until_settled
from thalweg.kafka._waker import Waker
from thalweg.kafka.arrow import to_arrow
from thalweg.kafka.consumer_config import consumer_config
from thalweg.kafka.consumer_errors import raise_for, raise_not_committed, unreachable
from thalweg.records import RawRecords

if TYPE_CHECKING:
    import pyarrow as pa

_LONGEST_SLEEP = 1.0
"""Seconds: librdkafka wants to see a poll now and then, and a lost wake-up costs no more than this."""
_REQUEST_TIMEOUT_MS = 10_000


class ColumnarConsumer:
    """A consumer that hands out records as addresses (`RawRecords`) or Arrow columns; see `RecordConsumer`.

    Args:
        config: librdkafka settings, above `consumer_config.DEFAULTS`.
        topics: to subscribe to as a member of `group.id`; none: `start` says what to read.
        hold_assignment: read nothing of what the group assigns until `start` is called, and keep what the group wants
            back until `close`, so that a commit under way can end.
        listener: is told of every rebalance; partitions then come and go one by one where the group's strategy is
            cooperative.

    Raises:
        ConfigurationError: a setting that can't work.
        LibraryUnusable: no librdkafka that this version knows.

    >>> settings = {"bootstrap.servers": "localhost:9092", "group.id": "g"}
    >>> with ColumnarConsumer(settings, ["clicks"]) as consumer:                          # doctest: +SKIP
    ...     batch = consumer.poll_arrow(max_records=100_000, timeout_ms=1_000)
    """

    def __init__(
        self,
        config: Mapping[str, object],
        topics: Sequence[str] = (),
        *,
        hold_assignment: bool = False,
        listener: RebalanceListener | None = None,
    ) -> None:
        settings = consumer_config(config, topics, cooperative=listener is not None)
        self._brokers = settings.get("bootstrap.servers") or settings["metadata.broker.list"]
        self._progress = ReadingProgress()
        self._membership = (
            Membership(self._progress, hold_assignment)
            if listener is None
            else ListenedMembership(self._progress, listener)
        )
        self._waker = Waker()
        self._woken = False
        self._pending: deque[RawRecords] = deque()
        self._in_use = InUse()
        self._handle = ConsumerHandle(native.new_consumer(settings, self._membership.callbacks))
        self._queue = api().rd_kafka_queue_get_consumer(self._handle.pointer)
        self._reader = MessageReader(self._handle)
        api().rd_kafka_queue_io_event_enable(self._queue, self._waker.fileno(), b"q", 1)
        if topics:
            self.subscribe(topics)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Joins the group for these topics, instead of those before; a name that starts with ^ is a pattern."""
        with self._in_use(), PartitionList([(topic, -1) for topic in topics]) as wanted:
            self._check(api().rd_kafka_subscribe(self._handle.pointer, wanted.pointer), "subscribe")

    def unsubscribe(self) -> None:
        """Leaves the group; later polls tell the listener of it."""
        with self._in_use():
            self._check(api().rd_kafka_unsubscribe(self._handle.pointer), "unsubscribe")

    # ---------------------------------------------------------------- reading

    def poll(self, max_records: int = 10_000, timeout_ms: int = 100) -> RawRecords | None:
        """See `RecordConsumer`. The records' memory is librdkafka's until `release()`."""
        deadline = time.monotonic() + timeout_ms / 1000
        with self._in_use():
            while True:
                if self._pending:
                    return self._hand_out(self._pending.popleft())
                count = self._reader.read(self._queue, max_records)
                self._membership.raise_errors(self._handle.pointer)
                if count:
                    self._pending.extend(self._take())
                    continue
                remaining = deadline - time.monotonic()
                if self._woken or self._in_use.closing or remaining <= 0:
                    self._woken = False
                    return None
                self._waker.wait(min(remaining, _LONGEST_SLEEP))

    def poll_arrow(self, max_records: int = 10_000, timeout_ms: int = 100) -> pa.RecordBatch | None:
        """See `RecordConsumer`."""
        raw = self.poll(max_records, timeout_ms)
        if raw is None:
            return None
        try:
            return to_arrow(raw)
        finally:
            raw.release()

    def _take(self) -> list[RawRecords]:
        """The messages that were read, by topic; ends of partitions are noted, errors raised."""
        batches, errors = self._reader.take()
        try:
            for error in errors:
                if error.code == native.PARTITION_EOF:
                    self._progress.reached_end((error.topic, error.partition), error.offset)
                else:
                    problem = failure(error.code, error.text)
                    if error.code == FATAL:
                        problem = fatal_error(self._handle.pointer) or problem
                    raise_for(problem, error.topic, error.partition, error.offset)
        except ConnectorError:
            self._pending.extend(batches)  # they are good, and come before the error
            raise
        return batches

    def _hand_out(self, raw: RawRecords) -> RawRecords:
        self._progress.handed_out(raw)
        return raw

    # ---------------------------------------------------------------- where it is

    def offered(self) -> frozenset[TopicPartition] | None:
        return self._membership.offered

    @property
    def revoked(self) -> bool:
        return self._membership.revoked

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `RecordConsumer`."""
        with self._in_use(), PartitionList(positions) as wanted:
            self._progress.keep_only(frozenset(positions))
            self._progress.restart(positions)
            self._drop_pending(positions)
            self._check(api().rd_kafka_assign(self._handle.pointer, wanted.pointer), "assign")
            self._membership.started(frozenset(positions))

    def assignment(self) -> frozenset[TopicPartition]:
        return self._membership.assigned

    def positions(self) -> dict[TopicPartition, int]:
        return self._progress.positions()

    def caught_up(self) -> frozenset[TopicPartition]:
        return self._progress.caught_up()

    def reached_ends(self) -> dict[TopicPartition, int]:
        """See `GroupConsumer`."""
        return self._progress.reached_ends()

    def end_offsets(self) -> dict[TopicPartition, int]:
        """See `RecordConsumer`."""
        ends = self._progress.ends()
        low, high = ctypes.c_int64(), ctypes.c_int64()
        with self._in_use():
            for topic, partition in self._membership.assigned:
                code = api().rd_kafka_get_watermark_offsets(
                    self._handle.pointer, topic.encode(), partition, ctypes.byref(low), ctypes.byref(high)
                )
                if code == 0 and high.value >= 0:
                    ends[topic, partition] = max(high.value, ends.get((topic, partition), 0))
        return ends

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `RecordConsumer`."""
        with self._in_use(), PartitionList(positions) as wanted:

            def ask(remaining_ms: int) -> int:
                problem = take_error(api().rd_kafka_seek_partitions(self._handle.pointer, wanted.pointer, remaining_ms))
                if problem is not None:
                    return problem.code
                return next((row.err for row in wanted.rows() if row.err), 0)

            # A partition that was assigned a moment ago is not fetched yet, and refuses to be moved.
            code = until_settled(ask, _REQUEST_TIMEOUT_MS, PASSING | {STATE})
            self._check(code, f"seek in {', '.join(f'{topic} [{partition}]' for topic, partition in positions)}")
            self._drop_pending(positions)
            self._progress.restart(positions)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetches no more of these; what is already here still comes."""
        with self._in_use(), PartitionList(partitions) as wanted:
            self._check(api().rd_kafka_pause_partitions(self._handle.pointer, wanted.pointer), "pause")

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        with self._in_use(), PartitionList(partitions) as wanted:
            self._check(api().rd_kafka_resume_partitions(self._handle.pointer, wanted.pointer), "resume")

    # ---------------------------------------------------------------- requests

    def topics(self, timeout_ms: int = _REQUEST_TIMEOUT_MS) -> dict[str, int]:
        """See `RecordConsumer`.

        Raises:
            ConnectorError: no broker answered.
        """
        deadline = time.monotonic() + timeout_ms / 1000
        with self._in_use():
            while True:
                # In short requests: Ctrl-C and `close` have their turn in between.
                code, found = native.topics_of(self._handle.pointer, min(500, timeout_ms))
                if code == 0:
                    return found
                if self._in_use.closing or time.monotonic() >= deadline:
                    self._reader.serve(self._queue)  # what went wrong stands in the callbacks' notes
                    self._membership.raise_errors(self._handle.pointer)
                    raise unreachable(self._brokers, timeout_ms / 1000, self._membership.last_error)

    def watermarks(self, tp: TopicPartition, timeout_ms: int = _REQUEST_TIMEOUT_MS) -> tuple[int, int]:
        """See `RecordConsumer`."""
        low, high = ctypes.c_int64(), ctypes.c_int64()

        def ask(remaining_ms: int) -> int:
            code: int = api().rd_kafka_query_watermark_offsets(
                self._handle.pointer, tp[0].encode(), tp[1], ctypes.byref(low), ctypes.byref(high), remaining_ms
            )
            return code

        with self._in_use():
            self._check(until_settled(ask, timeout_ms), f"ask for the offsets of {tp[0]} [{tp[1]}]")
        return low.value, high.value

    def committed(
        self, partitions: Iterable[TopicPartition], timeout_ms: int = _REQUEST_TIMEOUT_MS
    ) -> dict[TopicPartition, tuple[int, str]]:
        """See `RecordConsumer`."""
        found: dict[TopicPartition, tuple[int, str]] = {}
        with self._in_use(), PartitionList(partitions) as wanted:

            def ask(remaining_ms: int) -> int:
                code: int = api().rd_kafka_committed(self._handle.pointer, wanted.pointer, remaining_ms)
                return code or next((row.err for row in wanted.rows() if row.err), 0)

            self._check(until_settled(ask, timeout_ms), "read the committed offsets")
            for row in wanted.rows():
                if row.offset >= 0:
                    text = ctypes.string_at(row.metadata, row.metadata_size) if row.metadata else b""
                    found[row.topic.decode(), row.partition] = (row.offset, text.decode(errors="replace"))
        return found

    def commit_sync(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """See `RecordConsumer`.

        Raises:
            RestartRequired: the group has moved on; what was read belongs to another member now.
        """
        with self._in_use(), PartitionList(offsets) as wanted:
            code = api().rd_kafka_commit(self._handle.pointer, wanted.pointer, 0)
            codes = [code, *(row.err for row in wanted.rows())]
        for problem in (failure(code) for code in codes if code):
            raise_not_committed(problem)

    def commit_async(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """Begins to commit offsets; the listener hears of the result inside a later poll."""
        with self._in_use(), PartitionList(offsets) as wanted:
            self._check(api().rd_kafka_commit(self._handle.pointer, wanted.pointer, 1), "commit")

    def offsets_at(
        self, times: Mapping[TopicPartition, int], timeout_ms: int = _REQUEST_TIMEOUT_MS
    ) -> dict[TopicPartition, int]:
        """For each partition the offset of its first record at or after a time (ms UTC); its end where none is."""
        with self._in_use(), PartitionList(times) as wanted:

            def ask(remaining_ms: int) -> int:
                for row in wanted.rows():  # what was asked for is overwritten by the answer
                    row.offset = times[row.topic.decode(), row.partition]
                code: int = api().rd_kafka_offsets_for_times(self._handle.pointer, wanted.pointer, remaining_ms)
                return code or next((row.err for row in wanted.rows() if row.err), 0)

            self._check(until_settled(ask, timeout_ms), "look up offsets by time")
            found = {(row.topic.decode(), row.partition): row.offset for row in wanted.rows()}
        return {tp: offset if offset >= 0 else self.watermarks(tp, timeout_ms)[1] for tp, offset in found.items()}

    def group_metadata(self) -> GroupMembership:
        """See `RecordConsumer`."""
        with self._in_use():
            pointer = api().rd_kafka_consumer_group_metadata(self._handle.pointer)
        if not pointer:
            raise ConnectorError("the consumer is not a member of a group")
        return GroupMembership(pointer)

    def stats(self) -> dict[str, Any] | None:
        """librdkafka's newest statistics (with `statistics.interval.ms`), see its STATISTICS.md."""
        text = self._membership.last_stats
        found: dict[str, Any] | None = json.loads(text) if text else None
        return found

    # ---------------------------------------------------------------- ending

    def wake(self) -> None:
        self._woken = True
        self._waker.wake()

    def close(self) -> None:
        """Leaves the group (a static member keeps its place) and frees all but the records still held by others."""
        self._in_use.close(self._waker.wake, self._leave)

    def _leave(self) -> None:
        while self._pending:
            self._pending.popleft().release()
        self._membership.leave(self._handle.pointer)
        api().rd_kafka_queue_io_event_enable(self._queue, -1, None, 0)
        api().rd_kafka_queue_destroy(self._queue)
        self._handle.drop()
        self._waker.close()

    def __enter__(self) -> ColumnarConsumer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_reader"):
            self.close()

    def _drop_pending(self, partitions: Iterable[TopicPartition]) -> None:
        """What was read before a seek, but not handed out, is void."""
        self._pending = deque(without(self._pending, partitions))

    def _check(self, code: int, what: str) -> None:
        if code:
            raise ConnectorError(f"can't {what}: {failure(code)}")

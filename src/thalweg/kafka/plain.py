"""The plain consumer: `confluent_kafka.Consumer` behind the columnar consumer's interface.

For machines where librdkafka can't be read directly. Slower, as every record is a Python object, and equal in what it
gives.
"""

from __future__ import annotations

import ctypes
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka._produce_api import FATAL, Failure, GroupMembership
from thalweg.kafka._reading_progress import ReadingProgress
from thalweg.kafka._records import without
from thalweg.kafka._retry import until_settled
from thalweg.kafka.arrow import to_arrow
from thalweg.kafka.consumer_config import consumer_config
from thalweg.kafka.consumer_errors import raise_for, raise_not_committed, unreachable
from thalweg.records import Int64s, RawRecords, UInt64s

if TYPE_CHECKING:
    import pyarrow as pa
    from confluent_kafka import Consumer, Message

logger = logging.getLogger("thalweg.kafka")

TopicPartition = tuple[str, int]

_PARTITION_EOF = -191
_FENCED_INSTANCE_ID = 82
_SLICE = 0.05
"""Seconds: `confluent_kafka` can't be woken, so a wait is cut into slices."""
_REQUEST_TIMEOUT_MS = 10_000


class PlainConsumer:
    """See `RecordConsumer`; the arguments are those of `ColumnarConsumer`.

    What the group wants back is given back at once here, also with `hold_assignment` (`confluent_kafka` has no way to
    wait): a commit that is under way then fails, and the job goes on from the one before.
    """

    def __init__(
        self, config: Mapping[str, object], topics: Sequence[str] = (), *, hold_assignment: bool = False
    ) -> None:
        from confluent_kafka import Consumer

        settings: dict[str, Any] = dict(consumer_config(config, topics))
        self._brokers = settings.get("bootstrap.servers") or settings["metadata.broker.list"]
        self._hold = hold_assignment
        self._progress = ReadingProgress()
        self._pending: deque[RawRecords] = deque()
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._offered: frozenset[TopicPartition] | None = None
        self._revoked = False
        self._woken = False
        self._closed = False
        self._last_error: str | None = None
        self._errors: list[Failure] = []
        self._consumer: Consumer = Consumer(settings | {"error_cb": self._on_error}, logger=logger)
        if topics:
            self._consumer.subscribe(
                list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
            )

    # ---------------------------------------------------------------- reading

    def poll(self, max_records: int = 10_000, timeout_ms: int = 100) -> RawRecords | None:
        """See `RecordConsumer`."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            if self._pending:
                raw = self._pending.popleft()
                self._progress.handed_out(raw)
                return raw
            remaining = max(0.0, deadline - time.monotonic())
            first = self._consumer.consume(1, min(_SLICE, remaining))
            self._raise_errors()
            if first:
                self._take(first + self._consumer.consume(max(0, max_records - 1), 0))
            elif self._woken or self._closed or remaining == 0:
                self._woken = False
                return None

    def poll_arrow(self, max_records: int = 10_000, timeout_ms: int = 100) -> pa.RecordBatch | None:
        """See `RecordConsumer`."""
        raw = self.poll(max_records, timeout_ms)
        return None if raw is None else to_arrow(raw)

    def _take(self, messages: Sequence[Message]) -> None:
        by_topic: dict[str, list[Message]] = {}
        failed: list[Message] = []
        for message in messages:
            if message.error() is None:
                by_topic.setdefault(message.topic(), []).append(message)
            else:
                failed.append(message)
        self._pending.extend(_raw_records(topic, found) for topic, found in by_topic.items())
        for message in failed:
            error = message.error()
            if error.code() == _PARTITION_EOF:
                self._progress.reached_end((message.topic(), message.partition()), message.offset())
            else:
                raise_for(_failure(error), message.topic(), message.partition(), message.offset())

    # ---------------------------------------------------------------- where it is

    def offered(self) -> frozenset[TopicPartition] | None:
        return self._offered

    @property
    def revoked(self) -> bool:
        return self._revoked

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `RecordConsumer`."""
        self._progress.keep_only(frozenset(positions))
        self._progress.restart(positions)
        self._pending.clear()
        self._consumer.assign(_list(positions))
        self._assigned, self._offered = frozenset(positions), None

    def assignment(self) -> frozenset[TopicPartition]:
        return self._assigned

    def positions(self) -> dict[TopicPartition, int]:
        return self._progress.positions()

    def caught_up(self) -> frozenset[TopicPartition]:
        return self._progress.caught_up()

    def end_offsets(self) -> dict[TopicPartition, int]:
        """See `RecordConsumer`."""
        ends = self._progress.ends()
        for tp in self._assigned:
            low_high = self._consumer.get_watermark_offsets(_list([tp])[0], cached=True)
            if low_high is not None and low_high[1] >= 0:
                ends[tp] = max(low_high[1], ends.get(tp, 0))
        return ends

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `RecordConsumer`."""
        from confluent_kafka import KafkaException

        for tp in _list(positions):
            try:
                self._consumer.seek(tp)
            except KafkaException as error:
                raise ConnectorError(f"can't seek in {tp.topic} [{tp.partition}]: {error}") from error
        self._pending = deque(without(self._pending, positions))
        self._progress.restart(positions)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        self._consumer.pause(_list(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        self._consumer.resume(_list(partitions))

    # ---------------------------------------------------------------- requests

    def topics(self, timeout_ms: int = _REQUEST_TIMEOUT_MS) -> dict[str, int]:
        """See `RecordConsumer`."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            try:
                found = self._consumer.list_topics(timeout=min(0.5, timeout_ms / 1000))
                return {name: len(topic.partitions) for name, topic in found.topics.items()}
            except KafkaException as error:
                if self._closed or time.monotonic() >= deadline:
                    self._consumer.consume(1, 0)
                    raise unreachable(self._brokers, timeout_ms / 1000, self._last_error) from error

    def watermarks(self, tp: TopicPartition, timeout_ms: int = _REQUEST_TIMEOUT_MS) -> tuple[int, int]:
        """See `RecordConsumer`."""
        what = f"ask for the offsets of {tp[0]} [{tp[1]}]"
        row = _list([tp])[0]
        found = _ask(lambda seconds: self._consumer.get_watermark_offsets(row, timeout=seconds), timeout_ms, what)
        return found[0], found[1]

    def committed(
        self, partitions: Iterable[TopicPartition], timeout_ms: int = _REQUEST_TIMEOUT_MS
    ) -> dict[TopicPartition, tuple[int, str]]:
        """See `RecordConsumer`."""
        from confluent_kafka import KafkaException

        wanted = _list(partitions)

        def ask(seconds: float) -> Any:
            found = self._consumer.committed(wanted, timeout=seconds)
            for tp in found:
                if tp.error is not None:
                    raise KafkaException(tp.error)
            return found

        found = _ask(ask, timeout_ms, "read the committed offsets")
        return {(tp.topic, tp.partition): (tp.offset, tp.metadata or "") for tp in found if tp.offset >= 0}

    def commit_sync(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """See `RecordConsumer`."""
        from confluent_kafka import KafkaException, TopicPartition

        rows = [TopicPartition(t, p, offset, metadata) for (t, p), (offset, metadata) in offsets.items()]
        try:
            done = self._consumer.commit(offsets=rows, asynchronous=False)
            errors = [tp.error for tp in done or () if tp.error is not None]
        except KafkaException as error:
            errors = [error.args[0]]
        for problem in map(_failure, errors):
            raise_not_committed(problem)

    def group_metadata(self) -> GroupMembership:
        """See `RecordConsumer`. Needs librdkafka itself, as the transactional producer does.

        Raises:
            LibraryUnusable: it is not there.
        """
        from thalweg.kafka._consume_api import api

        written: bytes = self._consumer.consumer_group_metadata()
        pointer = ctypes.c_void_p()
        error = api().rd_kafka_consumer_group_metadata_read(ctypes.byref(pointer), written, len(written))
        if error or not pointer.value:
            raise ConfigurationError("this confluent_kafka gives group metadata that its librdkafka can't read")
        return GroupMembership(pointer.value)

    # ---------------------------------------------------------------- ending

    def wake(self) -> None:
        self._woken = True

    def close(self) -> None:
        """Leaves the group (a static member keeps its place)."""
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def __enter__(self) -> PlainConsumer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---------------------------------------------------------------- callbacks, run inside calls of ours

    def _on_assign(self, consumer: Consumer, partitions: Sequence[Any]) -> None:
        named = frozenset((tp.topic, tp.partition) for tp in partitions)
        if self._hold:
            consumer.assign([])
            self._offered = named
            return
        self._progress.keep_only(frozenset())
        self._assigned = named

    def _on_revoke(self, consumer: Consumer, partitions: Sequence[Any]) -> None:
        self._assigned = frozenset()
        if self._hold:
            self._revoked = True
        if not self._closed:
            self._progress.keep_only(frozenset())

    def _on_error(self, error: Any) -> None:
        self._last_error = error.str()
        self._errors.append(_failure(error))

    def _raise_errors(self) -> None:
        errors, self._errors = self._errors, []
        for error in errors:
            raise_for(error)


def _failure(error: Any) -> Failure:
    fatal = error.fatal() or error.code() == FATAL
    # The code beneath a fatal error can't be had from confluent_kafka; its text can.
    code = _FENCED_INSTANCE_ID if fatal and "fenced" in error.str() else error.code()
    return Failure(code, error.name(), error.str(), fatal=fatal)


def _ask(ask: Callable[[float], Any], timeout_ms: int, what: str) -> Any:
    """Asks, again while the cluster settles.

    Raises:
        ConnectorError: what could not be done, and why.
    """
    from confluent_kafka import KafkaException

    answer: Any = None
    last: KafkaException | None = None

    def attempt(remaining_ms: int) -> int:
        nonlocal answer, last
        try:
            answer = ask(remaining_ms / 1000)
        except KafkaException as error:
            last = error
            code: int = error.args[0].code()
            return code
        return 0

    if until_settled(attempt, timeout_ms):
        raise ConnectorError(f"can't {what}: {last}") from last
    return answer


def _list(partitions: Iterable[TopicPartition] | Mapping[TopicPartition, int]) -> list[Any]:
    from confluent_kafka import TopicPartition

    if isinstance(partitions, Mapping):
        return [TopicPartition(topic, partition, offset) for (topic, partition), offset in partitions.items()]
    return [TopicPartition(topic, partition) for topic, partition in partitions]


def _raw_records(topic: str, messages: Sequence[Message]) -> RawRecords:
    values = _Column([message.value() for message in messages])
    keys = _Column([message.key() for message in messages])
    times = [message.timestamp() for message in messages]
    return RawRecords(
        topic,
        values.addresses,
        values.lengths,
        keys.addresses,
        keys.lengths,
        np.array([message.partition() for message in messages], dtype=np.int32),
        np.array([message.offset() for message in messages], dtype=np.int64),
        np.array([at if kind else -1 for kind, at in times], dtype=np.int64),
        (values.data, keys.data),
    )


class _Column:
    """Byte strings in one buffer, by address and length; None has length -1."""

    def __init__(self, rows: Sequence[bytes | None]) -> None:
        self.data = np.frombuffer(b"".join(row for row in rows if row) or b"\0", dtype=np.uint8)
        self.lengths: Int64s = np.array([-1 if row is None else len(row) for row in rows], dtype=np.int64)
        sizes = np.maximum(self.lengths, 0)
        starts = (np.cumsum(sizes) - sizes).astype(np.uint64)
        self.addresses: UInt64s = np.where(self.lengths < 0, 0, starts + np.uint64(self.data.ctypes.data))

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
from functools import partial
from typing import TYPE_CHECKING, Any

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka._in_use import InUse
from thalweg.kafka._plain_membership import ListenedPlainMembership, PlainMembership, failure_of
from thalweg.kafka._plain_records import raw_records
from thalweg.kafka._produce_api import STATE, GroupMembership
from thalweg.kafka._reading_progress import ReadingProgress
from thalweg.kafka._rebalancing import RebalanceListener
from thalweg.kafka._records import without
from thalweg.kafka._retry import PASSING, until_settled
from thalweg.kafka.arrow import to_arrow
from thalweg.kafka.consumer_config import consumer_config
from thalweg.kafka.consumer_errors import raise_for, raise_not_committed, unreachable
from thalweg.kafka.tokens import OAUTH, Tokens
from thalweg.records import RawRecords

if TYPE_CHECKING:
    import pyarrow as pa
    from confluent_kafka import Consumer, Message

logger = logging.getLogger("thalweg.kafka")

TopicPartition = tuple[str, int]

_PARTITION_EOF = -191
_SLICE = 0.05
"""Seconds: `confluent_kafka` can't be woken, so a wait is cut into slices."""
_REQUEST_TIMEOUT_MS = 10_000
_MOVING = PASSING | {STATE}


class PlainConsumer:
    """See `RecordConsumer`; the arguments are those of `ColumnarConsumer`.

    What the group wants back is given back at once here, also with `hold_assignment` (`confluent_kafka` has no way to
    wait): a commit that is under way then fails, and the job goes on from the one before.
    """

    def __init__(
        self,
        config: Mapping[str, object],
        topics: Sequence[str] = (),
        *,
        hold_assignment: bool = False,
        listener: RebalanceListener | None = None,
    ) -> None:
        from confluent_kafka import Consumer

        settings: dict[str, Any] = dict(consumer_config(config, topics, cooperative=listener is not None))
        self._brokers = settings.get("bootstrap.servers") or settings["metadata.broker.list"]
        self._progress = ReadingProgress()
        self._membership = (
            PlainMembership(self._progress, hold_assignment)
            if listener is None
            else ListenedPlainMembership(self._progress, listener, one_by_one=_is_cooperative(settings))
        )
        self._pending: deque[RawRecords] = deque()
        self._woken = False
        self._in_use = InUse()
        if isinstance(tokens := settings.get(OAUTH), Tokens):
            tokens()  # says why there is none; `confluent_kafka` would wait ten seconds for it
        self._consumer: Consumer = Consumer(settings | self._membership.settings, logger=logger)
        if topics:
            self.subscribe(topics)

    def subscribe(self, topics: Sequence[str]) -> None:
        """See `GroupConsumer`."""
        with self._in_use():
            self._membership.subscribe(self._consumer, topics)

    def unsubscribe(self) -> None:
        """See `GroupConsumer`."""
        with self._in_use():
            self._consumer.unsubscribe()

    # ---------------------------------------------------------------- reading

    def poll(self, max_records: int = 10_000, timeout_ms: int = 100) -> RawRecords | None:
        """See `RecordConsumer`."""
        deadline = time.monotonic() + timeout_ms / 1000
        with self._in_use():
            while True:
                if self._pending:
                    raw = self._pending.popleft()
                    self._progress.handed_out(raw)
                    return raw
                remaining = max(0.0, deadline - time.monotonic())
                first = self._consumer.consume(1, min(_SLICE, remaining))
                self._membership.raise_errors()
                if first:
                    self._take(first + self._consumer.consume(max(0, max_records - 1), 0))
                elif self._woken or self._in_use.closing or remaining == 0:
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
        self._pending.extend(raw_records(topic, found) for topic, found in by_topic.items())
        for message in failed:
            error = message.error()
            if error.code() == _PARTITION_EOF:
                self._progress.reached_end((message.topic(), message.partition()), message.offset())
            else:
                raise_for(failure_of(error), message.topic(), message.partition(), message.offset())

    # ---------------------------------------------------------------- where it is

    def offered(self) -> frozenset[TopicPartition] | None:
        return self._membership.offered

    @property
    def revoked(self) -> bool:
        return self._membership.revoked

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `RecordConsumer`."""
        with self._in_use():
            self._progress.keep_only(frozenset(positions))
            self._progress.restart(positions)
            self._pending.clear()
            self._consumer.assign(_list(positions))
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
        with self._in_use():
            for tp in self._membership.assigned:
                low_high = self._consumer.get_watermark_offsets(_list([tp])[0], cached=True)
                if low_high is not None and low_high[1] >= 0:
                    ends[tp] = max(low_high[1], ends.get(tp, 0))
        return ends

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """See `RecordConsumer`."""
        with self._in_use():
            for tp in _list(positions):
                # A partition that was assigned a moment ago is not fetched yet, and refuses to be moved.
                _ask(partial(self._move, tp), _REQUEST_TIMEOUT_MS, f"seek in {tp.topic} [{tp.partition}]", _MOVING)
            self._pending = deque(without(self._pending, positions))
            self._progress.restart(positions)

    def _move(self, place: Any, seconds: float) -> None:
        self._consumer.seek(place)

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        with self._in_use():
            self._consumer.pause(_list(partitions))

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        with self._in_use():
            self._consumer.resume(_list(partitions))

    # ---------------------------------------------------------------- requests

    def topics(self, timeout_ms: int = _REQUEST_TIMEOUT_MS) -> dict[str, int]:
        """See `RecordConsumer`."""
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + timeout_ms / 1000
        with self._in_use():
            while True:
                try:
                    found = self._consumer.list_topics(timeout=min(0.5, timeout_ms / 1000))
                    return {name: len(topic.partitions) for name, topic in found.topics.items()}
                except KafkaException as error:
                    if self._in_use.closing or time.monotonic() >= deadline:
                        self._consumer.consume(1, 0)
                        self._membership.raise_errors()
                        reason = self._membership.last_error
                        raise unreachable(self._brokers, timeout_ms / 1000, reason) from error

    def watermarks(self, tp: TopicPartition, timeout_ms: int = _REQUEST_TIMEOUT_MS) -> tuple[int, int]:
        """See `RecordConsumer`."""
        what = f"ask for the offsets of {tp[0]} [{tp[1]}]"
        row = _list([tp])[0]
        with self._in_use():
            found = _ask(lambda seconds: self._consumer.get_watermark_offsets(row, timeout=seconds), timeout_ms, what)
        return found[0], found[1]

    def committed(
        self, partitions: Iterable[TopicPartition], timeout_ms: int = _REQUEST_TIMEOUT_MS
    ) -> dict[TopicPartition, tuple[int, str]]:
        """See `RecordConsumer`."""
        wanted = _list(partitions)
        with self._in_use():
            found = _ask(
                lambda seconds: _without_errors(self._consumer.committed(wanted, timeout=seconds)),
                timeout_ms,
                "read the committed offsets",
            )
        return {(tp.topic, tp.partition): (tp.offset, tp.metadata or "") for tp in found if tp.offset >= 0}

    def offsets_at(
        self, times: Mapping[TopicPartition, int], timeout_ms: int = _REQUEST_TIMEOUT_MS
    ) -> dict[TopicPartition, int]:
        """See `GroupConsumer`."""
        wanted = _list(times)
        with self._in_use():
            rows = _ask(
                lambda seconds: _without_errors(self._consumer.offsets_for_times(wanted, timeout=seconds)),
                timeout_ms,
                "look up offsets by time",
            )
        found = {(row.topic, row.partition): row.offset for row in rows}
        return {tp: offset if offset >= 0 else self.watermarks(tp, timeout_ms)[1] for tp, offset in found.items()}

    def commit_sync(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """See `RecordConsumer`."""
        from confluent_kafka import KafkaException

        with self._in_use():
            try:
                done = self._consumer.commit(offsets=_noted(offsets), asynchronous=False)
                errors = [tp.error for tp in done or () if tp.error is not None]
            except KafkaException as error:
                errors = [error.args[0]]
        for problem in map(failure_of, errors):
            raise_not_committed(problem)

    def commit_async(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None:
        """See `GroupConsumer`."""
        from confluent_kafka import KafkaException

        with self._in_use():
            try:
                self._consumer.commit(offsets=_noted(offsets), asynchronous=True)
            except KafkaException as error:
                raise ConnectorError(f"can't commit: {error}") from error

    def group_metadata(self) -> GroupMembership:
        """See `RecordConsumer`. Needs librdkafka itself, as the transactional producer does.

        Raises:
            LibraryUnusable: it is not there.
        """
        from thalweg.kafka._consume_api import api

        with self._in_use():
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
        self._in_use.close(self.wake, self._leave)

    def _leave(self) -> None:
        self._membership.leaving = True
        self._consumer.close()

    def __enter__(self) -> PlainConsumer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _ask(ask: Callable[[float], Any], timeout_ms: int, what: str, passing: frozenset[int] = PASSING) -> Any:
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

    if until_settled(attempt, timeout_ms, passing):
        raise ConnectorError(f"can't {what}: {last}") from last
    return answer


def _list(partitions: Iterable[TopicPartition] | Mapping[TopicPartition, int]) -> list[Any]:
    from confluent_kafka import TopicPartition

    if isinstance(partitions, Mapping):
        return [TopicPartition(topic, partition, offset) for (topic, partition), offset in partitions.items()]
    return [TopicPartition(topic, partition) for topic, partition in partitions]


def _noted(offsets: Mapping[TopicPartition, tuple[int, str]]) -> list[Any]:
    from confluent_kafka import TopicPartition

    return [TopicPartition(t, p, offset, metadata) for (t, p), (offset, metadata) in offsets.items()]


def _without_errors(rows: Sequence[Any]) -> Sequence[Any]:
    """The rows of an answer.

    Raises:
        KafkaException: one of them is an error.
    """
    from confluent_kafka import KafkaException

    for row in rows:
        if row.error is not None:
            raise KafkaException(row.error)
    return rows


def _is_cooperative(settings: Mapping[str, Any]) -> bool:
    return "cooperative" in settings.get("partition.assignment.strategy", "")

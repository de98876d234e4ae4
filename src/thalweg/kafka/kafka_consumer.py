"""`KafkaConsumer`: records as rows or frames for programs that need no stream engine."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, ConnectorError, RestartRequired
from thalweg.formats import Format
from thalweg.kafka._consumer_buffer import Buffer
from thalweg.kafka._group_events import GroupEvents, RebalanceCallback
from thalweg.kafka._offset_ledger import OffsetLedger
from thalweg.kafka._worker_thread import WorkerThread
from thalweg.kafka.consumer import BEGINNING, COMMITTED, END, TopicPartition, open_group_consumer
from thalweg.kafka.consumer_positions import Positions
from thalweg.kafka.rows import BadRecords, KafkaRecord, RecordReader
from thalweg.kafka.security import client_settings

if TYPE_CHECKING:
    from thalweg.kafka.security import KafkaSecurity

logger = logging.getLogger("thalweg.kafka")

_STARTS = {"earliest": BEGINNING, "latest": END}
_RESETS = {"earliest": "earliest", "latest": "latest", "error": "error"}
_ASSIGNORS = {"cooperative": "cooperative-sticky", "range": "range", "roundrobin": "roundrobin"}
_FOREVER = 3600.0


class KafkaConsumer(Positions):
    """Reads topics as a member of a consumer group, or partitions of your choice.

    Rows by iteration, frames by `poll_batch`. With `auto_commit` an offset is committed only after its record was
    handled, which the *next* call for records proves: what was in work when a process died comes again.

    Args:
        brokers: `host:port` or several of them, as a list or separated by commas.
        topics: names, or one compiled pattern (`re.compile("sensors-.*")`); none: call `subscribe` or `assign`.
        group_id: the consumer group; without one only `assign` works, and nothing is committed.
        format: of the values: "raw" (bytes), "text", "json", "arrow" …, or a `Format` object (Avro with a registry).
        schema, columns: names and types of the value's columns, and the only ones that are wanted.
        key_format: "raw" (bytes) or "text".
        headers: give the records' headers too.
        start: where to begin without a committed offset: "earliest", "latest", or "error" to be told.
        auto_commit, auto_commit_interval: see above; the rest is committed when partitions move on, and by `close`.
        read_uncommitted: records of open and aborted transactions too.
        assignment: "cooperative" (a rebalance takes only the partitions that move), "range" or "roundrobin".
        instance_id: static membership: a consumer that comes back within the session timeout gets its partitions
            without a rebalance.
        session_timeout: after so long without a sign of life the group takes the partitions away.
        on_assign, on_revoke, on_lost: called with this consumer and a set of (topic, partition), on the thread that
            polls, inside a poll. In `on_assign` a `seek` says where to begin; `on_revoke` may still commit.
        on_bad_records: gets a frame of dead letters for records that the format can't read; without it they raise
            `BadRecords`.
        max_rows: how many rows an iteration fetches at once.
        security: see `KafkaSecurity`.
        settings: any other librdkafka setting, by its name; it wins.

    Raises:
        ConfigurationError: a setting that can't work.

    >>> with KafkaConsumer("localhost:9092", ["clicks"], group_id="g") as consumer:      # doctest: +SKIP
    ...     for record in consumer:
    ...         print(record.key, record.value)
    """

    def __init__(
        self,
        brokers: str | Sequence[str],
        topics: str | Sequence[str] | re.Pattern[str] = (),
        *,
        group_id: str | None = None,
        client_id: str = "thalweg",
        format: str | Format = "raw",
        schema: Mapping[str, Any] | None = None,
        columns: Iterable[str] | None = None,
        key_format: str = "raw",
        headers: bool = False,
        start: str = "earliest",
        auto_commit: bool = True,
        auto_commit_interval: Duration = "5s",
        read_uncommitted: bool = False,
        assignment: str = "cooperative",
        instance_id: str | None = None,
        session_timeout: Duration = "10s",
        on_assign: RebalanceCallback | None = None,
        on_revoke: RebalanceCallback | None = None,
        on_lost: RebalanceCallback | None = None,
        on_bad_records: Callable[[pl.DataFrame], object] | None = None,
        max_rows: int = 500,
        security: KafkaSecurity | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        _check_choice("start", start, _RESETS)
        _check_choice("assignment", assignment, _ASSIGNORS)
        if max_rows < 1:
            raise ConfigurationError(f"max_rows is {max_rows}; at least one is needed")
        names = _topic_names(topics)
        if names and not group_id:
            raise ConfigurationError("topics need a group_id; without one, read partitions by `assign`")
        interval = milliseconds(auto_commit_interval, name="auto_commit_interval", minimum=1) / 1000
        self.group_id = group_id
        self._start = start
        self._auto_commit = auto_commit and group_id is not None
        self._interval = interval
        self._next_commit = time.monotonic() + interval
        self._max_rows = max_rows
        self._on_bad_records = on_bad_records
        self._reader = RecordReader(
            format,
            schema=schema,
            columns=None if columns is None else list(columns),
            key_format=key_format,
            headers=headers,
        )
        self._ledger = OffsetLedger()
        self._buffer = Buffer()
        self._worker = WorkerThread()
        self._interrupted = False
        self._closed = False
        session = milliseconds(session_timeout, name="session_timeout", minimum=1)
        config: dict[str, object] = {
            "client.id": client_id,
            "auto.offset.reset": _RESETS[start],
            "isolation.level": "read_uncommitted" if read_uncommitted else "read_committed",
            "session.timeout.ms": session,
            "heartbeat.interval.ms": max(1, min(session // 4, 1_000)),  # how soon a rebalance is heard of
            "partition.assignment.strategy": _ASSIGNORS[assignment],
            "topic.metadata.refresh.interval.ms": 30_000,  # how soon a pattern meets a new topic
        }
        if group_id:
            config["group.id"] = group_id
        if instance_id:
            config["group.instance.id"] = instance_id
        config |= client_settings(brokers, security, settings)
        self._events = GroupEvents(
            self, self._ledger, self._buffer, auto_commit=self._auto_commit, callbacks=(on_assign, on_revoke, on_lost)
        )
        self._consumer = open_group_consumer(config, names, self._events)

    # ---------------------------------------------------------------- what to read

    def subscribe(self, topics: str | Sequence[str] | re.Pattern[str]) -> None:
        """Reads these topics, instead of those before, as a member of the group.

        A pattern is matched against whole names by librdkafka (POSIX extended syntax), also those of topics that come
        later (within 30 s).
        """
        if not self.group_id:
            raise ConfigurationError("topics need a group_id; without one, read partitions by `assign`")
        self._consumer.subscribe(_topic_names(topics))

    def unsubscribe(self) -> None:
        """Leaves the group's partitions to others."""
        self._consumer.unsubscribe()

    def assign(self, partitions: Iterable[TopicPartition] | Mapping[TopicPartition, int]) -> None:
        """Reads exactly these (topic, partition), without asking the group.

        Args:
            partitions: a mapping gives offsets to start from; else the group's commit counts, then `start`.
        """
        default = COMMITTED if self.group_id else _STARTS.get(self._start, BEGINNING)
        given = dict(partitions) if isinstance(partitions, Mapping) else dict.fromkeys(partitions, default)
        self._buffer.drop(given)
        self._ledger.moved(given)
        self._consumer.start(given)

    # ---------------------------------------------------------------- frames

    def poll_batch(self, max_rows: int = 100_000, timeout: float = 1.0) -> pl.DataFrame | None:
        """What has arrived, of one topic, as a frame; None when nothing came within `timeout` seconds.

        The columns are the value's own (raw and text: `value`) and `__key`, `__topic`, `__partition`, `__offset`,
        `__ts` (ms UTC), with `headers=True` also `__headers`.

        Raises:
            BadRecords: see `on_bad_records`.
            FencedError, ConnectorError: reading can't go on.
        """
        return self._give_batch(max_rows) if self._fill(max_rows, timeout) else None

    async def poll_batch_async(self, max_rows: int = 100_000, timeout: float = 1.0) -> pl.DataFrame | None:
        """`poll_batch`, awaited: the waiting, and callbacks, are on a thread of this consumer's."""
        return self._give_batch(max_rows) if await self._fill_async(max_rows, timeout) else None

    # ---------------------------------------------------------------- rows

    def poll(self, timeout: float = 1.0) -> KafkaRecord | None:
        """The next record; None when nothing came within `timeout` seconds. Asking proves that the last was handled.

        Raises:
            BadRecords, FencedError, ConnectorError: as `poll_batch`.
        """
        record = self._next_row()
        if record is None and self._fill(self._max_rows, timeout):
            record = self._next_row()
        return record

    def __iter__(self) -> Iterator[KafkaRecord]:
        """Endless, until `close` is called (by another thread or a callback)."""
        while not self._closed:
            record = self.poll(_FOREVER)
            if record is not None:
                yield record

    async def __aiter__(self) -> AsyncIterator[KafkaRecord]:
        while not self._closed:
            record = self._next_row()
            if record is None and await self._fill_async(self._max_rows, _FOREVER):
                record = self._next_row()
            if record is not None:
                yield record

    # ---------------------------------------------------------------- commits

    def commit(
        self, offsets: Mapping[TopicPartition, int | tuple[int, str]] | None = None, *, asynchronous: bool = False
    ) -> None:
        """Says that records are handled.

        Args:
            offsets: the next offset to read of each partition, with a note if you like; None: all that was handed out,
                of a loop over rows the present row included.
            asynchronous: do not wait for the broker; a failure is logged.

        Raises:
            RestartRequired: the group has moved on; the records will come again, perhaps to another member.
            ConnectorError: the broker refuses.
        """
        if offsets is None:
            self._ledger.prove()
            offsets = self._ledger.dirty()
        rows = {tp: at if isinstance(at, tuple) else (at, "") for tp, at in offsets.items()}
        if not rows:
            return
        if asynchronous:
            self._consumer.commit_async(rows)
            return
        self._consumer.commit_sync(rows)
        self._ledger.committed({tp: at for tp, (at, _) in rows.items()})

    # ---------------------------------------------------------------- ending

    def close(self) -> None:
        """Commits what is proven handled, and leaves the group (a static member keeps its place)."""
        if self._closed:
            return
        self._closed = True
        self._consumer.wake()
        self._worker.close()
        self._events.leaving(self._consumer.assignment())
        self._consumer.close()
        self._buffer.held.release()

    def __enter__(self) -> KafkaConsumer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> KafkaConsumer:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    # ---------------------------------------------------------------- inside

    def _next_row(self) -> KafkaRecord | None:
        self._ledger.prove()
        record = self._buffer.next_row(self._reader)
        if record is None:
            return None
        self._ledger.give({(record.topic, record.partition): record.offset + 1})
        if self._due():
            self._commit_handled()
        return record

    def _give_batch(self, max_rows: int) -> pl.DataFrame:
        frame, positions = self._buffer.take(max_rows)
        self._ledger.give(positions)
        return frame

    async def _fill_async(self, most: int, timeout: float) -> bool:
        self._interrupted = False
        return await self._worker.run(lambda: self._fill(most, timeout), self._interrupt)

    def _interrupt(self) -> None:
        self._interrupted = True
        self._consumer.wake()

    def _fill(self, most: int, timeout: float) -> bool:
        """Makes sure that there are rows to give; whether there are."""
        self._ledger.prove()
        if self._buffer:
            return True
        if self._buffer.end:
            self._ledger.give(self._buffer.end)  # behind its last row, where records may be that could not be read
            self._ledger.prove()
        self._buffer.clear()
        if self._due():
            self._commit_handled()
        deadline = time.monotonic() + timeout
        while not self._buffer:
            remaining = max(0.0, deadline - time.monotonic())
            came = self._read(most, remaining)
            if not came and (self._closed or self._interrupted or not remaining):
                return False
        return True

    def _read(self, most: int, timeout: float) -> bool:
        """One poll into the buffer; whether anything came."""
        held = self._buffer.held
        if held and not held.remaining:
            with held.pausing(self._consumer, self._events.paused):
                done = held.again(self._reader.read)
            if done is not None:
                return self._put(*done)
        if held:
            timeout = min(timeout, held.remaining)
        # Not longer than until the next automatic commit is due.
        wait = min(timeout, max(0.001, self._next_commit - time.monotonic())) if self._auto_commit else timeout
        try:
            raw = self._consumer.poll(most, int(wait * 1000))
        except RestartRequired as error:
            # librdkafka joins again by itself, and the listener is told what was lost.
            logger.warning("%s; joining the group again", error)
            return True
        except ConnectorError:
            if self._closed:  # by another thread
                return False
            raise
        if raw is None:
            waiting = held.partitions()
            self._ledger.at_end({tp: end for tp, end in self._consumer.reached_ends().items() if tp not in waiting})
            if self._due():
                self._commit_handled()
            return False
        topic, moved = raw.topic, self._consumer.positions()
        positions = {(topic, p): moved[topic, p] for p in np.flatnonzero(np.bincount(raw.partition)).tolist()}
        with held.pausing(self._consumer, self._events.paused):
            done = held.decode(raw, positions, self._reader.read)
        return done is not None and self._put(*done)

    def _put(self, read: tuple[pl.DataFrame, pl.DataFrame | None], positions: dict[TopicPartition, int]) -> bool:
        """What was decoded into the buffer."""
        frame, letters = read
        self._buffer.put(frame, positions)
        if letters is not None:
            if self._on_bad_records is None:
                raise BadRecords(letters)
            self._on_bad_records(letters)
        return True

    def _due(self) -> bool:
        return self._auto_commit and time.monotonic() >= self._next_commit

    def _commit_handled(self) -> None:
        self._next_commit = time.monotonic() + self._interval
        dirty = self._ledger.dirty()
        if dirty:
            self._consumer.commit_async({tp: (offset, "") for tp, offset in dirty.items()})


def _topic_names(topics: str | Sequence[str] | re.Pattern[str]) -> list[str]:
    if isinstance(topics, re.Pattern):
        return [f"^({topics.pattern.removeprefix('^').removesuffix('$')})$"]
    return [topics] if isinstance(topics, str) else list(topics)


def _check_choice(name: str, value: str, choices: Mapping[str, object]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name} is {value!r}; use one of {', '.join(choices)}")


__all__ = ["BadRecords", "ConnectorError", "KafkaConsumer", "KafkaRecord"]

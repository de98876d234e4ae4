"""`RetryingConsumer`: handles records; those that fail are tried again later, then become dead letters."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from thalweg.errors import ConfigurationError, FencedError
from thalweg.kafka._delivery import ProduceError
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.consumer import TopicPartition
from thalweg.kafka.dead_letter.letters import DEAD_SUFFIX, DUE, Origin, described, headers_for, origin_of
from thalweg.kafka.dead_letter.policy import RetryPolicy
from thalweg.kafka.dead_letter.store import Outgoing
from thalweg.kafka.kafka_consumer import KafkaConsumer
from thalweg.kafka.producer import KafkaProducer
from thalweg.kafka.rows import KafkaRecord
from thalweg.records import MAX_DEAD_PAYLOAD

if TYPE_CHECKING:
    from thalweg.kafka.security import KafkaSecurity

logger = logging.getLogger("thalweg.kafka")

_IDLE = 0.5
_OVERHEAD = 256
"""Bytes that a batch of one record has beside key, value and headers, generously."""


class RetryingConsumer:
    """Calls a function with every record of a topic. A record for which it raises goes to `<topic>.retry-1`, from there
    after a delay to the function again, and so on; after the last retry to `<topic>.dlq`. The partition goes on
    meanwhile: only a retry topic's own next record waits until it is due.

    Handing a record on and the progress of its partition are one transaction: it is never in two topics, and never in
    none. After a crash, records since the last commit are handled again.

    A record that ends the process (a crash in native code, memory) comes back after each restart; when it has done so
    `max_crashes` times it is a poison pill, and becomes a dead letter without being tried again.

    Args:
        brokers: `host:port` or several of them.
        topic: what to read; its retry and dead-letter topics are made with as many partitions.
        handler: called with each record (`KafkaRecord`: topic, partition, offset, timestamp, key, value, headers).
        group_id: the consumer group.
        retries: a `RetryPolicy`.
        give_up_on: exceptions that no retry mends: a dead letter at once.
        max_crashes: see above; 0: never a poison pill.
        max_rows: how many records are handled before their progress is committed.
        clock: ms UTC.
        security, settings: as for `KafkaConsumer`.

    >>> with RetryingConsumer("localhost:9092", "orders", ship, group_id="shipping") as worker:  # doctest: +SKIP
    ...     worker.run()
    """

    def __init__(
        self,
        brokers: str | Sequence[str],
        topic: str,
        handler: Callable[[KafkaRecord], object],
        *,
        group_id: str,
        retries: RetryPolicy | None = None,
        give_up_on: tuple[type[Exception], ...] = (),
        max_crashes: int = 3,
        max_rows: int = 500,
        clock: Callable[[], int] | None = None,
        security: KafkaSecurity | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        if max_rows < 1 or max_crashes < 0:
            raise ConfigurationError(f"max_rows={max_rows}, max_crashes={max_crashes}: use at least 1, and at least 0")
        self.topic = topic
        self.group_id = group_id
        self.retries = retries or RetryPolicy()
        self._handler = handler
        self._give_up_on = give_up_on
        self._max_crashes = max_crashes
        self._max_rows = max_rows
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)
        self._stopping = threading.Event()
        self._paused: dict[TopicPartition, int] = {}
        self._starts: dict[TopicPartition, tuple[int, int]] = {}
        self._careful: dict[TopicPartition, int] = {}
        self._marked: set[TopicPartition] = set()
        self._retry_topics = self.retries.topics(topic)
        self._room = self._make_topics(KafkaAdmin(brokers, security=security, settings=settings))
        self._producer = KafkaProducer(
            brokers,
            transactional_id=f"{group_id}-retries-{uuid.uuid4().hex[:12]}",
            max_record_bytes=64 * 1024 * 1024,
            security=security,
            settings=settings,
        )
        self._producer.init_transactions()
        self._consumer = KafkaConsumer(
            brokers,
            [topic, *self._retry_topics],
            group_id=group_id,
            headers=True,
            auto_commit=False,
            max_rows=max_rows,
            on_assign=self._assigned,
            on_revoke=lambda _, partitions: self._gone(partitions),
            on_lost=lambda _, partitions: self._gone(partitions),
            security=security,
            settings=settings,
        )

    def _make_topics(self, admin: KafkaAdmin) -> int:
        """Makes the topics that are missing; the fewest bytes that one of them takes."""
        partitions = admin.partitions(self.topic)
        replication = admin.describe(self.topic).replication
        names = [*self._retry_topics, self.topic + DEAD_SUFFIX]
        for name in names:
            admin.ensure_topic(name, partitions, replication=replication)
        room = min(admin.describe(name).max_record_bytes for name in names)
        admin.close()
        return room

    # -- running

    def run(self, *, seconds: float | None = None, until_idle: float | None = None) -> int:
        """Handles records until `stop`; how many were handled, failures included.

        Args:
            seconds: how long at most.
            until_idle: end when everything is read, and nothing waits to be due, for so many seconds.

        Raises:
            FencedError, ConnectorError: the cluster refuses; what is not committed comes again.
        """
        began = quiet_since = time.monotonic()
        handled = 0
        while not self._stopping.is_set():
            rows = self._take()
            now = time.monotonic()
            if rows:
                handled += self._handle(rows)
                quiet_since = time.monotonic()
            elif not self._is_caught_up():
                quiet_since = now
            if seconds is not None and now - began >= seconds:
                break
            if until_idle is not None and now - quiet_since >= until_idle:
                break
        return handled

    def _is_caught_up(self) -> bool:
        """Whether the partitions of this member are read to their ends, by the brokers' word."""
        assigned, lag = self._consumer.assignment(), self._consumer.lag()
        return bool(assigned) and lag.keys() >= assigned and not any(lag.values()) and not self._paused

    def stop(self) -> None:
        """Makes `run` return after the records in work; from any thread."""
        self._stopping.set()

    def _take(self) -> list[KafkaRecord]:
        """The next records that are due; those of a retry topic that are not hold only their own partition."""
        self._resume_due()
        rows: list[KafkaRecord] = []
        record = self._consumer.poll(self._patience())
        while record is not None:
            due = _due_of(record)
            if due > self._clock():
                self._wait_for(record, due)
            else:
                rows.append(record)
            if len(rows) >= self._max_rows:
                break
            record = self._consumer.poll(0)
        return rows

    def _patience(self) -> float:
        if not self._paused:
            return _IDLE
        return min(_IDLE, max(0.0, (min(self._paused.values()) - self._clock()) / 1000))

    def _wait_for(self, record: KafkaRecord, due: int) -> None:
        place = (record.topic, record.partition)
        self._consumer.seek({place: record.offset})
        self._consumer.pause([place])
        self._paused[place] = due

    def _resume_due(self) -> None:
        now = self._clock()
        ready = [place for place, due in self._paused.items() if due <= now]
        for place in ready:
            del self._paused[place]
        if ready:
            self._consumer.resume(ready)

    # -- handling

    def _handle(self, rows: list[KafkaRecord]) -> int:
        if self._max_crashes:
            self._mark(rows)
        if any(self._is_careful(row) for row in rows):
            return sum(self._handle_carefully(row) for row in rows)
        return len(rows) if self._settle(rows, [self._try(row) for row in rows]) else 0

    def _try(self, row: KafkaRecord) -> Outgoing | None:
        """Calls the handler; where the record is to go if it failed."""
        try:
            self._handler(row)
        except Exception as error:
            origin = _origin(row)
            attempt = origin.attempt
            headers = headers_for(origin, error, self.group_id, row.value)
            if isinstance(error, self._give_up_on) or attempt >= len(self._retry_topics):
                logger.warning("a record of %r is a dead letter after %d attempts: %s", self.topic, attempt + 1, error)
                return self._letter(row, headers)
            headers[DUE] = str(self._clock() + self.retries.delays[attempt]).encode()
            if self._size(row, headers) > self._room:
                headers.pop("details", None)  # a traceback
            if self._size(row, headers) > self._room:
                return self._letter(row, headers)  # no retry topic could take it
            return Outgoing(self._retry_topics[attempt], row.key, row.value, headers, row.timestamp)
        return None

    @staticmethod
    def _size(row: KafkaRecord, headers: Mapping[str, bytes]) -> int:
        named = sum(len(name) + len(data) + 16 for name, data in headers.items())
        return len(row.value or b"") + len(row.key or b"") + named + _OVERHEAD

    def _letter(self, row: KafkaRecord, headers: dict[str, bytes]) -> Outgoing:
        """A dead letter; a payload that leaves no room for the headers is cut (its size and hash are of the whole)."""
        most = min(MAX_DEAD_PAYLOAD, self._room // 2)
        payload = row.value if row.value is None else row.value[:most]
        return Outgoing(self.topic + DEAD_SUFFIX, row.key, payload, headers, row.timestamp)

    def _settle(self, rows: list[KafkaRecord], outgoing: Iterable[Outgoing | None]) -> bool:
        """Commits that rows are handled, with what became of those that failed; false where it is to be done again."""
        records = [each for each in outgoing if each is not None]
        positions = {(row.topic, row.partition): row.offset + 1 for row in rows}
        try:
            if not records:
                self._consumer.commit(positions)
                return True
            with self._producer.transaction():
                for each in records:
                    self._producer.send(
                        each.topic, each.value, key=each.key, headers=dict(each.headers), timestamp=each.timestamp
                    )
                self._producer.send_offsets(positions, self._consumer)
        except FencedError:
            raise
        except ProduceError as error:
            logger.warning("what became of %d records could not be committed (%s): again", len(rows), error)
            self._consumer.seek_to_committed([p for p in positions if p in self._consumer.assignment()])
            return False
        return True

    # -- poison pills

    def _mark(self, rows: list[KafkaRecord]) -> None:
        """Notes, before the first records of a partition are handled, how often that began at this place."""
        for row in rows:
            place = (row.topic, row.partition)
            if place not in self._marked:
                self._marked.add(place)
                starts = self._begin(row)
                if starts >= 2:
                    self._careful[place] = row.offset + self._max_rows

    def _begin(self, row: KafkaRecord) -> int:
        """Commits that a record is about to be handled; how many times that was so."""
        place = (row.topic, row.partition)
        offset, before = self._starts.get(place, (-1, 0))
        starts = before + 1 if offset == row.offset else 1
        self._starts[place] = (row.offset, starts)
        self._consumer.commit({place: (row.offset, json.dumps({"starts": starts}))})
        return starts

    def _is_careful(self, row: KafkaRecord) -> bool:
        return row.offset < self._careful.get((row.topic, row.partition), -1)

    def _handle_carefully(self, row: KafkaRecord) -> int:
        """One record, with a note before it, so that the one that ends the process is known."""
        place = (row.topic, row.partition)
        starts = self._starts[place][1] if self._starts.get(place, (-1, 0))[0] == row.offset else self._begin(row)
        if starts <= self._max_crashes:
            return int(self._settle([row], [self._try(row)]))
        origin = _origin(row)
        text = f"the process ended {starts - 1} times while this record was handled"
        headers = described(origin, "PoisonPill", text, {"crashes": starts - 1}, self.group_id, row.value)
        logger.error("%s[%d] offset %d is a poison pill: %s", row.topic, row.partition, row.offset, text)
        return int(self._settle([row], [self._letter(row, headers)]))

    def _assigned(self, consumer: KafkaConsumer, partitions: Iterable[TopicPartition]) -> None:
        self._gone(partitions)
        for place, (offset, note) in consumer.committed_notes(partitions).items():
            self._starts[place] = (offset, _starts_in(note))

    def _gone(self, partitions: Iterable[TopicPartition]) -> None:
        for place in partitions:
            self._paused.pop(place, None)
            self._starts.pop(place, None)
            self._careful.pop(place, None)
            self._marked.discard(place)

    # -- life

    def close(self) -> None:
        """Leaves the group."""
        self.stop()
        self._consumer.close()
        self._producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _headers(row: KafkaRecord) -> dict[str, bytes | None]:
    return dict(row.headers or ())


def _due_of(row: KafkaRecord) -> int:
    try:
        return int(_headers(row).get(DUE) or 0)
    except ValueError:
        return 0


def _origin(row: KafkaRecord) -> Origin:
    return origin_of(row.topic, row.partition, row.offset, row.timestamp, _headers(row))


def _starts_in(note: str) -> int:
    try:
        return int(json.loads(note)["starts"])
    except (ValueError, KeyError, TypeError):
        return 0

"""Reads one Kafka topic for a job: records are decoded where librdkafka keeps them, without a copy in between."""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Mapping, Sequence

from thalweg.connectors.kafka_peers import group_name, instance_id
from thalweg.connectors.source_batch import decode_batch
from thalweg.errors import ConfigurationError, ConnectorError, RestartRequired, SourceClosed
from thalweg.formats.patience import serves_others
from thalweg.kafka._held import HeldRecords
from thalweg.kafka.consumer import BEGINNING, RecordConsumer, open_consumer
from thalweg.kafka.consumer_errors import OffsetOutOfRange
from thalweg.records import Decoder, RawRecords
from thalweg.streams.connector import JobSettings, SourceBatch, TopicPartition

log = logging.getLogger("thalweg.kafka")

SESSION_TIMEOUT_MS = 6_000
"""After so long without a sign of life another worker may take the partitions over."""
_JOIN_NOTICE = 10.0
_NEW_TOPIC = 1.0
"""Seconds until every broker has heard of a topic that was just made."""


class KafkaSource:
    """`Source` over one topic; a member of the consumer group `<job>-<topic>`.

    A group per topic, as a group deals out all its topics anew whenever a member comes: a job's second source would
    revoke what its first has just been given. Membership is static (`<job>-<slot>-<topic>`): a worker that is started
    again within the session timeout gets its partitions back at once.

    Args:
        brokers: `host:port[,host:port…]`.
        topic: what to read.
        decoder: turns the records into columns.
        job: name, slot, start setting and clock.
        broker_timestamps: add the records' time as `__ts`.
        settings: librdkafka settings (security and others) above ours.
        on_trimmed: what to do when retention has removed events before the job read them: "error" (the job stops and
            says so) or "skip" (it goes on with the oldest there is, and logs how many are gone).
        connect_timeout: seconds to wait for a broker's first answer.
        join_timeout: seconds to wait for the group's assignment.
    """

    def __init__(
        self,
        brokers: str,
        topic: str,
        decoder: Decoder,
        job: JobSettings,
        *,
        broker_timestamps: bool = False,
        settings: Mapping[str, object] | None = None,
        on_trimmed: str = "error",
        connect_timeout: float = 10.0,
        join_timeout: float = 300.0,
    ) -> None:
        if job.start not in ("earliest", "latest"):
            raise ConfigurationError(f'start is {job.start!r}; use "earliest" or "latest"')
        if on_trimmed not in ("error", "skip"):
            raise ConfigurationError(f'on_trimmed is {on_trimmed!r}; use "error" or "skip"')
        self.topic = topic
        self.group = group_name(job, topic)
        self._brokers = brokers
        serves_others(decoder)
        self._decoder = decoder
        self._job = job
        self._clock = job.clock or _wall_clock
        self._broker_timestamps = broker_timestamps
        self._settings = dict(settings or {})
        self._on_trimmed = on_trimmed
        self._connect_timeout_ms = int(connect_timeout * 1000)
        self._join_timeout = join_timeout
        self._consumer: RecordConsumer | None = None
        self._held = HeldRecords()
        self._partitions: frozenset[int] = frozenset()
        self._starts: dict[TopicPartition, int] = {}
        self._started = False
        self._closed = False

    @property
    def consumer(self) -> RecordConsumer:
        """The group member, for committers.

        Raises:
            ConnectorError: the source is not open.
        """
        if (consumer := self._consumer) is not None:
            return consumer
        if self._closed:
            raise SourceClosed(f"the source of topic {self.topic!r} was closed")
        raise ConnectorError(f"the source of topic {self.topic!r} is not open")

    def open(self) -> Sequence[int]:
        """See `Source`. Nothing is fetched before `seek` (or the first `poll`) says from where."""
        self._end()
        self._closed = self._started = False
        self._consumer = open_consumer(self._config(), [self.topic], hold_assignment=True)
        try:
            self._check_topic()
            self._partitions = self._join()
        except BaseException:
            self._end()
            raise
        return sorted(self._partitions)

    def seek(self, positions: Mapping[int, int]) -> None:
        """See `Source`.

        Raises:
            ConnectorError: a position in a partition that the topic does not have.
        """
        if unknown := positions.keys() - self._partitions:
            raise ConnectorError(
                f"topic {self.topic!r}: positions are given for partitions {sorted(unknown)}, which this worker does "
                "not read; was the topic made anew with fewer partitions?"
            )
        if self._started:
            moved = {(self.topic, p): position for p, position in positions.items()}
            with self._held.pausing(self.consumer):
                self._held.drop(moved)
            self.consumer.seek(moved)
            return
        named = {(self.topic, p): position for p, position in positions.items()}
        self._start(self._first_positions() | named if len(named) < len(self._partitions) else named)

    def attend(self, timeout_ms: int) -> None:
        """See `GroupSource`."""
        self.consumer.poll(1, timeout_ms)  # nothing is fetched before `seek`: this only serves the group
        if self.consumer.revoked:
            raise RestartRequired(f"group {self.group!r} deals out the partitions of {self.topic!r} anew")

    def ends(self) -> Mapping[int, int]:
        """See `GroupSource`."""
        return {p: self.consumer.watermarks((self.topic, p))[1] for p in self._partitions}

    def first_positions(self) -> Mapping[int, int]:
        """See `GroupSource`."""
        return {
            tp[1]: self.consumer.watermarks(tp)[0] if position == BEGINNING else position
            for tp, position in self._starts.items()
        }

    def poll(self, max_rows: int, timeout_ms: int) -> SourceBatch | None:
        """See `Source`."""
        if not self._started:
            self.seek({})
        self._check_membership()
        if self._held and not self._held.remaining:
            with self._held.pausing(self.consumer):
                done = self._held.again(self._decode)
            if done is not None:
                return done[0]
        try:
            raw = self.consumer.poll(max_rows, self._held_or(timeout_ms))
        except OffsetOutOfRange as error:
            self._go_on_after(error)
            return None
        self._check_membership()
        if raw is None:
            return None
        with self._held.pausing(self.consumer):
            done = self._held.decode(raw, {}, self._decode)
        return None if done is None else done[0]

    def _held_or(self, timeout_ms: int) -> int:
        return min(timeout_ms, int(self._held.remaining * 1000) + 1) if self._held else timeout_ms

    def _decode(self, raw: RawRecords) -> SourceBatch:
        return decode_batch(raw, self._decoder, self._clock(), broker_timestamps=self._broker_timestamps)

    def caught_up(self) -> frozenset[int]:
        return frozenset(tp[1] for tp in self.consumer.caught_up() - self._held.starts().keys())

    def lag(self) -> Mapping[int, int]:
        """See `Source`. A partition of which nothing was heard yet is left out."""
        held = self._held.starts()
        positions, ends = self.consumer.positions() | held, self.consumer.end_offsets()
        at_end = self.consumer.caught_up() - held.keys()
        return {
            tp[1]: 0 if tp in at_end else max(0, ends[tp] - position)
            for tp, position in positions.items()
            if tp in ends or tp in at_end
        }

    def wake(self) -> None:
        if (consumer := self._consumer) is not None:
            consumer.wake()

    def close(self) -> None:
        """Leaves the partitions to the next worker in this slot, or to the others after the session timeout."""
        self._closed = True
        self.wake()
        self._end()

    # ---------------------------------------------------------------- opening

    def _config(self) -> dict[str, object]:
        return {
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 4,
            "partition.assignment.strategy": "range",
            "client.id": f"{self._job.name}-{self._job.slot}",
            **self._settings,
            "bootstrap.servers": self._brokers,
            "group.id": self.group,
            "group.instance.id": instance_id(self._job, self.topic),
            "auto.offset.reset": "error",  # a position that is gone must not be passed over in silence
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
        }

    def _check_topic(self) -> None:
        topics = self.consumer.topics(self._connect_timeout_ms)
        deadline = time.monotonic() + _NEW_TOPIC
        while self.topic not in topics and time.monotonic() < deadline:
            time.sleep(0.1)
            topics = self.consumer.topics(self._connect_timeout_ms)
        if self.topic not in topics:
            near = difflib.get_close_matches(self.topic, topics, n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "create it, or check the name"
            raise ConnectorError(f"there is no topic {self.topic!r} on {self._brokers}; {hint}")

    def _join(self) -> frozenset[int]:
        started = time.monotonic()
        notice = _JOIN_NOTICE
        while (offered := self.consumer.offered()) is None:
            waited = time.monotonic() - started
            if waited > self._join_timeout:
                raise ConnectorError(
                    f"group {self.group!r} has assigned no partitions of {self.topic!r} within {waited:.0f} s; "
                    "is a member of it stuck? See `kafka-consumer-groups --describe --members`"
                )
            if waited > notice:
                log.info("waiting for the group %r to assign partitions (%.0f s)", self.group, waited)
                notice += _JOIN_NOTICE
            self.consumer.poll(1, 500)
        return frozenset(partition for topic, partition in offered if topic == self.topic)

    def _first_positions(self) -> dict[TopicPartition, int]:
        """The group's committed offsets; without one, the beginning or the present end, by the start setting."""
        every = [(self.topic, partition) for partition in sorted(self._partitions)]
        committed = self.consumer.committed(every) if every else {}
        return {tp: committed[tp][0] if tp in committed else self._default_position(tp) for tp in every}

    def _default_position(self, tp: TopicPartition) -> int:
        return BEGINNING if self._job.start == "earliest" else self.consumer.watermarks(tp)[1]

    def _start(self, positions: Mapping[TopicPartition, int]) -> None:
        self._starts = dict(positions)
        self.consumer.start(positions)
        self._started = True

    # ---------------------------------------------------------------- running

    def _check_membership(self) -> None:
        if self.consumer.revoked or self.consumer.offered() is not None:
            raise RestartRequired(f"group {self.group!r} deals out the partitions of {self.topic!r} anew")

    def _go_on_after(self, error: OffsetOutOfRange) -> None:
        tp = (error.topic, error.partition)
        low, high = self.consumer.watermarks(tp)
        wanted = self.consumer.positions().get(tp, error.offset)
        where = f"topic {self.topic!r}, partition {error.partition}"
        if wanted >= low:
            raise ConnectorError(
                f"{where} ends at offset {high}, but the job's last commit is at {wanted}; was the topic made anew? "
                "To start over, give the job another name or delete its consumer group"
            ) from error
        committed, _ = self.consumer.committed([tp]).get(tp, (wanted, ""))
        if committed > wanted:
            # This worker was paused: others have read on, and an exchange keeps nothing that they have committed.
            raise RestartRequired(f"group {self.group!r} has gone on without this worker in {where}")
        gone = (
            f"{where}: retention removed {low - wanted} events (offsets {wanted} to {low - 1}) before the job read them"
        )
        if self._on_trimmed == "error":
            raise ConnectorError(
                f"{gone}; raise the topic's retention.ms, or go on without them by on_trimmed='skip'"
            ) from error
        log.warning("%s; going on with the oldest there is", gone)
        # Not `seek`, which needs a partition that is being read. The others start again where they are.
        self._start(self._starts | self.consumer.positions() | {tp: low})

    def _end(self) -> None:
        consumer, self._consumer = self._consumer, None
        self._held.release()
        if consumer is not None:
            consumer.close()


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000

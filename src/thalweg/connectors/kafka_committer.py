"""Commits of a job on Kafka: outputs, state and offsets in one transaction, or in an order that loses nothing.

Exactly-once: one transactional producer per worker slot. A commit sends the outputs, the state into the job's changelog
topic and the offsets, whose metadata name that state, and ends the transaction. What makes it cheap: the records are on
their way while the coordinator is asked about the offsets; and `retry.backoff.ms=2`, because the next transaction has
to wait, by retries, until the broker has written the markers of the last.

At-least-once: outputs leave as they come; a commit waits until they and the state are with the broker, and only then
commits the offsets that name that state.

State that no committed offset names (its writer died in between) is passed over by recovery; see `kafka.changelog`.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from thalweg.connectors.kafka_changelog import ChangelogWriter, Restored, Tip
from thalweg.connectors.kafka_commit_metadata import CommitMetadata
from thalweg.connectors.kafka_epochs import open_epoch_log
from thalweg.connectors.kafka_outputs import KafkaOutputs
from thalweg.connectors.kafka_trimmer import Trimmer
from thalweg.errors import ConfigurationError, ConnectorError, FencedError, RestartRequired, StateError, ThalwegError
from thalweg.faults import fault_point
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.producer import KafkaProducer
from thalweg.streams.connector import (
    Commit,
    Guarantee,
    JobSettings,
    PartitionEpoch,
    Recovered,
    SinkWrite,
    Source,
    StateRecord,
    TopicPartition,
)

logger = logging.getLogger("thalweg.kafka")

TRANSACTION_TIMEOUT_MS = 10_000
"""A worker that dies inside a transaction blocks readers for so long, if nobody takes its slot over before."""
_OPEN_TRANSACTION_MS = 60_000
"""How long to wait for offsets that a dead worker's open transaction holds: its timeout, then until the broker looks
for transactions that are over theirs (every 10 s, unless set otherwise)."""
_BATCH_BYTES = 1_000_000
_PURGE_EVERY = 30.0
"""Seconds between deletions from the exchange."""
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


class GroupConsumer(Protocol):
    """What the committer needs of a source's consumer."""

    def group_metadata(self) -> Any:
        """The consumer's membership at this moment; `address` of an rd_kafka_consumer_group_metadata_t."""

    def committed(
        self, partitions: Iterable[TopicPartition], timeout_ms: int = 10_000
    ) -> Mapping[TopicPartition, tuple[int, str]]:
        """Committed offset and metadata of the partitions that have any."""

    def commit_sync(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None: ...


class KafkaCommitter:
    """`Committer` on Kafka, for one worker slot.

    Args:
        sources: of the job; each has a `consumer` in the job's group.
        settings: other librdkafka settings (security, compression …) for the producer.
        client_settings: those of them that concern every client (security).
    """

    def __init__(
        self,
        job: JobSettings,
        admin: KafkaAdmin,
        sources: Sequence[Source],
        *,
        settings: Mapping[str, object] | None = None,
        client_settings: Mapping[str, object] | None = None,
    ) -> None:
        if not _TOPIC_NAME.fullmatch(job.name):
            raise ConfigurationError(
                f"job name {job.name!r}: Kafka topics are named after it; use letters, digits, '.', '_', '-', up to 200"
            )
        self.changelog_topic = f"{job.name}-changelog"
        self.outputs = KafkaOutputs(admin, job.name)
        self._job = job
        self._admin = admin
        self._settings = {**(client_settings or {}), **(settings or {})}
        self._consumers: dict[str, GroupConsumer] = {source.topic: source.consumer for source in sources}  # type: ignore[attr-defined]
        self._exactly_once = job.guarantee == Guarantee.EXACTLY_ONCE
        self._producer: KafkaProducer | None = None
        self._batch_bytes = _BATCH_BYTES
        self._memberships: dict[str, Any] = {}
        self._changelog = ChangelogWriter(_new_writer())
        self._trimmer = Trimmer(admin)
        self._epochs = open_epoch_log(job, admin, self._trimmer, client_settings)
        self._next_purge = 0.0

    # ---------------------------------------------------------------- recovery

    def recover(self, partitions: Iterable[TopicPartition]) -> Recovered:
        """See `Committer`. May be called again after `RestartRequired`."""
        wanted = list(partitions)
        self._renew_producer()
        fault_point("kafka.fenced")
        # Taken now, not at commit: after a rebalance that this epoch knows nothing of, its commit must fail.
        self._drop_memberships()
        self._memberships = {topic: consumer.group_metadata() for topic, consumer in self._consumers.items()}
        committed = self._committed(wanted)
        foreign = [tp for tp, (_, metadata) in committed.items() if metadata is None]
        tips = self._tips(wanted, committed)
        if foreign or not any(metadata for _, metadata in committed.values()):
            self._check_no_state_without_offsets(committed, foreign, tips)
        restored = self._epochs.read(tips)
        fault_point("kafka.recovered")
        self._changelog = ChangelogWriter(_new_writer())
        for partition, found in restored.items():
            self._changelog.resume(partition, tips[partition].name, found.bases)
        epochs = {tp: _epoch(*committed[tp]) for tp in wanted if tp in committed}
        return Recovered(epochs, _in_order(restored))

    def _committed(self, wanted: Sequence[TopicPartition]) -> dict[TopicPartition, tuple[int, CommitMetadata | None]]:
        """Offset and metadata of every committed partition of the wanted topics, also those of other workers."""
        found: dict[TopicPartition, tuple[int, CommitMetadata | None]] = {}
        for topic in sorted({topic for topic, _ in wanted} | self._consumers.keys()):
            every = [(topic, partition) for partition in range(self._admin.partitions(topic))]
            for tp, (offset, text) in self._consumer(topic).committed(every, _OPEN_TRANSACTION_MS).items():
                found[tp] = (offset, CommitMetadata.decode(text, f"{tp[0]} [{tp[1]}]"))
        return found

    def _tips(
        self, wanted: Sequence[TopicPartition], committed: Mapping[TopicPartition, tuple[int, CommitMetadata | None]]
    ) -> dict[int, Tip]:
        """The newest named epoch of each state partition that is this worker's: all that the wanted partitions name.

        A commit writes the offsets of those source partitions only for which something changed, so an older name may
        stand with another one: epochs of a state partition only grow, the highest is the valid one.
        """
        named = self._job.owned_states
        if named is None:
            named = frozenset(p for tp in wanted if tp in committed for p in _named(committed[tp]))
        tips: dict[int, Tip] = {}
        for _, metadata in committed.values():
            for partition, tip in (metadata.tips if metadata else {}).items():
                if partition in named and (partition not in tips or tip.name.epoch > tips[partition].name.epoch):
                    tips[partition] = tip
        return tips

    def _check_no_state_without_offsets(
        self, committed: Mapping[TopicPartition, Any], foreign: Sequence[TopicPartition], tips: Mapping[int, Tip]
    ) -> None:
        """No name for any state is right for a job that never had state; else offsets and state have come apart."""
        highest = max((tip.name.epoch for tip in tips.values()), default=0) or self._epochs.highest_epoch()
        # A first epoch without offsets may be what a crash before the first commit leaves.
        if highest <= (0 if committed else self._epochs.unnamed):
            return
        if foreign:
            topic, partition = foreign[0]
            what = f"the committed offset of {topic!r} [{partition}] was set from outside (kafka-consumer-groups?)"
        else:
            what = f"job {self._job.name!r} has no committed offsets (did they expire, was its consumer group deleted?)"
        raise StateError(
            f"{what}, but {self._epochs.where} holds state up to epoch {highest}, which belongs to no other "
            "position. To start without state delete that, or give the job another name"
        )

    # ---------------------------------------------------------------- committing

    def send(self, write: SinkWrite) -> None:
        """At-least-once: on its way at once. See `Committer`."""
        if self._exactly_once:
            raise ConnectorError("exactly-once outputs go with the commit")
        try:
            self._prepare_topic(write.topic)
            self.outputs.write(self._live_producer(), write)
        except (FencedError, RestartRequired):
            raise
        except ConnectorError as error:
            raise RestartRequired(f"output to {write.topic!r} failed: {error}") from error

    def commit(self, commit: Commit) -> None:
        """See `Committer`."""
        producer = self._live_producer()
        started = time.monotonic()
        try:
            for topic in dict.fromkeys(write.topic for write in commit.writes):
                self._prepare_topic(topic)
            ends = self._epochs.places(producer, self._changelog, commit.states) if commit.states else {}
            if self._exactly_once:
                self._commit_transaction(producer, commit, ends)
            else:
                self._commit_in_order(producer, commit, ends)
        except FencedError as error:
            self._lose(producer)
            if self._exactly_once and time.monotonic() - started > TRANSACTION_TIMEOUT_MS / 1000:
                raise RestartRequired(f"the broker gave up a transaction that took too long: {error}") from error
            raise
        except RestartRequired:
            self._lose(producer)
            raise
        except ConnectorError as error:
            self._lose(producer)
            raise RestartRequired(f"commit {commit.number} failed: {error}") from error
        self._epochs.trim(self._changelog.confirm())
        self._purge_exchange(commit)

    def _purge_exchange(self, commit: Commit) -> None:
        """What is read and committed is no longer needed: the exchange keeps nothing for long."""
        read = {p: epoch.position for (topic, p), epoch in commit.epochs.items() if topic == self._job.exchange}
        if not read or time.monotonic() < self._next_purge:
            return
        self._next_purge = time.monotonic() + _PURGE_EVERY
        for partition, position in read.items():
            self._trimmer.trim(str(self._job.exchange), partition, position)

    def _commit_transaction(self, producer: KafkaProducer, commit: Commit, ends: Mapping[int, int]) -> None:
        producer.begin_transaction()
        try:
            fault_point("kafka.begun")
            for write in commit.writes:
                self.outputs.write(producer, write)
            fault_point("kafka.outputs-sent")
            self._send_states(producer, commit.states, ends)
            fault_point("kafka.state-sent")
            for topic, offsets in self._offsets(commit).items():
                producer.send_offsets(offsets, self._memberships[topic].address, TRANSACTION_TIMEOUT_MS / 1000)
                fault_point("kafka.offsets-sent")
            producer.commit_transaction(TRANSACTION_TIMEOUT_MS / 1000)
            fault_point("kafka.committed")
        except FencedError:
            raise
        except ConnectorError as error:
            self._abort(producer, error)
            raise

    def _commit_in_order(self, producer: KafkaProducer, commit: Commit, ends: Mapping[int, int]) -> None:
        for write in commit.writes:
            self.outputs.write(producer, write)
        # State may go beside the outputs: it counts for nothing until the offsets name it.
        self._send_states(producer, commit.states, ends)
        fault_point("kafka-alo.sent")
        producer.wait(producer.barrier(), timeout=60.0)
        fault_point("kafka-alo.delivered")
        for topic, offsets in self._offsets(commit).items():
            self._consumer(topic).commit_sync(offsets)
            fault_point("kafka-alo.offsets-committed")

    def _offsets(self, commit: Commit) -> dict[str, dict[TopicPartition, tuple[int, str]]]:
        tips = self._changelog.tips()
        offsets: dict[str, dict[TopicPartition, tuple[int, str]]] = {}
        for tp, epoch in commit.epochs.items():
            metadata = CommitMetadata(epoch.epoch, epoch.max_timestamp, tips).encode()
            offsets.setdefault(tp[0], {})[tp] = (epoch.position, metadata)
        return offsets

    def _send_states(self, producer: KafkaProducer, states: Sequence[StateRecord], places: Mapping[int, int]) -> None:
        chunks = self._changelog.prepare(states, places)
        if chunks:
            self._epochs.append(producer, chunks, {p: tip.name for p, tip in self._changelog.tips().items()})

    def _prepare_topic(self, topic: str) -> None:
        """Learns the topic's limit; a producer whose batches it would refuse has to be made again."""
        self.outputs.prepare(topic)
        limit = self.outputs.smallest_limit or self._batch_bytes
        if limit < self._batch_bytes:
            self._batch_bytes = limit
            raise RestartRequired(f"topic {topic!r} takes batches of {limit} bytes only; the producer is made again")

    # ---------------------------------------------------------------- producer

    def close(self) -> None:
        """Delivers what is under way and frees the producer."""
        self._trimmer.close()
        self._epochs.close()
        self._drop_memberships()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.kill() if self._exactly_once else producer.close()

    def _live_producer(self) -> KafkaProducer:
        if self._producer is None:
            raise RestartRequired("the last commit failed; recover first")
        return self._producer

    def _renew_producer(self) -> None:
        """A producer per recovery: the broker ends what the last one had under way when the new one registers."""
        if self._producer is not None:
            self._lose(self._producer)
        settings: dict[str, object] = {"retry.backoff.ms": 2, "retry.backoff.max.ms": 100}
        if self._exactly_once:
            settings |= {"transaction.timeout.ms": TRANSACTION_TIMEOUT_MS}
        self._producer = KafkaProducer(
            self._admin.brokers,
            client_id=f"{self._job.name}-{self._job.slot}",
            transactional_id=f"{self._job.name}-{self._job.slot}" if self._exactly_once else None,
            batch_size=self._batch_bytes,
            linger_ms=0 if self._exactly_once else 1,
            max_record_bytes=64 * 1024 * 1024,
            settings=settings | self._settings,
        )
        if self._exactly_once:
            self._producer.init_transactions(timeout=60.0)

    def _drop_memberships(self) -> None:
        for membership in self._memberships.values():
            membership.close()
        self._memberships = {}

    def _lose(self, producer: KafkaProducer) -> None:
        self._producer = None
        producer.kill()

    def _abort(self, producer: KafkaProducer, error: ThalwegError) -> None:
        try:
            producer.abort_transaction()
        except ConnectorError as second:
            # The next init_transactions aborts it as well; this only spares readers the wait.
            logger.warning("could not abort the transaction after %s: %s", error, second)

    def _consumer(self, topic: str) -> GroupConsumer:
        try:
            return self._consumers[topic]
        except KeyError:
            raise ConnectorError(f"the job has no source for topic {topic!r}") from None


def _new_writer() -> str:
    return uuid.uuid4().hex[:16]


def _named(committed: tuple[int, CommitMetadata | None]) -> Iterable[int]:
    return committed[1].tips if committed[1] else ()


def _epoch(offset: int, metadata: CommitMetadata | None) -> PartitionEpoch:
    metadata = metadata or CommitMetadata(0)
    return PartitionEpoch(metadata.epoch, offset, metadata.max_timestamp)


def _in_order(restored: Mapping[int, Restored]) -> list[StateRecord]:
    return [state for _, found in sorted(restored.items()) for state in found.states]

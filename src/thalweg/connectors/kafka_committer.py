"""Commits of a job on Kafka: outputs, state and offsets in one transaction, or in an order that loses nothing.

Exactly-once: a commit is *prepared* (a transaction begins; it takes the outputs, and the state into the job's changelog
topic) and then *finished* (the offsets, whose metadata name that state, and the end of the transaction). What makes it
cheap: the records are on their way while the coordinator is asked about the offsets; and `retry.backoff.ms=2`, because
the next transaction of a producer has to wait, by retries, until the broker has written the markers of the last.

With two transactional producers that take turns, an epoch is prepared while the one before is being finished. It is
finished, its offsets included, only when that one's end is confirmed; where that one fails it is abandoned, and all
starts again from what is committed: no epoch can count without its parent. See docs/decisions/0008.

At-least-once: outputs leave as they come; a commit waits until they and the state are with the broker, and only then
commits the offsets that name that state.

State that no committed offset names (its writer died in between) is passed over by recovery; see `kafka.changelog`.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from thalweg.connectors.kafka_changelog import ChangelogWriter, Restored
from thalweg.connectors.kafka_commit_metadata import CommitMetadata
from thalweg.connectors.kafka_committed import CommittedReader, GroupConsumer
from thalweg.connectors.kafka_epochs import open_epoch_log
from thalweg.connectors.kafka_outputs import KafkaOutputs
from thalweg.connectors.kafka_peers import Peers
from thalweg.connectors.kafka_producers import TRANSACTION_TIMEOUT_MS, SlotProducers
from thalweg.connectors.kafka_snapshots import SnapshotWriter, TakenSnapshot
from thalweg.connectors.kafka_trimmer import Trimmer
from thalweg.errors import ConfigurationError, ConnectorError, FencedError, RestartRequired
from thalweg.faults import fault_point
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.producer import KafkaProducer
from thalweg.streams.connector import (
    Commit,
    Guarantee,
    JobSettings,
    Recovered,
    SinkWrite,
    Source,
    StateRecord,
    TopicPartition,
)

logger = logging.getLogger("thalweg.kafka")

_PURGE_EVERY = 30.0
"""Seconds between deletions from the exchange."""
_TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


Offsets = Mapping[str, Mapping[TopicPartition, tuple[int, str]]]
"""Per topic, what is committed of its partitions: offset and metadata."""


@dataclass(frozen=True, slots=True)
class PreparedCommit:
    """An epoch whose records are on their way."""

    commit: Commit
    producer: KafkaProducer
    offsets: Offsets
    superseded: Mapping[int, int]
    """What may be deleted when the epoch is durable: see `ChangelogWriter.advance`."""
    since: float
    """When its transaction began."""
    snapshot: TakenSnapshot | None = None


class KafkaCommitter:
    """`SnapshotCommitter` on Kafka, for one worker slot.

    Args:
        sources: of the job; each has a `consumer` in the job's group.
        settings: other librdkafka settings (security, compression …) for the producer.
        client_settings: those of them that concern every client (security).
        alternating: whether two transactional producers take turns.
        peers: the other workers, as this one saw them before.
    """

    def __init__(
        self,
        job: JobSettings,
        admin: KafkaAdmin,
        sources: Sequence[Source],
        *,
        settings: Mapping[str, object] | None = None,
        client_settings: Mapping[str, object] | None = None,
        alternating: bool = False,
        peers: Peers | None = None,
    ) -> None:
        if not _TOPIC_NAME.fullmatch(job.name):
            raise ConfigurationError(
                f"job name {job.name!r}: Kafka topics are named after it; use letters, digits, '.', '_', '-', up to 200"
            )
        self.changelog_topic = f"{job.name}-changelog"
        self.outputs = KafkaOutputs(admin, job.name)
        self._job = job
        self._admin = admin
        merged = {**(client_settings or {}), **(settings or {})}
        self._producers = SlotProducers(admin.brokers, job, merged, alternating=alternating)
        self.most_under_way = self._producers.count
        self._consumers: dict[str, GroupConsumer] = {source.topic: source.consumer for source in sources}  # type: ignore[attr-defined]
        self._exactly_once = job.guarantee == Guarantee.EXACTLY_ONCE
        self._memberships: dict[str, Any] = {}
        self._changelog = ChangelogWriter(_new_writer())
        self._trimmer = Trimmer(admin)
        self._epochs = open_epoch_log(job, admin, self._trimmer, client_settings, self.most_under_way)
        self._peers = peers or Peers(admin, job)
        self._committed = CommittedReader(job, admin, self._consumers, self._epochs)
        self._snapshots = SnapshotWriter(self._epochs, self._producers.another)
        self._next_purge = 0.0

    # ---------------------------------------------------------------- recovery

    def recover(self, partitions: Iterable[TopicPartition]) -> Recovered:
        """See `Committer`. May be called again after `RestartRequired`."""
        wanted = list(partitions)
        self._end_transactions_of_gone_workers(wanted)
        self._producers.renew()
        fault_point("kafka.fenced")
        # Taken now, not at commit: after a rebalance that this epoch knows nothing of, its commit must fail.
        self._drop_memberships()
        self._memberships = {topic: consumer.group_metadata() for topic, consumer in self._consumers.items()}
        committed = self._committed.read(wanted)
        restored = self._epochs.read(committed.tips)
        fault_point("kafka.recovered")
        self._changelog = ChangelogWriter(_new_writer())
        for partition, found in restored.items():
            self._changelog.resume(partition, committed.tips[partition].name, found.bases, found.snapshot)
        return Recovered(committed.epochs(wanted), _in_order(restored))

    def _end_transactions_of_gone_workers(self, wanted: Sequence[TopicPartition]) -> None:
        """Or their offsets, and what lies behind their records in the exchange, could be read after 10 to 20 s only."""
        if not self._exactly_once:
            return
        whole = all(
            sum(topic == source for topic, _ in wanted) == self._admin.partitions(source) for source in self._consumers
        )
        try:
            gone = self._peers.look(self._consumers, alone=whole)
        except ConnectorError as error:
            logger.warning("can't see whether a worker of the job is gone: %s", error)
            return
        for slot in sorted(gone):
            try:
                self._producers.end_transactions_of(slot)
                logger.info("worker %d is gone: what it had under way is ended", slot)
            except ConnectorError as error:
                # Only sooner: the broker ends it in any case. Another worker may have been first.
                logger.warning("worker %d is gone; its transaction ends by its timeout only: %s", slot, error)

    # ---------------------------------------------------------------- committing

    def send(self, write: SinkWrite) -> None:
        """At-least-once: on its way at once. See `Committer`."""
        if self._exactly_once:
            raise ConnectorError("exactly-once outputs go with the commit")
        try:
            self._prepare_topic(write.topic)
            self.outputs.write(self._producers.current, write)
        except (FencedError, RestartRequired):
            raise
        except ConnectorError as error:
            raise RestartRequired(f"output to {write.topic!r} failed: {error}") from error

    def commit(self, commit: Commit) -> None:
        """See `Committer`."""
        self.finish(self.prepare(commit))

    def prepare(self, commit: Commit) -> PreparedCommit:
        """See `OverlappingCommitter`."""
        since = time.monotonic()
        with self._failing(commit, since):
            for topic in dict.fromkeys(write.topic for write in commit.writes):
                self._prepare_topic(topic)
            producer = self._producers.take_turn()
            places = self._epochs.places(producer, self._changelog, commit.states) if commit.states else {}
            ends = self._epochs.ends() if commit.snapshot else None
            try:
                self._send(producer, commit, places)
            except FencedError:
                raise
            except ConnectorError as error:
                self._abort(producer, error)
                raise
            taken = self._snapshots.taken(self._changelog.tips(), ends) if commit.snapshot else None
            return PreparedCommit(commit, producer, self._offsets(commit), self._changelog.advance(), since, taken)

    def _send(self, producer: KafkaProducer, commit: Commit, places: Mapping[int, int]) -> None:
        if self._exactly_once:
            producer.begin_transaction()
            fault_point("kafka.begun")
        for write in commit.writes:
            self.outputs.write(producer, write)
        fault_point("kafka.outputs-sent")
        # At-least-once too, state may go beside the outputs: it counts for nothing until the offsets name it.
        chunks = self._changelog.prepare(commit.states, places)
        if chunks:
            self._epochs.append(producer, chunks, {p: tip.name for p, tip in self._changelog.tips().items()})
        fault_point("kafka.state-sent")

    def finish(self, prepared: PreparedCommit) -> None:
        """See `OverlappingCommitter`."""
        fault_point("kafka.prepared")
        with self._failing(prepared.commit, prepared.since):
            if self._exactly_once:
                self._end_transaction(prepared)
            else:
                self._commit_in_order(prepared)
        self._epochs.trim(prepared.superseded)
        self._purge_exchange(prepared.commit)

    def abandon(self, prepared: PreparedCommit) -> None:
        """See `OverlappingCommitter`."""
        self._producers.fail()
        self._abort(prepared.producer, "an earlier commit failed")

    def taken_snapshot(self, prepared: PreparedCommit) -> TakenSnapshot | None:
        """See `SnapshotCommitter`."""
        return prepared.snapshot

    def write_snapshot(self, taken: TakenSnapshot, states: Sequence[StateRecord], until: float) -> None:
        """See `SnapshotCommitter`."""
        self._snapshots.write(taken, states, until)

    def adopt_snapshot(self, taken: TakenSnapshot) -> None:
        """See `SnapshotCommitter`."""
        self._changelog.adopt(taken.places)

    @contextmanager
    def _failing(self, commit: Commit, since: float) -> Iterator[None]:
        """After any failure nothing more is sent before `recover`; all but a fence lets the job start again."""
        try:
            yield
        except FencedError as error:
            self._producers.fail()
            if self._exactly_once and time.monotonic() - since > TRANSACTION_TIMEOUT_MS / 1000:
                raise RestartRequired(f"the broker gave up a transaction that took too long: {error}") from error
            if not self._replaced():
                raise RestartRequired("the other workers took this one for gone, and ended what it had") from error
            raise
        except RestartRequired:
            self._producers.fail()
            raise
        except ConnectorError as error:
            self._producers.fail()
            raise RestartRequired(f"commit {commit.number} failed: {error}") from error

    def _replaced(self) -> bool:
        """Whether it was another instance of this worker that has fenced it off."""
        try:
            return self._peers.replaced()
        except ConnectorError as error:
            # Then it is to begin again: if there is one, the group lets only one of the two in.
            logger.warning("can't tell whether another instance runs as worker %d: %s", self._job.slot, error)
            return False

    def _purge_exchange(self, commit: Commit) -> None:
        """What is read and committed is no longer needed: the exchange keeps nothing for long."""
        read = {p: epoch.position for (topic, p), epoch in commit.epochs.items() if topic == self._job.exchange}
        if not read or time.monotonic() < self._next_purge:
            return
        self._next_purge = time.monotonic() + _PURGE_EVERY
        for partition, position in read.items():
            self._trimmer.trim(str(self._job.exchange), partition, position)

    def _end_transaction(self, prepared: PreparedCommit) -> None:
        producer, limit = prepared.producer, TRANSACTION_TIMEOUT_MS / 1000
        try:
            for topic, offsets in prepared.offsets.items():
                producer.send_offsets(offsets, self._memberships[topic].address, limit)
                fault_point("kafka.offsets-sent")
            producer.commit_transaction(limit)
            fault_point("kafka.committed")
        except FencedError:
            raise
        except ConnectorError as error:
            self._abort(producer, error)
            raise

    def _commit_in_order(self, prepared: PreparedCommit) -> None:
        fault_point("kafka-alo.sent")
        prepared.producer.wait(prepared.producer.barrier(), timeout=60.0)
        fault_point("kafka-alo.delivered")
        for topic, offsets in prepared.offsets.items():
            self._consumer(topic).commit_sync(offsets)
            fault_point("kafka-alo.offsets-committed")

    def _offsets(self, commit: Commit) -> Offsets:
        tips = self._changelog.tips()
        offsets: dict[str, dict[TopicPartition, tuple[int, str]]] = {}
        for tp, epoch in commit.epochs.items():
            metadata = CommitMetadata(epoch.epoch, epoch.max_timestamp, tips).encode()
            offsets.setdefault(tp[0], {})[tp] = (epoch.position, metadata)
        return offsets

    def _prepare_topic(self, topic: str) -> None:
        """Learns the topic's limit; a producer whose batches it would refuse has to be made again."""
        self.outputs.prepare(topic)
        limit = self.outputs.smallest_limit or self._producers.batch_bytes
        if limit < self._producers.batch_bytes:
            self._producers.batch_bytes = limit
            raise RestartRequired(f"topic {topic!r} takes batches of {limit} bytes only; the producer is made again")

    # ---------------------------------------------------------------- ending

    def close(self) -> None:
        """Delivers what is under way and frees the producers."""
        self._trimmer.close()
        self._epochs.close()
        self._drop_memberships()
        self._producers.close()

    def _drop_memberships(self) -> None:
        for membership in self._memberships.values():
            membership.close()
        self._memberships = {}

    def _abort(self, producer: KafkaProducer, why: object) -> None:
        if not self._exactly_once:
            return
        try:
            producer.abort_transaction()
        except ConnectorError as second:
            # The next init_transactions aborts it as well; this only spares readers the wait.
            logger.warning("could not abort the transaction after %s: %s", why, second)

    def _consumer(self, topic: str) -> GroupConsumer:
        try:
            return self._consumers[topic]
        except KeyError:
            raise ConnectorError(f"the job has no source for topic {topic!r}") from None


def _new_writer() -> str:
    return uuid.uuid4().hex[:16]


def _in_order(restored: Mapping[int, Restored]) -> list[StateRecord]:
    return [state for _, found in sorted(restored.items()) for state in found.states]

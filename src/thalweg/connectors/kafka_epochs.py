"""Where a job on Kafka keeps its state epochs: in its changelog topic, or in a checkpoint store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from thalweg.connectors.checkpoint_store import open_store
from thalweg.connectors.kafka_changelog import ChangelogWriter, Chunk, EpochName, Restored, Tip
from thalweg.connectors.kafka_changelog_reader import ChangelogReader
from thalweg.connectors.kafka_checkpoints import CheckpointLog
from thalweg.connectors.kafka_trimmer import Trimmer
from thalweg.errors import ConnectorError
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.producer import KafkaProducer
from thalweg.records import EncodedRecords
from thalweg.streams.connector import JobSettings, StateRecord

_CHANGELOG_CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",  # only the job knows what is still needed; it deletes the rest
    "retention.bytes": "-1",
    "segment.bytes": str(64 * 1024 * 1024),  # deleted records free their disk space by whole segments
}


class EpochLog(Protocol):
    """Keeps the state epochs of a job. What counts of them is what the committed offsets name."""

    where: str
    """For messages."""
    unnamed: int
    """The highest epoch that a job may leave which dies before its first commit."""
    takes_parts: bool
    """Whether the chunks of one partition may come in several calls."""

    def read(self, tips: Mapping[int, Tip]) -> dict[int, Restored]:
        """The state at the named epochs, per state partition.

        Raises:
            StateError: an epoch is missing, or unreadable.
        """

    def highest_epoch(self) -> int:
        """The highest epoch there is, named by offsets or not."""

    def places(
        self, producer: KafkaProducer, writer: ChangelogWriter, states: Sequence[StateRecord]
    ) -> Mapping[int, int]:
        """Per state partition, a place before which none of its next epoch's records will lie."""

    def ends(self) -> Mapping[int, int] | None:
        """Per state partition the offset after its last record; None where epochs are their own place."""

    def append(
        self,
        producer: KafkaProducer,
        chunks: Sequence[Chunk],
        names: Mapping[int, EpochName],
        *,
        snapshot: bool = False,
    ) -> None:
        """Writes epochs, or the snapshots of such; they are durable when the producer's records are."""

    def trim(self, bases: Mapping[int, int]) -> None:
        """Has what lies before these places deleted, soon."""

    def close(self) -> None: ...


def open_epoch_log(
    job: JobSettings,
    admin: KafkaAdmin,
    trimmer: Trimmer,
    client_settings: Mapping[str, object] | None,
    most_under_way: int,
) -> EpochLog:
    """The log that the job's settings ask for; `most_under_way`: how many epochs may be written and not committed."""
    if job.checkpoint_storage is not None:
        return StoredEpochs(job, most_under_way)
    return ChangelogTopic(job, admin, trimmer, client_settings)


class ChangelogTopic:
    """Epochs in a topic of the job's own, written in the transaction that names them."""

    takes_parts = True

    def __init__(
        self, job: JobSettings, admin: KafkaAdmin, trimmer: Trimmer, client_settings: Mapping[str, object] | None
    ) -> None:
        self.topic = f"{job.name}-changelog"
        self.where = f"topic {self.topic!r}"
        self.unnamed = 0 if job.guarantee == "exactly-once" else 1
        self._job = job
        self._admin = admin
        self._trimmer = trimmer
        self._reader = ChangelogReader(admin, self.topic, client_settings)
        self._partitions = 0

    def read(self, tips: Mapping[int, Tip]) -> dict[int, Restored]:
        return self._reader.read(tips)

    def highest_epoch(self) -> int:
        return self._reader.highest_epoch()

    def places(
        self, producer: KafkaProducer, writer: ChangelogWriter, states: Sequence[StateRecord]
    ) -> Mapping[int, int]:
        """Makes the topic where it is missing; asks for end offsets where they are needed."""
        needed = max(self._job.state_partitions, 1 + max(state.state_partition for state in states))
        if needed > self._partitions:
            self._admin.ensure_topic(self.topic, needed, config=_CHANGELOG_CONFIG)
            if self._admin.grow_topic(self.topic, needed):
                producer.refresh_topic(self.topic)
            self._partitions = self._admin.partitions(self.topic)
        if not any(writer.needs_offset(state) for state in states):
            return {}
        return self._admin.offsets(self.topic, latest=True)

    def ends(self) -> Mapping[int, int] | None:
        known = self._partitions or self._admin.exists(self.topic)
        return self._admin.offsets(self.topic, latest=True) if known else {}

    def append(
        self,
        producer: KafkaProducer,
        chunks: Sequence[Chunk],
        names: Mapping[int, EpochName],
        *,
        snapshot: bool = False,
    ) -> None:
        refused = producer.send_records(
            self.topic,
            _records([chunk.value for chunk in chunks]),
            _records([chunk.key for chunk in chunks]),
            partitions=np.array([chunk.state_partition for chunk in chunks], dtype=np.int32),
        )
        if len(refused):
            raise ConnectorError(f"topic {self.topic!r} does not take records of 900 KB; raise its limit")

    def trim(self, bases: Mapping[int, int]) -> None:
        for partition, offset in bases.items():
            self._trimmer.trim(self.topic, partition, offset)

    def close(self) -> None:
        """The trimmer is the committer's."""


class StoredEpochs:
    """Epochs as objects of a checkpoint store, written before the transaction that names them ends."""

    takes_parts = False

    def __init__(self, job: JobSettings, most_under_way: int) -> None:
        self.unnamed = most_under_way  # written before the offsets, whatever the guarantee
        assert job.checkpoint_storage is not None
        self.where = f"checkpoint storage {job.checkpoint_storage.partition('?')[0]}, folder {job.name!r},"
        self._log = CheckpointLog(open_store(job.checkpoint_storage), job.name)

    def read(self, tips: Mapping[int, Tip]) -> dict[int, Restored]:
        return self._log.read(tips)

    def highest_epoch(self) -> int:
        return self._log.highest_epoch()

    def places(
        self, producer: KafkaProducer, writer: ChangelogWriter, states: Sequence[StateRecord]
    ) -> Mapping[int, int]:
        """Objects are found by their epoch: it is their place."""
        return {state.state_partition: writer.next_epoch(state.state_partition) for state in states}

    def ends(self) -> Mapping[int, int] | None:
        return None

    def append(
        self,
        producer: KafkaProducer,
        chunks: Sequence[Chunk],
        names: Mapping[int, EpochName],
        *,
        snapshot: bool = False,
    ) -> None:
        self._log.write(chunks, names, snapshot=snapshot)

    def trim(self, bases: Mapping[int, int]) -> None:
        self._log.prune(bases)

    def close(self) -> None:
        self._log.close()


def _records(rows: Sequence[bytes]) -> EncodedRecords:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return EncodedRecords(np.frombuffer(b"".join(rows), dtype=np.uint8), offsets)

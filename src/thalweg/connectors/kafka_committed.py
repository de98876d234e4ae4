"""What a job has committed: the offsets of its groups, and the state epochs that these name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from thalweg.connectors.kafka_changelog import Tip
from thalweg.connectors.kafka_commit_metadata import CommitMetadata
from thalweg.connectors.kafka_epochs import EpochLog
from thalweg.errors import ConnectorError, StateError
from thalweg.kafka.admin import KafkaAdmin
from thalweg.streams.connector import JobSettings, PartitionEpoch, TopicPartition

_OPEN_TRANSACTION_MS = 60_000
"""How long to wait for offsets that a dead worker's open transaction holds: its timeout, then until the broker looks
for transactions that are over theirs (every 10 s, unless set otherwise)."""


class GroupConsumer(Protocol):
    """What committing needs of a source's consumer."""

    def group_metadata(self) -> Any:
        """The consumer's membership at this moment; `address` of an rd_kafka_consumer_group_metadata_t."""

    def committed(
        self, partitions: Iterable[TopicPartition], timeout_ms: int = 10_000
    ) -> Mapping[TopicPartition, tuple[int, str]]:
        """Committed offset and metadata of the partitions that have any."""

    def commit_sync(self, offsets: Mapping[TopicPartition, tuple[int, str]]) -> None: ...


@dataclass(frozen=True, slots=True)
class Committed:
    """What the groups have of all partitions of the job's topics, also those of other workers."""

    offsets: Mapping[TopicPartition, tuple[int, CommitMetadata | None]]
    """Without metadata: an offset that no job has committed."""
    tips: Mapping[int, Tip]
    """The newest named epoch of each state partition that is this worker's."""

    @property
    def foreign(self) -> list[TopicPartition]:
        """Whose offset was set from outside."""
        return [tp for tp, (_, metadata) in self.offsets.items() if metadata is None]

    def epochs(self, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, PartitionEpoch]:
        """Where to go on in those of the wanted partitions that have an offset."""
        found = {}
        for tp in wanted:
            if tp in self.offsets:
                offset, metadata = self.offsets[tp]
                metadata = metadata or CommitMetadata(0)
                found[tp] = PartitionEpoch(metadata.epoch, offset, metadata.max_timestamp)
        return found


class CommittedReader:
    """Asks the groups of a job, and sees whether its state goes with what they say.

    Args:
        consumers: per topic, one in the group that reads it.
    """

    def __init__(
        self, job: JobSettings, admin: KafkaAdmin, consumers: Mapping[str, GroupConsumer], epochs: EpochLog
    ) -> None:
        self._job = job
        self._admin = admin
        self._consumers = consumers
        self._epochs = epochs

    def read(self, wanted: Sequence[TopicPartition]) -> Committed:
        """What is committed, with the epochs that belong to the wanted partitions.

        Raises:
            StateError: there is state, and the offsets don't say to what it belongs.
            ConnectorError: the brokers do not answer.
        """
        found = self._ask(wanted)
        if self._unnamed_epoch(found):
            # Another worker may have committed for the first time since: what names its state is there once that is.
            found = self._ask(wanted)
            self._check_no_state_without_offsets(found)
        return found

    def _ask(self, wanted: Sequence[TopicPartition]) -> Committed:
        offsets: dict[TopicPartition, tuple[int, CommitMetadata | None]] = {}
        for topic in sorted({topic for topic, _ in wanted} | self._consumers.keys()):
            if topic not in self._consumers:
                raise ConnectorError(f"the job has no source for topic {topic!r}")
            every = [(topic, partition) for partition in range(self._admin.partitions(topic))]
            for tp, (offset, text) in self._consumers[topic].committed(every, _OPEN_TRANSACTION_MS).items():
                offsets[tp] = (offset, CommitMetadata.decode(text, f"{tp[0]} [{tp[1]}]"))
        return Committed(offsets, self._tips(wanted, offsets))

    def _tips(
        self, wanted: Sequence[TopicPartition], offsets: Mapping[TopicPartition, tuple[int, CommitMetadata | None]]
    ) -> dict[int, Tip]:
        """The newest named epoch of each state partition that is this worker's: all that the wanted partitions name.

        A commit writes the offsets of those source partitions only for which something changed, so an older name may
        stand with another one: epochs of a state partition only grow, the highest is the valid one.
        """
        notes = {tp: metadata.tips for tp, (_, metadata) in offsets.items() if metadata is not None}
        owned = self._job.owned_states
        if owned is None:
            owned = frozenset(partition for tp in wanted for partition in notes.get(tp, ()))
        tips: dict[int, Tip] = {}
        for note in notes.values():
            for partition, tip in note.items():
                if partition in owned and (partition not in tips or tip.name.epoch > tips[partition].name.epoch):
                    tips[partition] = tip
        return tips

    def _unnamed_epoch(self, found: Committed) -> int:
        """The highest epoch of a state that the offsets should name and do not; 0 where all is in order."""
        if found.offsets and not found.foreign:
            return 0
        highest = max((tip.name.epoch for tip in found.tips.values()), default=0) or self._epochs.highest_epoch()
        # A first epoch without offsets may be what a crash before the first commit leaves.
        return highest if highest > (0 if found.offsets else self._epochs.unnamed) else 0

    def _check_no_state_without_offsets(self, found: Committed) -> None:
        """No name for any state is right for a job that never had state; else offsets and state have come apart."""
        highest = self._unnamed_epoch(found)
        if not highest:
            return
        if found.foreign:
            topic, partition = found.foreign[0]
            what = f"the committed offset of {topic!r} [{partition}] was set from outside (kafka-consumer-groups?)"
        else:
            what = f"job {self._job.name!r} has no committed offsets (did they expire, was its consumer group deleted?)"
        raise StateError(
            f"{what}, but {self._epochs.where} holds state up to epoch {highest}, which belongs to no other "
            "position. To start without state delete that, or give the job another name"
        )

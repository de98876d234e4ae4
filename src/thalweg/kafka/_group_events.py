"""What a `KafkaConsumer` does when its group deals partitions out: the last commit, and its user's callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from thalweg.errors import ConnectorError
from thalweg.kafka._consumer_buffer import Buffer
from thalweg.kafka._offset_ledger import OffsetLedger
from thalweg.kafka._produce_api import Failure

if TYPE_CHECKING:
    from thalweg.kafka.kafka_consumer import KafkaConsumer

logger = logging.getLogger("thalweg.kafka")

TopicPartition = tuple[str, int]
Partitions = frozenset[TopicPartition]
RebalanceCallback: TypeAlias = "Callable[[KafkaConsumer, Partitions], object]"


class GroupEvents:
    """See `RebalanceListener`.

    Args:
        callbacks: the user's, for partitions assigned, revoked and lost.
    """

    def __init__(
        self,
        consumer: KafkaConsumer,
        ledger: OffsetLedger,
        buffer: Buffer,
        *,
        auto_commit: bool,
        callbacks: tuple[RebalanceCallback | None, RebalanceCallback | None, RebalanceCallback | None],
    ) -> None:
        self.assigning: dict[TopicPartition, int] | None = None
        """While `on_assign` runs: where the user's `seek` wants to begin."""
        self.pausing: set[TopicPartition] = set()
        self.paused: set[TopicPartition] = set()
        """What the user has paused: it stays so when records that waited are through."""
        self._consumer = consumer
        self._ledger = ledger
        self._buffer = buffer
        self._auto_commit = auto_commit
        self._on_assign, self._on_revoke, self._on_lost = callbacks

    def assigned(self, partitions: Partitions) -> Mapping[TopicPartition, int]:
        self.assigning = {}
        try:
            if self._on_assign is not None:
                self._on_assign(self._consumer, partitions)
            return self.assigning
        finally:
            self.assigning = None

    def started(self, partitions: Partitions) -> None:
        held, self.pausing = self.pausing, set()
        if held:
            self._consumer.pause(held)

    def revoked(self, partitions: Partitions) -> None:
        self._commit(partitions)
        try:
            if self._on_revoke is not None:
                self._on_revoke(self._consumer, partitions)
        finally:
            self._forget(partitions)

    def lost(self, partitions: Partitions) -> None:
        logger.warning("%d partitions were lost to the group; what was not committed comes again", len(partitions))
        try:
            if self._on_lost is not None:
                self._on_lost(self._consumer, partitions)
        finally:
            self._forget(partitions)

    def committed(self, offsets: Mapping[TopicPartition, int], problem: Failure | None) -> None:
        if problem is None:
            self._ledger.committed(offsets)
        else:
            logger.warning("offsets were not committed: %s; the next commit tries again", problem)

    def leaving(self, partitions: Partitions) -> None:
        """The consumer is being closed: everything is given back."""
        self.revoked(partitions)

    def _commit(self, partitions: Partitions) -> None:
        dirty = self._ledger.dirty(partitions) if self._auto_commit else {}
        if not dirty:
            return
        try:
            self._consumer.commit(dirty)
        except ConnectorError as error:
            logger.warning("the last commit before giving partitions back failed, so records come again: %s", error)

    def _forget(self, partitions: Partitions) -> None:
        self.paused -= partitions
        self._buffer.drop(partitions)
        self._ledger.forget(partitions)

"""Reads the committed part of a state changelog back from its topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.connectors.kafka_changelog import Chain, Restored, Tip
from thalweg.errors import ConnectorError, StateError
from thalweg.kafka.admin import KafkaAdmin

logger = logging.getLogger("thalweg.kafka")

_END_OF_PARTITION = -191
_TIMEOUT = 60.0
"""Seconds without a record before the reader gives up; an open transaction of a dead worker blocks it for 10."""


class ChangelogReader:
    """Reads one job's changelog topic, `read_committed`.

    Args:
        settings: librdkafka settings (security …).
    """

    def __init__(self, admin: KafkaAdmin, topic: str, settings: Mapping[str, object] | None = None) -> None:
        self.topic = topic
        self._admin = admin
        self._config = {
            "group.id": f"{topic}-reader",  # never joined: librdkafka wants a name
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 10,
            "check.crcs": True,
            **(settings or {}),
            "bootstrap.servers": admin.brokers,
        }

    def read(self, tips: Mapping[int, Tip]) -> dict[int, Restored]:
        """The state at the named epochs, per state partition.

        Raises:
            StateError: an epoch is missing, or unreadable.
            ConnectorError: the broker does not answer.
        """
        if not tips:
            return {}
        self._check_there(tips)
        ends = self._admin.offsets(self.topic, latest=True)
        chains = {partition: Chain(self.topic, partition) for partition in tips}
        self._fill(chains, {partition: tip.base_offset for partition, tip in tips.items()}, tips, ends)
        return {partition: chains[partition].restore(tip.name) for partition, tip in tips.items()}

    def highest_epoch(self) -> int:
        """The highest epoch in the topic, named by offsets or not; 0 without a topic or records."""
        if not self._admin.exists(self.topic):
            return 0
        starts = self._admin.offsets(self.topic, latest=False)
        ends = self._admin.offsets(self.topic, latest=True)
        filled = {p: start for p, start in starts.items() if start < ends[p]}
        chains = {partition: Chain(self.topic, partition) for partition in filled}
        self._fill(chains, filled, {}, ends)
        return max((chain.highest for chain in chains.values()), default=0)

    def _check_there(self, tips: Mapping[int, Tip]) -> None:
        there = self._admin.partitions(self.topic) if self._admin.exists(self.topic) else 0
        starts = self._admin.offsets(self.topic, latest=False) if there else {}
        for partition, tip in tips.items():
            if partition >= there or starts[partition] > tip.base_offset:
                what = "does not exist" if partition >= there else f"starts at offset {starts[partition]} only"
                raise StateError(
                    f"state of partition {partition}: the committed offsets name epoch {tip.name}, to be read from "
                    f"offset {tip.base_offset}, but topic {self.topic!r} [{partition}] {what}. Was it deleted or "
                    "trimmed from outside? Restore it, or start the job under a new name to begin without state"
                )

    def _fill(
        self, chains: Mapping[int, Chain], starts: Mapping[int, int], tips: Mapping[int, Tip], ends: Mapping[int, int]
    ) -> None:
        """Reads each partition until its named epoch is complete, or all that was committed by now has been read."""
        from confluent_kafka import Consumer, TopicPartition

        waiting = {partition for partition in starts if starts[partition] < ends[partition]}
        consumer = Consumer(self._config, logger=logger)
        try:
            consumer.assign([TopicPartition(self.topic, p, starts[p]) for p in waiting])
            deadline = time.monotonic() + _TIMEOUT
            while waiting:
                records = consumer.consume(500, timeout=0.1)
                if records:
                    deadline = time.monotonic() + _TIMEOUT
                elif time.monotonic() > deadline:
                    raise ConnectorError(f"topic {self.topic!r} gave nothing for {_TIMEOUT:g} s; are its leaders up?")
                for partition, offset in self._add(chains, records).items():
                    done = partition in tips and chains[partition].complete(tips[partition].name)
                    # The end of what is committed is not the end while a transaction is open: it may hold the epoch.
                    if done or offset >= ends[partition]:
                        waiting.discard(partition)
        finally:
            consumer.close()

    def _add(self, chains: Mapping[int, Chain], records: Sequence[Any]) -> dict[int, int]:
        """Returns, per partition that got any, the offset to which it has been read."""
        reached: dict[int, int] = {}
        for record in records:
            error = record.error()
            if error is None:
                chains[record.partition()].add(record.key(), record.value(), record.offset())
                reached[record.partition()] = record.offset() + 1
            elif error.code() == _END_OF_PARTITION:
                reached[record.partition()] = record.offset()
            else:
                raise ConnectorError(f"topic {self.topic!r} can't be read: {error.str()}")
        return reached

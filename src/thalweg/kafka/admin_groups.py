"""Consumer groups and offsets."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka.admin_topics import TopicAdmin, retriable

if TYPE_CHECKING:
    from thalweg.kafka.consumer import RecordConsumer

TopicPartition = tuple[str, int]
_OFFSETS_TOPIC = "__consumer_offsets"
ResetTarget = str | int | datetime


@dataclass(frozen=True, slots=True)
class GroupMemberDescription:
    """A consumer in a group."""

    member_id: str
    client_id: str
    host: str
    instance_id: str | None
    partitions: tuple[TopicPartition, ...]


@dataclass(frozen=True, slots=True)
class GroupLag:
    """How far a group is behind in one partition; `committed` and `lag` are None where it has committed nothing."""

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int | None
    member: str | None
    """The client id of the member that reads it."""


@dataclass(frozen=True, slots=True)
class GroupDescription:
    """A consumer group; `state` is "STABLE", "EMPTY", "PREPARING_REBALANCING" …"""

    group: str
    state: str
    assignor: str
    coordinator: int
    members: tuple[GroupMemberDescription, ...]


@dataclass(frozen=True, slots=True)
class OffsetReset:
    """One partition's committed offset before and after."""

    topic: str
    partition: int
    before: int | None
    after: int


class GroupAdmin(TopicAdmin):
    """The part of `KafkaAdmin` about groups and offsets."""

    def groups(self) -> dict[str, str]:
        """Every consumer group and its state.

        Raises:
            ConnectorError: the cluster can't be reached.
        """
        listed = self._read(
            lambda seconds: self._client.list_consumer_groups(request_timeout=seconds), "the consumer groups"
        )
        return {found.group_id: found.state.name for found in sorted(listed.valid, key=lambda g: str(g.group_id))}

    def describe_group(self, group: str) -> GroupDescription:
        """A group's state and members; one that does not exist is "DEAD" and has none."""
        self._settle(group)
        asked = self._call(lambda: self._client.describe_consumer_groups([group], request_timeout=self.timeout))
        found = self._result(asked[group], f"consumer group {group!r}")
        members = tuple(
            GroupMemberDescription(
                member.member_id,
                member.client_id,
                member.host,
                member.group_instance_id,
                tuple((tp.topic, tp.partition) for tp in member.assignment.topic_partitions),
            )
            for member in found.members
        )
        coordinator = found.coordinator.id if found.coordinator is not None else -1
        return GroupDescription(group, found.state.name, found.partition_assignor or "", coordinator, members)

    def group_offsets(self, group: str) -> dict[TopicPartition, int]:
        """What a group has committed."""
        topics = self._metadata().topics
        every = [(name, partition) for name in topics for partition in topics[name].partitions if name[:2] != "__"]
        with self._outsider(group) as consumer:
            found = consumer.committed(every, int(self.timeout * 1000)) if every else {}
        return {tp: offset for tp, (offset, _) in found.items()}

    def group_lag(self, group: str) -> list[GroupLag]:
        """How far a group is behind, in each partition that it has committed or reads.

        Raises:
            ConnectorError: the cluster can't be reached.
        """
        committed = self.group_offsets(group)
        readers = {tp: member.client_id for member in self.describe_group(group).members for tp in member.partitions}
        there = self._metadata().topics
        lags = []
        for topic in sorted({tp[0] for tp in committed | readers}):
            if topic not in there:
                continue  # deleted since
            ends = self.offsets(topic, latest=True)
            for partition, end in sorted(ends.items()):
                tp = (topic, partition)
                if tp not in committed and tp not in readers:
                    continue
                at = committed.get(tp)
                lag = None if at is None else max(0, end - at)
                lags.append(GroupLag(topic, partition, at, end, lag, readers.get(tp)))
        return lags

    def reset_group(
        self,
        group: str,
        to: ResetTarget | Mapping[TopicPartition, int],
        topics: str | Iterable[str] | None = None,
        *,
        dry_run: bool = False,
    ) -> list[OffsetReset]:
        """Moves a group's committed offsets.

        Args:
            to: "earliest", "latest", an offset (held within what a partition has), an aware datetime (the first record
                at or after it), or a mapping of (topic, partition) to offsets.
            topics: those to move; None: all that the group has committed.
            dry_run: only say what would change.

        Raises:
            ConfigurationError: no such target, or nothing to move.
            ConnectorError: the group has members (stop them first), or the cluster can't be reached.
        """
        before = self.group_offsets(group)
        if isinstance(to, Mapping):
            after = dict(to)
        else:
            names = sorted({tp[0] for tp in before}) if topics is None else _names(topics)
            after = {(topic, partition): at for topic in names for partition, at in self._target(topic, to).items()}
        if not after:
            raise ConfigurationError(f"group {group!r} has committed nothing; name the topics to set offsets of")
        resets = [OffsetReset(t, p, before.get((t, p)), at) for (t, p), at in sorted(after.items())]
        if not dry_run:
            self._set_offsets(group, resets)
        return resets

    def delete_group(self, group: str) -> None:
        """Deletes a group with its offsets.

        Raises:
            ConnectorError: it has members, does not exist, or the cluster can't be reached.
        """
        self._settle(group)
        asked = self._call(lambda: self._client.delete_consumer_groups([group], request_timeout=self.timeout))
        self._result(asked[group], f"deleting group {group!r}")

    # ---------------------------------------------------------------- offsets of topics

    def offsets(self, topic: str, *, latest: bool) -> dict[int, int]:
        """First or (`latest`) next offset of every partition, uncommitted records included.

        Raises:
            ConnectorError: no such topic, or the cluster can't be reached.
        """
        from confluent_kafka.admin import OffsetSpec

        return self._list_offsets(topic, OffsetSpec.latest() if latest else OffsetSpec.earliest())

    def offsets_at(self, topic: str, time: int | datetime) -> dict[int, int]:
        """Of every partition the offset of the first record at or after a time (ms UTC or aware); its end if none."""
        from confluent_kafka.admin import OffsetSpec

        if isinstance(time, datetime):
            if time.tzinfo is None:
                raise ConfigurationError(f"{time!r} has no time zone; give an aware datetime or ms UTC")
            time = int(time.timestamp() * 1000)
        found, ends = self._list_offsets(topic, OffsetSpec.for_timestamp(time)), self.offsets(topic, latest=True)
        return {partition: at if at >= 0 else ends[partition] for partition, at in found.items()}

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        """Deletes the records of each partition that lie before an offset.

        Raises:
            ConnectorError: the cluster refuses, or can't be reached.
        """
        from confluent_kafka import TopicPartition

        wanted = [TopicPartition(topic, partition, offset) for partition, offset in before.items()]
        asked = self._client.delete_records(wanted, operation_timeout=self.timeout, request_timeout=self.timeout)
        for future in asked.values():
            self._result(future, f"deleting old records of {topic!r}")

    # ---------------------------------------------------------------- inside

    def _outsider(self, group: str) -> closing[RecordConsumer]:
        """A consumer that may ask about the group without being a member of it.

        Not left to librdkafka's admin client: its requests to a coordinator that is just being made or loaded fail,
        hang, or abort the process (seen in 2.16, in an assertion). A consumer waits, and asks again.
        """
        from thalweg.kafka.consumer import open_consumer

        return closing(open_consumer({**self._settings, "client.id": "thalweg-admin", "group.id": group}))

    def _settle(self, group: str) -> None:
        """Returns when the group's coordinator answers: only then may the admin client ask it."""
        with self._outsider(group) as consumer:
            consumer.committed([(_OFFSETS_TOPIC, 0)], int(self.timeout * 1000))

    def _list_offsets(self, topic: str, spec: Any) -> dict[int, int]:
        from confluent_kafka import IsolationLevel, TopicPartition

        wanted = {TopicPartition(topic, partition): spec for partition in range(self.partitions(topic))}
        deadline = time.monotonic() + self.timeout
        while True:
            asked = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=self.timeout
            )
            try:
                return {at.partition: self._wait(future).offset for at, future in asked.items()}
            except Exception as error:
                if not retriable(error) or time.monotonic() > deadline:
                    raise ConnectorError(f"offsets of {topic!r}: {self.brokers} says: {error}") from error
            time.sleep(0.02)

    def _target(self, topic: str, to: ResetTarget) -> dict[int, int]:
        if to == "earliest" or to == "latest":
            return self.offsets(topic, latest=to == "latest")
        if isinstance(to, datetime):
            return self.offsets_at(topic, to)
        if isinstance(to, str):
            raise ConfigurationError(f'offsets can be set to "earliest", "latest", a number or a time, not {to!r}')
        first, end = self.offsets(topic, latest=False), self.offsets(topic, latest=True)
        return {partition: min(max(to, first[partition]), end[partition]) for partition in first}

    def _set_offsets(self, group: str, resets: Iterable[OffsetReset]) -> None:
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        state = self.describe_group(group)
        if state.members:
            clients = ", ".join(sorted({member.client_id for member in state.members}))
            raise ConnectorError(f"group {group!r} has members ({clients}); stop them before its offsets are moved")
        rows = [TopicPartition(reset.topic, reset.partition, reset.after) for reset in resets]
        asked = self._call(
            lambda: self._client.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, rows)], request_timeout=self.timeout
            )
        )
        done = self._result(asked[group], f"setting the offsets of group {group!r}")
        for tp in done.topic_partitions:
            if tp.error is not None:
                raise ConnectorError(f"the offset of {tp.topic} [{tp.partition}] was not set: {tp.error}")


def _names(topics: str | Iterable[str]) -> list[str]:
    return [topics] if isinstance(topics, str) else list(topics)

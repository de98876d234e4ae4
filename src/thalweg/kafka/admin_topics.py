"""Topics: looked at, made, changed, and brought in line with a declaration."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.kafka._admin_base import AdminBase, error_code
from thalweg.kafka.topic_plan import TopicChange, TopicPlan, TopicSpec, load_topics

_TOPIC_ALREADY_EXISTS = 36
_UNKNOWN_TOPIC = frozenset({3, -188, -190})
_NO_LEADER_YET = frozenset({3, 5, 6, 7, 9, 13, 74, 75, 76, 78, -190, -195})
"""Unknown partition, no leader, not the leader, leader epoch too old or too new, time-outs, connection lost."""

_HEARD_OF = 5.0
"""Seconds within which every broker should have heard of a change."""


@dataclass(frozen=True, slots=True)
class PartitionPlacement:
    """Where a partition lives; `leader` is -1 where there is none."""

    partition: int
    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as the cluster knows it."""

    name: str
    partitions: int
    replication: int
    internal: bool
    config: Mapping[str, str]
    placements: tuple[PartitionPlacement, ...] = ()

    @property
    def max_record_bytes(self) -> int:
        """The largest batch, and so record, that the topic takes."""
        return int(self.config.get("max.message.bytes", 1_048_588))


class TopicAdmin(AdminBase):
    """The part of `KafkaAdmin` about topics."""

    def topics(self) -> list[str]:
        """The names of all topics but Kafka's own.

        Raises:
            ConnectorError: the cluster can't be reached.
        """
        return sorted(name for name in self._metadata().topics if not name.startswith("__"))

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            ConnectorError: no such topic (with close names), or the cluster can't be reached.
        """
        return len(self._known(topic).partitions)

    def exists(self, topic: str) -> bool:
        return self._find(topic) is not None

    def ensure_topic(
        self,
        topic: str,
        partitions: int | None = None,
        *,
        replication: int | None = None,
        config: Mapping[str, str] | None = None,
    ) -> int:
        """Creates a topic where it is missing; returns its partition count. Never changes one that exists.

        Args:
            partitions, replication: None: the cluster's default.

        Raises:
            ConnectorError: the cluster refuses, or can't be reached.
        """
        found = self._find(topic)
        if found is not None:
            return len(found.partitions)
        return self.create_topic(topic, partitions, replication=replication, config=config, exist_ok=True)

    def create_topic(
        self,
        topic: str,
        partitions: int | None = None,
        *,
        replication: int | None = None,
        config: Mapping[str, str] | None = None,
        exist_ok: bool = False,
    ) -> int:
        """Creates a topic and waits for its leaders; returns its partition count.

        Raises:
            ConnectorError: it exists (unless `exist_ok`), the cluster refuses, or can't be reached.
        """
        from confluent_kafka.admin import NewTopic

        new = NewTopic(topic, partitions or -1, replication or -1, config=dict(config or {}))
        asked = self._call(
            lambda: self._client.create_topics([new], operation_timeout=self.timeout, request_timeout=self.timeout)
        )
        try:
            self._wait(asked[topic])
        except ConnectorError:
            raise
        except Exception as error:
            if not exist_ok or error_code(error) != _TOPIC_ALREADY_EXISTS:  # somebody else may have been quicker
                raise ConnectorError(f"topic {topic!r} could not be created on {self.brokers}: {error}") from error
        return self._await_partitions(topic)

    def grow_topic(self, topic: str, partitions: int) -> bool:
        """Adds partitions until the topic has this many, never takes any away; whether it had to add some.

        Raises:
            ConnectorError: no such topic, the cluster refuses, or can't be reached.
        """
        from confluent_kafka.admin import NewPartitions

        if self.partitions(topic) >= partitions:
            return False
        asked = self._client.create_partitions([NewPartitions(topic, partitions)], operation_timeout=self.timeout)
        self._result(asked[topic], f"adding partitions to {topic!r}")
        self._await_partitions(topic, partitions)
        return True

    def alter_topic(self, topic: str, config: Mapping[str, str | None]) -> None:
        """Changes settings of a topic; None sets one back to the cluster's default. The others stay.

        Raises:
            ConnectorError: no such topic or setting, or the cluster can't be reached.
        """
        from confluent_kafka.admin import ConfigResource

        self._known(topic)
        what = f"the settings of topic {topic!r}"
        self._alter(ConfigResource.Type.TOPIC, topic, config, what)
        deadline = time.monotonic() + _HEARD_OF
        while time.monotonic() < deadline:  # the broker that is asked hears of it a moment later
            now = self._entries(ConfigResource.Type.TOPIC, topic, what)
            if all(_is_set(now[name], value) for name, value in config.items()):
                return
            time.sleep(0.02)

    def describe(self, topic: str) -> TopicDescription:
        """A topic's shape and settings.

        Raises:
            ConnectorError: no such topic, or the cluster can't be reached.
        """
        from confluent_kafka.admin import ConfigResource

        found = self._known(topic)
        entries = self._entries(ConfigResource.Type.TOPIC, topic, f"the settings of topic {topic!r}")
        config = {name: entry.value for name, entry in entries.items() if entry.value is not None}
        placements = tuple(
            PartitionPlacement(p.id, p.leader, tuple(p.replicas), tuple(p.isrs))
            for p in sorted(found.partitions.values(), key=lambda p: p.id)
        )
        replicas = max((len(placed.replicas) for placed in placements), default=0)
        return TopicDescription(topic, len(placements), replicas, topic.startswith("__"), config, placements)

    def delete_topic(self, topic: str) -> None:
        """Deletes a topic; one that does not exist is no error.

        Raises:
            ConnectorError: the cluster refuses, or can't be reached.
        """
        future = self._client.delete_topics([topic], operation_timeout=self.timeout)[topic]
        try:
            self._wait(future)
        except ConnectorError:
            raise
        except Exception as error:
            if error_code(error) not in _UNKNOWN_TOPIC:
                raise ConnectorError(f"topic {topic!r} could not be deleted: {error}") from error

    # ---------------------------------------------------------------- as declared

    def plan_topics(self, source: str | Path | Mapping[str, Any] | Iterable[TopicSpec]) -> TopicPlan:
        """What `ensure_topics` would do; see `load_topics` for the declaration."""
        from confluent_kafka.admin import ConfigResource

        there = self._metadata().topics
        changes: list[TopicChange] = []
        for spec in load_topics(source):
            if spec.name not in there:
                changes.append(TopicChange(spec.name, "create", _created(spec), spec))
                continue
            changes += _shape_changes(spec, there[spec.name])
            if spec.config:
                entries = self._entries(ConfigResource.Type.TOPIC, spec.name, f"the settings of topic {spec.name!r}")
                now = {name: entry.value for name, entry in entries.items()}
                changes += [
                    TopicChange(spec.name, "set", f"{name}: {now.get(name, 'not a setting')} → {value}", spec)
                    for name, value in spec.config.items()
                    if now.get(name) != value
                ]
        return TopicPlan(tuple(changes))

    def ensure_topics(
        self, source: str | Path | Mapping[str, Any] | Iterable[TopicSpec], *, dry_run: bool = False
    ) -> TopicPlan:
        """Brings topics in line with their declaration: creates, adds partitions, changes settings; deletes nothing.

        A second call finds nothing to do.

        Returns:
            what was done, or (`dry_run`) would be.

        Raises:
            ConfigurationError: a change that Kafka can't make (fewer partitions, another replication); nothing is done.
            ConnectorError: the cluster refuses, or can't be reached.
        """
        plan = self.plan_topics(source)
        if dry_run:
            return plan
        if plan.refused:
            raise ConfigurationError("nothing was changed:\n" + "\n".join(map(str, plan.refused)))
        for change in plan.changes:
            if change.action == "create":
                spec = change.spec
                self.ensure_topic(spec.name, spec.partitions, replication=spec.replication, config=spec.config)
            elif change.action == "add partitions" and change.spec.partitions:
                self.grow_topic(change.topic, change.spec.partitions)
        for spec in {change.topic: change.spec for change in plan.changes if change.action == "set"}.values():
            self.alter_topic(spec.name, spec.config)
        return plan

    # ---------------------------------------------------------------- inside

    def _entries(self, kind: Any, name: str, what: str) -> Mapping[str, Any]:
        from confluent_kafka.admin import ConfigResource

        resource = ConfigResource(kind, name)
        found: Mapping[str, Any] = self._read(
            lambda seconds: self._client.describe_configs([resource], request_timeout=seconds)[resource], what
        )
        return found

    def _alter(self, kind: Any, name: str, config: Mapping[str, str | None], what: str) -> None:
        from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

        entries = [
            ConfigEntry(
                key,
                value if value is not None else "",
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for key, value in config.items()
        ]
        resource = ConfigResource(kind, name, incremental_configs=entries)
        asked = self._call(lambda: self._client.incremental_alter_configs([resource], request_timeout=self.timeout))
        self._result(asked[resource], what)

    def _find(self, topic: str) -> Any:
        """The topic's metadata, None where it does not exist."""
        return self._metadata().topics.get(topic)

    def _known(self, topic: str) -> Any:
        found = self._find(topic)
        if found is None:
            raise ConnectorError(self._unknown(topic))
        return found

    def _await_partitions(self, topic: str, at_least: int = 1) -> int:
        deadline = time.monotonic() + self.timeout
        while True:
            found = self._find(topic)
            count = len(found.partitions) if found is not None else 0
            if count >= at_least and all(p.leader >= 0 for p in found.partitions.values()):
                return count
            if time.monotonic() > deadline:
                raise ConnectorError(
                    f"the new partitions of topic {topic!r} got no leader in {self.timeout:g} s; look at the brokers"
                )
            time.sleep(0.02)

    def _unknown(self, topic: str) -> str:
        near = difflib.get_close_matches(topic, self.topics(), n=3, cutoff=0.6)
        hint = f"did you mean {' or '.join(repr(name) for name in near)}?" if near else "create it, or check the name"
        return f"there is no topic {topic!r} on {self.brokers}; {hint}"


def retriable(error: Exception) -> bool:
    """A topic that was just made, or whose leader moves, has leaders that don't know it yet."""
    return error_code(error) in _NO_LEADER_YET


def _is_set(entry: Any, value: str | None) -> bool:
    from confluent_kafka.admin import ConfigSource

    if value is None:
        return bool(entry.source != ConfigSource.DYNAMIC_TOPIC_CONFIG.value)
    return bool(entry.value == value)


def _created(spec: TopicSpec) -> str:
    parts = [
        f"{spec.partitions or 'default'} partitions",
        f"replication {spec.replication or 'default'}",
        *(f"{name}={value}" for name, value in spec.config.items()),
    ]
    return ", ".join(parts)


def _shape_changes(spec: TopicSpec, found: Any) -> list[TopicChange]:
    count = len(found.partitions)
    replicas = max((len(partition.replicas) for partition in found.partitions.values()), default=0)
    changes = []
    if spec.partitions is not None and spec.partitions > count:
        detail = f"partitions: {count} → {spec.partitions} (keys will go to other partitions)"
        changes.append(TopicChange(spec.name, "add partitions", detail, spec))
    if spec.partitions is not None and spec.partitions < count:
        detail = f"{count} partitions are there, {spec.partitions} are wanted; Kafka can't take any away"
        changes.append(TopicChange(spec.name, "refuse", detail, spec))
    if spec.replication is not None and spec.replication != replicas:
        detail = f"replication is {replicas}, {spec.replication} is wanted; reassign with kafka-reassign-partitions"
        changes.append(TopicChange(spec.name, "refuse", detail, spec))
    return changes

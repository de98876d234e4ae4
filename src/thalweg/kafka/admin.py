"""Topics and their settings, asked of the cluster: what the rest of Thalweg needs, with errors that say what to do."""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from thalweg.errors import ConnectorError

logger = logging.getLogger("thalweg.kafka")

_T = TypeVar("_T")
_TOPIC_ALREADY_EXISTS = 36
_UNKNOWN_TOPIC = frozenset({3, -188, -190})
_NO_LEADER_YET = frozenset({3, 5, 6, 7, 9, 13, 74, 75, 76, 78, -190, -195})
"""Unknown partition, no leader, not the leader, leader epoch too old or too new, time-outs, connection lost."""


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic as the cluster knows it."""

    name: str
    partitions: int
    replication: int
    internal: bool
    config: Mapping[str, str]

    @property
    def max_record_bytes(self) -> int:
        """The largest batch, and so record, that the topic takes."""
        return int(self.config.get("max.message.bytes", 1_048_588))


class KafkaAdmin:
    """Topics of one cluster.

    Args:
        brokers: `host:port` or several of them, as a list or separated by commas.
        timeout: seconds that one request may take.
        settings: other librdkafka settings (security …).
    """

    def __init__(
        self, brokers: str | Sequence[str], *, timeout: float = 10.0, settings: Mapping[str, object] | None = None
    ) -> None:
        from confluent_kafka.admin import AdminClient

        self.brokers = brokers if isinstance(brokers, str) else ",".join(brokers)
        self.timeout = timeout
        config = {"bootstrap.servers": self.brokers, "client.id": "thalweg-admin", **(settings or {})}
        self._client = AdminClient(config, logger=logger)

    def topics(self) -> list[str]:
        """The names of all topics but Kafka's own.

        Raises:
            ConnectorError: the cluster can't be reached.
        """
        return sorted(name for name in self._metadata(None).topics if not name.startswith("__"))

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has.

        Raises:
            ConnectorError: no such topic (with close names), or the cluster can't be reached.
        """
        found = self._find(topic)
        if found is None:
            raise ConnectorError(self._unknown(topic))
        return len(found.partitions)

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
        from confluent_kafka.admin import NewTopic

        found = self._find(topic)
        if found is not None:
            return len(found.partitions)
        new = NewTopic(topic, partitions or -1, replication or -1, config=dict(config or {}))
        future = self._client.create_topics([new], operation_timeout=self.timeout, request_timeout=self.timeout)[topic]
        try:
            future.result()
        except Exception as error:
            if _code(error) != _TOPIC_ALREADY_EXISTS:  # somebody else may have been quicker
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

    def describe(self, topic: str) -> TopicDescription:
        """A topic's shape and settings.

        Raises:
            ConnectorError: no such topic, or the cluster can't be reached.
        """
        from confluent_kafka.admin import ConfigResource

        found = self._find(topic)
        if found is None:
            raise ConnectorError(self._unknown(topic))
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        asked = self._client.describe_configs([resource], request_timeout=self.timeout)
        entries = self._result(asked[resource], f"the settings of topic {topic!r}")
        replicas = max((len(partition.replicas) for partition in found.partitions.values()), default=0)
        config = {name: entry.value for name, entry in entries.items() if entry.value is not None}
        return TopicDescription(topic, len(found.partitions), replicas, topic.startswith("__"), config)

    def offsets(self, topic: str, *, latest: bool) -> dict[int, int]:
        """First or (`latest`) next offset of every partition, uncommitted records included.

        Raises:
            ConnectorError: no such topic, or the cluster can't be reached.
        """
        from confluent_kafka import IsolationLevel, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        spec = OffsetSpec.latest() if latest else OffsetSpec.earliest()
        wanted = {TopicPartition(topic, partition): spec for partition in range(self.partitions(topic))}
        deadline = time.monotonic() + self.timeout
        while True:
            asked = self._client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=self.timeout
            )
            try:
                return {at.partition: future.result().offset for at, future in asked.items()}
            except Exception as error:
                # A topic that was just made, or whose leader moves, has leaders that don't know it yet.
                if not _retriable(error) or time.monotonic() > deadline:
                    raise ConnectorError(f"offsets of {topic!r}: {self.brokers} says: {error}") from error
            time.sleep(0.02)

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

    def delete_topic(self, topic: str) -> None:
        """Deletes a topic; one that does not exist is no error.

        Raises:
            ConnectorError: the cluster refuses, or can't be reached.
        """
        future = self._client.delete_topics([topic], operation_timeout=self.timeout)[topic]
        try:
            future.result()
        except Exception as error:
            if _code(error) not in _UNKNOWN_TOPIC:
                raise ConnectorError(f"topic {topic!r} could not be deleted: {error}") from error

    def close(self) -> None:
        """Lets go of the client; its connections close with it."""
        self._client = None

    def _metadata(self, topic: str | None) -> Any:
        return self._ask(lambda: self._client.list_topics(topic, timeout=self.timeout))

    def _find(self, topic: str) -> Any:
        """The topic's metadata, None where it does not exist. All topics are asked for: naming one may create it."""
        return self._metadata(None).topics.get(topic)

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

    def _ask(self, call: Callable[[], _T]) -> _T:
        try:
            return call()
        except Exception as error:
            raise ConnectorError(
                f"the Kafka cluster at {self.brokers} does not answer ({error}). Check the address, that the broker is "
                "up, and that its advertised listeners can be reached from here"
            ) from error

    def _result(self, future: Future[Any], what: str) -> Any:
        try:
            return future.result()
        except Exception as error:
            raise ConnectorError(f"{what}: {self.brokers} says: {error}") from error


def _retriable(error: Exception) -> bool:
    return _code(error) in _NO_LEADER_YET


def _code(error: Exception) -> int | None:
    inner: Any = error.args[0] if error.args else None
    return int(inner.code()) if hasattr(inner, "code") else None

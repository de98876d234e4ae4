"""`KafkaBroker`: a Kafka cluster as a job sees it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from thalweg.connectors.kafka_committer import KafkaCommitter
from thalweg.connectors.kafka_peers import Peers
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.security import KafkaSecurity
from thalweg.records import Decoder
from thalweg.streams.connector import Committer, JobSettings, Source

_EXCHANGE_CONFIG = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",  # the job deletes what its readers have committed
    "retention.bytes": "-1",
    "segment.bytes": str(64 * 1024 * 1024),
    "max.message.bytes": str(32 * 1024 * 1024),  # one row may be larger than a usual record
}
_SERVER = re.compile(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}")


class KafkaBroker:
    """`Broker` over a Kafka cluster.

    Args:
        url: `kafka://host:9092[,host:9092…]`.
        partitions, replication: of topics that `ensure_topic` makes without being told; None: the cluster's default.
        compression: of what the job writes: "none", "gzip", "snappy", "lz4" or "zstd".
        security: a `KafkaSecurity`, or librdkafka settings for every connection (`{"security.protocol": "SSL", …}`).
        consumer, producer: other librdkafka settings for the one or the other.
        on_trimmed: "error" stops a job that comes too late for events that retention has removed; "skip" goes on.
        alternating: whether two transactional producers take turns, so that an epoch is written while the one before
            is being committed (exactly-once); else one does it all.
        timeout: how long a request about topics may take.

    Raises:
        ConfigurationError: not such a URL.
    """

    def __init__(
        self,
        url: str,
        *,
        partitions: int | None = None,
        replication: int | None = None,
        compression: str = "none",
        security: KafkaSecurity | Mapping[str, object] | None = None,
        consumer: Mapping[str, object] | None = None,
        producer: Mapping[str, object] | None = None,
        on_trimmed: str = "error",
        alternating: bool = True,
        timeout: Duration = "10s",
    ) -> None:
        self.brokers = servers(url)
        self._partitions = partitions
        self._replication = replication
        self._on_trimmed = on_trimmed
        self._alternating = alternating
        self._security = security.settings() if isinstance(security, KafkaSecurity) else dict(security or {})
        self._consumer = dict(consumer or {})
        self._producer = {"compression.type": compression, **(producer or {})}
        self._admin = KafkaAdmin(self.brokers, timeout=milliseconds(timeout) / 1000, settings=self._security)
        self._peers: dict[tuple[str, int], Peers] = {}

    def source(self, topic: str, decoder: Decoder, job: JobSettings, *, broker_timestamps: bool = False) -> Source:
        from thalweg.connectors.kafka_source import KafkaSource

        settings = {**self._security, **self._consumer}
        return KafkaSource(
            *(self.brokers, topic, decoder, job),
            broker_timestamps=broker_timestamps,
            settings=settings,
            on_trimmed=self._on_trimmed,
        )

    def committer(self, job: JobSettings, sources: Sequence[Source]) -> Committer:
        return KafkaCommitter(
            *(job, self._admin, sources),
            settings=self._producer,
            client_settings=self._security,
            alternating=self._alternating,
            peers=self._peers.setdefault((job.name, job.slot), Peers(self._admin, job)),
        )

    def ensure_topic(self, topic: str, partitions: int | None = None) -> int:
        return self._admin.ensure_topic(topic, partitions or self._partitions, replication=self._replication)

    def partitions(self, topic: str) -> int:
        return self._admin.partitions(topic)

    def has_topic(self, topic: str) -> bool:
        return self._admin.exists(topic)

    def ensure_exchange(self, topic: str, partitions: int) -> int:
        return self._admin.ensure_topic(topic, partitions, replication=self._replication, config=_EXCHANGE_CONFIG)

    def close(self) -> None:
        self._admin.close()


def servers(url: str) -> str:
    """The addresses in a `kafka://` URL, separated by commas.

    >>> servers("kafka://a:9092,b:9093")
    'a:9092,b:9093'

    Raises:
        ConfigurationError: not such a URL.
    """
    found = url.removeprefix("kafka://").rstrip("/").split(",")
    if not url.startswith("kafka://") or not all(_SERVER.fullmatch(server.strip()) for server in found):
        raise ConfigurationError(f"broker {url!r}: write kafka://host:9092, or several as kafka://a:9092,b:9092")
    return ",".join(server.strip() for server in found)

"""`KafkaAdmin`: topics, groups, brokers and rights of a cluster, with errors that say what to do."""

from __future__ import annotations

from thalweg.kafka.admin_cluster import Acl, BrokerDescription, ClusterAdmin, ClusterDescription, LogDirectory, Quota
from thalweg.kafka.admin_groups import GroupAdmin, GroupDescription, GroupLag, OffsetReset
from thalweg.kafka.admin_topics import PartitionPlacement, TopicDescription
from thalweg.kafka.topic_plan import TopicChange, TopicPlan, TopicSpec, load_topics

__all__ = [
    "Acl",
    "BrokerDescription",
    "ClusterDescription",
    "GroupDescription",
    "GroupLag",
    "KafkaAdmin",
    "LogDirectory",
    "OffsetReset",
    "PartitionPlacement",
    "Quota",
    "TopicChange",
    "TopicDescription",
    "TopicPlan",
    "TopicSpec",
    "load_topics",
]


class KafkaAdmin(GroupAdmin, ClusterAdmin):
    """One cluster.

    Args:
        brokers: `host:port` or several of them, as a list or separated by commas.
        timeout: seconds that one request may take.
        security: see `KafkaSecurity`.
        settings: other librdkafka settings.

    >>> admin = KafkaAdmin("localhost:9092")                                             # doctest: +SKIP
    >>> print(admin.ensure_topics("topics.toml", dry_run=True))                          # doctest: +SKIP
    + events: 12 partitions, replication 3, retention.ms=604800000
    """

"""Kafka: producing, consuming, topics. Everything is imported on first use: `import thalweg.kafka` loads no client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.kafka.admin import KafkaAdmin, TopicDescription
    from thalweg.kafka.local_cluster import LocalKafka
    from thalweg.kafka.producer import KafkaProducer, ProduceError, RecordMetadata

_HOMES = {
    "KafkaAdmin": "admin",
    "KafkaProducer": "producer",
    "LocalKafka": "local_cluster",
    "ProduceError": "producer",
    "RecordMetadata": "producer",
    "TopicDescription": "admin",
}

__all__ = ["KafkaAdmin", "KafkaProducer", "LocalKafka", "ProduceError", "RecordMetadata", "TopicDescription"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

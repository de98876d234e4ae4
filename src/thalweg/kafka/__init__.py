"""Kafka: producing, consuming, topics. Everything is imported on first use: `import thalweg.kafka` loads no client."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.kafka.admin import KafkaAdmin, TopicDescription
    from thalweg.kafka.dead_letter import DeadLetter, DeadLetterQueue, RetryingConsumer, RetryPolicy
    from thalweg.kafka.kafka_consumer import KafkaConsumer
    from thalweg.kafka.local_cluster import LocalKafka
    from thalweg.kafka.producer import KafkaProducer, ProduceError, RecordMetadata
    from thalweg.kafka.rows import BadRecords, KafkaRecord
    from thalweg.kafka.schema_registry import SchemaRegistryClient
    from thalweg.kafka.security import KafkaSecurity

_HOMES = {
    "BadRecords": "rows",
    "DeadLetter": "dead_letter",
    "DeadLetterQueue": "dead_letter",
    "KafkaAdmin": "admin",
    "KafkaConsumer": "kafka_consumer",
    "KafkaProducer": "producer",
    "KafkaRecord": "rows",
    "KafkaSecurity": "security",
    "LocalKafka": "local_cluster",
    "ProduceError": "producer",
    "RecordMetadata": "producer",
    "RetryPolicy": "dead_letter",
    "RetryingConsumer": "dead_letter",
    "SchemaRegistryClient": "schema_registry",
    "TopicDescription": "admin",
}

__all__ = [
    "BadRecords",
    "DeadLetter",
    "DeadLetterQueue",
    "KafkaAdmin",
    "KafkaConsumer",
    "KafkaProducer",
    "KafkaRecord",
    "KafkaSecurity",
    "LocalKafka",
    "ProduceError",
    "RecordMetadata",
    "RetryPolicy",
    "RetryingConsumer",
    "SchemaRegistryClient",
    "TopicDescription",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

"""Settings of a consumer: ours beneath the user's, and what can't work refused before anything connects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.errors import ConfigurationError
from thalweg.kafka._produce_api import is_secret
from thalweg.kafka.tokens import OAUTH

DEFAULTS: Mapping[str, str] = {
    "enable.auto.commit": "false",
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "enable.partition.eof": "true",  # the broker's evidence that a partition has been read to its end
    "allow.auto.create.topics": "false",
    # An answer as soon as there is one byte; the wait only paces an idle consumer and its end-of-partition evidence.
    "fetch.min.bytes": "1",
    "fetch.wait.max.ms": "100",
    # Memory: what is queued, plus one answer under way from each broker.
    "queued.max.messages.kbytes": "65536",
    "fetch.max.bytes": str(32 * 1024 * 1024),
    "fetch.message.max.bytes": str(4 * 1024 * 1024),
    "queued.min.messages": "1000000",  # so that the size above is what bounds the queue
    # librdkafka's defaults are made for patience: 1 s after a full queue, 0.5 s after an error, 10 s to reconnect.
    "fetch.queue.backoff.ms": "5",
    "fetch.error.backoff.ms": "100",
    "reconnect.backoff.ms": "50",
    "reconnect.backoff.max.ms": "1000",
}


def consumer_config(
    settings: Mapping[str, object], topics: Sequence[str], *, cooperative: bool = False
) -> dict[str, Any]:
    """librdkafka settings as text (and `oauth_cb`), with our defaults where the user said nothing.

    Args:
        cooperative: the consumer can take and give partitions one by one.

    Raises:
        ConfigurationError: no brokers, no group for a subscription, or a setting that this consumer can't serve.
    """
    given = {name: value if name == OAUTH else _text(name, value) for name, value in settings.items()}
    config: dict[str, Any] = {**DEFAULTS, **given}
    if not (config.get("bootstrap.servers") or config.get("metadata.broker.list")):
        raise ConfigurationError("the consumer needs bootstrap.servers, such as 'localhost:9092'")
    if topics and not config.get("group.id"):
        raise ConfigurationError("a consumer that subscribes to topics needs a group.id")
    one_by_one = "cooperative" in config.get("partition.assignment.strategy", "")
    if not cooperative and (one_by_one or config.get("group.protocol") == "consumer"):
        raise ConfigurationError(
            "the consumer takes and gives partitions all at once: use partition.assignment.strategy=range (or "
            "roundrobin) and leave group.protocol at 'classic'"
        )
    config.setdefault("group.id", "thalweg-unassigned")  # never joined without a subscription
    return config


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    shown = "not shown" if is_secret(name) else repr(value)
    raise ConfigurationError(f"Kafka setting {name} is {shown}; give text, a number, or true/false")

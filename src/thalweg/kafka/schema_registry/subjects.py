"""Subject strategies: under which name a topic's schemas are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from thalweg.errors import ConfigurationError

SubjectStrategy: TypeAlias = Callable[[str, str, bool], str]
"""(topic, full name of the record, whether it is the key) to the subject."""


def topic_name(topic: str, record: str, is_key: bool = False) -> str:
    """One kind of record for each topic (the default).

    >>> topic_name("orders", "com.example.Order")
    'orders-value'
    """
    return f"{topic}-{'key' if is_key else 'value'}"


def record_name(topic: str, record: str, is_key: bool = False) -> str:
    """Several kinds of record in a topic, each the same in all topics.

    >>> record_name("orders", "com.example.Order")
    'com.example.Order'
    """
    return _named(record)


def topic_record_name(topic: str, record: str, is_key: bool = False) -> str:
    """Several kinds of record in a topic, each for itself in each topic.

    >>> topic_record_name("orders", "com.example.Order")
    'orders-com.example.Order'
    """
    return f"{topic}-{_named(record)}"


STRATEGIES: dict[str, SubjectStrategy] = {
    "topic": topic_name,
    "record": record_name,
    "topic-record": topic_record_name,
}


def strategy_of(given: str | SubjectStrategy) -> SubjectStrategy:
    """A strategy by its name.

    Raises:
        ConfigurationError: no such name.
    """
    if callable(given):
        return given
    if given not in STRATEGIES:
        raise ConfigurationError(f"subject strategy {given!r}: use one of {', '.join(STRATEGIES)}, or a function")
    return STRATEGIES[given]


def _named(record: str) -> str:
    if not record:
        raise ConfigurationError("this subject strategy needs a schema with a name (a record or message)")
    return record

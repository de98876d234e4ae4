"""Where dead letters lie. `KafkaLetters` is a cluster; `thalweg.connectors.sqlite.letters` is an embedded log."""

from __future__ import annotations

import difflib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from thalweg.errors import ConnectorError
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.consumer import BEGINNING, open_consumer
from thalweg.kafka.dead_letter.letters import DEAD_SUFFIX, STATE_SUFFIX
from thalweg.kafka.producer import KafkaProducer
from thalweg.kafka.security import client_settings

if TYPE_CHECKING:
    from thalweg.kafka.security import KafkaSecurity

logger = logging.getLogger("thalweg.kafka")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to write."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes]
    timestamp: int | None = None


Change = Callable[[Mapping[str, bytes | None]], Sequence[Outgoing]]
"""From the newest state of each letter (by its place) to the records to write, states among them."""


class LetterStore(Protocol):
    """Reads dead letters, and writes all of a change or nothing."""

    def topics(self) -> list[str]:
        """The topics that have dead letters, without the suffix."""

    def letters(self, topic: str) -> pl.DataFrame:
        """The records of a topic's dead-letter topic: partition, offset, timestamp, key, value, headers.

        Raises:
            ConnectorError: it has none.
        """

    def states(self, topic: str) -> dict[str, bytes | None]:
        """The newest state of each letter, by its place."""

    def change(self, topic: str, change: Change) -> None:
        """Asks for the states and writes what `change` makes of them, in one step: never twice at a time."""

    def close(self) -> None: ...


class KafkaLetters:
    """The dead letters of a Kafka cluster.

    A change is one transaction, by a transactional id of the topic's own: another program's that began earlier is
    fenced off before the states are read.
    """

    def __init__(
        self,
        brokers: str | Sequence[str],
        *,
        security: KafkaSecurity | None = None,
        settings: Mapping[str, object] | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._settings = client_settings(brokers, security, settings)
        self._security = security
        self._own = settings
        self._brokers = brokers
        self._timeout = timeout
        self._admin = KafkaAdmin(brokers, security=security, settings=settings)

    def topics(self) -> list[str]:
        return [name.removesuffix(DEAD_SUFFIX) for name in self._admin.topics() if name.endswith(DEAD_SUFFIX)]

    def letters(self, topic: str) -> pl.DataFrame:
        if not self._admin.exists(topic + DEAD_SUFFIX):
            raise no_letters(topic, self.topics())
        return self._read(topic + DEAD_SUFFIX)

    def states(self, topic: str) -> dict[str, bytes | None]:
        if not self._admin.exists(topic + STATE_SUFFIX):
            return {}
        records = self._read(topic + STATE_SUFFIX)
        keys = [(key or b"").decode() for key in records["key"]]
        return dict(zip(keys, records["value"], strict=True))  # in order: the last one of a key stays

    def change(self, topic: str, change: Change) -> None:
        # One partition, so that the states are in order; compacted, so that the newest stays for ever.
        self._admin.ensure_topic(topic + STATE_SUFFIX, 1, config={"cleanup.policy": "compact"})
        with closing(self._producer(f"thalweg-dlq-{topic}")) as producer:
            producer.init_transactions(self._timeout)
            records = change(self.states(topic))
            if not records:
                return
            with producer.transaction(self._timeout):
                for each in records:
                    producer.send(
                        each.topic, each.value, key=each.key, headers=dict(each.headers), timestamp=each.timestamp
                    )

    def _producer(self, transactional_id: str) -> KafkaProducer:
        return KafkaProducer(
            self._brokers,
            transactional_id=transactional_id,
            max_record_bytes=64 * 1024 * 1024,
            security=self._security,
            settings=self._own,
        )

    def _read(self, topic: str) -> pl.DataFrame:
        """All records that are committed now, in order of partition and offset."""
        config = {**self._settings, "group.id": "thalweg-dlq", "enable.partition.eof": True}
        config |= {"enable.auto.commit": False, "auto.offset.reset": "earliest"}
        parts = [_RECORDS.clear()]
        wanted = {(topic, partition) for partition in range(self._admin.partitions(topic))}
        with closing(open_consumer(config)) as consumer:
            consumer.start(dict.fromkeys(wanted, BEGINNING))
            deadline = time.monotonic() + self._timeout
            while not wanted <= consumer.caught_up():
                raw = consumer.poll(10_000, 200)
                if raw is None:
                    if time.monotonic() > deadline:
                        raise ConnectorError(f"topic {topic!r} could not be read to its end in {self._timeout:g} s")
                    continue
                deadline = time.monotonic() + self._timeout
                parts.append(_records(raw))
        return pl.concat(parts).sort("partition", "offset")

    def close(self) -> None:
        self._admin.close()


def no_letters(topic: str, known: Sequence[str]) -> ConnectorError:
    """That a topic has no dead letters, and which have (`known`)."""
    near = difflib.get_close_matches(topic, known, n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are of {', '.join(sorted(known)[:5])}"
    text = f"no dead letters of {topic!r}: there is no topic {topic + DEAD_SUFFIX!r}"
    return ConnectorError(f"{text}; {hint}" if known else f"{text}, and no other of the kind")


_RECORDS = pl.DataFrame(
    schema={
        "partition": pl.Int32,
        "offset": pl.Int64,
        "timestamp": pl.Int64,
        "key": pl.Binary,
        "value": pl.Binary,
        "headers": pl.List(pl.Struct({"key": pl.String, "value": pl.Binary})),
    }
)


def _records(raw: Any) -> pl.DataFrame:
    from thalweg.formats.binary import binary_column
    from thalweg.kafka._headers import headers_of

    try:
        return pl.DataFrame(
            [
                pl.Series("partition", raw.partition),
                pl.Series("offset", raw.offset),
                pl.Series("timestamp", raw.timestamp),
                pl.Series("key", pl.from_arrow(binary_column(raw.key_address, raw.key_length))),
                pl.Series("value", pl.from_arrow(binary_column(raw.value_address, raw.value_length))),
                headers_of(raw).alias("headers"),
            ]
        )
    finally:
        raw.release()


def rows_of(records: pl.DataFrame) -> Iterator[tuple[str, dict[str, Any], dict[str, bytes | None]]]:
    """Each record with its place ("partition:offset") and its headers."""
    for row in records.iter_rows(named=True):
        headers = {pair["key"]: pair["value"] for pair in row["headers"] or ()}
        yield f"{row['partition']}:{row['offset']}", row, headers

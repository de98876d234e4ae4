"""Topics of the embedded log: making, finding, appending, reading, trimming."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from thalweg.connectors.sqlite.codec import MAX_RECORDS, Chunk, Records, split, to_chunk, to_payload
from thalweg.connectors.sqlite.database import Database, unknown_topic
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, StateError

MAX_PARTITIONS = 1024
MAX_FETCH = 64 * 1024 * 1024
"""Bytes, uncompressed, that one read takes at most (a single batch may be larger): bounds memory at large payloads."""

_TRIM_EVERY = 5.0  # seconds between two looks at one topic's retention
_TRIM_BATCHES = 512  # removed per look, so that no append waits long


@dataclass(frozen=True, slots=True)
class Topic:
    id: int
    name: str
    partitions: int
    retention_ms: int | None
    retention_bytes: int | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Batches ready to be written: compressed outside the write transaction, so that others wait less."""

    topic: Topic
    batches: Sequence[tuple[int, int, bytes]]
    """(partition, records, payload)"""

    @property
    def records(self) -> int:
        return sum(count for _, count, _ in self.batches)


class Topics:
    """What the log holds, through one connection.

    Args:
        database: the connection.
        retention_ms: how long new topics keep their batches; None: for ever.
        retention_bytes: how much a partition of a new topic keeps; None: no bound.
    """

    def __init__(self, database: Database, retention_ms: int | None, retention_bytes: int | None) -> None:
        self.database = database
        self.retention_ms = retention_ms
        self.retention_bytes = retention_bytes
        self._known: dict[str, Topic] = {}
        self._next_trim: dict[int, float] = {}

    def names(self) -> list[str]:
        return [str(row[0]) for row in self.database.query("SELECT name FROM log_topics ORDER BY name")]

    def find(self, name: str) -> Topic:
        """
        Raises:
            ConnectorError: unknown topic; the message lists close names.
        """
        if name not in self._known:
            topic = self._look_up(name)
            if topic is None:
                raise unknown_topic(name, self.names(), self.database.path)
            self._known[name] = topic
        return self._known[name]

    def ensure(self, name: str, partitions: int | None = None) -> Topic:
        """Makes the topic where it is missing (with one partition by default); one that is there stays as it is.

        Raises:
            ConfigurationError: a name or a partition count that can't be.
        """
        _check(name, partitions)
        topic = self._known.get(name) or self._look_up(name)
        if topic is None:
            with self.database.write() as connection:
                made = connection.execute(
                    "INSERT INTO log_topics(name, retention_ms, retention_bytes) VALUES (?, ?, ?) "
                    "ON CONFLICT(name) DO NOTHING RETURNING id",
                    (name, self.retention_ms, self.retention_bytes),
                ).fetchone()
                if made:
                    connection.executemany(
                        "INSERT INTO log_partitions(topic, partition) VALUES (?, ?)",
                        [(made[0], partition) for partition in range(partitions or 1)],
                    )
            topic = self.find(name)
        self._known[name] = topic
        return topic

    def set_retention(self, name: str, retention_ms: int | None, retention_bytes: int | None) -> None:
        topic = self.find(name)
        with self.database.write() as connection:
            connection.execute(
                "UPDATE log_topics SET retention_ms = ?, retention_bytes = ? WHERE id = ?",
                (retention_ms, retention_bytes, topic.id),
            )
        self._known.pop(name)
        self._next_trim.pop(topic.id, None)

    def _look_up(self, name: str) -> Topic | None:
        rows = self.database.query(
            "SELECT t.id, t.name, count(*), t.retention_ms, t.retention_bytes FROM log_topics t "
            "JOIN log_partitions p ON p.topic = t.id WHERE t.name = ? GROUP BY t.id",
            (name,),
        )
        return Topic(*rows[0]) if rows else None  # type: ignore[arg-type]

    # -- appending

    def prepare(self, topic: Topic, parts: Iterable[tuple[int, Records]]) -> Prepared:
        """Cuts and compresses; each part names its partition."""
        batches = [(partition, len(piece), to_payload(piece)) for partition, part in parts for piece in split(part)]
        return Prepared(topic, batches)

    def append(self, connection: sqlite3.Connection, prepared: Iterable[Prepared], now: int) -> None:
        """Gives offsets and writes, inside the caller's transaction; old batches go at the same occasion."""
        for each in prepared:
            for partition, count, payload in each.batches:
                (base,) = connection.execute(
                    "UPDATE log_partitions SET log_end = log_end + ?, bytes = bytes + ? "
                    "WHERE topic = ? AND partition = ? RETURNING log_end - ?",
                    (count, len(payload), each.topic.id, partition, count),
                ).fetchone()
                connection.execute(
                    "INSERT INTO log_batches(topic, partition, base_offset, count, appended, payload) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (each.topic.id, partition, base, count, now, payload),
                )
            self._trim(connection, each.topic, now)

    # -- retention

    def _trim(self, connection: sqlite3.Connection, topic: Topic, now: int) -> None:
        if time.monotonic() < self._next_trim.get(topic.id, 0.0):
            return
        self._next_trim[topic.id] = time.monotonic() + _TRIM_EVERY
        # Another process may have changed the settings since this one looked.
        retention_ms, retention_bytes = connection.execute(
            "SELECT retention_ms, retention_bytes FROM log_topics WHERE id = ?", (topic.id,)
        ).fetchone()
        if retention_ms is None and retention_bytes is None:
            return
        for partition in range(topic.partitions):
            self._trim_partition(connection, topic, partition, retention_ms, retention_bytes, now)

    def _trim_partition(
        self,
        connection: sqlite3.Connection,
        topic: Topic,
        partition: int,
        retention_ms: int | None,
        retention_bytes: int | None,
        now: int,
    ) -> None:
        place = (topic.id, partition)
        (held,) = connection.execute(
            "SELECT bytes FROM log_partitions WHERE topic = ? AND partition = ?", place
        ).fetchone()
        oldest = connection.execute(
            "SELECT rowid, base_offset + count, length(payload), appended FROM log_batches "
            "WHERE topic = ? AND partition = ? ORDER BY base_offset LIMIT ?",
            (*place, _TRIM_BATCHES),
        )
        rows, new_start, freed = [], None, 0
        for rowid, end, size, appended in oldest:
            too_old = retention_ms is not None and appended < now - retention_ms
            too_much = retention_bytes is not None and held - freed > retention_bytes
            if not (too_old or too_much):
                break
            rows.append((rowid,))
            new_start, freed = end, freed + size
        if new_start is None:
            return
        connection.executemany("DELETE FROM log_batches WHERE rowid = ?", rows)
        connection.execute(
            "UPDATE log_partitions SET log_start = ?, bytes = bytes - ? WHERE topic = ? AND partition = ?",
            (new_start, freed, *place),
        )
        if len(rows) == _TRIM_BATCHES:
            self._next_trim[topic.id] = 0.0  # there is more: go on with the next append

    # -- reading

    def ends(self, topic: Topic) -> dict[int, tuple[int, int]]:
        """(oldest offset held, next offset to be given) of each partition."""
        rows = self.database.query(
            "SELECT partition, log_start, log_end FROM log_partitions WHERE topic = ? ORDER BY partition", (topic.id,)
        )
        return {int(partition): (int(start), int(end)) for partition, start, end in rows}  # type: ignore[call-overload]

    def fetch(self, topic: Topic, partition: int, position: int, limit: int) -> list[Chunk]:
        """The stored batches from `position` on, whole ones but for the first: until they hold `limit` records or
        `MAX_FETCH` bytes."""
        chunks: list[Chunk] = []
        space = MAX_FETCH
        # The read ends with the loop, so that no read transaction keeps the WAL from being folded back.
        with self.database.cursor(
            "SELECT base_offset, count, appended, payload FROM log_batches "
            "WHERE topic = ? AND partition = ? AND base_offset > ? AND base_offset + count > ? ORDER BY base_offset",
            # No stored batch is longer: bounds the range of the index in which the first one is looked for.
            (topic.id, partition, position - MAX_RECORDS, position),
        ) as rows:
            for base, count, appended, payload in rows:
                place = f"topic {topic.name!r}, partition {partition}, offset {base}"
                chunk = to_chunk(payload, partition, base, appended, place)
                if len(chunk) != count:
                    raise StateError(f"the embedded log is damaged at {place}: {len(chunk)} records, not {count}")
                chunks.append(chunk.slice(max(0, position - base)))
                limit -= len(chunks[-1])
                space -= chunk.table.nbytes
                if limit <= 0 or space <= 0:
                    break
        return chunks


def _check(name: str, partitions: int | None) -> None:
    if not name or len(name) > 249 or any(c.isspace() or not c.isprintable() for c in name):
        raise ConfigurationError(f"topic {name!r}: use 1 to 249 printable characters without spaces")
    if partitions is not None and not 1 <= partitions <= MAX_PARTITIONS:
        raise ConfigurationError(f"topic {name!r}: {partitions} partitions; use 1 to {MAX_PARTITIONS}")


def partitions_of(keys: pl.Series, count: int) -> pl.Series:
    """Kafka's place of each key: `murmur2(key) & 0x7fffffff` modulo the partition count. Null keys: partition 0.

    Args:
        keys: Binary or String.
    """
    from thalweg.streams.state.key_groups import key_groups

    return key_groups(pl.DataFrame({"key": keys}), ["key"], n=count)


def open_topics(
    path: Path,
    busy_timeout: Duration = "10s",
    durability: str = "normal",
    retention: Duration | None = "7d",
    retention_bytes: int | None = None,
) -> Topics:
    """A connection of its own; the settings as for `SqliteBroker`."""
    kept = None if retention is None else milliseconds(retention, name="retention", minimum=1)
    if retention_bytes is not None and retention_bytes < 1:
        raise ConfigurationError(f"retention_bytes is {retention_bytes}; give a positive number, or None for no bound")
    return Topics(Database(path, busy_timeout=busy_timeout, durability=durability), kept, retention_bytes)

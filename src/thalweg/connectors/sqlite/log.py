"""`EmbeddedLog`: the embedded log for programs outside a job."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl

from thalweg.connectors.sqlite.codec import Chunk, Records, to_raw
from thalweg.connectors.sqlite.database import path_of
from thalweg.connectors.sqlite.topics import Topic, open_topics
from thalweg.connectors.sqlite.writes import by_key, parts, raw_records
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.formats import Format
from thalweg.streams.batch import OFFSET, PARTITION, TIMESTAMP
from thalweg.streams.connector import SinkWrite

_READ_AT_ONCE = 65_536


class EmbeddedLog:
    """Appends to and reads topics of an embedded log, also while jobs of this or other processes use it.

    Args:
        path: the file, or its URL `sqlite:///data.db`; made where it is missing.
        busy_timeout, durability, retention, retention_bytes: as for `SqliteBroker`; the retention is for topics
            made through this object.

    >>> import tempfile
    >>> log = EmbeddedLog(tempfile.mkdtemp() + "/data.db")
    >>> log.append("logins", [{"user": "ada", "ok": True}, {"user": "bob", "ok": False}], key="user")
    2
    >>> log.records("logins")["key"].to_list()
    [b'ada', b'bob']
    >>> log.close()
    """

    def __init__(
        self,
        path: str | Path,
        *,
        busy_timeout: Duration = "10s",
        durability: str = "normal",
        retention: Duration | None = "7d",
        retention_bytes: int | None = None,
    ) -> None:
        file = path_of(path) if isinstance(path, str) and "://" in path else Path(path).expanduser()
        self._topics = open_topics(file, busy_timeout, durability, retention, retention_bytes)

    @property
    def path(self) -> Path:
        return self._topics.database.path

    # -- writing

    def ensure_topic(self, topic: str, partitions: int | None = None) -> int:
        """Makes the topic where it is missing; returns its partition count."""
        return self._topics.ensure(topic, partitions).partitions

    def append(
        self,
        topic: str,
        rows: pl.DataFrame | Sequence[Mapping[str, Any]],
        *,
        key: str | None = None,
        timestamps: str | Sequence[int] | pl.Series | None = None,
        partition: int | None = None,
        format: str | Format = "json",
    ) -> int:
        """Appends rows, all of them or none, and returns how many. Makes the topic where it is missing.

        Args:
            topic: where to.
            rows: a frame, or mappings from column to value.
            key: the column whose text is the record key, which chooses the partition as Kafka's murmur2 does.
            timestamps: record times, ms UTC: a column's name or the values; None: now.
            partition: put all rows there, whatever their key.
            format: "json" (one record per row) or "arrow" (one record for all rows).

        Raises:
            ConfigurationError: no such column, partition or format.
            ConnectorError: full disk, locked or damaged file.
        """
        from thalweg.formats import open_format

        frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(list(rows), infer_schema_length=None)
        if frame.is_empty():
            return 0
        times = _times(frame, timestamps)
        known = self._topics.ensure(topic)
        write = SinkWrite(topic, frame, open_format(format, topic).encoder(), key, times)
        pieces = list(parts(known, write, write.encoder.encode(frame)))
        if partition is not None:
            pieces = [(_existing(known, partition), piece) for _, piece in pieces]
        self._append(known, pieces)
        return frame.height

    def append_records(
        self,
        topic: str,
        values: Sequence[bytes | str | None],
        *,
        keys: Sequence[bytes | str | None] | None = None,
        timestamps: Sequence[int | None] | None = None,
        headers: Sequence[Mapping[str, bytes]] | None = None,
        partition: int | None = None,
    ) -> int:
        """Appends payloads as they are; otherwise as `append`. None is a null payload."""
        if not values:
            return 0
        known = self._topics.ensure(topic)
        records = raw_records(values, keys, timestamps, headers)
        if partition is not None or keys is None or known.partitions == 1:
            self._append(known, [(_existing(known, partition or 0), records)])
        else:
            series = pl.Series([k.encode() if isinstance(k, str) else k for k in keys], dtype=pl.Binary)
            self._append(known, list(by_key(known, records, series)))
        return len(values)

    def _append(self, topic: Topic, pieces: Sequence[tuple[int, Records]]) -> None:
        prepared = self._topics.prepare(topic, pieces)
        with self._topics.database.write() as connection:
            self._topics.append(connection, [prepared], time.time_ns() // 1_000_000)

    def set_retention(self, topic: str, retention: Duration | None, retention_bytes: int | None = None) -> None:
        """How long the topic keeps its events, and how many stored bytes per partition; None: no bound.

        Old batches go with later appends, whole ones only.
        """
        kept = None if retention is None else milliseconds(retention, name="retention", minimum=1)
        self._topics.set_retention(topic, kept, retention_bytes)

    # -- reading

    def read(
        self,
        topic: str,
        *,
        partition: int | None = None,
        start: int = 0,
        limit: int | None = None,
        format: str | Format = "json",
        schema: Mapping[str, Any] | None = None,
        metadata: bool = False,
    ) -> pl.DataFrame:
        """The events of a topic, decoded, partition by partition.

        Args:
            topic: what to read.
            partition: only this one.
            start: from this offset (of each partition).
            limit: at most so many events of each partition.
            format: how they are written.
            schema: Polars types by column; inferred where it is missing.
            metadata: add `__partition`, `__offset` and the record time `__ts`.

        Raises:
            ConnectorError: unknown topic (with close names); an event that can't be read (with its offset).
        """
        from thalweg.formats import open_format

        decoder = open_format(format, topic).decoder(None if schema is None else pl.Schema(schema))
        frames = []
        for chunk in self._chunks(self._topics.find(topic), partition, start, limit):
            raw = to_raw(topic, [chunk])
            decoded = decoder.decode(raw)
            if decoded.errors:
                error = decoded.errors[0]
                place = f"topic {topic!r}, partition {raw.partition[error.row]}, offset {raw.offset[error.row]}"
                raise ConnectorError(f"{place}: {error.error_class}: {error.message}; records() shows the bytes")
            frame = decoded.frame
            if metadata:
                rows = slice(None) if decoded.rows is None else decoded.rows
                frame = frame.with_columns(
                    pl.Series(PARTITION, raw.partition[rows]),
                    pl.Series(OFFSET, raw.offset[rows]),
                    pl.Series(TIMESTAMP, raw.timestamp[rows]),
                )
            frames.append(frame)
        return pl.concat(frames, how="diagonal_relaxed") if frames else pl.DataFrame(schema=schema)

    def records(
        self, topic: str, *, partition: int | None = None, start: int = 0, limit: int | None = None
    ) -> pl.DataFrame:
        """The records as they are: partition, offset, timestamp (ms UTC), key, value, headers; otherwise as `read`."""
        known = self._topics.find(topic)
        frames = [_as_stored(chunk) for chunk in self._chunks(known, partition, start, limit)]
        return pl.concat(frames) if frames else pl.DataFrame(schema=_RECORDS)

    def end(self, topic: str, partition: int = 0) -> int:
        """The offset that the partition's next event will have."""
        known = self._topics.find(topic)
        return self._topics.ends(known)[_existing(known, partition)][1]

    def topics(self) -> pl.DataFrame:
        """One row per topic: topic, partitions, events (held), bytes (stored), retention_ms, retention_bytes."""
        return self._frame(
            "SELECT t.name, count(*), sum(log_end - log_start), sum(bytes), t.retention_ms, t.retention_bytes "
            "FROM log_topics t JOIN log_partitions p ON p.topic = t.id GROUP BY t.id ORDER BY t.name",
            {
                "topic": pl.String,
                "partitions": pl.Int64,
                "events": pl.Int64,
                "bytes": pl.Int64,
                "retention_ms": pl.Int64,
                "retention_bytes": pl.Int64,
            },
        )

    def jobs(self) -> pl.DataFrame:
        """How far each job has committed: one row per job and source partition, with its lag in events."""
        return self._frame(
            "SELECT o.job, o.topic, o.partition, o.position, p.log_end - o.position, o.epoch, j.committed "
            "FROM log_offsets o JOIN log_jobs j ON j.job = o.job JOIN log_topics t ON t.name = o.topic "
            "JOIN log_partitions p ON p.topic = t.id AND p.partition = o.partition ORDER BY 1, 2, 3",
            {
                "job": pl.String,
                "topic": pl.String,
                "partition": pl.Int64,
                "position": pl.Int64,
                "lag": pl.Int64,
                "epoch": pl.Int64,
                "committed": pl.Int64,
            },
        )

    def _frame(self, sql: str, schema: Mapping[str, Any]) -> pl.DataFrame:
        return pl.DataFrame(self._topics.database.query(sql), schema=schema, orient="row")

    def _chunks(self, topic: Topic, partition: int | None, start: int, limit: int | None) -> Iterator[Chunk]:
        """What is there at the time of the call, by short reads: a long one would keep the WAL from shrinking."""
        ends = self._topics.ends(topic)
        for place in ends if partition is None else (_existing(topic, partition),):
            position = max(start, ends[place][0])
            stop = ends[place][1] if limit is None else min(ends[place][1], position + limit)
            while position < stop:
                chunks = self._topics.fetch(topic, place, position, min(_READ_AT_ONCE, stop - position))
                if not chunks:
                    break
                for chunk in chunks:
                    yield chunk.slice(0, max(0, stop - int(chunk.offset[0])))
                position = int(chunks[-1].offset[-1]) + 1

    # -- life

    def close(self) -> None:
        self._topics.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


_RECORDS: Mapping[str, Any] = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "timestamp": pl.Int64,
    "key": pl.Binary,
    "value": pl.Binary,
    "headers": pl.List(pl.Struct({"key": pl.String, "value": pl.Binary})),
}


def _as_stored(chunk: Chunk) -> pl.DataFrame:
    stored = pl.DataFrame(chunk.table.slice(chunk.first, len(chunk)))
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in _RECORDS.items() if name not in stored.columns]
    return (
        stored.with_columns(absent)
        .with_columns(
            pl.lit(chunk.partition, pl.Int32).alias("partition"),
            pl.Series("offset", chunk.offset),
            pl.Series("timestamp", chunk.timestamp),
        )
        .select(pl.col(name).cast(dtype) for name, dtype in _RECORDS.items())
    )


def _times(frame: pl.DataFrame, timestamps: str | Sequence[int] | pl.Series | None) -> pl.Series | None:
    if timestamps is None:
        return None
    if not isinstance(timestamps, str):
        series = pl.Series("timestamps", timestamps)
    elif timestamps in frame.columns:
        series = frame[timestamps]
    else:
        raise ConfigurationError(f"timestamp column {timestamps!r} is not among {', '.join(frame.columns)}")
    if len(series) != frame.height:
        raise ConfigurationError(f"{len(series)} timestamps for {frame.height} rows")
    if isinstance(series.dtype, pl.Datetime):
        return series.dt.epoch("ms")
    if not series.dtype.is_integer():
        raise ConfigurationError(f"record times are {series.dtype}; use ms UTC as integers, or datetimes")
    return series.cast(pl.Int64)


def _existing(topic: Topic, partition: int) -> int:
    if not 0 <= partition < topic.partitions:
        raise ConfigurationError(f"topic {topic.name!r} has partitions 0 to {topic.partitions - 1}, not {partition}")
    return partition

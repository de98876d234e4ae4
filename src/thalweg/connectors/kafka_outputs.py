"""Sink writes to Kafka records: encoding, keys, and what becomes of records that the topic can't take."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import polars as pl

from thalweg.connectors.sink_letters import as_json, dead_topic, letter_headers, payload_of, some_rows
from thalweg.errors import ConfigurationError, ConnectorError
from thalweg.formats.writable import EncodeError, encode_present
from thalweg.kafka._frame_records import TOO_LARGE, KeyColumn, key_column
from thalweg.kafka.admin import KafkaAdmin
from thalweg.kafka.producer import Headers, KafkaProducer
from thalweg.records import MAX_DEAD_PAYLOAD, EncodedRecords, Int64s
from thalweg.streams.connector import SinkWrite

logger = logging.getLogger("thalweg.kafka")

_OVERHEAD = 128
"""Bytes that the broker counts beside key, value and headers: the batch header (61), a record's own fields (< 40)."""
_MAX_DEAD_KEY = 4096


class KafkaOutputs:
    """Writes to topics through a producer; learns each topic's limit before the first write to it.

    Args:
        job: its name, for dead letters.
    """

    def __init__(self, admin: KafkaAdmin, job: str) -> None:
        self.refused = 0
        """Records too large for their topic, and rows that the format can't write; each is in a dead-letter topic."""
        self._admin = admin
        self._job = job
        self._limits: dict[str, int] = {}

    @property
    def smallest_limit(self) -> int | None:
        """The smallest `max.message.bytes` among the topics written to so far."""
        return min(self._limits.values(), default=None)

    def prepare(self, topic: str) -> None:
        """Makes the topic where it is missing, and asks for its limit; costs nothing the next time.

        Raises:
            ConnectorError: the cluster refuses, or can't be reached.
        """
        if topic not in self._limits:
            self._admin.ensure_topic(topic)
            self._limits[topic] = self._admin.describe(topic).max_record_bytes

    def write(self, producer: KafkaProducer, write: SinkWrite) -> None:
        """Sends the rows; those that are too large go to the dead-letter topic, cut, with hash and size, and those that
        the format can't write as JSON.

        Raises:
            ConnectorError: the producer can't go on.
        """
        self.prepare(write.topic)
        encoded = encode_present(write.encoder, write.frame, write.gone)
        if encoded.errors:
            self._bury_rows(producer, write, encoded.errors)
            write = some_rows(write, encoded.rows)
        values = encoded.records
        if len(values) != write.frame.height and (write.key_column or write.timestamps is not None or write.headers):
            raise ConfigurationError(
                f"sink to {write.topic!r}: the format packs {write.frame.height} rows into {len(values)} records, so "
                "rows can't have keys, timestamps or headers of their own"
            )
        keys = None if write.key_column is None else key_column(write.frame[write.key_column])
        refused = producer.send_records(
            write.topic,
            values,
            None if keys is None else keys.records,
            null_keys=None if keys is None else keys.nulls,
            null_values=None if write.gone is None else write.gone.to_numpy(),
            timestamps=None if write.timestamps is None else _milliseconds(write.timestamps),
            partitions=None if write.partitions is None else write.partitions.to_numpy(),
            headers=None if write.headers is None else Headers.of_rows(write.headers),
            max_record_bytes=self._limits[write.topic] - _OVERHEAD,
        )
        if len(refused):
            self._bury(producer, write, values, keys, refused)

    def _bury(
        self, producer: KafkaProducer, write: SinkWrite, values: EncodedRecords, keys: KeyColumn | None, rows: Int64s
    ) -> None:
        topic = dead_topic(write.topic)
        self.prepare(topic)
        room = self._limits[topic] - _OVERHEAD
        limit = self._limits[write.topic]
        letters = []
        for row in rows.tolist():
            payload = payload_of(values, row)
            text = f"the record has {len(payload)} bytes; the topic takes {limit} (max.message.bytes)"
            letters.append(self._letter(write, payload, EncodeError(row, TOO_LARGE, text), room))
        self._send_letters(producer, topic, room, rows, keys, letters)
        self.refused += len(rows)
        logger.warning("%d records were too large for topic %r; they are in %r", len(rows), write.topic, topic)

    def _bury_rows(self, producer: KafkaProducer, write: SinkWrite, errors: Sequence[EncodeError]) -> None:
        """Rows that the format can't write: as JSON, as far as that has a form for them."""
        topic = dead_topic(write.topic)
        self.prepare(topic)
        room = self._limits[topic] - _OVERHEAD
        rows = np.array([error.row for error in errors], dtype=np.int64)
        texts = as_json(write, errors)
        letters = [self._letter(write, payload_of(texts, at), error, room) for at, error in enumerate(errors)]
        keys = None if write.key_column is None else key_column(write.frame[write.key_column])
        self._send_letters(producer, topic, room, rows, keys, letters)
        self.refused += len(errors)
        logger.warning(
            "%d rows can't be written to topic %r; they are in %r. The first: %s",
            *(len(errors), write.topic, topic, errors[0].message),
        )

    def _send_letters(
        self,
        producer: KafkaProducer,
        topic: str,
        room: int,
        rows: Int64s,
        keys: KeyColumn | None,
        letters: Sequence[tuple[bytes, dict[str, bytes]]],
    ) -> None:
        dead_keys = None
        if keys is not None:
            cut = [payload_of(keys.records, int(row))[: min(_MAX_DEAD_KEY, room // 8)] for row in rows]
            dead_keys = _encoded(cut)
        still = producer.send_records(
            topic,
            _encoded([payload for payload, _ in letters]),
            dead_keys,
            null_keys=None if keys is None or keys.nulls is None else keys.nulls[rows],
            headers=Headers.of_rows([headers for _, headers in letters]),
            max_record_bytes=room,
        )
        if len(still):
            raise ConnectorError(
                f"topic {topic!r} takes {room} bytes a record, too few for a dead letter; raise its limit"
            )

    def _letter(
        self, write: SinkWrite, payload: bytes, error: EncodeError, room: int
    ) -> tuple[bytes, dict[str, bytes]]:
        details = {"job": self._job, "limit": self._limits[write.topic]}
        headers = letter_headers(write, payload, error, details)
        return payload[: min(MAX_DEAD_PAYLOAD, room // 2)], headers


def _milliseconds(series: pl.Series) -> Int64s:
    return series.to_physical().cast(pl.Int64).fill_null(0).to_numpy()


def _encoded(rows: Sequence[bytes]) -> EncodedRecords:
    offsets = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    return EncodedRecords(np.frombuffer(b"".join(rows), dtype=np.uint8), offsets)

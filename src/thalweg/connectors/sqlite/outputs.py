"""Sink writes to records of the embedded log, and what becomes of rows that the format can't write."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from thalweg.connectors.sink_letters import as_json, dead_topic, letter_headers, payload_of, some_rows
from thalweg.connectors.sqlite.topics import Prepared, Topics
from thalweg.connectors.sqlite.writes import by_key, key_bytes, parts, raw_records
from thalweg.formats.writable import EncodeError, encode_present
from thalweg.records import MAX_DEAD_PAYLOAD
from thalweg.streams.connector import SinkWrite

logger = logging.getLogger("thalweg.sqlite")


class SqliteOutputs:
    """Makes batches of a job's writes.

    Args:
        job: its name, for dead letters.
    """

    def __init__(self, topics: Topics, job: str) -> None:
        self._topics = topics
        self._job = job

    def prepare(self, write: SinkWrite) -> Iterator[Prepared]:
        """The write's batches, and those of letters for the rows that the format can't write.

        Raises:
            ConfigurationError: no row of such columns can be written, or there is no such key column.
        """
        topic = self._topics.ensure(write.topic)
        if write.frame.is_empty():
            return
        encoded = encode_present(write.encoder, write.frame, write.gone)
        if encoded.errors:
            yield self._letters(write, encoded.errors)
        yield self._topics.prepare(topic, parts(topic, some_rows(write, encoded.rows), encoded.records))

    def _letters(self, write: SinkWrite, errors: Sequence[EncodeError]) -> Prepared:
        topic = self._topics.ensure(dead_topic(write.topic))
        texts = as_json(write, errors)
        payloads = [payload_of(texts, at) for at in range(len(errors))]
        headers = [letter_headers(write, *each, {"job": self._job}) for each in zip(payloads, errors, strict=True)]
        keys = None
        if write.key_column is not None:
            keys = key_bytes(write.frame, write.key_column)[[error.row for error in errors]]
        cut = [payload[:MAX_DEAD_PAYLOAD] for payload in payloads]
        records = raw_records(cut, None if keys is None else keys.to_list(), None, headers)
        logger.warning(
            "%d rows can't be written to topic %r; they are in %r. The first: %s",
            *(len(errors), write.topic, topic.name, errors[0].message),
        )
        return self._topics.prepare(topic, [(0, records)] if keys is None else by_key(topic, records, keys))

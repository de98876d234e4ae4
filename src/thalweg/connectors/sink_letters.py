"""Rows that a sink could not write, as dead letters: what either broker's sink says of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.formats import open_format
from thalweg.formats.writable import EncodeError
from thalweg.records import EncodedRecords, Int64s
from thalweg.streams.connector import SinkWrite

DEAD_SUFFIX = ".dlq"


def dead_topic(topic: str) -> str:
    """Where the letters of a topic's sink go: those of a dead-letter topic stay in it."""
    return topic if topic.endswith(DEAD_SUFFIX) else topic + DEAD_SUFFIX


def letter_headers(
    write: SinkWrite, payload: bytes, error: EncodeError, details: Mapping[str, Any]
) -> dict[str, bytes]:
    """The headers of a row's letter.

    Args:
        payload: the whole of it, whatever is kept.
        details: what else is known; goes into the letter as JSON.
    """
    described: dict[str, object] = {
        "topic": write.topic,
        "payload_size": len(payload),
        "payload_sha256": hashlib.sha256(payload).hexdigest(),
        "operator": f"sink:{write.topic}",
        "error_class": error.error_class,
        "error_message": error.message,
        "details": json.dumps(details),
        "attempt": 1,
    }
    timestamp = None if write.timestamps is None else write.timestamps[error.row]
    if timestamp is not None:
        described["timestamp"] = int(timestamp)
    # What the record itself said comes first: a dead letter that is too large keeps its origin.
    own = dict(write.headers[error.row]) if write.headers is not None else {}
    return {name: str(value).encode() for name, value in described.items()} | own


def as_json(write: SinkWrite, errors: Sequence[EncodeError]) -> EncodedRecords:
    """The payloads of rows that the sink's format can't write: as JSON, as far as that has a form for them."""
    rows = np.array([error.row for error in errors], dtype=np.int64)
    return open_format("json").encoder().encode(write.frame[rows])


def some_rows(write: SinkWrite, rows: Int64s | None) -> SinkWrite:
    """Part of a write; None: all of it."""
    if rows is None:
        return write
    return replace(
        write,
        frame=write.frame[rows],
        timestamps=None if write.timestamps is None else write.timestamps.gather(rows),
        headers=None if write.headers is None else [write.headers[row] for row in rows.tolist()],
        partitions=None if write.partitions is None else write.partitions.gather(rows),
        gone=None if write.gone is None else write.gone.gather(rows),
    )


def payload_of(records: EncodedRecords, row: int) -> bytes:
    """One record's bytes."""
    return records.data[records.offsets[row] : records.offsets[row + 1]].tobytes()

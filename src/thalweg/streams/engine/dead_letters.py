"""Dead letters: rows that could not be processed, with why and where from."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import polars as pl

from thalweg.records import DEAD_LETTER_SCHEMA, MAX_DEAD_PAYLOAD
from thalweg.streams.batch import OFFSET, PARTITION, RESERVED, SOURCE, TIMESTAMP

RowError = tuple[int, str, str, Mapping[str, Any]]
"""Row number in the frame, error class, message, details."""


def dead_letters(
    frame: pl.DataFrame, errors: Sequence[RowError], operator_id: str, topics: Sequence[str]
) -> pl.DataFrame:
    """Makes a dead letter of each named row; its payload is the row's user columns as JSON.

    Args:
        frame: the rows as the operator got them, reserved columns included.
        errors: which rows failed, and why.
        operator_id: who refused them.
        topics: the source topics of the operator, by source index; one topic serves all rows without an index.
    """
    rows = frame[[row for row, *_ in errors]]
    letters = [
        _letter(row, error, operator_id, topics) for row, error in zip(rows.iter_rows(named=True), errors, strict=True)
    ]
    return pl.DataFrame(letters, schema=DEAD_LETTER_SCHEMA)


def _letter(row: dict[str, Any], error: RowError, operator_id: str, topics: Sequence[str]) -> dict[str, Any]:
    _, error_class, message, details = error
    payload = msgspec.json.encode({k: v for k, v in row.items() if k not in RESERVED}, enc_hook=str)
    cut = len(payload) > MAX_DEAD_PAYLOAD
    return {
        "topic": topic_of(row.get(SOURCE), topics),
        "partition": row.get(PARTITION),
        "offset": row.get(OFFSET),
        "timestamp": row.get(TIMESTAMP),
        "key": None,
        "payload": payload[:MAX_DEAD_PAYLOAD],
        "payload_size": len(payload),
        "payload_sha256": hashlib.sha256(payload).hexdigest() if cut else None,
        "operator": operator_id,
        "error_class": error_class,
        "error_message": message,
        "details": msgspec.json.encode(details, enc_hook=str).decode() if details else None,
        "attempt": 1,
    }


def topic_of(index: int | None, topics: Sequence[str]) -> str:
    """The topic that a row came from: by its source index, or the only one."""
    if index is not None and 0 <= index < len(topics):
        return topics[index]
    return topics[0] if len(topics) == 1 else "unknown"


def row_error(row: int, error: BaseException) -> RowError:
    """What a user's exception says of one row."""
    trace = "".join(traceback.format_exception(error))
    return row, type(error).__name__, str(error), {"traceback": trace}


def late_letters(frame: pl.DataFrame, operator_id: str, topics: Sequence[str]) -> pl.DataFrame:
    """Makes dead letters of late rows: error class "LateEvent"; columns named `__late…` go into the details."""
    extra = [c for c in frame.columns if c.startswith("__late")]
    details = frame.select(extra).rename({c: c.strip("_").removeprefix("late_") for c in extra}).to_dicts()
    errors = [
        (row, "LateEvent", _late_message(detail), detail) for row, detail in enumerate(details or [{}] * frame.height)
    ]
    return dead_letters(frame.drop(extra), errors, operator_id, topics)


def _late_message(detail: Mapping[str, Any]) -> str:
    lateness = detail.get("lateness", detail.get("ness"))
    return "came after its window had closed" + (f", {lateness} ms too late" if lateness is not None else "")

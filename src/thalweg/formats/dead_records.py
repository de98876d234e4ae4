"""Records that no decoder could read, as dead letters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from thalweg.records import DEAD_LETTER_SCHEMA, MAX_DEAD_PAYLOAD, DecodeError, RawRecords


def dead_records(raw: RawRecords, errors: Sequence[DecodeError], operator: str = "source") -> pl.DataFrame | None:
    """A frame with `DEAD_LETTER_SCHEMA`, one row per error; None where there is none.

    A payload beyond `MAX_DEAD_PAYLOAD` is cut to it; its size and hash are of the whole.
    """
    if not errors:
        return None
    return pl.DataFrame([_dead(raw, error, operator) for error in errors], schema=DEAD_LETTER_SCHEMA, orient="row")


def _dead(raw: RawRecords, error: DecodeError, operator: str) -> tuple[object, ...]:
    row = error.row
    payload = raw.value(row)
    size = len(payload) if payload is not None else None
    oversize = payload is not None and len(payload) > MAX_DEAD_PAYLOAD
    timestamp = int(raw.timestamp[row])
    return (
        raw.topic,
        int(raw.partition[row]),
        int(raw.offset[row]),
        timestamp if timestamp >= 0 else None,
        raw.key(row),
        payload[:MAX_DEAD_PAYLOAD] if payload is not None else None,
        size,
        hashlib.sha256(payload).hexdigest() if oversize and payload is not None else None,
        operator,
        error.error_class,
        error.message,
        None,
        1,
    )

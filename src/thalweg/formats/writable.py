"""Rows that a format can't write: named and left out, so that the others go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.errors import ErrorClass, UnwritableError
from thalweg.records import EncodedRecords, Encoder, Int64s


@dataclass(frozen=True, slots=True)
class EncodeError:
    """Why one row could not be written. `error_class` is one of the names in `thalweg.formats.errors`."""

    row: int
    error_class: str
    message: str


@dataclass(frozen=True, slots=True)
class Encoded:
    """The writable part of a frame: record i is row `rows[i]`. None: record i is row i, and nothing failed."""

    records: EncodedRecords
    rows: Int64s | None = None
    errors: list[EncodeError] = field(default_factory=list)


def encode_rows(encoder: Encoder, frame: pl.DataFrame) -> Encoded:
    """The rows that the encoder can write, and why it can't write the others.

    Raises:
        ConfigurationError: no row of such columns can be written.
    """
    attempt = getattr(encoder, "encode_rows", None)
    try:
        found: Encoded = Encoded(encoder.encode(frame)) if attempt is None else attempt(frame)
    except UnwritableError as error:
        return _halves(encoder, frame, error)
    return found


def encode_present(encoder: Encoder, frame: pl.DataFrame, gone: pl.Series | None) -> Encoded:
    """Like `encode_rows`, with an empty payload for the rows that are gone: nothing of them is to be written."""
    if gone is None or not gone.any():
        return encode_rows(encoder, frame)
    there = np.flatnonzero(~gone.to_numpy())
    part = encode_rows(encoder, frame[there])
    if len(part.records) != len(there) - len(part.errors):
        raise ConfigurationError("the format packs many rows into one record: none of them can be a delete")
    written = there if part.rows is None else there[part.rows]
    lengths = np.zeros(frame.height, dtype=np.int64)
    lengths[written] = np.diff(part.records.offsets)
    errors = [replace(error, row=int(there[error.row])) for error in part.errors]
    kept = np.delete(np.arange(frame.height), [error.row for error in errors])
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths[kept])])
    return Encoded(EncodedRecords(part.records.data, offsets), kept if errors else None, errors)


def _halves(encoder: Encoder, frame: pl.DataFrame, error: UnwritableError) -> Encoded:
    """Finds the rows by halving: for encoders that only say that a frame has such a row."""
    if frame.height == 0:
        raise error
    if frame.height == 1:
        encoder.encode(frame.clear())  # raises where it is not the values but the columns
        nothing = EncodedRecords(np.zeros(0, np.uint8), np.zeros(1, np.int64))
        unwritable = EncodeError(0, str(ErrorClass.UNWRITABLE), str(error))
        return Encoded(nothing, np.zeros(0, np.int64), [unwritable])
    middle = frame.height // 2
    return _joined(encode_rows(encoder, frame[:middle]), encode_rows(encoder, frame[middle:]), middle)


def _joined(first: Encoded, second: Encoded, middle: int) -> Encoded:
    records = EncodedRecords(
        np.concatenate([first.records.data, second.records.data]),
        np.concatenate([first.records.offsets, second.records.offsets[1:] + len(first.records.data)]),
    )
    rows = np.concatenate([_rows(first), _rows(second) + middle])
    moved = [EncodeError(each.row + middle, each.error_class, each.message) for each in second.errors]
    return Encoded(records, rows, first.errors + moved)


def _rows(encoded: Encoded) -> Int64s:
    return np.arange(len(encoded.records), dtype=np.int64) if encoded.rows is None else encoded.rows


def without_empty(records: EncodedRecords, errors: list[EncodeError]) -> Encoded:
    """Leaves out rows that failed and have no bytes: the bytes of the others stay where they are."""
    if not errors:
        return Encoded(records)
    rows = np.delete(np.arange(len(records), dtype=np.int64), [error.row for error in errors])
    return Encoded(EncodedRecords(records.data, np.append(records.offsets[rows], records.offsets[-1])), rows, errors)


def without(records: EncodedRecords, errors: list[EncodeError]) -> Encoded:
    """Leaves out rows that failed, whatever bytes they have."""
    if not errors:
        return Encoded(records)
    rows = np.delete(np.arange(len(records), dtype=np.int64), [error.row for error in errors])
    return Encoded(take(records, rows), rows, errors)


def take(records: EncodedRecords, rows: Int64s) -> EncodedRecords:
    """Some of the records, copied."""
    from thalweg.formats.kernels.binary import copy_rows, offsets_of

    lengths = np.diff(records.offsets)[rows]
    offsets = np.empty(len(rows) + 1, dtype=np.int64)
    offsets_of(lengths, offsets)
    data = np.empty(int(offsets[-1]), dtype=np.uint8)
    copy_rows(records.data.ctypes.data + records.offsets[:-1][rows], lengths, offsets, data)
    return EncodedRecords(data, offsets)


def refused_rows(frame: pl.DataFrame, errors: Sequence[EncodeError]) -> pl.DataFrame:
    """The rows that failed, with the columns `__error_class` and `__error_message`."""
    ordered = sorted(errors, key=_row)
    reasons: dict[str, Any] = {
        "__error_class": [error.error_class for error in ordered],
        "__error_message": [error.message for error in ordered],
    }
    return frame[[error.row for error in ordered]].with_columns(
        pl.Series(name, values, dtype=pl.String) for name, values in reasons.items()
    )


def _row(error: EncodeError) -> int:
    return error.row

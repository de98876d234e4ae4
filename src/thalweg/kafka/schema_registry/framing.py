"""Records in the registry's wire form, by schema id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.errors import NotReady
from thalweg.formats.errors import ErrorClass
from thalweg.formats.kernels.framing import HEADER, NO_PAYLOAD, OTHER_FORM, TOO_SHORT, add_headers, read_schema_ids
from thalweg.formats.schemas import joined
from thalweg.records import Decoded, DecodeError, EncodedRecords, Int64s, RawRecords

__all__ = ["HEADER", "Refusal", "decode_by_id", "header_of", "part", "together", "with_header"]

_UNFRAMED: dict[int, tuple[ErrorClass, str]] = {
    NO_PAYLOAD: (ErrorClass.NULL_PAYLOAD, "the record has no value"),
    TOO_SHORT: (ErrorClass.NOT_FRAMED, "too short for a schema id (a zero byte and four more come first)"),
    OTHER_FORM: (ErrorClass.NOT_FRAMED, "the first byte is not 0: not written with a schema registry"),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no record of one schema id can be read."""

    error_class: ErrorClass
    message: str


DecodePart = Callable[[int, RawRecords], "Decoded | Refusal"]
"""Decodes records that all have one schema id; row numbers are within the part."""


def header_of(schema_id: int) -> bytes:
    """What comes before each payload.

    >>> header_of(7)
    b'\\x00\\x00\\x00\\x00\\x07'
    """
    return b"\0" + schema_id.to_bytes(4, "big")


def decode_by_id(raw: RawRecords, decode: DecodePart, schema: pl.Schema | None = None) -> Decoded:
    """Decodes records of several schemas, part by part, and puts the rows back into order.

    Args:
        schema: the columns where no record can be read.

    Raises:
        NotReady: some of the schemas can't be had now; it names the records of all of them.
    """
    ids = np.empty(len(raw), np.int64)
    addresses = np.ascontiguousarray(raw.value_address).view(np.int64)
    read_schema_ids(addresses, np.ascontiguousarray(raw.value_length, np.int64), ids)
    parts: list[Decoded] = []
    errors: list[DecodeError] = []
    lacking: list[tuple[NotReady, Int64s]] = []
    for schema_id, rows in _by_id(ids):
        if schema_id < 0:
            error_class, message = _UNFRAMED[schema_id]
            errors += [DecodeError(int(row), str(error_class), message) for row in rows]
            continue
        whole = len(rows) == len(raw)
        try:
            decoded = decode(schema_id, raw if whole else part(raw, rows))
        except NotReady as error:
            lacking.append((error, rows))
            continue
        if isinstance(decoded, Refusal):
            errors += [DecodeError(int(row), str(decoded.error_class), decoded.message) for row in rows]
        elif whole:
            return decoded
        else:
            errors += [DecodeError(int(rows[e.row]), e.error_class, e.message) for e in decoded.errors]
            parts.append(Decoded(decoded.frame, rows if decoded.rows is None else rows[decoded.rows]))
    if lacking:
        raise _all_of(lacking)
    return together(parts, sorted(errors, key=lambda error: error.row), schema or pl.Schema())


def _all_of(lacking: list[tuple[NotReady, Int64s]]) -> NotReady:
    """The first of the errors, for the records of all of them."""
    first, _ = lacking[0]
    first.rows = np.sort(np.concatenate([rows for _, rows in lacking])).tolist()
    return first


def _by_id(ids: Int64s) -> Iterator[tuple[int, Int64s]]:
    """Each id with its rows, ascending."""
    if len(ids) and (ids == ids[0]).all():
        yield int(ids[0]), np.arange(len(ids))
        return
    order = np.argsort(ids, kind="stable")
    found, starts = np.unique(ids[order], return_index=True)
    for schema_id, rows in zip(found, np.split(order, starts[1:]), strict=True):
        yield int(schema_id), rows


def together(parts: list[Decoded], errors: list[DecodeError], schema: pl.Schema) -> Decoded:
    """Rows of several parts (each says which), in order of the records."""
    if not parts:
        return Decoded(pl.DataFrame(schema=schema), np.empty(0, np.int64), errors)
    rows = np.concatenate([each.rows for each in parts if each.rows is not None])
    if len(parts) == 1:
        return Decoded(parts[0].frame, rows, errors)
    same = all(each.frame.schema == parts[0].frame.schema for each in parts)
    if not parts[0].frame.width and same:
        return Decoded(pl.DataFrame(height=len(rows)), np.sort(rows, kind="stable"), errors)
    frame = pl.concat([each.frame for each in parts]) if same else joined([each.frame for each in parts], _of(parts))
    order = np.argsort(rows, kind="stable")
    return Decoded(frame[order], rows[order], errors)


def _of(parts: list[Decoded]) -> dict[str, pl.DataType]:
    found: dict[str, pl.DataType] = {}
    for each in parts:
        for name, dtype in each.frame.schema.items():
            if found.get(name, pl.Null()) == pl.Null:
                found[name] = dtype
    return found


def part(raw: RawRecords, rows: npt.NDArray[np.intp] | Int64s, skip: int = 0) -> RawRecords:
    """Some of the records, less their first bytes; the memory stays that of `raw`."""
    value_length = raw.value_length[rows]
    return RawRecords(
        raw.topic,
        raw.value_address[rows] + np.uint64(skip),
        np.where(value_length < 0, value_length, value_length - skip),
        raw.key_address[rows],
        raw.key_length[rows],
        raw.partition[rows],
        raw.offset[rows],
        raw.timestamp[rows],
    )


def with_header(records: EncodedRecords, header: bytes) -> EncodedRecords:
    """The payloads with a header before each."""
    count = len(records)
    out = np.empty(int(records.offsets[-1] - records.offsets[0]) + len(header) * count, np.uint8)
    offsets = np.zeros(count + 1, np.int64)
    head = np.frombuffer(header, np.uint8).copy()
    add_headers(np.ascontiguousarray(records.data), records.offsets, head, out, offsets)
    return EncodedRecords(out, offsets)

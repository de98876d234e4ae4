"""Records with a key and no value, as compacted topics have them: each says that its key is gone.

Their rows come in their place among the others, with the key's columns and `__op` "delete"; all others are "insert".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from thalweg.formats.errors import ErrorClass
from thalweg.records import Decoded, DecodeError, Decoder, Int64s, RawRecords
from thalweg.streams.batch import CHANGE

_BY_RECORD = ("value_address", "value_length", "key_address", "key_length", "partition", "offset", "timestamp")


@dataclass(frozen=True)
class TombstoneDecoder:
    """Reads records without a value itself, and has the others read by `inner`.

    A record without a value becomes a dead letter where its key can't be read (one column: its text; several, or one
    too: a JSON object that has them, also within `payload`, as Kafka Connect writes it).

    Args:
        keys: the columns that the record key holds; none: the rows have `__op` only, for who passes them over.
        schema: the columns' types, as far as they are known.
    """

    inner: Decoder
    keys: Sequence[str]
    schema: Mapping[str, pl.DataType]

    def decode(self, raw: RawRecords) -> Decoded:
        gone = np.asarray(raw.value_length) < 0
        if not gone.any():
            decoded = self.inner.decode(raw)
            count = len(raw) if decoded.rows is None else len(decoded.rows)
            return Decoded(_inserts(decoded.frame, count), decoded.rows, decoded.errors)
        there = np.flatnonzero(~gone)
        decoded = self.inner.decode(_some(raw, there))
        rows = there if decoded.rows is None else there[decoded.rows]
        errors = [replace(error, row=int(there[error.row])) for error in decoded.errors]
        values = _inserts(decoded.frame, len(rows))
        deletes, at, unread = self._deletes(raw, np.flatnonzero(gone), values)
        frame = pl.concat([values, deletes], how="diagonal_relaxed")
        places = np.concatenate([rows, at]).astype(np.int64)
        order = np.argsort(places, kind="stable")
        return Decoded(frame[order], places[order], sorted([*errors, *unread], key=lambda error: error.row))

    def _deletes(
        self, raw: RawRecords, rows: Int64s, values: pl.DataFrame
    ) -> tuple[pl.DataFrame, Int64s, list[DecodeError]]:
        """One row for each record without a value whose key can be read."""
        types = {name: self.schema.get(name) or values.schema.get(name) for name in self.keys}
        found: list[dict[str, Any]] = []
        at: list[int] = []
        errors: list[DecodeError] = []
        for row in rows.tolist():
            try:
                found.append(self._key(raw.key(row), types))
                at.append(row)
            except ValueError as error:
                errors.append(DecodeError(row, str(ErrorClass.NULL_PAYLOAD), f"the record has no value, and {error}"))
        columns = [pl.Series(name, [row[name] for row in found], dtype=dtype) for name, dtype in types.items()]
        change = pl.Series(CHANGE, ["delete"] * len(found), dtype=pl.String)
        return pl.DataFrame([*columns, change]), np.array(at, dtype=np.int64), errors

    def _key(self, key: bytes | None, types: Mapping[str, pl.DataType | None]) -> dict[str, Any]:
        """The key's columns.

        Raises:
            ValueError: there is no key, or it does not say what they are.
        """
        if not self.keys:
            return {}
        if key is None:
            raise ValueError("no key")
        try:
            text = key.decode()
        except UnicodeDecodeError:
            raise ValueError("its key is not text") from None
        fields = _fields(text)
        if all(name in fields for name in self.keys):
            return {name: _typed(name, fields[name], types[name]) for name in self.keys}
        if len(self.keys) > 1:
            raise ValueError(f"its key {text[:100]!r} is no JSON object with {', '.join(self.keys)}")
        name = self.keys[0]
        if types[name] is None:
            raise ValueError(f"no {name!r} has come yet that would tell the type of its key: give the topic a schema")
        return {name: _typed(name, text, types[name])}


def _inserts(frame: pl.DataFrame, count: int) -> pl.DataFrame:
    change = pl.Series(CHANGE, ["insert"], dtype=pl.String).new_from_index(0, count)
    return frame.with_columns(change) if frame.width else pl.DataFrame([change])


def _typed(name: str, value: Any, dtype: pl.DataType | None) -> Any:
    """
    Raises:
        ValueError: it is not of that type.
    """
    if dtype is None:
        return value
    try:
        return pl.Series([value]).cast(dtype).item()
    except pl.exceptions.PolarsError:
        raise ValueError(f"its key's {name!r} {value!r} is no {dtype}") from None


def _some(raw: RawRecords, rows: Int64s) -> RawRecords:
    """Some of the records; the memory stays with the whole."""
    return replace(raw, owner=None, **{name: getattr(raw, name)[rows] for name in _BY_RECORD})


def _fields(text: str) -> dict[str, Any]:
    """The fields of a JSON object, or of the `payload` in it; none where the text is something else."""
    if not text.startswith("{"):
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    inner = found.get("payload")
    return inner if isinstance(inner, dict) else found

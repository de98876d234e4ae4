"""Rows that a format can't write: exactly those are named, the others are written as if they had come alone."""

from __future__ import annotations

import io
from itertools import pairwise
from typing import Any

import fastavro
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import ConfigurationError
from thalweg.formats.avro import AvroEncoder
from thalweg.formats.errors import UnwritableError
from thalweg.formats.json.encoder import JsonEncoder
from thalweg.formats.writable import EncodeError, encode_rows, refused_rows, take, without
from thalweg.records import EncodedRecords


def schema(kind: Any) -> dict[str, Any]:
    fields = [{"name": "a", "type": kind}, {"name": "s", "type": "string"}]
    return {"type": "record", "name": "R", "fields": fields}


def payloads(records: EncodedRecords) -> list[bytes]:
    return [records.data[start:end].tobytes() for start, end in pairwise(records.offsets.tolist())]


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | st.integers(-(2**40), 2**40), st.none() | st.text(max_size=30)), max_size=60))
def test_nulls_are_refused_by_row(rows: list[tuple[int | None, str | None]]) -> None:
    frame = pl.DataFrame(rows, schema={"a": pl.Int64, "s": pl.String}, orient="row")
    good = [row for row, values in enumerate(rows) if None not in values]
    encoded = encode_rows(AvroEncoder(schema("long")), frame)
    assert (list(range(len(rows))) if encoded.rows is None else encoded.rows.tolist()) == good
    assert payloads(encoded.records) == payloads(AvroEncoder(schema("long")).encode(frame[good]))
    assert [error.row for error in encoded.errors] == [row for row in range(len(rows)) if row not in good]
    assert all("is null, which the Avro schema does not take" in error.message for error in encoded.errors)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(2**31 - 3, 2**31 + 3) | st.integers(-5, 5), max_size=40))
def test_values_that_do_not_fit_are_found_by_halving(values: list[int]) -> None:
    """An Avro int has 32 bits; the encoder only says that the column does not fit."""
    frame = pl.DataFrame({"a": values, "s": [str(value) for value in values]}, schema={"a": pl.Int64, "s": pl.String})
    good = [row for row, value in enumerate(values) if value < 2**31]
    encoded = encode_rows(AvroEncoder(schema("int")), frame)
    assert (list(range(len(values))) if encoded.rows is None else encoded.rows.tolist()) == good
    assert [error.row for error in encoded.errors] == [row for row, value in enumerate(values) if value >= 2**31]
    assert payloads(encoded.records) == payloads(AvroEncoder(schema("int")).encode(frame[good]))


def test_symbols_that_the_enum_lacks() -> None:
    kind = {"type": "enum", "name": "E", "symbols": ["X", "Y"]}
    encoded = encode_rows(AvroEncoder(schema(kind)), pl.DataFrame({"a": ["X", "Z", "Y"], "s": ["1", "2", "3"]}))
    assert [(error.row, error.error_class) for error in encoded.errors] == [(1, "Unwritable")]
    assert len(payloads(encoded.records)) == 2


def test_columns_that_can_never_be_written_are_a_matter_of_configuration() -> None:
    encoder = AvroEncoder(schema("int"))
    with pytest.raises(ConfigurationError):
        encode_rows(encoder, pl.DataFrame({"a": [[1]], "s": ["x"]}))
    with pytest.raises(ConfigurationError):
        encode_rows(encoder, pl.DataFrame({"s": ["x"]}))


def test_the_encoder_itself_still_raises() -> None:
    with pytest.raises(UnwritableError, match="'a' of row 1 is null"):
        AvroEncoder(schema("long")).encode(pl.DataFrame({"a": [1, None], "s": ["x", "y"]}))


def test_formats_that_write_everything_lose_nothing() -> None:
    encoded = encode_rows(JsonEncoder(), pl.DataFrame({"a": [1, None]}))
    assert encoded.rows is None
    assert payloads(encoded.records) == [b'{"a":1}', b'{"a":null}']


def test_some_records_are_taken_out() -> None:
    records = EncodedRecords(np.frombuffer(b"aabbbc", np.uint8), np.array([0, 2, 2, 5, 6]))
    assert payloads(take(records, np.array([0, 3], np.int64))) == [b"aa", b"c"]
    assert payloads(without(records, [EncodeError(2, "Unwritable", "b")]).records) == [b"aa", b"", b"c"]


def test_refused_rows_say_why() -> None:
    frame = pl.DataFrame({"a": [1, 2, 3]})
    refused = refused_rows(frame, [EncodeError(2, "RecordTooLarge", "big"), EncodeError(0, "Unwritable", "odd")])
    assert refused.rows() == [(1, "Unwritable", "odd"), (3, "RecordTooLarge", "big")]


def test_what_is_written_reads_back() -> None:
    parsed = fastavro.parse_schema(schema("long"))
    encoded = encode_rows(AvroEncoder(schema("long")), pl.DataFrame({"a": [1, None, 3], "s": ["x", "y", "z"]}))
    read = [fastavro.schemaless_reader(io.BytesIO(each), parsed, None) for each in payloads(encoded.records)]
    assert read == [{"a": 1, "s": "x"}, {"a": 3, "s": "z"}]

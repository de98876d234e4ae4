"""Frames written as Avro."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import polars as pl
import pytest
from tests.unit.formats.avro_records import MakeRecords, record, split

from thalweg.errors import ConfigurationError
from thalweg.formats.avro import AvroDecoder, AvroEncoder
from thalweg.formats.avro.schema import parse


def test_any_frame_can_be_written_without_a_schema(records: MakeRecords) -> None:
    frame = pl.DataFrame(
        {
            "a": [1, None],
            "b": [[{"c": 1.5, "d": ["x"]}], []],
            "t": [timedelta(0) + datetime(2024, 1, 1, tzinfo=UTC), None],
            "u": pl.Series([1, 2], dtype=pl.UInt16),
            "d": [Decimal("1.25"), Decimal("-3")],
            "e": pl.Series(["p", "q"], dtype=pl.Enum(["q", "p"])),
            "n": [None, None],
        }
    )
    encoder = AvroEncoder()
    payloads = split(encoder.encode(frame))
    back = AvroDecoder(encoder.schema).decode(records(payloads)).frame
    assert back.to_dicts() == frame.to_dicts()


def test_writing_names_the_field_that_takes_no_null() -> None:
    schema = record(("x", "int"))
    with pytest.raises(ConfigurationError, match="'x' of row 1 is null"):
        AvroEncoder(schema).encode(pl.DataFrame({"x": [1, None]}))
    with pytest.raises(ConfigurationError, match="has a field 'x', which takes no null"):
        AvroEncoder(schema).encode(pl.DataFrame({"y": [1]}))
    with pytest.raises(ConfigurationError, match="can't be written as Avro int"):
        AvroEncoder(schema).encode(pl.DataFrame({"x": [2**40]}))


def test_a_uuid_is_text_in_both_forms(records: MakeRecords) -> None:
    fixed = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}
    schema = record(("a", ["null", fixed]), ("b", {"type": "string", "logicalType": "uuid"}))
    value = UUID("12345678-1234-5678-1234-567812345678")
    frame = pl.DataFrame({"a": [str(value), None], "b": [str(value)] * 2})
    payloads = split(AvroEncoder(schema).encode(frame))
    assert payloads[0] == b"\x02" + value.bytes + b"\x48" + str(value).encode()
    assert AvroDecoder(schema).decode(records(payloads)).frame.to_dicts() == frame.to_dicts()


def test_slices_and_chunks_of_frames_are_written(records: MakeRecords) -> None:
    frame = pl.DataFrame({"a": [[n, None] for n in range(50)], "s": [{"x": f"text number {n}"} for n in range(50)]})
    parts = pl.concat([frame[7:20], frame[30:41]], rechunk=False)
    encoder = AvroEncoder()
    back = AvroDecoder(parse(_json_of(encoder, parts))).decode(records(split(encoder.encode(parts))))
    assert back.frame.to_dicts() == parts.to_dicts()


def _json_of(encoder: AvroEncoder, frame: pl.DataFrame) -> Any:
    from thalweg.formats.avro.types import avro_of

    encoder.encode(frame[:0])
    return avro_of(frame.schema)

"""Avro on random schemas and values, whole and damaged: as fastavro has it, and never past a record's end."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.formats.avro_records import record, split, written
from tests.unit.formats.avro_tables import tables
from tests.unit.formats.conftest import GuardedMemory, raw_records

from thalweg.formats.avro import AvroDecoder, AvroEncoder

relaxed = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@given(tables())
@relaxed
def test_any_schema_reads_and_writes_as_fastavro_does(table: Any) -> None:
    schema, rows, expected = table
    payloads = written(schema, *rows)
    decoded = AvroDecoder(schema).decode(raw_records(payloads))
    assert not decoded.errors
    assert decoded.frame.to_dicts() == expected
    assert split(AvroEncoder(schema).encode(decoded.frame)) == payloads


@given(tables(), st.data())
@relaxed
def test_any_columns_alone_are_the_same_columns(table: Any, data: st.DataObject) -> None:
    schema, rows, _ = table
    raw = raw_records(written(schema, *rows))
    whole = AvroDecoder(schema).decode(raw).frame
    some = data.draw(st.sets(st.sampled_from(whole.columns)))
    part = AvroDecoder(schema, columns=some).decode(raw)
    assert not part.errors
    assert part.frame.height == len(rows)
    assert part.frame.equals(whole.select([c for c in whole.columns if c in some]) if some else part.frame)


@given(tables(), st.data())
@relaxed
def test_damaged_records_are_refused_or_read_as_fastavro_reads_them(
    guarded: GuardedMemory, table: Any, data: st.DataObject
) -> None:
    schema, rows, _ = table
    good = written(schema, *rows)
    payload = bytearray(good[0])
    for _ in range(data.draw(st.integers(1, 3))):
        if payload and data.draw(st.booleans()):
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        else:
            del payload[data.draw(st.integers(0, len(payload))) :]
    decoder = AvroDecoder(schema)
    alone = decoder.decode(guarded.records(bytes(payload)))  # a read beyond its end would end the process
    assert alone.frame.height + len(alone.errors) == 1
    together = decoder.decode(raw_records([good[0], bytes(payload), *good]))
    kept = together.frame
    if alone.errors:
        assert [error.row for error in together.errors] == [1]
        assert together.errors[0].message == alone.errors[0].message
    else:
        assert kept[1].equals(alone.frame)
        kept = pl.concat([kept[:1], kept[2:]])
        assert split(AvroEncoder(schema).encode(alone.frame))  # what was read can be written
    assert kept.equals(decoder.decode(raw_records([good[0], *good])).frame)


@given(st.binary(max_size=60))
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_bytes_never_read_past_their_end(guarded: GuardedMemory, payload: bytes) -> None:
    decoded = WIDE.decode(guarded.records(payload))
    assert decoded.frame.height + len(decoded.errors) == 1


_ITEM = record(("a", "int"), ("b", ["string", "null"]), name="Item")
WIDE = AvroDecoder(
    record(
        ("s", "string"),
        ("l", ["null", "long"]),
        ("t", {"type": "array", "items": _ITEM}),
        ("m", {"type": "map", "values": {"type": "array", "items": "bytes"}}),
        ("u", ["null", "string", "double", record(("x", "boolean"), name="X")]),
        ("d", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}),
        name="Wide",
    )
)

"""Avro to columns and back: against fastavro on random schemas, damaged bytes, and schema evolution."""

from __future__ import annotations

import io
import itertools
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.formats.conftest import GuardedMemory, raw_records

from thalweg.errors import ConfigurationError
from thalweg.formats.avro import AvroDecoder, AvroEncoder, AvroReader, AvroSchemaError
from thalweg.formats.avro.schema import parse
from thalweg.records import EncodedRecords, RawRecords

MakeRecords = Callable[[Sequence[bytes | None]], RawRecords]


def record(*fields: Any, name: str = "R") -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [f if isinstance(f, dict) else {"name": f[0], "type": f[1]} for f in fields],
    }


def written(schema: Any, *values: Any) -> list[bytes]:
    parsed = fastavro.parse_schema(schema)
    payloads = []
    for value in values:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, value)
        payloads.append(out.getvalue())
    return payloads


def split(encoded: EncodedRecords) -> list[bytes]:
    ends = encoded.offsets.tolist()
    return [encoded.data[a:b].tobytes() for a, b in itertools.pairwise(ends)]


# -- random schemas and values: (schema, strategy of values, from fastavro's value to the column's)

_counter = iter(range(10**9))


def _name(prefix: str) -> str:
    return f"{prefix}{next(_counter)}"


def _same(value: Any) -> Any:
    return value


def leaf_kinds() -> list[tuple[Any, st.SearchStrategy[Any]]]:
    moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(lambda d: d.replace(tzinfo=UTC))
    enum = {"type": "enum", "name": _name("E"), "symbols": ["A", "a_symbol_that_is_long", "C"]}
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 4}
    fixed_decimal = {
        "type": "fixed", "name": _name("D"), "size": 9, "logicalType": "decimal", "precision": 20, "scale": 2,
    }  # fmt: skip
    return [
        ("boolean", st.booleans()),
        ("int", st.integers(-(2**31), 2**31 - 1)),
        ("long", st.integers(-(2**63), 2**63 - 1)),
        ("float", st.floats(width=32, allow_nan=False)),
        ("double", st.floats(allow_nan=False)),
        ("bytes", st.binary(max_size=40)),
        ("string", st.text(max_size=40)),
        (enum, st.sampled_from(enum["symbols"])),
        ({"type": "fixed", "name": _name("F"), "size": 13}, st.binary(min_size=13, max_size=13)),
        ({"type": "int", "logicalType": "date"}, st.dates()),
        ({"type": "long", "logicalType": "timestamp-micros"}, moments),
        ({"type": "long", "logicalType": "time-micros"}, st.times()),
        (decimal, st.decimals(-(10**25), 10**25, places=4, allow_nan=False)),
        (fixed_decimal, st.decimals(-(10**17), 10**17, places=2, allow_nan=False)),
    ]


@st.composite
def typed(draw: st.DrawFn, depth: int = 0) -> tuple[Any, st.SearchStrategy[Any], Callable[[Any], Any]]:
    """A schema, a strategy of its values, and what the column holds for one of them."""
    kinds = ["leaf", "leaf", "optional"] + (["array", "map", "record", "choice"] if depth < 3 else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "leaf":
        schema, values = draw(st.sampled_from(leaf_kinds()))
        return schema, values, _same
    if kind == "choice":
        schema = ["null", "string", "double", {"type": "array", "items": "long"}]
        values = st.none() | st.text() | st.floats(allow_nan=False) | st.lists(st.integers(-9, 9), max_size=3)
        return schema, values, _chosen
    if kind == "record":
        parts = draw(st.lists(typed(depth=depth + 1), min_size=1, max_size=3))
        schema = record(*[(f"f{n}", part[0]) for n, part in enumerate(parts)], name=_name("R"))
        values = st.fixed_dictionaries({f"f{n}": part[1] for n, part in enumerate(parts)})
        return schema, values, lambda v: {f"f{n}": part[2](v[f"f{n}"]) for n, part in enumerate(parts)}
    schema, values, column = draw(typed(depth=depth + 1))
    if kind == "array":
        return {"type": "array", "items": schema}, st.lists(values, max_size=3), lambda v: [column(e) for e in v]
    if kind == "map":
        made = {"type": "map", "values": schema}
        keys = st.text(max_size=15)
        return (
            made,
            st.dictionaries(keys, values, max_size=3),
            lambda v: [{"key": k, "value": column(e)} for k, e in v.items()],
        )
    if isinstance(schema, list):
        return schema, values, column
    order = draw(st.booleans())
    optional = ["null", schema] if order else [schema, "null"]
    return optional, st.none() | values, lambda v: None if v is None else column(v)


def _chosen(value: Any) -> Any:
    if value is None:
        return None
    kind = {str: "string", float: "double", list: "array"}[type(value)]
    return {name: value if name == kind else None for name in ("string", "double", "array")}


@st.composite
def tables(draw: st.DrawFn) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    parts = draw(st.lists(typed(), min_size=1, max_size=4))
    schema = record(*[(f"c{n}", part[0]) for n, part in enumerate(parts)], name=_name("T"))
    row = st.fixed_dictionaries({f"c{n}": part[1] for n, part in enumerate(parts)})
    rows = draw(st.lists(row, min_size=1, max_size=6))
    columns = [{f"c{n}": part[2](r[f"c{n}"]) for n, part in enumerate(parts)} for r in rows]
    return schema, rows, columns


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


def test_lists_longer_than_any_guess(records: MakeRecords) -> None:
    schema = record(("a", {"type": "array", "items": {"type": "array", "items": "string"}}), ("n", "int"))
    rows = [{"a": [["x" * (j % 30) for j in range(i)] for i in range(40)], "n": n} for n in range(30)]
    decoded = AvroDecoder(schema).decode(records(written(schema, *rows)))
    assert decoded.frame.to_dicts() == rows


def test_blocks_with_sizes_and_several_blocks_are_read(records: MakeRecords) -> None:
    # Two items with the block's size (in bytes) before them, then one without, then the end.
    payload = bytes([0x03, 0x04, 0x02, 0x04, 0x02, 0x06, 0x00])
    decoded = AvroDecoder(record(("a", {"type": "array", "items": "int"}))).decode(records([payload]))
    assert decoded.frame["a"].to_list() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("kind", "payload", "error_class", "words"),
    [
        ("long", b"\x80", "BadAvro", "ends before"),
        ("long", b"\xff" * 9 + b"\x02", "BadAvro", "more than 64 bits"),
        ("long", b"\xff" * 12, "BadAvro", "more than 64 bits"),
        ("int", b"\x80\x80\x80\x80\x10", "NumberOutOfRange", "out of range"),
        ("boolean", b"\x02", "BadAvro", "neither 0 nor 1"),
        ("double", b"1234567", "BadAvro", "ends before"),
        ("string", b"\x04\xff\xff", "BadUtf8", "UTF-8"),
        ("string", b"\x01", "BadAvro", "negative"),
        ("string", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", "BadAvro", "ends before"),
        (["null", "int"], b"\x04\x00", "BadAvro", "no such branch"),
        (["null", "int", "string"], b"\x09\x00", "BadAvro", "no such branch"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, b"\x02", "BadAvro", "no such symbol"),
        ({"type": "array", "items": "int"}, b"\xfe\xff\xff\xff\x0f", "BadAvro", "ends before"),
        ({"type": "int", "logicalType": "date"}, b"\xfe\xff\xff\xff\x0f", "NumberOutOfRange", "out of range"),
        ({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 0}, b"\x02\x64", "NumberOutOfRange", ""),
        ("int", b"\x02\x02", "BadAvro", "left behind"),
        ("int", b"", "EmptyPayload", ""),
        ("int", None, "NullPayload", ""),
    ],
)
def test_what_can_not_be_read_is_named_and_the_others_are_unharmed(
    records: MakeRecords, kind: Any, payload: bytes | None, error_class: str, words: str
) -> None:
    schema = record(("x", kind))
    good = split(AvroEncoder(schema).encode(pl.DataFrame({"x": [_EXAMPLES[str(kind)]]})))[0]
    decoded = AvroDecoder(schema).decode(records([good, payload, good]))
    assert [(error.row, error.error_class) for error in decoded.errors] == [(1, error_class)]
    assert words in decoded.errors[0].message
    assert decoded.rows is not None
    assert decoded.rows.tolist() == [0, 2]
    assert decoded.frame.height == 2


_EXAMPLES: dict[str, Any] = {
    "long": 5, "int": 5, "boolean": True, "double": 0.5, "string": "a", "['null', 'int']": 3,
    "['null', 'int', 'string']": {"int": 3, "string": None},
    str({"type": "enum", "name": "E", "symbols": ["A"]}): "A",
    str({"type": "array", "items": "int"}): [1, 2],
    str({"type": "int", "logicalType": "date"}): date(2024, 2, 29),
    str({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 0}): Decimal(99),
}  # fmt: skip


# -- a reader's schema that is not the writer's

_COLOURS = {"type": "enum", "name": "Colour", "symbols": ["RED", "GREEN"]}
_FEWER = {"type": "enum", "name": "Colour", "symbols": ["GREEN", "OTHER"], "default": "OTHER"}


@pytest.mark.parametrize(
    ("writer", "reader", "value", "expected"),
    [
        ("int", "long", 7, 7),
        ("int", "float", 7, 7.0),
        ("int", "double", -7, -7.0),
        ("long", "float", 2**40, float(2**40)),
        ("long", "double", 2**40, float(2**40)),
        ("float", "double", 0.5, 0.5),
        ("string", "bytes", "aä", "aä".encode()),
        ("bytes", "string", b"abc", "abc"),
        ("int", ["null", "int"], 3, 3),
        (["null", "int"], ["int", "null"], None, None),
        (["int", "null"], ["null", "long"], 4, 4),
        (["null", "int"], "long", 4, 4),
        ("string", ["null", "string", "int"], "x", {"string": "x", "int": None}),
        (["int", "string"], ["string", "long"], 4, {"string": None, "long": 4}),
        (["null", "int", "string"], ["null", "string"], "x", "x"),
        (_COLOURS, _FEWER, "RED", "OTHER"),
        (_COLOURS, _FEWER, "GREEN", "GREEN"),
        ({"type": "array", "items": "int"}, {"type": "array", "items": ["null", "double"]}, [1, 2], [1.0, 2.0]),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, {"a": 1}, [{"key": "a", "value": 1}]),
        (
            {"type": "long", "logicalType": "timestamp-millis"}, {"type": "long", "logicalType": "timestamp-micros"},
            datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC),
        ),
        (
            {"type": "long", "logicalType": "timestamp-micros"}, {"type": "long", "logicalType": "timestamp-millis"},
            datetime(2024, 1, 1, 0, 0, 0, 1999, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1000, tzinfo=UTC),
        ),
        (
            {"type": "int", "logicalType": "time-millis"}, {"type": "long", "logicalType": "time-micros"},
            time(1, 2, 3, 4000), time(1, 2, 3, 4000),
        ),
    ],
)  # fmt: skip
def test_a_field_is_promoted(records: MakeRecords, writer: Any, reader: Any, value: Any, expected: Any) -> None:
    payloads = written(record(("x", writer)), {"x": value})
    decoded = AvroDecoder(record(("x", writer)), record(("x", reader))).decode(records(payloads))
    assert not decoded.errors
    assert decoded.frame["x"].to_list() == [expected]


@pytest.mark.parametrize(
    ("kind", "default", "expected"),
    [
        ("int", 4, 4),
        (["null", "string"], None, None),
        (["string", "null"], "a text of more than twelve bytes", "a text of more than twelve bytes"),
        ({"type": "array", "items": "string"}, ["a", "b"], ["a", "b"]),
        ({"type": "map", "values": "double"}, {"k": 1}, [{"key": "k", "value": 1.0}]),
        (record(("a", "int"), ("b", ["null", "long"]), name="Inner"), {"a": 1, "b": None}, {"a": 1, "b": None}),
        (_COLOURS, "GREEN", "GREEN"),
        ("bytes", "\u00ff", b"\xff"),
    ],
)
def test_fields_that_the_writer_lacks_have_their_default(
    records: MakeRecords, kind: Any, default: Any, expected: Any
) -> None:
    writer = record(("x", "int"))
    reader = record({"name": "new", "type": kind, "default": default}, ("x", "long"))
    rows = [{"x": n} for n in range(50)]
    decoded = AvroDecoder(writer, reader).decode(records(written(writer, *rows)))
    assert not decoded.errors
    assert decoded.frame.columns == ["new", "x"]
    assert decoded.frame["new"].to_list() == [expected] * 50
    nested = {"type": "array", "items": writer}
    lists = AvroDecoder(nested, {"type": "array", "items": reader}).decode(records(written(nested, rows)))
    assert lists.frame["value"].to_list() == [[{"new": expected, "x": n} for n in range(50)]]


def test_fields_go_come_and_change_their_names(records: MakeRecords) -> None:
    writer = record(("gone", {"type": "array", "items": "string"}), ("old", "int"), ("both", "string"))
    reader = record(
        {"name": "both", "type": "string"},
        {"name": "fresh", "type": ["null", "int"], "default": None},
        {"name": "renamed", "type": "long", "aliases": ["old"]},
    )
    payloads = written(writer, {"gone": ["a", "b"], "old": 5, "both": "x"})
    decoded = AvroDecoder(writer, reader).decode(records(payloads))
    assert decoded.frame.to_dicts() == [{"both": "x", "fresh": None, "renamed": 5}]


@pytest.mark.parametrize(
    ("writer", "reader", "words"),
    [
        (record(("x", "long")), record(("x", "int")), "x: written as long, which can't be read as int"),
        (record(("x", "int")), record(("x", "int"), ("y", "int")), "y: the writer has no such field"),
        (record(("x", "string")), record(("x", ["null", "int"])), "x: written as string"),
        (record(("x", "null")), record(("x", "int")), "x: written as null"),
        (
            record(("x", {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 1})),
            record(("x", {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2})),
            "decimal 4, 1",
        ),
        ("int", record(("x", "int")), "the record: written as int"),
    ],
)
def test_schemas_that_do_not_go_together_are_refused(writer: Any, reader: Any, words: str) -> None:
    with pytest.raises(AvroSchemaError, match=words):
        AvroDecoder(writer, reader)


def test_a_branch_that_the_reader_does_not_take_fails_its_records_only(records: MakeRecords) -> None:
    writer = record(("x", ["null", "int", "string"]))
    payloads = written(writer, {"x": 1}, {"x": "a"}, {"x": None}, {"x": 2})
    decoded = AvroDecoder(writer, record(("x", "int"))).decode(records(payloads))
    assert [(e.row, e.error_class) for e in decoded.errors] == [(1, "WrongType"), (2, "WrongType")]
    assert decoded.frame["x"].to_list() == [1, 2]


def test_an_unknown_symbol_without_a_default_fails_its_record(records: MakeRecords) -> None:
    fewer = {"type": "enum", "name": "Colour", "symbols": ["GREEN"]}
    writer = record(("x", _COLOURS))
    payloads = written(writer, {"x": "RED"}, {"x": "GREEN"})
    decoded = AvroDecoder(writer, record(("x", fewer))).decode(records(payloads))
    assert [(e.row, e.error_class) for e in decoded.errors] == [(0, "WrongType")]
    assert decoded.frame["x"].to_list() == ["GREEN"]


# -- what fastavro reads, schemas, types

_TREE = {
    "type": "record",
    "name": "Tree",
    "fields": [{"name": "v", "type": "int"}, {"name": "next", "type": ["null", "Tree"], "default": None}],
}


def test_a_record_within_itself_is_read_as_json_text(records: MakeRecords) -> None:
    payloads = written(_TREE, {"v": 1, "next": {"v": 2, "next": None}}, {"v": 3, "next": None})
    decoded = AvroDecoder(_TREE).decode(records([payloads[0], payloads[0][:-1], payloads[1]]))
    assert decoded.frame.to_dicts() == [{"v": 1, "next": '{"v": 2, "next": null}'}, {"v": 3, "next": None}]
    assert [(e.row, e.error_class) for e in decoded.errors] == [(1, "BadAvro")]


def test_items_without_bytes_are_read(records: MakeRecords) -> None:
    schema = record(("a", {"type": "array", "items": "null"}), ("b", ["null", "string", "long"]))
    payloads = written(schema, {"a": [None, None], "b": 4})
    decoded = AvroDecoder(schema).decode(records(payloads))
    assert decoded.frame.to_dicts() == [{"a": [None, None], "b": {"string": None, "long": 4}}]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("{", "not JSON"),
        ({"type": "record", "name": "R"}, "lacks 'fields'"),
        ({"type": "record", "name": "R", "fields": [{"name": "a"}]}, "lacks its name or type"),
        ({"type": "array"}, "lacks 'items'"),
        (record(("a", "Unknown")), "no type 'Unknown'"),
        (["int", "int"], "twice"),
        ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "different"),
        ({"type": "record", "name": "1R", "fields": []}, "not a name"),
    ],
)
def test_a_bad_schema_is_named(schema: Any, words: str) -> None:
    with pytest.raises(AvroSchemaError, match=words):
        parse(schema)


def test_a_schema_asked_for_casts_and_reports_what_is_lost(records: MakeRecords) -> None:
    schema = record(("n", "long"), ("e", "string"))
    payloads = written(schema, {"n": 1, "e": "a"}, {"n": 300, "e": "a"}, {"n": 2, "e": "z"})
    wanted = {"n": pl.Int8, "e": pl.Enum(["a"]), "other": pl.Float64}
    decoded = AvroDecoder(schema, schema=wanted).decode(records(payloads))
    assert decoded.frame.rows() == [(1, "a", None)]
    assert decoded.frame.schema == pl.Schema(wanted)
    assert [(e.row, e.error_class) for e in decoded.errors] == [(1, "WrongType"), (2, "WrongType")]


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


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_do_not_matter(records: MakeRecords, size: int) -> None:
    schema = record(("s", "string"), ("a", {"type": "array", "items": ["null", "int"]}))
    payloads: list[bytes | None] = list(written(schema, *[{"s": f"{n}" * (n % 20), "a": [n, None]} for n in range(99)]))
    payloads[::10] = [None] * 10
    decoder = AvroDecoder(schema)
    parts = [decoder.decode(records(payloads[at : at + size])).frame for at in range(0, len(payloads), size)]
    assert pl.concat(parts).equals(decoder.decode(records(payloads)).frame)


def test_the_kernels_are_kept_on_disk() -> None:
    code = "from thalweg.formats.avro import warm_up; warm_up(); print(warm_up())"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_an_unknown_column_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not in the schema"):
        AvroReader(record(("x", "int")), {"y"})


def test_wide_integers_of_every_length(records: MakeRecords) -> None:
    numbers = [sign * ((1 << bits) - part) for bits in range(63) for sign in (1, -1) for part in (0, 1)]
    numbers += [2**63 - 1, -(2**63)]
    schema = record(("x", "long"))
    payloads = written(schema, *[{"x": n} for n in numbers])
    frame = AvroDecoder(schema).decode(records(payloads)).frame
    assert frame["x"].to_list() == numbers
    assert np.array_equal(frame["x"].to_numpy(), np.array(numbers))
    assert split(AvroEncoder(schema).encode(frame)) == payloads

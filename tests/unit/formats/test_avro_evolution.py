"""Avro read by a schema that is not the writer's."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

import pytest
from tests.unit.formats.avro_records import MakeRecords, record, written

from thalweg.formats.avro import AvroDecoder, AvroSchemaError

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

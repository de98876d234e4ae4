"""Avro to columns: lists, damage that is named, schemas, types, and what fastavro reads for us."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.unit.formats.avro_records import MakeRecords, record, split, written

from thalweg.errors import ConfigurationError
from thalweg.formats.avro import AvroDecoder, AvroEncoder, AvroReader, AvroSchemaError
from thalweg.formats.avro.schema import parse


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


def test_compiling_is_said(tmp_path: Path) -> None:
    """The log names a kernel before it is compiled, and is silent where the cache on disk has it."""
    (tmp_path / "adding.py").write_text(
        "import logging\nlogging.basicConfig(level=logging.INFO)\n"
        "from thalweg.formats.kernels.compile import entry\n"
        "@entry('int64(int64)')\ndef add_one(x):\n    return x + 1\n"
    )
    command = [sys.executable, "-c", "from adding import add_one; print(add_one(1))"]
    said = [subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stderr for _ in range(2)]
    assert "compiling add_one, only the first time" in said[0]
    assert said[1] == ""


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

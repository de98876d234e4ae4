"""Avro's own Java library reads what we write, writes the same bytes, and resolves schemas to the same values."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.unit.formats.conftest import raw_records
from thalweg.formats.avro import AvroDecoder, AvroEncoder
from thalweg.kafka._local_install import JavaRuntime, find_runtime

_AVRO = "1.12.0"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>thalweg</groupId><artifactId>avro</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.avro</groupId><artifactId>avro</artifactId><version>{_AVRO}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>2.0.16</version></dependency>
  </dependencies>
</project>
"""
_KIND = {"type": "enum", "name": "Kind", "symbols": ["SMALL", "LARGE"]}
_PLACE = {
    "type": "record",
    "name": "Place",
    "fields": [{"name": "lat", "type": "double"}, {"name": "names", "type": {"type": "array", "items": "string"}}],
}
WRITER = {
    "type": "record",
    "name": "Event",
    "namespace": "test",
    "fields": [
        {"name": "i", "type": "int"},
        {"name": "l", "type": "long"},
        {"name": "f", "type": "float"},
        {"name": "d", "type": "double"},
        {"name": "b", "type": "boolean"},
        {"name": "s", "type": "string"},
        {"name": "raw", "type": "bytes"},
        {"name": "kind", "type": _KIND},
        {"name": "maybe", "type": ["null", "long"]},
        {"name": "either", "type": ["string", "null", "double"]},
        {"name": "place", "type": ["null", _PLACE]},
        {"name": "weights", "type": {"type": "map", "values": "int"}},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "code", "type": {"type": "fixed", "name": "Code", "size": 3}},
        {"name": "gone", "type": {"type": "array", "items": ["null", "int"]}},
    ],
}
READER = {
    "type": "record",
    "name": "Event",
    "namespace": "test",
    "fields": [
        {"name": "new", "type": {"type": "array", "items": "string"}, "default": ["x", "y"]},
        {"name": "d", "type": ["null", "double"]},
        {"name": "text", "type": "bytes", "aliases": ["s"]},
        {"name": "i", "type": "double"},
        {"name": "l", "type": "float"},
        {"name": "f", "type": "double"},
        {"name": "maybe", "type": ["long", "null"]},
        {"name": "raw", "type": "string"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["OTHER", "LARGE"], "default": "OTHER"}},
        {"name": "weights", "type": {"type": "map", "values": "long"}},
        {"name": "place", "type": ["null", {**_PLACE, "fields": [_PLACE["fields"][1]]}]},
        {"name": "extra", "type": ["null", "Kind"], "default": None},
    ],
}


def row(n: int) -> dict[str, Any]:
    return {
        "i": n * 53_000_000,
        "l": n * 230_000_000_000_000_007,
        "f": n / 8,
        "d": n / 7,
        "b": n % 2 == 0,
        "s": "grüße" * (n % 5),
        "raw": b"abc" * (n % 7),
        "kind": ["SMALL", "LARGE"][n % 2],
        "maybe": None if n % 3 else n**11,
        "either": [{"string": "a", "double": None}, {"string": None, "double": n / 3}, None][n % 3],
        "place": None if n % 4 == 0 else {"lat": n / 9, "names": ["é" * i for i in range(n % 6)]},
        "weights": [{"key": f"k{i}", "value": i - n} for i in range(n % 4)],
        "amount": Decimal(n**5) / 1000,
        "at": datetime(2024, 1, 1, 0, 0, 0, n + 40, UTC),
        "day": date(2024, 1, 1 + abs(n) % 28),
        "code": bytes([0, abs(n), 255]),
        "gone": [None if i % 2 else i for i in range(n % 5)],
    }


def rows() -> list[dict[str, Any]]:
    return [row(n) for n in range(-40, 41)]


@pytest.fixture(scope="module")
def recode(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function (writer's schema, reader's schema, payloads) to the payloads that Java makes of them."""
    folder = tmp_path_factory.mktemp("java")
    runtime = find_runtime()
    assert isinstance(runtime, JavaRuntime)
    (folder / "pom.xml").write_text(_POM)
    jars = folder / "jars"
    maven = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
    subprocess.run(maven, cwd=folder, check=True, capture_output=True)
    program = Path(__file__).with_name("Recode.java")

    def run(writer: Any, reader: Any, payloads: list[bytes]) -> list[bytes]:
        files = [folder / name for name in ("writer.avsc", "reader.avsc", "values")]
        files[0].write_text(json.dumps(writer))
        files[1].write_text(json.dumps(reader))
        files[2].write_text("".join(payload.hex() + "\n" for payload in payloads))
        command = [runtime.java, "-cp", f"{jars}/*", str(program), *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return [bytes.fromhex(line) for line in done.stdout.splitlines()]

    return run


def split(encoded: Any) -> list[bytes]:
    return [encoded.data[a:b].tobytes() for a, b in pairwise(encoded.offsets.tolist())]


@pytest.mark.slow
def test_bytes_are_those_of_java(recode: Any) -> None:
    schema = AvroDecoder(WRITER).reader.schema
    frame = pl.DataFrame(rows(), schema=schema)
    payloads = split(AvroEncoder(WRITER).encode(frame))
    assert recode(WRITER, WRITER, payloads) == payloads
    assert AvroDecoder(WRITER).decode(raw_records(payloads)).frame.equals(frame)


@pytest.mark.slow
def test_schemas_are_resolved_as_java_resolves_them(recode: Any) -> None:
    frame = pl.DataFrame(rows(), schema=AvroDecoder(WRITER).reader.schema)
    payloads = split(AvroEncoder(WRITER).encode(frame))
    resolved = AvroDecoder(WRITER, READER).decode(raw_records(payloads))
    assert not resolved.errors
    theirs = recode(WRITER, READER, payloads)
    assert split(AvroEncoder(READER).encode(resolved.frame)) == theirs
    assert AvroDecoder(READER).decode(raw_records(theirs)).frame.equals(resolved.frame)

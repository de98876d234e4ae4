"""JSON Schema and Protobuf by a real registry."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import polars as pl
import pytest

from tests.unit.formats.conftest import raw_records
from thalweg.errors import ConfigurationError
from thalweg.kafka.schema_registry import (
    JsonSchemaFormat,
    ProtobufFormat,
    Reference,
    SchemaRegistryClient,
    SchemaRegistryError,
)
from thalweg.kafka.schema_registry.framing import header_of
from thalweg.kafka.schema_registry.protobuf_types import compile_messages, message_at, read_index, write_index
from thalweg.records import EncodedRecords

READING = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "Reading",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "value": {"type": ["number", "null"], "maximum": 100},
        "at": {"type": "string", "format": "date-time"},
        "place": {"$ref": "#/definitions/place"},
        "tags": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["id"],
    "definitions": {"place": {"type": "object", "properties": {"lat": {"type": "number"}}}},
}
ORDER = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "money.proto";
message Order {
  enum State { OPEN = 0; PAID = 1; }
  message Line { string article = 1; int32 pieces = 2; }
  int64 id = 1;
  map<string, int32> weights = 2;
  repeated Line lines = 3;
  State state = 4;
  google.protobuf.Timestamp at = 5;
  optional string note = 6;
  Money price = 7;
  bytes raw = 8;
  oneof how { string card = 9; bool cash = 10; }
  message After { int32 x = 1; }
}
message Other { string name = 1; }
"""
MONEY = 'syntax = "proto3"; package shop; message Money { double amount = 1; }'


@pytest.fixture(scope="module")
def registry(registry_url: str) -> SchemaRegistryClient:
    return SchemaRegistryClient(registry_url, retries=1)


@pytest.fixture
def topic() -> str:
    return f"topic-{uuid.uuid4().hex[:8]}"


def split(encoded: EncodedRecords) -> list[bytes]:
    return [encoded.data[a:b].tobytes() for a, b in pairwise(encoded.offsets.tolist())]


def test_json_is_read_into_the_schemas_columns(registry: SchemaRegistryClient, topic: str) -> None:
    number = registry.register(f"{topic}-value", READING, type="JSON")
    format = JsonSchemaFormat(registry)
    columns = {
        "id": pl.String, "value": pl.Float64, "at": pl.Datetime("us", "UTC"),
        "place": pl.Struct({"lat": pl.Float64}), "tags": pl.List(pl.Int64),
    }  # fmt: skip
    assert format.stream_schema(topic) == pl.Schema(columns)
    good = {"id": "a", "value": 1, "at": "2024-01-01T00:00:00Z", "place": {"lat": 1.5}, "tags": [1]}
    payloads = [
        header_of(number) + json.dumps(good).encode(),
        header_of(number) + b"{",
        b"{}",
        header_of(99999) + b"{}",
    ]
    decoded = format.for_topic(topic).decoder().decode(raw_records(payloads))
    expected = good | {"at": datetime(2024, 1, 1, tzinfo=UTC), "value": 1.0}
    assert decoded.frame.to_dicts() == [expected]
    assert [(e.row, e.error_class) for e in decoded.errors] == [
        (1, "MalformedJson"), (2, "NotFramed"), (3, "UnknownSchema"),
    ]  # fmt: skip


def test_json_is_validated_on_request(registry: SchemaRegistryClient, topic: str) -> None:
    number = registry.register(f"{topic}-value", READING, type="JSON")
    format = JsonSchemaFormat(registry, schema=READING, validate=True).for_topic(topic)
    values = [{"id": "a", "value": 1}, {"id": "a", "value": 101}, {"value": 1}, {"id": "b"}]
    payloads = [header_of(number) + json.dumps(value).encode() for value in values]
    payloads.insert(1, header_of(number) + b"{")
    decoded = format.decoder().decode(raw_records(payloads))
    assert [(e.row, e.error_class) for e in decoded.errors] == [
        (1, "MalformedJson"), (2, "InvalidValue"), (3, "InvalidValue"),
    ]  # fmt: skip
    assert "101 is greater than the maximum" in decoded.errors[1].message
    assert decoded.frame["id"].to_list() == ["a", "b"]
    with pytest.raises(SchemaRegistryError, match="row 1 is not what"):
        format.encoder().encode(pl.DataFrame({"id": ["a", "b"], "value": [1.0, 200.0]}))


def test_json_is_written_with_a_schema_of_the_columns(registry: SchemaRegistryClient, topic: str) -> None:
    frame = pl.DataFrame({"a": [1, None], "b": [[{"c": "x" * 40}], []], "d": [True, False]})
    format = JsonSchemaFormat(registry, validate=True).for_topic(topic)
    payloads = split(format.encoder().encode(frame))
    assert json.loads(payloads[0][5:]) == {"a": 1, "b": [{"c": "x" * 40}], "d": True}
    assert format.decoder().decode(raw_records(payloads)).frame.equals(frame)
    assert registry.latest(f"{topic}-value").schema.type == "JSON"


def order_format(registry: SchemaRegistryClient, topic: str, **settings: Any) -> ProtobufFormat:
    registry.register(f"{topic}-money", MONEY, type="PROTOBUF")
    reference = Reference("money.proto", f"{topic}-money", 1)
    return ProtobufFormat(registry, schema=ORDER, references=(reference,), **settings).for_topic(topic)


def test_protobuf_goes_out_and_comes_back(registry: SchemaRegistryClient, topic: str) -> None:
    rows = [
        {
            "id": 2**40, "weights": [{"key": "a", "value": 1}], "lines": [{"article": "x", "pieces": 2}],
            "state": "PAID", "at": datetime(2024, 1, 1, 0, 0, 0, 5, UTC), "note": "", "price": {"amount": 2.5},
            "raw": b"\xff", "card": None, "cash": True,
        },
        {
            "id": 0, "weights": [], "lines": [], "state": "OPEN", "at": None, "note": None, "price": None,
            "raw": b"", "card": "visa", "cash": None,
        },
    ]  # fmt: skip
    format = order_format(registry, topic)
    schema = format.stream_schema(topic)
    payloads = split(format.encoder().encode(pl.DataFrame(rows, schema=schema)))
    assert payloads[0][5] == 0  # the first message: one byte
    decoded = ProtobufFormat(registry).for_topic(topic).decoder().decode(
        raw_records([*payloads, payloads[0][:-3], b"\0\0", payloads[0][:5] + b"\x7f"])
    )  # fmt: skip
    assert decoded.frame.to_dicts() == rows
    assert [(e.row, e.error_class) for e in decoded.errors] == [
        (2, "BadProtobuf"), (3, "NotFramed"), (4, "BadProtobuf"),
    ]  # fmt: skip
    cut = ProtobufFormat(registry).for_topic(topic).decoder(None, ["id", "state"]).decode(raw_records(payloads))
    assert cut.frame.to_dicts() == [{"id": r["id"], "state": r["state"]} for r in rows]


def test_messages_are_found_by_their_path(registry: SchemaRegistryClient, topic: str) -> None:
    messages = compile_messages(ORDER, {"money.proto": MONEY})
    for name, path, data in [
        ("shop.Order", (0,), b"\0"),
        ("shop.Other", (1,), b"\x02\x02"),
        ("shop.Order.Line", (0, 0), b"\x04\x00\x00"),
        ("shop.Order.After", (0, 1), b"\x04\x00\x02"),  # the map's entry between them does not count
    ]:
        assert write_index(messages.by_name[name]) == data
        assert read_index(data, 0) == (path, len(data))
        assert message_at(messages, path).full_name == name
    others = order_format(registry, topic, message="Other").encoder().encode(pl.DataFrame({"name": ["x"]}))
    decoded = order_format(registry, topic).decoder().decode(raw_records(split(others)))
    assert [e.error_class for e in decoded.errors] == ["IncompatibleSchema"]
    again = order_format(registry, topic, message="Other").decoder().decode(raw_records(split(others)))
    assert again.frame.to_dicts() == [{"name": "x"}]


def test_protobuf_says_what_it_lacks(registry: SchemaRegistryClient, topic: str) -> None:
    with pytest.raises(ConfigurationError, match="give schema="):
        ProtobufFormat(registry).for_topic(topic).encoder().encode(pl.DataFrame({"x": [1]}))
    with pytest.raises(ConfigurationError, match="row 0 is no shop"):
        order_format(registry, topic, message="Other").encoder().encode(pl.DataFrame({"name": [1]}))
    with pytest.raises(SchemaRegistryError, match="does not compile"):
        compile_messages("message {", {})

"""Protobuf messages to columns: presence, enums, and values that no column can hold."""

from __future__ import annotations

from typing import Any

import polars as pl
from google.protobuf.message_factory import GetMessageClass

from thalweg.kafka.schema_registry.protobuf_columns import frame_of
from thalweg.kafka.schema_registry.protobuf_types import columns_of, compile_messages

SCHEMA = """
syntax = "proto2";
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
message Event {
  enum Kind { A = 0; B = 7; }
  required int64 id = 1;
  optional string note = 2;
  optional Kind kind = 3;
  optional google.protobuf.Timestamp at = 4;
  optional google.protobuf.Duration took = 5;
  repeated int32 parts = 6;
}
"""


def parsed(*payloads: bytes) -> tuple[list[Any], Any]:
    descriptor = compile_messages(SCHEMA, {}).by_name["Event"]
    return [GetMessageClass(descriptor).FromString(payload) for payload in payloads], descriptor


def test_values_that_no_column_can_hold_fail_their_message_only() -> None:
    good = b"\x08\x01\x12\x02ok\x18\x07\x30\x05\x30\x06"
    bare = b"\x08\x02"
    not_text = b"\x08\x03\x12\x01\xff"
    far = b"\x08\x04\x22\x0a\x08" + b"\xff" * 8 + b"\x7f"  # a time of 2**63 - 1 seconds
    long = b"\x08\x05\x2a\x0a\x08" + b"\xff" * 8 + b"\x7f"
    messages, descriptor = parsed(good, bare, not_text, far, long, bare)
    frame, failures = frame_of(messages, descriptor, columns_of(descriptor))
    assert {row: str(kind) for row, (kind, _) in failures.items()} == {
        2: "BadUtf8", 3: "NumberOutOfRange", 4: "NumberOutOfRange",
    }  # fmt: skip
    kept = frame[[0, 1, 5]]
    assert kept.select("id", "note", "kind", "parts").rows() == [
        (1, "ok", "B", [5, 6]),
        (2, None, None, []),
        (2, None, None, []),
    ]
    assert kept.schema["at"] == pl.Datetime("us", "UTC")


def test_only_wanted_fields_are_looked_at() -> None:
    messages, descriptor = parsed(b"\x08\x03\x12\x01\xff")
    frame, failures = frame_of(messages, descriptor, pl.Schema({"id": pl.Int64()}))
    assert (frame.rows(), failures) == ([(3,)], {})

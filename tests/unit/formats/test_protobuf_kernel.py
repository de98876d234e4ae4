"""The Protobuf kernel against Google's library: what it reads, the library reads, to the same values."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.formats.conftest import GuardedMemory, raw_records

from thalweg.kafka.schema_registry.protobuf_columns import frame_of
from thalweg.kafka.schema_registry.protobuf_program import compile_program
from thalweg.kafka.schema_registry.protobuf_reader import MessageReader
from thalweg.kafka.schema_registry.protobuf_slots import NeedsLibrary
from thalweg.kafka.schema_registry.protobuf_types import columns_of, compile_messages

SCHEMA = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
enum Kind { UNKNOWN = 0; SMALL = 1; A_KIND_WITH_A_LONG_NAME = 5; BELOW = -3; }
message Point { double lat = 1; float lon = 2; optional Kind kind = 3; repeated sint64 steps = 4; Inner inner = 5; }
message Inner { string text = 1; repeated string texts = 2; google.protobuf.BoolValue sure = 3; }
message Event {
  int32 a = 1; int64 b = 2; uint32 c = 3; uint64 d = 4; sint32 e = 5; sint64 f = 6; bool g = 7;
  fixed32 h = 8; fixed64 i = 9; sfixed32 j = 10; sfixed64 k = 11; float l = 12; double m = 13;
  string n = 14; bytes o = 15; Kind p = 16;
  optional int32 q = 17; optional string r = 18; optional bytes s = 19; optional bool t = 20;
  repeated int32 u = 21; repeated double v = 22; repeated string w = 23; repeated Kind x = 24;
  repeated bool y = 25; repeated fixed32 z = 26; repeated sint32 loose = 27 [packed = false];
  Point point = 30; repeated Point points = 31; repeated Inner inners = 32;
  oneof choice { int64 number = 40; string word = 41; Kind sort = 42; google.protobuf.Timestamp moment = 43; }
  oneof other { Inner nested = 44; bool flag = 45; }
  google.protobuf.Timestamp at = 50; google.protobuf.Duration took = 51;
  repeated google.protobuf.Timestamp times = 52;
  google.protobuf.Int64Value maybe = 53; google.protobuf.StringValue name = 54;
  map<string, int32> weights = 60;
  reserved 61;
}
"""
EVENT = compile_messages(SCHEMA, {}).by_name["shop.Event"]
EVERY = columns_of(EVENT)
WITHOUT_MAPS = pl.Schema({name: dtype for name, dtype in EVERY.items() if name != "weights"})
PREFIX = b"\x02\x02"
relaxed = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

INTEGERS = {
    "a": (-(2**31), 2**31 - 1), "b": (-(2**63), 2**63 - 1), "c": (0, 2**32 - 1), "d": (0, 2**64 - 1),
    "e": (-(2**31), 2**31 - 1), "f": (-(2**63), 2**63 - 1), "h": (0, 2**32 - 1), "i": (0, 2**64 - 1),
    "j": (-(2**31), 2**31 - 1), "k": (-(2**63), 2**63 - 1), "q": (-(2**31), 2**31 - 1),
}  # fmt: skip
KINDS = st.sampled_from([0, 1, 5, -3])
NUMBERS = st.floats(width=32)
TEXTS = st.text(max_size=20)
INNERS = st.fixed_dictionaries({}, optional={"text": TEXTS, "texts": st.lists(TEXTS, max_size=3)})
TIMES = st.tuples(
    st.integers(-62_135_596_800, 10**11) | st.sampled_from([-62_135_596_800, 0]), st.integers(0, 10**9 - 1)
)


def items(each: Any) -> Any:
    return st.lists(each, max_size=4)


POINTS = st.fixed_dictionaries(
    {},
    optional={
        "lat": NUMBERS,
        "lon": NUMBERS,
        "kind": KINDS,
        "steps": items(st.integers(-(2**63), 2**63 - 1)),
        "inner": INNERS,
    },
)
VALUES: dict[str, Any] = {
    **{name: st.integers(*bounds) | st.sampled_from([*bounds, 0, 1]) for name, bounds in INTEGERS.items()},
    "g": st.booleans(), "t": st.booleans(), "l": NUMBERS, "m": st.floats(), "n": TEXTS, "r": TEXTS, "p": KINDS,
    "o": st.binary(max_size=20), "s": st.binary(max_size=20), "u": items(st.integers(-(2**31), 2**31 - 1)),
    "v": items(st.floats()), "w": items(TEXTS), "x": items(KINDS), "y": items(st.booleans()),
    "z": items(st.integers(0, 2**32 - 1)), "loose": items(st.integers(-(2**31), 2**31 - 1)),
    "point": POINTS, "points": items(POINTS), "inners": items(INNERS), "number": st.integers(-5, 5), "word": TEXTS,
    "sort": KINDS, "flag": st.booleans(), "nested": INNERS, "at": TIMES, "took": TIMES, "times": items(TIMES),
    "moment": TIMES, "maybe": st.integers(-3, 3), "name": TEXTS,
}  # fmt: skip


def fill(message: Any, values: dict[str, Any]) -> Any:
    for name, value in values.items():
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is None:
            getattr(message, name).extend(value) if field.is_repeated else setattr(message, name, value)
        elif field.is_repeated:
            for each in value:
                put(getattr(message, name).add(), each)
        else:
            getattr(message, name).SetInParent()
            put(getattr(message, name), value)
    return message


def put(message: Any, value: Any) -> None:
    if isinstance(value, tuple):
        message.seconds, message.nanos = value
    elif isinstance(value, dict):
        fill(message, value)
    else:
        message.value = value


MESSAGES = st.fixed_dictionaries({}, optional=VALUES).map(lambda values: fill(GetMessageClass(EVENT)(), values))
READER = MessageReader(compile_program(EVENT, WITHOUT_MAPS))


def by_library(payload: bytes, schema: pl.Schema = WITHOUT_MAPS) -> pl.DataFrame | None:
    """The row that the library makes of a message; None: it refuses it."""
    try:
        message = GetMessageClass(EVENT).FromString(payload)
    except DecodeError:
        return None
    frame, failures = frame_of([message], EVENT, schema)
    return None if failures else frame


def by_kernel(*payloads: bytes, reader: MessageReader = READER) -> tuple[pl.DataFrame, list[bool]]:
    frame, refused = reader.read(raw_records([PREFIX + payload for payload in payloads]), PREFIX)
    return frame, refused.tolist()


def same(left: pl.DataFrame, right: pl.DataFrame) -> bool:
    assert left.schema == right.schema
    return repr(left.to_dicts()) == repr(right.to_dicts())  # NaN is NaN, -0.0 is not 0.0


@given(st.lists(MESSAGES, min_size=1, max_size=5))
@relaxed
def test_messages_are_read_as_the_library_reads_them(messages: list[Any]) -> None:
    payloads = [message.SerializeToString() for message in messages]
    frame, refused = by_kernel(*payloads)
    assert not any(refused)
    assert same(frame, pl.concat([by_library(payload) for payload in payloads]))


@given(MESSAGES, MESSAGES, st.data())
@relaxed
def test_parts_of_a_message_are_put_together(first: Any, second: Any, data: st.DataObject) -> None:
    """Two messages one behind the other are one: later values count, lists go on, messages within are merged."""
    payload = first.SerializeToString() + second.SerializeToString()
    expected = by_library(payload)
    frame, (refused,) = by_kernel(payload)
    twice = {"at", "took", "moment", "nested"}
    known = {f.name for f, _ in first.ListFields()} & twice
    if not known:
        assert not refused
    if not refused:
        assert expected is not None
        assert same(frame, expected)


@given(MESSAGES, MESSAGES, st.data())
@relaxed
def test_damaged_messages_are_left_to_the_library(
    guarded: GuardedMemory, good: Any, damaged: Any, data: st.DataObject
) -> None:
    payload = bytearray(damaged.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        if payload and data.draw(st.booleans()):
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
        else:
            del payload[data.draw(st.integers(0, len(payload))) :]
    check_alone(guarded, bytes(payload))
    whole = good.SerializeToString()
    together, refused = by_kernel(whole, bytes(payload), whole)
    assert refused == [False, refused[1], False]
    kept = together if refused[1] else together[[0, 2]]
    assert same(kept, by_kernel(whole, whole)[0])


@given(st.binary(max_size=60))
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_bytes_never_read_past_their_end(guarded: GuardedMemory, payload: bytes) -> None:
    check_alone(guarded, payload)


def check_alone(guarded: GuardedMemory, payload: bytes) -> None:
    """At the end of readable memory; what the kernel takes, the library takes, to the same row."""
    frame, refused = READER.read(guarded.records(PREFIX + payload), PREFIX)
    if not refused[0]:
        expected = by_library(payload)
        assert expected is not None
        assert same(frame, expected)


@given(MESSAGES, st.sets(st.sampled_from(list(WITHOUT_MAPS))))
@relaxed
def test_any_columns_alone_are_the_same_columns(message: Any, wanted: set[str]) -> None:
    schema = pl.Schema({name: dtype for name, dtype in WITHOUT_MAPS.items() if name in wanted})
    payload = message.SerializeToString()
    frame, refused = by_kernel(payload, reader=MessageReader(compile_program(EVENT, schema)))
    assert (refused, frame.height) == ([False], 1)
    if wanted:
        assert same(frame, by_kernel(payload)[0].select(schema.names()))


def test_buffers_grow() -> None:
    many = fill(GetMessageClass(EVENT)(), {"u": range(5000), "inners": [{"texts": ["x" * 50] * 30}] * 40})
    few = fill(GetMessageClass(EVENT)(), {"n": "y" * 100}).SerializeToString()
    payloads = [few, many.SerializeToString(), few, many.SerializeToString()]
    frame, refused = by_kernel(*payloads)
    assert not any(refused)
    assert same(frame, pl.concat([by_library(payload) for payload in payloads]))


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"\x80\x01\x07", "an enum number that is not known"),
        (b"\x53\x54", "a group that is not known"),
        (b"\x0d\x01\x00\x00\x00", "a field of another wire type"),
        (b"\x72\x01\xff", "text that is not UTF-8"),
        (b"\x00\x01", "field number 0"),
        (b"\xf2\x01\x05\x08", "a message longer than what is there"),
    ],
)
def test_what_is_not_plain_is_left_to_the_library(payload: bytes, why: str) -> None:
    assert by_kernel(payload)[1] == [True], why


def test_other_messages_are_left_to_the_library() -> None:
    raw = raw_records([b"\x02\x04\x08\x01", b"\x02", b"", None, PREFIX + b"\x08\x01"])
    frame, refused = READER.read(raw, PREFIX)
    assert refused.tolist() == [True, True, True, True, False]
    assert frame["a"].to_list() == [1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('syntax = "proto2"; message M { optional group G = 1 { optional int32 x = 1; } }', "is a group"),
        ('syntax = "proto2"; message M { optional int32 x = 1; extensions 5 to 9; }', "may be extended"),
        ('syntax = "proto3"; message M { int32 x = 30000; }', "has the number 30000"),
        ('syntax = "proto3"; enum E { A = 0; B = 100000; } message M { E x = 1; }', "numbers far apart"),
        ('syntax = "proto3"; message M { map<int32, int32> x = 1; }', "is a map"),
        ('syntax = "proto3"; message N {} message M { N x = 1; }', "has no fields"),
    ],
)
def test_schemas_that_the_kernel_does_not_take_say_why(text: str, reason: str) -> None:
    descriptor = compile_messages(text, {}).by_name["M"]
    with pytest.raises(NeedsLibrary, match=reason):
        compile_program(descriptor, columns_of(descriptor))


def test_required_fields_and_defaults_of_proto2() -> None:
    text = 'syntax = "proto2"; message M { required int32 x = 1; optional string s = 2; optional N n = 3; } '
    text += "message N { required int32 y = 1; }"
    descriptor = compile_messages(text, {}).by_name["M"]
    reader = MessageReader(compile_program(descriptor, columns_of(descriptor)))
    frame, refused = by_kernel(
        b"\x08\x01", b"\x12\x01a", b"\x08\x02\x1a\x00", b"\x08\x03\x1a\x02\x08\x04", reader=reader
    )
    assert refused == [False, True, True, False]
    assert frame.rows() == [(1, None, None), (3, None, {"y": 4})]

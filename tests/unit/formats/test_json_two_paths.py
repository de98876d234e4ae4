"""The kernel and the general parser must read the same values and name the same errors, whatever the bytes."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.formats.json.decoder import JsonDecoder
from thalweg.records import Decoded, RawRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    MakeRecords = Callable[[Sequence[bytes | None]], RawRecords]
    GuardedMemory = Any

SCHEMA = {
    "id": pl.String,
    "n": pl.Int64,
    "small": pl.Int8,
    "big": pl.UInt64,
    "x": pl.Float64,
    "y": pl.Float32,
    "ok": pl.Boolean,
    "at": pl.Datetime("ms", "UTC"),
    "fine": pl.Datetime("ns"),
    "day": pl.Date,
    "tags": pl.List(pl.String),
    "where": pl.Struct({"lat": pl.Float64, "name": pl.String}),
    "deep": pl.Struct(
        {"n": pl.Int64, "in": pl.Struct({"n": pl.Int8, "at": pl.Datetime("ms"), "l": pl.List(pl.Int64)})}
    ),
    "whole": pl.Struct({"y": pl.Float32, "n": pl.Int64}),
    "level": pl.Enum(["low", "high"]),
    "none": pl.Null,
}
TYPICAL: dict[str, Any] = {
    "id": "sensor-12", "n": 1700000000000, "small": -7, "big": 2**63 - 1, "x": 23.4567, "y": 0.5, "ok": True,
    "at": "2024-02-29T12:34:56.789Z", "fine": "1999-12-31 23:59:59.123456789+01:00", "day": "2024-02-29",
    "tags": ["a", "ü"], "where": {"lat": 47.1, "name": "Wien"}, "level": "low", "none": None,
    "deep": {"n": 1, "in": {"n": 2, "at": "2024-02-29T12:34:56.789Z", "l": [1]}}, "whole": {"y": 0.5, "n": 3},
    "extra": [1, {"a": "b"}],
}  # fmt: skip


def exact(frame: pl.DataFrame) -> dict[str, str]:
    """The frame's values to the last bit: -0.0 is not 0.0, and nanoseconds count."""
    return {
        column.name: repr((column.to_physical() if column.dtype.is_temporal() else column).to_list())
        for column in frame.iter_columns()
    }


def same(left: Decoded, right: Decoded) -> None:
    assert left.frame.schema == right.frame.schema
    assert [(e.row, e.error_class) for e in left.errors] == [(e.row, e.error_class) for e in right.errors]
    assert (left.rows is None) == (right.rows is None)
    assert left.rows is None or left.rows.tolist() == right.rows.tolist()
    assert exact(left.frame) == exact(right.frame)


def both(raw: RawRecords, schema: Any = SCHEMA, **options: Any) -> Decoded:
    fast = JsonDecoder(schema, **options)
    result = fast.decode(raw)
    same(result, JsonDecoder(schema, speculate=False, **options).decode(raw))
    same(result, fast.decode(raw))  # again, now that the shapes are learned
    return result


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-300, 300), st.floats(allow_nan=False, allow_infinity=False),
    st.text(), st.sampled_from(["low", "high", "2024-01-01", "2024-01-01T00:00:00Z", "2024-02-30", "1600-01-01"]),
)  # fmt: skip
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
objects = st.dictionaries(st.sampled_from([*TYPICAL, "other", "ünder", 'q"t']), values, max_size=10)
inner_values = st.one_of(scalars, st.lists(scalars, max_size=2), st.fixed_dictionaries({}, optional={"n": scalars}))
structs = st.dictionaries(st.sampled_from(["n", "in", "at", "l", "lat", "name", "y", "q"]), inner_values, max_size=4)
styles = st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", "\t: ")])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """An object as some producer may write it: typical with some fields replaced, or anything."""
    fields = {**TYPICAL, **draw(objects)} if draw(st.booleans()) else draw(objects)
    for name in draw(st.sets(st.sampled_from(["where", "deep", "whole"]))):
        fields[name] = draw(structs)
    text = json.dumps(fields, separators=draw(styles), ensure_ascii=draw(st.booleans()))
    return text.encode("utf-8", "surrogatepass")


PIECES = [
    b'"', b"\\", b"{", b"}", b",", b":", b"[", b"]", b"0", b"-", b"e9", b".", b" ", b"null",
    b"\xff", b"\xc3", b"\xed\xa0\x80", b"\\ud83d", b"\\u00e9", b"\0",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A document with some bytes changed, put in, or lost."""
    payload = bytearray(draw(documents()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(payload)))
        piece = draw(st.sampled_from(PIECES))
        cut = draw(st.integers(0, 3))
        payload[at : at + cut] = piece if draw(st.booleans()) else b""
    return bytes(payload)


@settings(max_examples=300, deadline=None)
@given(payloads=st.lists(st.one_of(documents(), damaged(), st.binary(max_size=40), st.none()), max_size=8))
def test_any_records_read_alike(records: MakeRecords, payloads: list[bytes | None]) -> None:
    both(records(payloads))


@settings(max_examples=200, deadline=None)
@given(
    payloads=st.lists(st.one_of(documents(), damaged()), max_size=6),
    columns=st.none() | st.sets(st.sampled_from(["id", "n", "x", "where", "other"])),
)
def test_any_records_read_alike_without_a_schema(
    records: MakeRecords, payloads: list[bytes], columns: set[str] | None
) -> None:
    raw = records(payloads)
    same(JsonDecoder(columns=columns).decode(raw), JsonDecoder(columns=columns, speculate=False).decode(raw))


@settings(max_examples=150, deadline=None)
@given(
    payloads=st.lists(st.one_of(documents(), damaged()), max_size=6),
    columns=st.sets(st.sampled_from(list(SCHEMA))),
    required=st.sets(st.sampled_from(list(SCHEMA)), max_size=2),
)
def test_projection_and_required_fields_read_alike(
    records: MakeRecords, payloads: list[bytes], columns: set[str], required: set[str]
) -> None:
    both(records(payloads), columns=columns, required=required)


@settings(max_examples=150, deadline=None)
@given(payload=st.one_of(documents(), damaged(), st.binary(max_size=60)))
def test_nothing_is_read_beyond_the_record(guarded: GuardedMemory, payload: bytes) -> None:
    both(guarded.records(payload))


LINE = json.dumps(TYPICAL).encode()


def test_what_follows_a_stretch_that_is_not_learned_does_not_start_a_record(records: MakeRecords) -> None:
    long = b"k" * 70
    payloads = [b'{"n":1,"' + long + b'":2,"x":3}'] * 3 + [
        b',"x":3}',
        b'{"n":1{"x":3}',
        b'{"where":{,"lat":1}}',
        b'{"x":3}',
    ]
    decoded = both(records(payloads))
    assert [error.row for error in decoded.errors] == [3, 4, 5]


def test_equal_keys_in_different_objects_are_told_apart(records: MakeRecords) -> None:
    rows = [
        {"deep": {"n": 1, "in": {"n": 2}}, "n": 3},
        {"deep": {"in": {"n": 4}, "n": 5}, "n": 6},
        {"n": 7, "deep": {"n": None}},
        {"n": 8, "deep": None},
        {"n": 9, "deep": {}},
        {"deep": {"in": {}}},
    ]
    nothing = {"n": None, "at": None, "l": None}
    decoded = both(records([json.dumps(row).encode() for row in rows * 3]))
    assert decoded.frame.select("n", "deep").to_dicts() == 3 * [
        {"n": 3, "deep": {"n": 1, "in": nothing | {"n": 2}}},
        {"n": 6, "deep": {"n": 5, "in": nothing | {"n": 4}}},
        {"n": 7, "deep": {"n": None, "in": None}},
        {"n": 8, "deep": None},
        {"n": 9, "deep": {"n": None, "in": None}},
        {"n": None, "deep": {"n": None, "in": nothing}},
    ]


def test_a_record_cut_anywhere_is_refused_and_nothing_behind_it_is_read(guarded: GuardedMemory) -> None:
    trained = JsonDecoder(SCHEMA)
    assert not trained.decode(guarded.records(LINE)).errors
    for length in range(1, len(LINE)):
        for decoder in (trained, JsonDecoder(SCHEMA)):
            decoded = decoder.decode(guarded.records(LINE[:length]))
            assert [e.error_class for e in decoded.errors] == ["MalformedJson"], LINE[:length]
    assert trained.decode(guarded.records(LINE)).frame.row(0)[:5] == (
        "sensor-12",
        1700000000000,
        -7,
        2**63 - 1,
        23.4567,
    )


@pytest.mark.parametrize("schema", [SCHEMA, {"id": pl.String}], ids=["all columns", "one column"])
def test_every_byte_at_every_place(records: MakeRecords, schema: Any) -> None:
    short = (
        b'{"id":"\xc3\xbc\\n","n":-12,"x":1.5e-3,"ok":true,"at":"2024-02-29T12:34:56.789Z","none":null,'
        b'"tags":[1,{"a":""}],"e":"x"}'
    )
    payloads = [short] * 3
    for at in range(len(short)):
        payloads += [short[:at] + bytes([byte]) + short[at + 1 :] for byte in range(256) if byte % 3 == at % 3]
    decoded = both(records(payloads), schema)
    assert 0 < len(decoded.errors) < len(payloads)


NUMBERS = [
    "0", "-0", "-0.0", "0.0", "1e0", "1E5", "1e+5", "1e-5", "-1.5", "0e400", "0.1e-99999", "1e-400", "1e400", "-1e400",
    "1e308", "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "5e-324", "2e-324",
    "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308", "2.2250738585072014e-308",
    "9007199254740991", "9007199254740992", "9007199254740993", "9007199254740993.0", "9007199254740994.5",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "1" * 25, "1" * 400, "1" * 5000, "0." + "1" * 30,
    "0." + "0" * 40 + "1",
    "0.00012345678901234567", "123456789012345678901234567890e-20", "8.5e22", "1e22", "1e23", "25.0", "25.5", "1e2",
    "00", "01", "-01", "1.", ".5", "-", "+1", "1e", "1e+", "1.e5", "0x10", "1_000", "NaN", "Infinity", "-Infinity",
    "1e99999999999999999999", "12345678", "123456789", "1234567890123456", "12345678901234567", "127", "128", "-128",
    "-129", "4294967296.5", "3.4028235e38", "3.5e38", "253402300799999", "253402300800000", "-62135596800001", "true",
]  # fmt: skip


@pytest.mark.parametrize("field", ["n", "small", "big", "x", "y", "at", "fine", "ok", "id", "extra", "tags", "none"])
def test_numbers_mean_the_same_on_both_paths(records: MakeRecords, field: str) -> None:
    decoded = both(records([f'{{"{field}": {number}}}'.encode() for number in NUMBERS]))
    assert len(decoded.errors) + len(decoded.frame) == len(NUMBERS)


def test_floats_are_the_nearest_doubles(records: MakeRecords) -> None:
    rng = np.random.default_rng(1)
    doubles = rng.integers(0, 2**64, 20_000, np.uint64).view(np.float64)
    texts = [repr(float(x)) for x in doubles[np.isfinite(doubles)]]
    texts += [f"{m}e{e}" for m, e in zip(rng.integers(1, 2**63, 20_000), rng.integers(-345, 292, 20_000), strict=True)]
    texts += [f"{rng.random():.{digits}f}" for digits in range(1, 25) for _ in range(100)]
    # Halfway between two doubles: the even one is nearest.
    texts += [str(int(x) * 2 + 1) for x in rng.integers(2**52, 2**53, 1000)]
    texts = [text for text in texts if abs(float(text)) != float("inf")]
    decoded = JsonDecoder({"x": pl.Float64}).decode(records([f'{{"x":{text}}}'.encode() for text in texts]))
    assert not decoded.errors
    expected = np.array([float(text) for text in texts])
    assert decoded.frame["x"].to_numpy().view(np.int64).tolist() == expected.view(np.int64).tolist()


def test_the_kernel_reads_the_fields_of_objects(records: MakeRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = JsonDecoder({"where": SCHEMA["where"], "deep": pl.Struct({"a": pl.Struct({"n": pl.Int8})})})
    for parse in ("record", "values"):
        monkeypatch.setattr(decoder._parser, parse, lambda payload: pytest.fail(f"fell back on {payload!r}"))
    rows = [{"where": {"lat": 0.5, "name": "x"}, "deep": {"a": {"n": 1}}}, {"where": None, "deep": {"a": {}}}, {}]
    decoded = decoder.decode(records([json.dumps(row).encode() for row in rows]))
    assert decoded.frame["where"].to_list() == [{"lat": 0.5, "name": "x"}, None, None]
    assert decoded.frame["deep"].to_list() == [{"a": {"n": 1}}, {"a": {"n": None}}, None]


def test_the_kernel_and_not_the_general_parser_reads_ordinary_floats(
    records: MakeRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = JsonDecoder({"x": pl.Float64, "s": pl.String})
    monkeypatch.setattr(decoder._parser, "record", lambda payload: pytest.fail(f"fell back on {payload!r}"))
    texts = ["0.1", "-17.25", "23.456789012345678", "1.7976931348623157e308", "5e-324", "123456789.123456789"]
    payloads = [f'{{"x":{text},"s":"a\\n\\ud83d\\ude00 {text}"}}'.encode() for text in texts]
    decoded = decoder.decode(records(payloads))
    assert decoded.frame["x"].to_list() == [float(text) for text in texts]
    assert decoded.frame["s"].to_list() == [f"a\n\U0001f600 {text}" for text in texts]


STRINGS = [
    b'"\xff"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\xc3"', b'"\xf0\x9f\x98\x80"',
    b'"\\ud800"', b'"\\udc00"', b'"\\ud83d\\ude00"', b'"\\ud83d\\u0041"', b'"\\ud83dx"', b'"\\u12"', b'"\\x"',
    b'"\\', b'"\\u',
    b'"\x00"', b'"\x1f"', b'"\x7f"', b'"\\u0000"', b'"\\/\\b\\f\\n\\r\\t\\"\\\\"', b'"', b'""', b"'a'", b'"a\nb"',
    b'"\\uD83D\\uDE00"',
]  # fmt: skip


@pytest.mark.parametrize("field", ["id", "level", "extra", "tags", "day", "at"])
def test_strings_mean_the_same_on_both_paths(records: MakeRecords, field: str) -> None:
    key = field.encode()
    both(records([b'{"' + key + b'":' + text + b"}" for text in STRINGS]))
    both(records([b'{"' + key + b'":"0123456789abcdef' + text[1:] + b', "n": 1}' for text in STRINGS]))


@pytest.mark.parametrize("end", ["", "é", '\\"'])
def test_strings_of_all_lengths_at_the_end_of_memory(guarded: GuardedMemory, end: str) -> None:
    decoder = JsonDecoder({"id": pl.String})
    for length in range(70):
        text = "abcdefghij"[: length % 10] + "x" * (length - length % 10)
        decoded = decoder.decode(guarded.records(f'{{"id":"{text}{end}"}}'.encode()))
        assert decoded.frame["id"].to_list() == [json.loads(f'"{text}{end}"')]


TIMES = [
    "2024-02-29T12:34:56.789Z", "2024-02-29 12:34:56", "2024-02-29T12:34", "2024-02-29", "2023-02-29T00:00:00Z",
    "1900-02-29", "2000-02-29", "0001-01-01T00:00:00Z", "0000-12-31", "9999-12-31T23:59:59.999999Z",
    "1969-12-31T23:59:59.9999Z",
    "2024-01-01T00:00:00+01:00", "2024-01-01T00:00:00-0130", "2024-01-01T00:00:00+05", "2024-01-01T00:00:00+24:00",
    "2024-01-01T24:00:00", "2024-01-01T23:60:00", "2024-01-01T23:59:60", "2024-01-01T1:00:00", "2024-01-01T00:00:00.",
    "2024-01-01T00:00:00.1234567891", "2024-01-01T00:00:00 Z", "2024-01-01T00:00:00z", "2024-13-01", "2024-00-01",
    "2024-01-00", "2024-01-32", "20240101", "2024-01-01T", "2024-01-01T00:00:00+1", "", "now", "1677-01-01",
    "2262-12-31",
    "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "2024-1-1", "２０２４-01-01",
]  # fmt: skip


@pytest.mark.parametrize("field", ["at", "fine", "day"])
def test_times_mean_the_same_on_both_paths(records: MakeRecords, field: str) -> None:
    both(records([json.dumps({field: text}, ensure_ascii=False).encode() for text in TIMES]))


def test_random_bytes_of_a_double_survive_in_float32_columns(records: MakeRecords) -> None:
    singles = [struct.unpack("<f", bytes(b))[0] for b in np.random.default_rng(3).integers(0, 256, (2000, 4), np.uint8)]
    singles = [x for x in singles if x == x and abs(x) != float("inf")]
    decoded = both(records([f'{{"y":{x!r}}}'.encode() for x in singles]))
    assert decoded.frame["y"].to_list() == singles

"""The JSON encoder: what it writes is JSON that reads back equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing.parametric import dataframes

from thalweg.errors import ConfigurationError
from thalweg.formats import open_format
from thalweg.formats.json.decoder import JsonDecoder
from thalweg.formats.json.encoder import JsonEncoder
from thalweg.records import RawRecords

MakeRecords = Callable[[Sequence[bytes | None]], RawRecords]


def texts(frame: pl.DataFrame) -> list[str]:
    encoded = JsonEncoder().encode(frame)
    data = encoded.data.tobytes()
    assert len(encoded) == frame.height
    assert encoded.offsets[0] == 0
    assert encoded.offsets[-1] == len(data)
    return [data[a:b].decode() for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


def written(values: list[Any], dtype: Any = None) -> list[str]:
    return [line[len('{"v":') : -1] for line in texts(pl.DataFrame({"v": pl.Series(values, dtype=dtype, strict=True)}))]


def test_one_compact_object_per_row() -> None:
    frame = pl.DataFrame({"id": ["a", None], 'k"ey': [1, -2], "ok": [True, False]})
    assert texts(frame) == ['{"id":"a","k\\"ey":1,"ok":true}', '{"id":null,"k\\"ey":-2,"ok":false}']


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 7, -(2**63), 2**63 - 1, None], pl.Int64, ["0", "7", str(-(2**63)), str(2**63 - 1), "null"]),
        ([2**64 - 1], pl.UInt64, [str(2**64 - 1)]),
        ([2**100, None], pl.Int128, [str(2**100), "null"]),
        ([-128], pl.Int8, ["-128"]),
        ([1.0, -0.0, 1e16, 1e-5, 0.1, 1e15, 123456.789, None], pl.Float64,
         ["1.0", "-0.0", "1e+16", "1e-05", "0.1", "1000000000000000.0", "123456.789", "null"]),
        ([float("nan"), float("inf"), float("-inf")], pl.Float64, ["null"] * 3),
        ([0.1, float("nan"), 16777216.0], pl.Float32, ["0.1", "null", "16777216.0"]),
        (["", "é", '"\\/\b\f\n\r\t\x01\x1f\x7f', "x" * 20 + '"', None], pl.String,
         ['""', '"é"', r'"\"\\/\b\f\n\r\t\u0001\u001f' + '\x7f"', '"' + "x" * 20 + r'\""', "null"]),
        ([datetime(2024, 2, 29, 12), datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999_000)], pl.Datetime("ms"),
         ['"2024-02-29T12:00:00.000Z"', '"0001-01-01T00:00:00.000Z"', '"1969-12-31T23:59:59.999Z"']),
        ([datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, 0, 0, 0, 1, UTC)], pl.Datetime("us", "UTC"),
         ['"2024-01-01T00:00:00.000Z"', '"2024-01-01T00:00:00.000001Z"']),
        ([date(2024, 2, 29), date(9999, 12, 31), None], pl.Date, ['"2024-02-29"', '"9999-12-31"', "null"]),
        ([time(12, 30)], pl.Time, ['"12:30:00"']),
        ([timedelta(seconds=1.5)], pl.Duration("us"), ["1500"]),
        ([Decimal("12.30"), None], pl.Decimal(10, 2), ["12.30", "null"]),
        ([b"\0\xff"], pl.Binary, ['"AP8="']),
        (["b", None], pl.Enum(["a", "b"]), ['"b"', "null"]),
        (["b"], pl.Categorical, ['"b"']),
        ([None, None], pl.Null, ["null", "null"]),
        ([[1, None], [], None], pl.List(pl.Int64), ["[1,null]", "[]", "null"]),
        ([{"a": float("nan"), "t": datetime(2024, 1, 1), "d": Decimal("1.50"), "b": b"\xff"}],
         pl.Struct({"a": pl.Float64, "t": pl.Datetime("ms"), "d": pl.Decimal(9, 2), "b": pl.Binary}),
         ['{"a":null,"t":"2024-01-01T00:00:00.000Z","d":1.50,"b":"/w=="}']),
    ],
)  # fmt: skip
def test_values(values: list[Any], dtype: Any, expected: list[str]) -> None:
    assert written(values, dtype) == expected


def test_floats_are_written_as_python_writes_them() -> None:
    rng = np.random.default_rng(2)
    bits = rng.integers(0, 2**64, 30_000, np.uint64).view(np.float64)
    values = [
        *bits[np.isfinite(bits)].tolist(),
        *(rng.random(10_000) * 10.0 ** rng.integers(-20, 20, 10_000)).tolist(),
        *np.round(rng.random(10_000) * 1000, 3).tolist(),
        *(float(2.0**i) for i in range(-1074, 1024)),
        *(float(f"1e{i}") for i in range(-323, 309)),
        *(float(2**53 + i) for i in range(-20, 20)),
        5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 2.225073858507201e-308, 9.5, 1e22, 1e23,
    ]  # fmt: skip
    assert written(values) == [repr(value) for value in values]


def test_four_byte_floats_read_back_equal_and_are_as_short_as_numpy_makes_them() -> None:
    bits = np.random.default_rng(4).integers(0, 2**32, 20_000, np.uint32).view(np.float32)
    values = bits[np.isfinite(bits)]
    lines = [line[len('{"v":') : -1] for line in texts(pl.DataFrame({"v": values}))]
    for line, value in zip(lines, values, strict=True):
        assert np.float32(line) == value
        digits = line.lstrip("-").split("e")[0].replace(".", "").strip("0")
        shortest = np.format_float_scientific(value, unique=True).lstrip("-").split("e")[0].replace(".", "").strip("0")
        assert len(digits) == len(shortest)


def test_times_beyond_the_calendar_are_numbers() -> None:
    assert written([2**60], pl.Int64) == [str(2**60)]
    series = pl.Series("v", [2**60]).cast(pl.Datetime("ms"))
    assert texts(pl.DataFrame([series])) == [f'{{"v":{2**60}}}']


def test_a_frame_without_columns_gives_empty_objects() -> None:
    assert texts(pl.DataFrame(height=2)) == ["{}", "{}"]


def test_a_frame_without_rows_gives_nothing() -> None:
    assert texts(pl.DataFrame(schema={"a": pl.String, "b": pl.List(pl.Int8)})) == []


def test_slices_and_chunks_are_written_as_they_read() -> None:
    frame = pl.DataFrame(
        {
            "i": [1, None, 3, 4, None] * 20,
            "b": [True, None, False, True, True] * 20,
            "s": ["short", None, "a string too long for a view", "x", "y"] * 20,
            "x": [0.5, None, 1.5, 2.5, None] * 20,
        }
    )
    for cut in (frame[3:], frame[9:77], frame.gather_every(3), pl.concat([frame[5:9], frame[1:3]], rechunk=False)):
        assert [json.loads(line) for line in texts(cut)] == cut.to_dicts()


def test_one_very_long_string_grows_the_buffer() -> None:
    rows = ["a", '"' * 100_000, "b" * 300_000, "c"]
    assert [json.loads(line)["v"] for line in texts(pl.DataFrame({"v": rows}))] == rows


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.none() | st.text(), max_size=20))
def test_any_text_reads_back_equal(rows: list[str | None]) -> None:
    frame = pl.DataFrame({"v": pl.Series(rows, dtype=pl.String)})
    assert [json.loads(line)["v"] for line in texts(frame)] == rows


@settings(max_examples=100, deadline=None)
@given(
    frame=dataframes(
        max_cols=5,
        max_size=8,
        allowed_dtypes=[pl.Int8, pl.Int64, pl.UInt64, pl.Float64, pl.Float32, pl.String, pl.Boolean, pl.Date,
                        pl.Datetime("ms"), pl.List(pl.Int64), pl.Binary],
        allow_nan=False,
        allow_infinity=False,
    )
)  # fmt: skip
def test_what_is_written_decodes_to_the_same_frame(records: MakeRecords, frame: pl.DataFrame) -> None:
    decoded = JsonDecoder(frame.schema).decode(records([line.encode() for line in texts(frame)]))
    assert not decoded.errors
    assert decoded.frame.equals(frame)


def test_an_unwritable_type_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="'v'"):
        open_format("json").encoder().encode(pl.DataFrame({"v": pl.Series([object()], dtype=pl.Object)}))

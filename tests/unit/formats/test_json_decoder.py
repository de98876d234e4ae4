"""What the JSON decoder promises: types, errors, projection, inference, and what it keeps of its input."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import ConfigurationError
from thalweg.formats import open_format
from thalweg.formats.errors import MAX_COLUMNS, MAX_DEPTH
from thalweg.formats.json import decoder as decoder_module
from thalweg.formats.json.decoder import JsonDecoder
from thalweg.records import Decoded, RawRecords

MakeRecords = Callable[[Sequence[bytes | None]], RawRecords]
READING = {"id": pl.String, "ts": pl.Int64, "x": pl.Float64}


def lines(*objects: Any) -> list[bytes]:
    return [json.dumps(each).encode() for each in objects]


def error_of(decoded: Decoded) -> str:
    (error,) = decoded.errors
    assert decoded.frame.height == 0
    assert error.message
    return error.error_class


@pytest.mark.parametrize(
    ("payload", "error_class"),
    [
        (None, "NullPayload"),
        (b"", "EmptyPayload"),
        (b"  ", "MalformedJson"),
        (b'{"id":"a"', "MalformedJson"),
        (b'{"id":"a"} x', "MalformedJson"),
        (b'{"id":"a"}{"id":"b"}', "MalformedJson"),
        (b'\xef\xbb\xbf{"id":"a"}', "MalformedJson"),
        (b'{"id":NaN}', "MalformedJson"),
        (b'{"id":"\\ud800"}', "MalformedJson"),
        (b'{"id":"a\nb"}', "MalformedJson"),
        (b'{"id":"a",}', "MalformedJson"),
        (b'{"id":"\xff"}', "BadUtf8"),
        (b'{"unknown":"\xff"}', "BadUtf8"),
        (b'{"\xff":1}', "BadUtf8"),
        (b"[1]", "NotAnObject"),
        (b"null", "NotAnObject"),
        (b'"text"', "NotAnObject"),
        (b'{"id":1}', "WrongType"),
        (b'{"ts":"1"}', "WrongType"),
        (b'{"ts":1.5}', "WrongType"),
        (b'{"ts":true}', "WrongType"),
        (b'{"x":{"a":1}}', "WrongType"),
        (b'{"x":1e400}', "NumberOutOfRange"),
        (b'{"unknown":1e400}', "NumberOutOfRange"),
        (b'{"ts":9223372036854775808}', "NumberOutOfRange"),
        (b'{"unknown":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}", "TooDeep"),
        (b"[" * 1_000_000, "TooDeep"),
    ],
)
def test_an_unreadable_record_is_named_and_the_others_are_unharmed(
    records: MakeRecords, payload: bytes | None, error_class: str
) -> None:
    good = lines({"id": "a", "ts": 1, "x": 0.5})[0]
    decoded = JsonDecoder(READING).decode(records([good, payload, good]))
    assert [(e.row, e.error_class) for e in decoded.errors] == [(1, error_class)]
    assert decoded.rows is not None
    assert decoded.rows.tolist() == [0, 2]
    assert decoded.frame.rows() == [("a", 1, 0.5)] * 2


def test_a_wrong_type_names_field_and_value(records: MakeRecords) -> None:
    decoded = JsonDecoder({"where": pl.Struct({"lat": pl.Float64})}).decode(records(lines({"where": {"lat": "47"}})))
    assert decoded.errors[0].message == "field 'where.lat': expected a number, got string \"47\""


def test_deep_but_allowed_nesting_is_read(records: MakeRecords) -> None:
    inner = b"[" * (MAX_DEPTH - 1) + b'"]["' + b"]" * (MAX_DEPTH - 1)
    assert not JsonDecoder(READING).decode(records([b'{"id":"a","deep":' + inner + b"}"])).errors


def test_five_megabytes_are_read(records: MakeRecords) -> None:
    text = "ä" * 2_500_000
    decoded = JsonDecoder(READING).decode(records([json.dumps({"id": text}, ensure_ascii=False).encode()]))
    assert decoded.frame["id"].to_list() == [text]


def test_all_good_needs_no_row_numbers(records: MakeRecords) -> None:
    decoded = JsonDecoder(READING).decode(records(lines({"id": "a"}, {"id": "b"})))
    assert decoded.rows is None
    assert not decoded.errors


def test_no_records_give_an_empty_frame_of_the_schema(records: MakeRecords) -> None:
    assert JsonDecoder(READING).decode(records([])).frame.schema == pl.Schema(READING)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        (pl.Int64, 25.0, 25),
        (pl.Int8, -128, -128),
        (pl.UInt64, 2**64 - 1, 2**64 - 1),
        (pl.Int128, 2**100, 2**100),
        (pl.Float64, 3, 3.0),
        (pl.Float64, 2**70, float(2**70)),
        (pl.Float32, 0.1, np.float32(0.1).item()),
        (pl.Boolean, True, True),
        (pl.Categorical(), "a", "a"),
        (pl.Enum(["a", "b"]), "b", "b"),
        (pl.Date, "2024-02-29", date(2024, 2, 29)),
        (pl.Time, "12:30:00.25", time(12, 30, 0, 250_000)),
        (pl.Datetime("ms"), 1500, datetime(1970, 1, 1, 0, 0, 1, 500_000)),
        (pl.Datetime("us", "UTC"), "2024-01-01T01:00:00.123456+01:00", datetime(2024, 1, 1, 0, 0, 0, 123456, UTC)),
        (pl.Datetime("ms"), "2024-01-01T00:00:00.9999", datetime(2024, 1, 1, 0, 0, 0, 999_000)),
        (pl.Duration("us"), 1500, timedelta(seconds=1.5)),
        (pl.Decimal(10, 2), 12.34, Decimal("12.34")),
        (pl.Decimal(38, 9), "12345678901234567890123456789.0125", Decimal("12345678901234567890123456789.0125")),
        (pl.Binary, "AP8=", b"\0\xff"),
        (pl.List(pl.Int8), [1, None, 3.0], [1, None, 3]),
        (pl.Array(pl.Float64, 2), [1, 2.5], [1.0, 2.5]),
        (pl.Struct({"a": pl.Date, "b": pl.List(pl.Struct({"c": pl.Boolean}))}),
         {"a": "2024-02-29", "b": [{"c": True}, {}], "x": 1},
         {"a": date(2024, 2, 29), "b": [{"c": True}, {"c": None}]}),
    ],
)  # fmt: skip
def test_types(records: MakeRecords, dtype: Any, value: Any, expected: Any) -> None:
    for speculate in (True, False):
        decoder = JsonDecoder({"v": dtype}, speculate=speculate)
        decoded = decoder.decode(records(lines({"v": value}, {"v": None}, {"w": value})))
        assert not decoded.errors
        assert decoded.frame["v"].dtype == dtype
        got = decoded.frame["v"].to_list()
        assert got == [expected, None, None]


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (pl.Enum(["a"]), "z"),
        (pl.Array(pl.Int8, 2), [1]),
        (pl.Binary, "not base64!"),
        (pl.Time, "25:00"),
        (pl.Time, "12:00+01:00"),
        (pl.Decimal(10, 2), "abc"),
        (pl.Duration("ms"), 1.5),
        (pl.Datetime("ms"), 1.5),
        (pl.Date, 5),
        (pl.Date, "2024-02-29T00:00"),
        (pl.List(pl.Int64), [1, "2"]),
    ],
)
def test_wrong_types(records: MakeRecords, dtype: Any, value: Any) -> None:
    assert error_of(JsonDecoder({"v": dtype}).decode(records(lines({"v": value})))) == "WrongType"


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (pl.UInt8, 256),
        (pl.UInt64, -1),
        (pl.Float32, 1e39),
        (pl.Decimal(4, 2), 100),
        (pl.Decimal(10, 2), 0.125),
        (pl.Datetime("ms"), 10**15),
        (pl.Datetime("ns"), "2300-01-01"),
        (pl.Float64, int("9" * 400)),
    ],
)
def test_out_of_range(records: MakeRecords, dtype: Any, value: Any) -> None:
    assert error_of(JsonDecoder({"v": dtype}).decode(records(lines({"v": value})))) == "NumberOutOfRange"


def test_times_are_what_python_reads(records: MakeRecords) -> None:
    rng = np.random.default_rng(6)
    moments = [
        datetime(1, 1, 1) + timedelta(milliseconds=int(ms)) for ms in rng.integers(0, 315_537_897_600_000, 5_000)
    ]
    texts = [moment.isoformat(timespec="milliseconds") + "Z" for moment in moments]
    texts += [moment.isoformat(timespec="seconds") for moment in moments[:1000]]
    decoded = JsonDecoder({"t": pl.Datetime("ms")}).decode(records(lines(*({"t": text} for text in texts))))
    assert not decoded.errors
    expected = moments + [moment.replace(microsecond=0) for moment in moments[:1000]]
    assert decoded.frame["t"].to_list() == expected


def test_a_type_that_json_lacks_is_refused_before_any_data() -> None:
    for dtype in (pl.Object, pl.List, pl.List(pl.Object)):
        with pytest.raises(ConfigurationError, match=r"schema|JSON"):
            JsonDecoder({"v": dtype})


def test_of_duplicate_keys_the_last_counts(records: MakeRecords) -> None:
    decoded = JsonDecoder(READING).decode(records([b'{"ts":"bad","ts":1,"ts":2}', b'{"ts":1,"\\u0074s":3}']))
    assert decoded.frame["ts"].to_list() == [2, 3]


class TestProjection:
    def test_makes_only_the_wanted_columns_in_the_order_of_the_schema(self, records: MakeRecords) -> None:
        decoder = open_format("json").decoder(READING, {"x", "id"})
        decoded = decoder.decode(records([b'{"id":"a","ts":"not looked at","x":1}']))
        assert decoded.frame.columns == ["id", "x"]
        assert decoded.frame.rows() == [("a", 1.0)]

    def test_still_checks_the_whole_record(self, records: MakeRecords) -> None:
        assert error_of(JsonDecoder(READING, {"id"}).decode(records([b'{"id":"a","ts":01}']))) == "MalformedJson"

    def test_of_no_columns_still_counts_the_rows(self, records: MakeRecords) -> None:
        decoded = JsonDecoder(READING, ()).decode(records([b"{}", b'{"x":1}', b"x"]))
        assert decoded.frame.shape == (2, 0)

    def test_refuses_a_column_that_is_not_in_the_schema(self) -> None:
        with pytest.raises(ConfigurationError, match="nope"):
            JsonDecoder(READING, {"nope"})


class TestRequired:
    @pytest.mark.parametrize("payload", [b'{"id":"a"}', b'{"id":"a","ts":null}'])
    def test_missing_or_null_is_an_error(self, records: MakeRecords, payload: bytes) -> None:
        assert error_of(JsonDecoder(READING, required={"ts"}).decode(records([payload]))) == "MissingField"

    def test_also_where_the_field_is_not_read(self, records: MakeRecords) -> None:
        decoder = JsonDecoder(READING, {"id"}, required={"ts"})
        assert error_of(decoder.decode(records([b'{"id":"a"}']))) == "MissingField"
        assert decoder.decode(records([b'{"id":"a","ts":1}'])).frame.rows() == [("a",)]


class TestInference:
    def test_takes_types_from_the_first_values(self, records: MakeRecords) -> None:
        row = {"i": 1, "f": 0.5, "s": "a", "b": True, "l": [1], "o": {"a": None}, "n": None}
        decoded = JsonDecoder().decode(records(lines(row)))
        assert dict(decoded.frame.schema) == {
            "i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean,
            "l": pl.List(pl.Int64), "o": pl.Struct({"a": pl.Null}), "n": pl.Null,
        }  # fmt: skip
        assert decoded.frame.row(0, named=True) == row

    def test_adds_columns_and_widens_integers_as_they_come(self, records: MakeRecords) -> None:
        decoder = JsonDecoder()
        decoder.decode(records(lines({"a": 1})))
        decoded = decoder.decode(records(lines({"a": 2}, {"a": 2.5, "b": {"c": 1}}, {"b": {"d": [None, "x"]}})))
        assert decoded.frame.to_dicts() == [
            {"a": 2.0, "b": None},
            {"a": 2.5, "b": {"c": 1, "d": None}},
            {"a": None, "b": {"c": None, "d": [None, "x"]}},
        ]

    def test_refuses_a_value_of_another_type_and_says_what_to_do(self, records: MakeRecords) -> None:
        decoded = JsonDecoder().decode(records(lines({"a": 1}, {"a": "x", "b": 1}, {"a": 2})))
        assert decoded.frame.to_dict(as_series=False) == {"a": [1, 2]}
        assert decoded.errors[0].error_class == "WrongType"
        assert "declare a schema" in decoded.errors[0].message

    def test_makes_the_wanted_columns_even_where_no_record_has_them(self, records: MakeRecords) -> None:
        decoded = JsonDecoder(columns={"a", "z"}).decode(records(lines({"a": 1, "b": 2})))
        assert decoded.frame.to_dicts() == [{"a": 1, "z": None}]

    def test_stops_at_a_thousand_columns(self, records: MakeRecords) -> None:
        decoded = JsonDecoder().decode(records(lines({str(i): i for i in range(MAX_COLUMNS)}, {"more": 1})))
        assert decoded.frame.shape == (1, MAX_COLUMNS)
        assert [e.error_class for e in decoded.errors] == ["TooManyFields"]

    @pytest.mark.parametrize("row", [{"a\0b": 1}, {"o": {"\0": 1}}, {"l": [[{"x": {"\0": None}}]]}])
    def test_refuses_names_that_no_column_can_have(self, records: MakeRecords, row: dict[str, Any]) -> None:
        decoded = JsonDecoder().decode(records(lines({"a": 1}, row, {"a": 2})))
        assert decoded.frame["a"].to_list() == [1, 2]
        assert [(e.row, e.error_class) for e in decoded.errors] == [(1, "WrongType")]
        with pytest.raises(ConfigurationError, match=r"U\+0000"):
            JsonDecoder({"o": pl.List(pl.Struct({"\0": pl.Int64}))})

    def test_lets_objects_grow_fields(self, records: MakeRecords) -> None:
        decoder = JsonDecoder(columns={"o"})
        decoder.decode(records(lines({"o": {"a": 1}})))
        decoded = decoder.decode(
            records(lines({"o": {"a": 1}}, {"o": {"b": [1], "c": {"d": [2.5]}}}, {"o": {"c": {"d": [1]}}}))
        )
        assert decoded.frame["o"].to_list() == [
            {"a": 1, "b": None, "c": None},
            {"a": None, "b": [1], "c": {"d": [2.5]}},
            {"a": None, "b": None, "c": {"d": [1.0]}},
        ]

    @settings(max_examples=100, deadline=None)
    @given(
        rows=st.lists(
            st.dictionaries(
                st.sampled_from("abc"),
                st.one_of(st.none(), st.integers(0, 9), st.floats(0, 1), st.sampled_from(["x", True, 2**63])),
            ),
            max_size=12,
        ),
        cuts=st.lists(st.integers(0, 12), max_size=4),
    )
    def test_does_not_depend_on_how_records_are_batched(
        self, records: MakeRecords, rows: list[dict[str, Any]], cuts: list[int]
    ) -> None:
        payloads = lines(*rows)
        whole = JsonDecoder().decode(records(payloads))
        decoder = JsonDecoder()
        bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
        frames, failed = [], []
        for start, stop in pairwise(bounds):
            part = decoder.decode(records(payloads[start:stop]))
            rows_of_part = np.arange(stop - start) if part.rows is None else part.rows
            frames.append(part.frame.with_columns(pl.Series("row", rows_of_part + start, dtype=pl.Int64)))
            failed += [(error.row + start, error.error_class) for error in part.errors]
        assert failed == [(error.row, error.error_class) for error in whole.errors]
        joined = pl.concat(frames, how="diagonal_relaxed")
        assert joined["row"].to_list() == (list(range(len(rows))) if whole.rows is None else whole.rows.tolist())
        types = {name: dtype for name, dtype in joined.schema.items() if name != "row"}
        assert set(types) == set(whole.frame.columns)
        assert joined.select(list(types)).to_dicts() == whole.frame.select(list(types)).cast(types).to_dicts()


def test_the_frame_shares_no_memory_with_the_payloads(records: MakeRecords) -> None:
    raw = records(lines({"id": "short", "ts": 1}, {"id": "a string that does not fit into a view", "ts": 2}))
    decoded = JsonDecoder(READING).decode(raw)
    raw.owner[:] = 0xAA
    raw.release()
    gc.collect()
    assert decoded.frame["id"].to_list() == ["short", "a string that does not fit into a view"]


def test_short_strings_keep_no_large_buffer_alive(records: MakeRecords) -> None:
    decoded = JsonDecoder(READING).decode(records(lines(*[{"id": "short", "note": "x" * 500}] * 1000)))
    buffers = decoded.frame["id"].to_arrow(compat_level=pl.CompatLevel.newest()).buffers()
    assert sum(b.size for b in buffers[2:] if b is not None) < 100


def test_large_input_is_read_in_chunks(records: MakeRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    payloads = [*lines(*({"id": f"sensor number {i}", "ts": i} for i in range(100))), b"bad", b'{"id":"' + b"x" * 900]
    whole = JsonDecoder(READING).decode(records(payloads))
    monkeypatch.setattr(decoder_module, "MAX_CHUNK_BYTES", 500)
    parts = JsonDecoder(READING).decode(records(payloads))
    assert parts.frame.equals(whole.frame)
    assert whole.rows is not None
    assert parts.rows is not None
    assert parts.rows.tolist() == whole.rows.tolist()
    assert [(e.row, e.error_class) for e in parts.errors] == [(100, "MalformedJson"), (101, "TooLarge")]


def test_shapes_that_change_are_learned_anew(records: MakeRecords) -> None:
    decoder = JsonDecoder({f"k{i}": pl.Int64 for i in range(8)})
    rng = np.random.default_rng(5)
    for _ in range(20):
        rows = [{f"k{k}": int(k) for k in rng.permutation(8)[: rng.integers(1, 9)]} for _ in range(200)]
        decoded = decoder.decode(records(lines(*rows)))
        assert decoded.frame.to_dicts() == [{f"k{i}": row.get(f"k{i}") for i in range(8)} for row in rows]


def test_keys_that_never_repeat_do_not_fill_memory(records: MakeRecords) -> None:
    decoder = JsonDecoder(READING)
    for i in range(20):
        rows = [{f"key-{i}-{j}": j, "ts": j} for j in range(300)]
        assert decoder.decode(records(lines(*rows))).frame["ts"].to_list() == list(range(300))


def test_a_second_process_finds_the_kernels_in_the_cache(tmp_path: Any) -> None:
    program = "from thalweg.formats.json import warm_up; print(warm_up())"
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin:/bin"}
    answers = [
        subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [answer.stdout.strip() for answer in answers] == ["False", "True"], answers


def test_importing_the_formats_does_not_import_numba() -> None:
    program = "import sys, thalweg.formats, thalweg.formats.json; print('numba' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"

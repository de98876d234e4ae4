"""Arrow, raw and text, and how formats are found by name."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from thalweg.errors import ConfigurationError
from thalweg.formats import open_format
from thalweg.formats.raw import RawFormat
from thalweg.records import RawRecords

MakeRecords = Callable[[Sequence[bytes | None]], RawRecords]


def payload(frame: pl.DataFrame) -> bytes:
    encoded = open_format("arrow").encoder().encode(frame)
    assert encoded.offsets.tolist() == [0, len(encoded.data)]
    return encoded.data.tobytes()


class TestArrow:
    frame = pl.DataFrame({"id": ["a", "a long string of text"], "n": [1, None], "at": [datetime(2024, 1, 1)] * 2})

    def test_one_payload_per_frame_comes_back_equal(self, records: MakeRecords) -> None:
        decoded = open_format("arrow").decoder().decode(records([payload(self.frame), payload(self.frame[:1])]))
        assert decoded.frame.equals(pl.concat([self.frame, self.frame[:1]]))
        assert decoded.rows is not None
        assert decoded.rows.tolist() == [0, 0, 1]

    def test_no_rows_give_no_payload(self) -> None:
        assert len(open_format("arrow").encoder().encode(self.frame.clear())) == 0

    def test_bad_payloads_are_named_and_the_others_unharmed(self, records: MakeRecords) -> None:
        good = payload(self.frame)
        bad = [
            b"",
            None,
            b"not arrow",
            good[:40],
            good[: len(good) // 2],
            b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\xff" * 16,
        ]
        decoded = open_format("arrow").decoder().decode(records([*bad, good]))
        assert [e.error_class for e in decoded.errors] == ["EmptyPayload", "NullPayload", *["BadArrow"] * 4]
        assert decoded.frame.equals(self.frame)

    def test_any_byte_may_be_wrong(self, records: MakeRecords) -> None:
        good = payload(self.frame)
        rng = np.random.default_rng(1)
        bad = []
        for _ in range(500):
            damaged = bytearray(good)
            damaged[rng.integers(len(good))] = rng.integers(256)
            bad.append(bytes(damaged))
        decoded = open_format("arrow").decoder(self.frame.schema).decode(records(bad))
        assert decoded.rows is not None
        assert decoded.frame.height == len(decoded.rows)
        assert decoded.frame.schema == self.frame.schema
        assert decoded.frame["id"].str.len_bytes().sum() >= 0
        assert {error.error_class for error in decoded.errors} == {"BadArrow"}

    def test_columns_come_and_go_by_name(self, records: MakeRecords) -> None:
        decoder = open_format("arrow").decoder()
        first = decoder.decode(records([payload(pl.DataFrame({"a": [1]}))]))
        second = decoder.decode(
            records([payload(pl.DataFrame({"b": ["x"], "a": [2.5]})), payload(pl.DataFrame({"b": ["y"]}))])
        )
        assert first.frame.to_dicts() == [{"a": 1}]
        assert second.frame.to_dicts() == [{"a": 2.5, "b": "x"}, {"a": None, "b": "y"}]

    def test_an_unrelated_type_is_refused(self, records: MakeRecords) -> None:
        decoder = open_format("arrow").decoder()
        decoded = decoder.decode(records([payload(pl.DataFrame({"a": [1]})), payload(pl.DataFrame({"a": ["x"]}))]))
        assert decoded.frame.to_dicts() == [{"a": 1}]
        assert [e.error_class for e in decoded.errors] == ["BadArrow"]

    def test_a_schema_casts_without_loss_drops_and_fills(self, records: MakeRecords) -> None:
        decoder = open_format("arrow").decoder({"a": pl.Int8, "z": pl.String})
        frames = [pl.DataFrame({"a": [5], "extra": [1]}), pl.DataFrame({"a": [300]})]
        decoded = decoder.decode(records([payload(frame) for frame in frames]))
        assert decoded.frame.to_dicts() == [{"a": 5, "z": None}]
        assert decoded.errors[0].row == 1
        assert "'a'" in decoded.errors[0].message

    def test_projection(self, records: MakeRecords) -> None:
        raw = records([payload(self.frame)])
        assert open_format("arrow").decoder(None, {"n"}).decode(raw).frame.columns == ["n"]
        assert open_format("arrow").decoder(self.frame.schema, {"n"}).decode(raw).frame.columns == ["n"]
        assert open_format("arrow").decoder(self.frame.schema, ()).decode(raw).frame.shape == (2, 0)
        with pytest.raises(ConfigurationError, match="nope"):
            open_format("arrow").decoder(self.frame.schema, {"nope"})

    def test_the_frame_outlives_the_payload(self, records: MakeRecords) -> None:
        raw = records([payload(self.frame)])
        decoded = open_format("arrow").decoder().decode(raw)
        raw.owner[:] = 0xAA
        assert decoded.frame.equals(self.frame)


class TestRaw:
    def test_bytes_come_as_they_are(self, records: MakeRecords) -> None:
        decoded = open_format("raw").decoder().decode(records([b"\xff\x00", b"", None]))
        assert decoded.frame["value"].to_list() == [b"\xff\x00", b"", None]
        assert decoded.rows is None

    def test_text_must_be_utf8(self, records: MakeRecords) -> None:
        decoded = open_format("text").decoder().decode(records(["é".encode(), b"\xff", None]))
        assert decoded.frame["value"].to_list() == ["é", None]
        assert decoded.rows is not None
        assert decoded.rows.tolist() == [0, 2]
        assert [(e.row, e.error_class) for e in decoded.errors] == [(1, "BadUtf8")]

    def test_no_column_wanted_still_counts(self, records: MakeRecords) -> None:
        assert open_format("raw").decoder(None, ()).decode(records([b"a", b"b"])).frame.shape == (2, 0)

    def test_encoder_writes_the_value_column_or_the_only_one(self) -> None:
        encode = open_format("raw").encoder().encode
        for frame in (
            pl.DataFrame({"value": ["ab", None, "c"], "x": [1, 2, 3]}),
            pl.DataFrame({"t": [b"ab", None, b"c"]}),
        ):
            encoded = encode(frame)
            assert encoded.data.tobytes() == b"abc"
            assert encoded.offsets.tolist() == [0, 2, 2, 3]
        with pytest.raises(ConfigurationError, match="value"):
            encode(pl.DataFrame({"a": ["x"], "b": ["y"]}))

    def test_another_schema_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="value"):
            open_format("text").decoder({"value": pl.Binary})
        with pytest.raises(ConfigurationError, match="value"):
            open_format("text").decoder(None, {"x"})


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="json, arrow, raw, text"):
        open_format("xml")


def test_other_packages_add_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("mine", "thalweg.formats.raw:RawFormat", "thalweg.formats")
    monkeypatch.setattr("thalweg.formats.entry_points", lambda group: [point])
    assert isinstance(open_format("mine"), RawFormat)

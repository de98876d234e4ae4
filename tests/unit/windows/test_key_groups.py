"""Key groups must never change: durable state is laid out by them. The vectors below are frozen."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import ConfigurationError
from thalweg.murmur2 import murmur2
from thalweg.streams.state.key_groups import key_groups

KAFKA = {  # from Kafka's own UtilsTest
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}

FROZEN = {
    "text": (["", "ada", "a key longer than twelve bytes", "naïve 水"], [89, 13, 102, 63]),
    "integer": ([0, 1, -1, 2**63 - 1, -(2**63)], [3, 44, 61, 72, 120]),
    "float": ([0.0, -0.0, 1.5, float("nan"), float("inf"), 1e300], [3, 3, 87, 123, 10, 121]),
    "boolean": ([True, False], [44, 3]),
    "bytes": ([b"", b"\x00", b"abc"], [89, 60, 27]),
    "date": ([date(1969, 12, 31), date(2026, 1, 1)], [61, 120]),
    "datetime": ([datetime(1969, 12, 31, 23, 59, 59, 999000), datetime(2026, 1, 1)], [49, 89]),
    "duration": ([timedelta(milliseconds=-1), timedelta(days=1)], [49, 98]),
    "time": ([time(0), time(23, 59, 59, 999999)], [3, 118]),
    "decimal": ([Decimal("1.50"), Decimal("-3.00")], [85, 85]),
}
SEVERAL = [58, 10, 10, 83]


def of(values: list, dtype: pl.DataType | None = None) -> list[int]:
    return key_groups(pl.DataFrame({"k": pl.Series(values, dtype=dtype)}), ["k"]).to_list()


@pytest.mark.parametrize("data", KAFKA)
def test_murmur2_is_kafkas(data):
    assert murmur2(data) == KAFKA[data] % 2**32


@pytest.mark.parametrize("kind", FROZEN)
def test_groups_are_frozen(kind):
    values, expected = FROZEN[kind]
    assert of(values) == expected


def test_groups_of_several_columns_are_frozen():
    frame = pl.DataFrame({"a": ["x", "", None, "xy"], "b": [1, 1, 1, None]})
    assert key_groups(frame, ["a", "b"]).to_list() == SEVERAL
    swapped = key_groups(frame, ["b", "a"]).to_list()
    assert swapped != SEVERAL


def test_a_group_is_where_kafka_would_hash_a_text_key():
    assert of(["abc"]) == [(murmur2(b"abc") & 0x7FFFFFFF) % 128]


@given(st.lists(st.integers(-(2**53), 2**53), max_size=20))
def test_an_integer_has_its_group_in_every_numeric_type(values):
    assert of(values, pl.Int64()) == of([float(v) for v in values], pl.Float64())
    small = [v % 100 for v in values]
    for dtype in (pl.Int8(), pl.Int16(), pl.Int32(), pl.UInt8(), pl.UInt16(), pl.UInt32(), pl.UInt64(), pl.Float32()):
        assert of(small, dtype) == of(small, pl.Int64())


def test_equal_instants_have_equal_groups_whatever_the_unit():
    moment = [datetime(2026, 1, 1, 12)]
    assert of(moment, pl.Datetime("ms")) == of(moment, pl.Datetime("us")) == of(moment, pl.Datetime("ns", "UTC"))
    assert of([Decimal("1.5")], pl.Decimal(10, 1)) == of([Decimal("1.5")], pl.Decimal(20, 5))
    assert of(["a", "b"], pl.Categorical()) == of(["a", "b"], pl.Enum(["b", "a"])) == of(["a", "b"])


@given(st.lists(st.tuples(st.none() | st.text(), st.none() | st.integers(-5, 5)), max_size=30), st.integers(0, 10))
def test_rows_do_not_depend_on_their_neighbours(rows, start):
    frame = pl.DataFrame(rows, schema={"a": pl.String, "b": pl.Int64}, orient="row")
    whole = key_groups(frame, ["a", "b"]).to_list()
    assert key_groups(frame.slice(start), ["a", "b"]).to_list() == whole[start:]
    alone = [key_groups(frame.slice(i, 1), ["a", "b"])[0] for i in range(frame.height)]
    assert alone == whole
    assert all(0 <= group < 128 for group in whole)


def test_groups_spread():
    counts = pl.Series(of([f"sensor-{i}" for i in range(12_800)])).value_counts()["count"]
    assert len(counts) == 128
    assert 50 <= counts.min() <= counts.max() <= 160


def test_what_can_be_no_key_is_refused():
    with pytest.raises(ConfigurationError, match="'k' is List"):
        of([[1]])
    with pytest.raises(ConfigurationError, match="'k' is Struct"):
        of([{"a": 1}])


def test_without_keys_everything_is_in_group_0():
    assert key_groups(pl.DataFrame({"a": [1, 2]}), []).to_list() == [0, 0]

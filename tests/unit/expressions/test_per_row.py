"""Functions called row by row: nulls, errors, `~`, and the rows they get."""

from __future__ import annotations

import math
from functools import partial

import polars as pl
import pytest

from thalweg.errors import ConfigurationError
from thalweg.expressions import Row, compile_function, iter_rows

FRAME = pl.DataFrame({"type": ["a", "a", "a", "b"], "n": [1, 0, None, 5], "flag": [True, False, None, True]})


def per_row(function, purpose="predicate", frame=FRAME):
    return compile_function(function, purpose=purpose, schema=None).evaluate_rows(frame)


def test_a_null_and_a_zero_divisor_give_null():
    results = per_row(lambda e: {"a": 1}.get(e.type, 0) > 0 and 1 / e.n > 0)
    assert results.values == [True, None, None, False]
    assert results.errors == []


def test_a_null_given_to_a_function_of_c_gives_null():
    results = per_row(lambda e: math.sqrt(e.n), "value")
    assert results.values == [1.0, 0.0, None, math.sqrt(5)]


def helper(value):
    return value + 1


def test_an_exception_from_inside_another_function_is_an_error_of_the_row():
    results = per_row(lambda e: helper(e.n) > 0)
    assert results.values == [True, True, None, True]
    assert [(row, type(error)) for row, error in results.errors] == [(2, TypeError)]


def test_a_type_error_without_a_null_is_an_error_of_the_row():
    results = per_row(lambda e: len(e.type) + e.type, "value")
    assert [row for row, _ in results.errors] == [0, 1, 2, 3]
    results = per_row(lambda e: None + int(e.type == "b"), "value", FRAME.drop("n", "flag"))
    assert len(results.errors) == 4


def test_a_missing_column_names_the_close_ones():
    results = per_row(lambda e: str(e.typ) == "a")
    assert "did you mean 'type'" in str(results.errors[0][1])


def test_a_record_function_that_trips_over_a_null_is_an_error():
    def record(e):
        result = {}
        result["n"] = e.n + 1
        return result

    results = per_row(record, "row")
    assert [row for row, _ in results.errors] == [2]
    assert results.values == [{"n": 2}, {"n": 1}, None, {"n": 6}]


def test_invert_of_a_bool_is_not_also_per_row():
    assert per_row(lambda e: ~e.flag & (len(e.type) == 1)).values == [False, True, None, False]
    assert per_row(lambda e: ~(str(e.n) == "1")).values == [False, True, True, True]
    assert per_row(lambda e: ~int(str(e.n or 7)), "value").values == [-2, -8, -8, -6]


def test_invert_in_a_closure_keeps_its_names():
    names = {"a"}

    def wanted(e, *, also=("b",)):
        """With a default, a closure and a global."""
        return ~(e.type in names or e.type in also) | (helper(1) == 3)

    assert per_row(wanted).values == [False, False, False, False]
    names.clear()
    assert per_row(wanted).values == [True, True, True, False]


def test_invert_without_source_is_refused_with_what_to_write():
    function = eval("lambda e: ~e.flag & (len(e.type) > 3)")
    with pytest.raises(ConfigurationError, match="Write `not`"):
        compile_function(function, purpose="predicate", schema=None)


def test_integers_beyond_64_bits_are_null():
    assert per_row(lambda e: int("9" * 30), "value").values == [None] * 4
    assert per_row(lambda e: {"big": 2**63 if e.n else -(2**63)}, "row").values[0:2] == [
        {"big": None},
        {"big": -(2**63)},
    ]
    unsigned = pl.DataFrame({"u": [2**64 - 1]}, schema={"u": pl.UInt64})
    assert per_row(lambda e: max(e.u, 0), "value", unsigned).values == [2**64 - 1]


def test_other_callables():
    class Threshold:
        def __call__(self, e):
            return e.n > 0

    assert per_row(Threshold()).values == [True, False, None, True]
    assert per_row(partial(lambda limit, e: e.n > limit, 2)).values == [False, False, None, True]


def test_rows():
    frame = pl.DataFrame(
        {"user": [{"id": 7, "tags": [{"t": 1}]}], "key_": ["k"], "__ts": [5], "__wm": [1], "__op": ["insert"]}
    )
    (row,) = iter_rows(frame, ["key_"])
    assert isinstance(row, Row)
    assert (row.user.id, row.user.tags[0].t, row["key_"], row.key, row.timestamp, row["__op"]) == (
        7, 1, "k", "k", 5, "insert",
    )  # fmt: skip
    assert dict(row) == {"user": {"id": 7, "tags": [{"t": 1}]}, "key_": "k", "__op": "insert"}
    assert type(row.to_dict()["user"]["tags"][0]) is dict
    assert row.get("nothing") is None
    assert "user" in row
    assert "__ts" not in row
    with pytest.raises(AttributeError, match="no column 'missing'"):
        _ = row.missing
    with pytest.raises(AttributeError, match="read-only"):
        row.user = 1
    with pytest.raises(TypeError, match="to_dict"):
        row.__reduce__()


def test_columns_hide_what_a_row_has_of_its_own():
    frame = pl.DataFrame({"items": [1], "get": [2], "key": [3], "timestamp": [4], "__ts": [5], "keys": [6]})
    (row,) = iter_rows(frame, ["items"])
    assert (row.items, row.get, row.key, row.timestamp) == (1, 2, 3, 4)
    assert row.to_dict() == {"items": 1, "get": 2, "key": 3, "timestamp": 4, "keys": 6}


def test_keys_of_several_columns_and_of_none():
    frame = pl.DataFrame({"a": [1], "b": ["x"]})
    assert next(iter_rows(frame, ["a", "b"])).key == (1, "x")
    with pytest.raises(AttributeError, match="no key"):
        _ = next(iter_rows(frame)).key


def test_rows_without_columns():
    assert [dict(row) for row in iter_rows(pl.DataFrame({"__ts": [1, 2]}))] == [{}, {}]

"""What traces, what runs per row and why, and what is refused."""

from __future__ import annotations

import narwhals as nw
import polars as pl
import pytest

from thalweg.errors import ConfigurationError, PlanError
from thalweg.expressions import Row, col, compile_function, iter_rows, to_polars

SCHEMA = pl.Schema({"type": pl.String, "success": pl.Boolean, "amount": pl.Float64, "n": pl.Int64})
LIMIT = 10


def predicate(fn, schema=SCHEMA):
    return compile_function(fn, purpose="predicate", schema=schema)


def test_expressions_of_narwhals_and_polars_run_as_they_are():
    frame = pl.DataFrame({"amount": [1.0, 20.0]})
    for expression in (col("amount") > LIMIT, pl.col("amount") > LIMIT, nw.col("amount") > LIMIT):
        compiled = predicate(expression)
        assert compiled.vectorised
        assert compiled.columns == {"amount"}
        assert frame.filter(compiled.exprs)["amount"].to_list() == [20.0]


def test_the_designs_example_is_traced_without_a_schema():
    compiled = predicate(lambda e: (e.type == "login") & ~e.success, schema=None)
    assert compiled.vectorised
    assert compiled.columns == {"type", "success"}
    frame = pl.DataFrame({"type": ["login", "login", "pay", None], "success": [True, False, False, False]})
    assert frame.filter(compiled.exprs).height == 1


def make_limited():
    limit = 3
    return lambda e: e.n > limit


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda e: e.n > LIMIT, "'LIMIT' comes from outside"),
        (make_limited(), "'limit' comes from outside"),
        (lambda e: f"{e.type}" == "x", "f-string"),
        (lambda e: type(e.n) is int, "'type' comes from outside"),
        (lambda e: {"login": 1}.get(e.type) == 1, "the hash"),
        (lambda e: e.n in {1, 2} and str(e.n) == "1", "`in` outside"),
        (lambda e: [x for x in (1, 2) if x == e.n] != [], ""),
        (lambda e: e.amount % 2 == 0, "round differently"),
        (lambda e: e.n > e.amount, "Python compares exactly"),
        (lambda e: e.type.upper() == "LOGIN", ".upper of a str"),
        (lambda e: e.n and e.success, "`and` on int"),
        (lambda e: e.success > 0, "truth values with numbers"),
        (len, "not a plain function"),
    ],
)
def test_what_is_not_on_the_list_runs_per_row_and_says_why(function, reason):
    compiled = predicate(function)
    assert not compiled.vectorised
    assert reason in compiled.reason
    assert "per row" in compiled.describe()


def test_a_default_argument_is_bound_and_traces():
    assert predicate(lambda e, limit=LIMIT: e.n > limit).vectorised


def test_a_def_with_local_names_traces():
    def is_big(event):
        """Big ones."""
        low = event.amount > 5
        return low & (event.n < 3)

    assert predicate(is_big).vectorised


def test_per_row_results_nulls_and_errors():
    compiled = predicate(lambda e: {"a": 1}.get(e.type, 0) > 0 and 1 / e.n > 0)
    frame = pl.DataFrame({"type": ["a", "a", "a", "b"], "n": [1, 0, None, 5]})
    results = compiled.evaluate_rows(frame)
    assert results.values == [True, None, None, False]
    assert results.errors == []


def test_a_type_error_without_a_null_is_an_error_of_that_row():
    compiled = compile_function(lambda e: len(e.type) + e.type, purpose="value", schema=SCHEMA)
    results = compiled.evaluate_rows(pl.DataFrame({"type": ["a", None]}))
    assert [row for row, _ in results.errors] == [0]
    assert isinstance(results.errors[0][1], TypeError)


def test_invert_per_row_is_refused_with_what_to_write():
    with pytest.raises(ConfigurationError, match="Write `not`"):
        predicate(lambda e: ~e.success & (len(e.type) > 3))


def test_an_unknown_field_is_refused():
    with pytest.raises(PlanError, match="'amuont'"):
        predicate(lambda e: e.amuont > 3)


def test_a_record_traces_into_columns():
    compiled = compile_function(lambda e: {"kind": e.type, "double": e.n * 2, "one": 1}, purpose="row", schema=SCHEMA)
    frame = pl.DataFrame({"type": ["a"], "success": [True], "amount": [1.0], "n": [4]})
    assert frame.select(**compiled.exprs).to_dicts() == [{"kind": "a", "double": 8, "one": 1}]


def test_integers_beyond_int64_are_null_both_ways():
    compiled = compile_function(lambda e: e.n * e.n, purpose="value", schema=SCHEMA)
    frame = pl.DataFrame({"n": [2**62, 3]})
    assert frame.select(compiled.exprs).to_series().to_list() == [None, 9]
    assert compiled.evaluate_rows(frame).values == [None, 9]


def test_to_polars_refuses_other_things():
    with pytest.raises(ConfigurationError, match="neither an expression"):
        to_polars(3)
    with pytest.raises(ConfigurationError, match="neither an expression nor a callable"):
        predicate(3)


def test_rows():
    frame = pl.DataFrame({"user": [{"id": 7}], "key_": ["k"], "__ts": [5], "__wm": [1]})
    (row,) = iter_rows(frame, ["key_"])
    assert isinstance(row, Row)
    assert (row.user.id, row["key_"], row.key, row.timestamp, dict(row)) == (
        7,
        "k",
        "k",
        5,
        {"user": row.user, "key_": "k"},
    )
    assert row.get("nothing") is None
    assert "user" in row
    with pytest.raises(AttributeError, match="no field 'missing'"):
        _ = row.missing
    with pytest.raises(AttributeError, match="read-only"):
        row.user = 1

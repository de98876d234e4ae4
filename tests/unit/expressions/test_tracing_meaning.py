"""Tracing must never change a meaning: the same function, traced and per row, over frames full of awkward values."""

from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.expressions import compile_function

SCHEMA = pl.Schema(
    {
        "a": pl.Int64, "b": pl.Int64, "x": pl.Float64, "y": pl.Float64, "s": pl.String, "t": pl.String,
        "p": pl.Boolean, "q": pl.Boolean, "u": pl.Struct({"n": pl.Int64, "s": pl.String}),
    }
)  # fmt: skip


def inverted(value):
    """`~` of a truth value as the docs define it: null operands fail, else not."""
    if value is None:
        raise TypeError("~None")
    return not value


PREDICATES = [
    lambda e: e.a == 3,
    lambda e: e.a != 3,
    lambda e: e.a == e.b,
    lambda e: e.a != e.b,
    lambda e: e.a < e.b,
    lambda e: e.a <= 0,
    lambda e: 5 > e.a,  # noqa: SIM300
    lambda e: e.a > 2.5,
    lambda e: e.a == 2.0,
    lambda e: e.x == 1,
    lambda e: e.x < e.y,
    lambda e: e.x <= e.y,
    lambda e: e.x > e.y,
    lambda e: e.x >= e.y,
    lambda e: e.x == e.y,
    lambda e: e.x != e.y,
    lambda e: e.x >= 0.0,
    lambda e: e.x <= 0,
    lambda e: e.s == "ab",
    lambda e: e.s != e.t,
    lambda e: e.s < e.t,
    lambda e: e.s >= "b",
    lambda e: e.s == 3,
    lambda e: e.s.startswith("a"),
    lambda e: e.s.endswith(""),
    lambda e: "b" in e.s,
    lambda e: e.t in e.s,
    lambda e: "b" not in e.s,
    lambda e: e.s in ("a", "ab"),
    lambda e: e.a in [1, 2, 3],
    lambda e: e.a not in (1, 2, 3),
    lambda e: e.s is None,
    lambda e: e.s is not None,
    lambda e: e["s"] == None,  # noqa: E711
    lambda e: e.p,
    lambda e: e.p == True,  # noqa: E712
    lambda e: e.p == e.q,
    lambda e: e.p & e.q,
    lambda e: e.p | e.q,
    lambda e: e.p ^ e.q,
    lambda e: (e.a > 0) & (e.b > 0),
    lambda e: (e.a > 0) | (e.b > 0),
    lambda e: (e.a > 0) | e.p,
    lambda e: e.a > 0 and e.b > 0,
    lambda e: e.a > 0 or e.b > 0,
    lambda e: e.p and e.q,
    lambda e: e.p or e.a > 0,
    lambda e: not e.p,
    lambda e: not (e.a > 0 and e.x < 1),
    lambda e: not (e.a > 0) or e.s == "a",
    lambda e: 0 <= e.a < 10,
    lambda e: 0 <= e.a <= e.b <= 10,
    lambda e: e.b != 0 and e.a / e.b > 1,
    lambda e: e.a // e.b > 0,
    lambda e: e.a % 3 == 1,
    lambda e: e.u.n > 0,
    lambda e: e.u["s"] == e.s,
    lambda e: e.p if e.a > 0 else e.q,
    lambda e: (e.a if e.p else e.b) > 1,
]
VALUES = [
    lambda e: e.a + e.b,
    lambda e: e.a - e.b,
    lambda e: e.a * e.b,
    lambda e: e.a + 1,
    lambda e: 1 - e.a,
    lambda e: -e.a,
    lambda e: abs(e.a),
    lambda e: e.a // e.b,
    lambda e: e.a % e.b,
    lambda e: 7 // e.b,
    lambda e: e.a % -3,
    lambda e: e.x + e.y,
    lambda e: e.x - e.y,
    lambda e: e.x * 2,
    lambda e: e.x / e.y,
    lambda e: e.x / 2,
    lambda e: abs(-e.x),
    lambda e: e.x + e.a,
    lambda e: e.s + e.t,
    lambda e: e.s + "!",
    lambda e: e.s,
    lambda e: e.a if e.p else e.b,
    lambda e: e.x < e.y,
    lambda e: e.p & e.q,
    lambda e: (e.a > 0) | e.p,
    lambda e: e.a == e.b,
    lambda e: e.u.n,
    lambda e: 5,
    lambda e: None,
]
INVERTED = [
    (lambda e: ~e.p, lambda e: inverted(e.p)),
    (lambda e: ~(e.a > 0), lambda e: inverted(e.a > 0)),
    (lambda e: (e.s == "a") & ~e.p, lambda e: (e.s == "a") & inverted(e.p)),
    (lambda e: ~((e.a > 0) & e.p), lambda e: inverted((e.a > 0) & e.p)),
    (lambda e: ~((e.a > 0) & (e.b > 0)), lambda e: inverted((e.a > 0) & (e.b > 0))),
]

_ints = st.one_of(st.none(), st.integers(-4, 4), st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1]))
_floats = st.one_of(
    st.none(), st.sampled_from([0.0, -0.0, 1.0, 2.5, math.nan, math.inf, -math.inf, 1e308]), st.floats()
)
_texts = st.one_of(st.none(), st.sampled_from(["", "a", "ab", "b", "ß", "\U0001f600"]), st.text(max_size=3))
_truths = st.one_of(st.none(), st.booleans())
_structs = st.one_of(st.none(), st.fixed_dictionaries({"n": _ints, "s": _texts}))
_events = st.fixed_dictionaries(
    {
        "a": _ints,
        "b": _ints,
        "x": _floats,
        "y": _floats,
        "s": _texts,
        "t": _texts,
        "p": _truths,
        "q": _truths,
        "u": _structs,
    }
)
frames = st.lists(_events, min_size=1, max_size=12).map(lambda rows: pl.DataFrame(rows, schema=SCHEMA))


def named(functions):
    return [pytest.param(fn, id=f"{number}") for number, fn in enumerate(functions)]


def same(a, b) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or a == b or math.isclose(a, b, rel_tol=1e-15)
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("function", named(PREDICATES))
@settings(max_examples=40, deadline=None)
@given(frame=frames)
def test_a_traced_filter_keeps_what_python_would(function, frame):
    compiled = compile_function(function, purpose="predicate", schema=SCHEMA)
    assert compiled.vectorised, compiled.reason
    kept = frame.with_row_index("row").filter(compiled.exprs)["row"].to_list()
    rows = compiled.evaluate_rows(frame)
    assert rows.errors == []
    assert kept == [row for row, value in enumerate(rows.values) if value]


@pytest.mark.parametrize("function", named(VALUES))
@settings(max_examples=40, deadline=None)
@given(frame=frames)
def test_a_traced_value_is_what_python_would_give(function, frame):
    compiled = compile_function(function, purpose="value", schema=SCHEMA)
    assert compiled.vectorised, compiled.reason
    columns = frame.with_columns(result=compiled.exprs)["result"].to_list()
    rows = compiled.evaluate_rows(frame)
    assert rows.errors == []
    for row, (got, wanted) in enumerate(zip(columns, rows.values, strict=True)):
        assert same(got, wanted), (frame.row(row, named=True), got, wanted)


@pytest.mark.parametrize(("function", "reference"), INVERTED)
@settings(max_examples=40, deadline=None)
@given(frame=frames)
def test_invert_is_not_and_null_stays_null(function, reference, frame):
    compiled = compile_function(function, purpose="predicate", schema=SCHEMA)
    kept = frame.with_row_index("row").filter(compiled.exprs)["row"].to_list()
    rows = compile_function(reference, purpose="predicate", schema=SCHEMA).evaluate_rows(frame)
    assert rows.errors == []
    assert kept == [row for row, value in enumerate(rows.values) if value]

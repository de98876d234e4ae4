"""What traces, what runs per row and why, and what is refused."""

from __future__ import annotations

import narwhals as nw
import polars as pl
import pytest

from thalweg.errors import ConfigurationError, PlanError
from thalweg.expressions import col, compile_function, to_polars

SCHEMA = pl.Schema({"type": pl.String, "success": pl.Boolean, "amount": pl.Float64, "n": pl.Int64})
LIMIT = 10
MOVING = 1


def move():
    global MOVING
    MOVING += 1


def predicate(fn, schema=SCHEMA):
    return compile_function(fn, purpose="predicate", schema=schema)


def test_expressions_of_narwhals_and_polars_run_as_they_are():
    frame = pl.DataFrame({"amount": [1.0, 20.0]})
    for expression in (col("amount") > LIMIT, pl.col("amount") > LIMIT, nw.col("amount") > LIMIT):
        compiled = predicate(expression)
        assert compiled.vectorised
        assert compiled.columns == {"amount"}
        assert frame.filter(compiled.exprs)["amount"].to_list() == [20.0]


def test_to_polars_refuses_other_things():
    with pytest.raises(ConfigurationError, match="neither an expression"):
        to_polars(3)
    with pytest.raises(ConfigurationError, match="neither an expression nor a callable"):
        predicate(3)


def test_a_narwhals_without_the_known_way_in_is_refused_clearly(monkeypatch):
    monkeypatch.delattr(nw.Expr, "_to_compliant_expr")
    with pytest.raises(ConfigurationError, match=f"Narwhals {nw.__version__}"):
        to_polars(nw.col("a"))


def test_the_designs_example_is_traced_without_a_schema():
    compiled = predicate(lambda e: (e.type == "login") & ~e.success, schema=None)
    assert compiled.vectorised
    assert compiled.columns == {"type", "success"}
    frame = pl.DataFrame({"type": ["login", "login", "pay", None], "success": [True, False, False, False]})
    assert frame.filter(compiled.exprs).height == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda r: (r.value >= 0) & (r.value <= 100),
        lambda r: 0 <= r.value <= 100,
        lambda r: r["value"] > 2.5 and r.name == "a",
        lambda r: r.name.startswith(("a", "b")) or "x" in r.name,
        lambda r: r.name in ("a", "b") and r.name is not None,
        lambda r: not r.flag,
        lambda r: r.flag,
        lambda r: r.flag == True,  # noqa: E712
    ],
)
def test_without_a_schema_comparisons_with_constants_trace(function):
    compiled = predicate(function, schema=None)
    assert compiled.vectorised, compiled.reason
    frame = pl.DataFrame({"value": [1, 7, None], "name": ["a", "xy", None], "flag": [True, False, None]})
    kept = frame.with_row_index("row").filter(compiled.exprs)["row"].to_list()
    assert kept == [row for row, value in enumerate(compiled.evaluate_rows(frame).values) if value]


@pytest.mark.parametrize("values", [["a", "b"], [[1], [2]], [{"x": 1}, {"x": 2}]])
def test_without_a_schema_a_wrong_type_is_loud(values):
    """Not silent: Python would have refused (or dead-lettered) these rows too."""
    for function in (lambda e: e.x > 5, lambda e: e.x <= 5.5, lambda e: ~e.x, lambda e: not e.x):
        with pytest.raises(pl.exceptions.PolarsError):
            pl.DataFrame({"x": values}).filter(predicate(function, schema=None).exprs)


def test_without_a_schema_a_number_is_no_bool():
    frame = pl.DataFrame({"x": [0, 1, 6], "y": [True, True, True]})
    for function in (lambda e: e.x & e.y, lambda e: (e.y == True) | e.x, lambda e: not e.x, lambda e: e.x and e.y):  # noqa: E712
        with pytest.raises(pl.exceptions.PolarsError):
            frame.filter(predicate(function, schema=None).exprs)


def test_types_learned_from_the_rows_make_a_function_run_over_columns():
    compiled = compile_function(lambda e: e.n * 2 + 1, purpose="value", schema=None)
    assert not compiled.vectorised
    assert "give the stream a schema" in compiled.reason
    assert compiled.columns == {"n"}
    for values, expected in (([1, None], [3, None]), ([1.5], [4.0]), (["a"], None)):
        results = compiled.evaluate_rows(pl.DataFrame({"n": values, "__ts": [0] * len(values)}))
        assert results.values == (expected or [None])
        assert bool(results.errors) == (expected is None)
    assert [known.vectorised for known in compiled._known.values()] == [True, True, False]


def outer_constant():
    limit = 3
    return lambda e: e.n > limit


def outer_parameter(limit):
    return lambda e: e.n > limit


def outer_loop():
    functions = []
    for limit in (3, 5):
        functions.append(lambda e: e.n > limit)  # noqa: B023, PERF401
    return functions[0]


def outer_comprehension():
    return [lambda e: e.n > limit for limit in (3, 5)][0]  # noqa: B023, RUF015


def outer_rebound():
    limit = 3
    function = lambda e: e.n > limit  # noqa: E731
    limit = 5
    return function


def outer_nonlocal():
    limit = 3

    def change():
        nonlocal limit
        limit += 1

    change()
    return lambda e: e.n > limit


def outer_mutable():
    limits = [3]
    return lambda e: e.n > limits[0]


@pytest.mark.parametrize(
    ("function", "traces"),
    [
        (lambda e: e.n > LIMIT, True),
        (lambda e, limit=LIMIT: e.n > limit, True),
        (outer_constant(), True),
        (outer_parameter(3), True),
        (lambda e: e.n > MOVING, False),
        (lambda e, limits=[1]: e.n > limits, False),
        (outer_loop(), False),
        (outer_comprehension(), False),
        (outer_rebound(), False),
        (outer_nonlocal(), False),
        (outer_mutable(), False),
    ],
)
def test_names_from_outside_trace_where_they_cant_change(function, traces):
    assert predicate(function).vectorised is traces


def test_a_function_sees_a_name_that_changed():
    compiled = predicate(lambda e: e.n == MOVING)
    frame = pl.DataFrame({"n": [MOVING + 1]})
    assert compiled.evaluate_rows(frame).values == [False]
    move()
    assert compiled.evaluate_rows(frame).values == [True]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda e: f"{e.type}" == "x", "an f-string"),
        (lambda e: type(e.n) is int, "type()"),
        (lambda e: {"login": 1}.get(e.type) == 1, "dict"),
        (lambda e: [x for x in (1, 2) if x == e.n] != [], "a comprehension"),
        (lambda e: e.amount % 2 == 0, "% of floats"),
        (lambda e: e.amount**2 > 1, "write x * x"),
        (lambda e: e.type.upper() == "LOGIN", ".upper() of a str"),
        (lambda e: (e.n and e.success) == 1, "and/or of an int"),
        (lambda e: e.success > 0, "a bool > an int"),
        (lambda e: e.success == 1, "a bool == an int"),
        (lambda e: e.n * e.n * e.n > 1, "128 bits"),
        (lambda e: e, "the event as a whole"),
        (lambda e: e.__class__, "__class__"),
        (lambda e: e.key == 1, ".key"),
        (lambda e: e.n == 1 and print("seen"), "print()"),
        (lambda e, *more: e.n > 1, "functions of one event"),
        (lambda e: e.amount > float("nan"), "float()"),
        (lambda e: (x := e.n) > 1 and x < 3, ":="),
        (len, "not a plain function"),
    ],
)
def test_what_is_not_on_the_list_runs_per_row_and_says_why(function, reason):
    compiled = predicate(function)
    assert not compiled.vectorised
    assert reason in compiled.reason
    assert "per row" in compiled.describe()


def test_two_lambdas_on_one_line_are_told_apart():
    pair = (lambda e: e.n > 1, lambda e: e.n > 2), (lambda e: e.n > 1, lambda e: e.n < 1)
    found = [[predicate(fn).name for fn in both] for both in pair]
    assert found == [["e.n > 1", "e.n > 2"], ["e.n > 1", "e.n < 1"]]


def test_a_def_with_local_names_and_branches_traces():
    def is_big(event):
        """Big ones."""
        low = event.amount > 5
        if event.type is None:
            return False
        if event.type == "login":
            return low & (event.n < 3)
        few: bool = event.n < 10
        return few

    compiled = predicate(is_big)
    assert compiled.vectorised, compiled.reason
    frame = pl.DataFrame(
        {
            "type": ["login", "login", None, "pay", "pay", "pay"],
            "success": [True] * 6,
            "amount": [9.0, 9.0, 9.0, 9.0, None, 1.0],
            "n": [1, 5, 1, 5, 5, 50],
        }
    )
    assert compiled.evaluate_rows(frame).values == [True, False, False, True, None, False]
    kept = frame.with_row_index("row").filter(compiled.exprs)["row"].to_list()
    assert kept == [0, 3]


def test_expression_style_methods_mean_what_they_mean_for_expressions():
    frame = pl.DataFrame({"n": [1, 5, None], "type": ["a", None, "b"]})
    schema = frame.schema
    cases = [
        (lambda e: e.n.is_between(0, 3), [True, False, None]),
        (lambda e: e.n.is_in([5, 6]), [False, True, None]),
        (lambda e: e.type.is_null(), [False, True, False]),
        (lambda e: e.type.is_not_null(), [True, False, True]),
    ]
    for function, expected in cases:
        compiled = compile_function(function, purpose="value", schema=schema)
        assert frame.select(compiled.exprs).to_series().to_list() == expected


def test_expression_style_methods_that_would_run_per_row_are_refused():
    with pytest.raises(ConfigurationError, match="is_between"):
        predicate(lambda e: e.n.is_between(0, 3) and str(e.type) == "x")


def test_an_unknown_column_is_refused_with_the_close_ones():
    with pytest.raises(PlanError, match=r"'amuont'.*did you mean 'amount'"):
        predicate(lambda e: e.amuont > 3)


def test_records_trace_into_columns():
    frame = pl.DataFrame({"type": ["a"], "success": [True], "amount": [1.0], "n": [4]})
    functions = [
        lambda e: {"kind": e.type, "double": e.n * 2, "one": 1},
        lambda e: dict(kind=e.type, double=e.n * 2, one=1),  # noqa: C408
        {"kind": col("type"), "double": lambda e: e.n * 2, "one": pl.lit(1)},
    ]
    for function in functions:
        compiled = compile_function(function, purpose="row", schema=SCHEMA)
        assert compiled.vectorised
        assert frame.with_columns(**compiled.exprs).select(list(compiled.exprs)).to_dicts() == [
            {"kind": "a", "double": 8, "one": 1}
        ]
    whole = compile_function(lambda e: {**e, "n": e.n + 1}, purpose="row", schema=SCHEMA)
    assert frame.select(**whole.exprs).to_dicts() == [{"type": "a", "success": True, "amount": 1.0, "n": 5}]


def test_a_record_with_one_field_left_to_python_runs_the_others_over_columns():
    compiled = compile_function(
        lambda e: {"double": e.n * 2, "text": f"{e.type}!", "half": round(e.n / 2)}, purpose="row", schema=SCHEMA
    )
    assert not compiled.vectorised
    assert compiled.columns == {"n", "type"}
    assert "vectorised: double; per row: text:" in compiled.describe()
    frame = pl.DataFrame({"type": ["a", None], "success": [True, True], "amount": [1.0, 1.0], "n": [4, None]})
    results = compiled.evaluate_rows(frame)
    assert results.values == [
        {"double": 8, "text": "a!", "half": 2},
        {"double": None, "text": "None!", "half": None},
    ]
    assert results.errors == []


def test_fields_read_by_a_per_row_function():
    assert predicate(lambda e: str(e.n) + e["type"] == "1a").columns == {"n", "type"}
    assert predicate(lambda e: str(e) == "").columns is None
    assert predicate(lambda e: e[str(e.n)] == "").columns is None
    assert predicate(lambda e: e.get("n", 0) == str(e.n)).columns is None


def test_a_constant_alone():
    frame = pl.DataFrame({"n": [1, 2]})
    assert frame.filter(predicate(lambda e: True).exprs).height == 2
    compiled = compile_function(lambda e: "x", purpose="value", schema=None)
    assert compiled.evaluate_rows(frame).values == ["x", "x"]


def test_flat_map_runs_per_row():
    compiled = compile_function(lambda e: [{"n": e.n}, {"n": -e.n}], purpose="rows", schema=SCHEMA)
    assert not compiled.vectorised
    assert compiled.evaluate_rows(pl.DataFrame({"n": [1]})).values == [[{"n": 1}, {"n": -1}]]

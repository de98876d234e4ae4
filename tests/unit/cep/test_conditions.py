"""Textual conditions: what they mean, row by row against Python, and what they are refused for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.cep.conditions import Condition, ConditionError

EVENTS = pl.DataFrame(
    {
        "amount": [1, None, 20_000],
        "country": ["DE", "FR", None],
        "ok": [True, False, None],
        "tags": [["a"], ["b", "c"], None],
        "user": [{"age": 3}, {"age": 40}, None],
        "at": [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), None],
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amount > 0 && country == 'DE'", [True, False, False]),
        ('country != "DE"', [False, True, True]),  # null is a value like any other for == and !=
        ("!(amount > 10)", [True, False, False]),  # but has no order: the comparison is null, and null is false
        ("not ok or amount >= 20000", [False, True, True]),
        ("amount == null", [False, True, False]),
        ("'a' in tags || 'c' in tags", [True, True, False]),
        ("country in ['DE', null]", [True, False, True]),
        ("country not in ['DE']", [False, True, True]),
        ("country in []", [False, False, False]),
        ("user.age > 10", [False, True, False]),
        ("user['age'] >= 3", [True, True, False]),
        ("tags[0] == 'b'", [False, True, False]),
        ("tags[7] == null", [True, True, True]),
        ("country.startsWith('D') || country.endsWith('R')", [True, True, False]),
        ("country.lower().contains('e')", [True, False, False]),
        (r"country.matches(r'^[DF]\w$')", [True, True, False]),
        ("size(tags) == 2 && tags.size() == 2", [False, True, False]),
        ("amount % 2 == 1 ? ok : false", [True, False, False]),
        ("amount / 0 == 1", [False, False, False]),
        ("amount / 4 == 0.25", [True, False, False]),
        ("-amount < -100 // a comment", [False, False, True]),
        ("1 + 2 * 3 == 7 && amount > 0x10", [False, False, True]),
        ("string(amount) + country == '1DE'", [True, False, False]),
        ("int('12') == 12 && double('x') == null && abs(-2) == 2", [True, True, True]),
        ("has(country)", [True, True, False]),
        ("at < '2026-01-15'", [True, False, False]),
        ("at >= timestamp('2026-02-01T01:00:00+01:00')", [False, True, False]),
        ("'\\u0041' == \"A\" && 'it\\'s' != 'its'", [True, True, True]),
        ("true", [True, True, True]),
    ],
)
def test_meanings(text: str, expected: list[bool]):
    assert Condition(text).matches(EVENTS).to_list() == expected


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("amount >", (1, 9), "ends too early"),
        ("amont > 3", (1, 1), "did you mean 'amount'"),
        ("ok &&\n amount == 'x'", (2, 9), "compares a number with a text"),
        ("amount > 'a'", (1, 8), "compares a number with a text"),
        ("tags > tags", (1, 1), "a list has no order"),
        ("open('/etc/passwd')", (1, 1), "no function open()"),
        ("country.__class__()", (1, 9), "no method __class__()"),
        ("amount & 3", (1, 8), "'&' is not understood here"),
        ("ok == 1", (1, 4), "true or false with a number"),
        ("'x' in country", (1, 5), "text.contains(part)"),
        ("country.matches('(')", (1, 17), "not a regular expression"),
        ("country.matches(country)", (1, 17), "has to be a constant"),
        ("amount", (1, 1), "a condition has to be true or false, this is a number"),
        ("[1] == 1", (1, 1), "only after `in`"),
        (r"country == 'a\q'", (1, 12), "no escape"),
        ("user.ag > 3", (1, 6), "did you mean 'age'"),
        ("ok ? 1 : 'x'", (1, 1), "one choice is a number, the other a text"),
        ("__ts > 3", (1, 1), "the engine's own"),
        ("at > 'tomorrow'", (1, 6), "is no time"),
        ("amount in [country]", (1, 12), "constants only"),
        ("size(1, 2) == 3", (1, 1), "takes 1 arguments, not 2"),
        ("!" * 9_000 + "ok", (1, 1), "nested too deeply"),
        ("x" * 30_000, (1, 1), "at most 20000 characters"),
        ("", (1, 1), "ends too early"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, place: tuple[int, int], reason: str):
    with pytest.raises(ConditionError) as caught:
        Condition(text).expression(EVENTS.schema)
    assert reason in caught.value.reason
    if "deep" not in reason:
        assert (caught.value.line, caught.value.column) == place


def test_times_without_a_zone_and_dates():
    frame = pl.DataFrame({"at": [datetime(2026, 1, 1), datetime(2026, 2, 1)]}).with_columns(
        day=pl.col("at").cast(pl.Date),
        zoned=pl.col("at").dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Tokyo"),
    )
    for text in ("at < '2026-01-15'", "day < '2026-01-15'", "zoned < '2026-01-15'", "day == '2026-01-01'"):
        assert Condition(text).matches(frame).to_list() == [True, False]
    assert Condition("at == zoned && day <= at").matches(frame).to_list() == [True, True]


def test_what_only_polars_knows_is_refused_as_well():
    with pytest.raises(ConditionError, match="does not fit the columns"):
        Condition("d > 'a'").expression(pl.Schema({"d": pl.Time()}))


def test_without_a_schema_types_are_not_known_and_columns_are_told():
    compiled = Condition("a.b > 3 || c in d").compile()
    assert compiled.columns == {"a", "c", "d"}
    assert compiled.vectorised


@pytest.mark.parametrize(
    "text",
    ["n > 3", "n.startsWith('a')", "n.x.y == 3", "n[0] > 1", "'a' in n", "size(n) > 0", "-n < 3", "n + 1 > 2", "n"],
)
def test_a_column_that_held_nothing_so_far_is_null(text: str):
    frame = pl.DataFrame({"n": [None, None]})
    assert Condition(text).matches(frame).to_list() == [False, False]
    assert Condition("n == null").matches(frame).to_list() == [True, True]


class Case:
    """A condition as text, and the same in Python."""

    def __init__(self, text: str, holds: Any) -> None:
        self.text, self.holds = text, holds

    def __repr__(self) -> str:
        return self.text


def compared(column: str, constants: st.SearchStrategy[Any]) -> st.SearchStrategy[Case]:
    tests: dict[str, Any] = {
        "==": lambda a, b: a == b,
        "!=": lambda a, b: a != b,
        "<": lambda a, b: None if a is None else a < b,
        ">=": lambda a, b: None if a is None else a >= b,
    }

    def make(operator: str, constant: Any) -> Case:
        shown = repr(constant)
        return Case(f"{column} {operator} {shown}", lambda e: tests[operator](e[column], constant))

    return st.builds(make, st.sampled_from(list(tests)), constants)


def joined(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    def both(a: Case, b: Case) -> Case:
        def holds(e: Any) -> Any:
            x, y = a.holds(e), b.holds(e)
            return False if x is False or y is False else None if x is None or y is None else True

        return Case(f"({a.text} && {b.text})", holds)

    def either(a: Case, b: Case) -> Case:
        def holds(e: Any) -> Any:
            x, y = a.holds(e), b.holds(e)
            return True if x is True or y is True else None if x is None or y is None else False

        return Case(f"({a.text} or {b.text})", holds)

    def negated(a: Case) -> Case:
        return Case(f"!({a.text})", lambda e: None if (x := a.holds(e)) is None else not x)

    return st.one_of(st.builds(both, inner, inner), st.builds(either, inner, inner), st.builds(negated, inner))


atoms = st.one_of(compared("n", st.integers(-3, 3)), compared("s", st.sampled_from(["", "a", "b"])))
rows = st.lists(
    st.fixed_dictionaries(
        {"n": st.one_of(st.none(), st.integers(-3, 3)), "s": st.one_of(st.none(), st.sampled_from(["", "a", "b"]))}
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(case=st.recursive(atoms, joined, max_leaves=6), events=rows)
def test_logic_is_three_valued_and_equality_knows_null(case: Case, events: list[dict[str, Any]]):
    frame = pl.DataFrame(events, schema={"n": pl.Int64, "s": pl.String})
    assert Condition(case.text).matches(frame).to_list() == [case.holds(event) is True for event in events]

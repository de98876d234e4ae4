"""Conditions on the partial match: what they ask of the event alone is asked as columns, and changes nothing else."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from thalweg.cep import PatternBuilder, PatternMatcher
from thalweg.cep.general.begins import NO, YES, outcomes
from thalweg.cep.general.edge_tests import Both, Constant, Either, HasBit, Iterative, Not
from thalweg.cep.general.edge_tests import Test as EdgeTest
from thalweg.cep.text.aggregates import MatchCondition

TEXTS = [
    "kind == 'b' && n > LAST(a.n)",
    "(n > 2 && COUNT(b) < 2) && kind != 'c'",
    "n > SUM(a.n) || kind == 'b'",
    "kind in ['a', 'b'] && n >= MIN(a.n) && n <= MAX(a.n)",
    "n > 1 && (COUNT(b) == 0 || n > LAST(b.n))",
    "AVG(a.n) < n && !(kind == 'c')",
]


def events(seed: int) -> list[dict[str, Any]]:
    dice = random.Random(seed)
    return [
        {"ts": n, "user": dice.choice("xy"), "kind": dice.choice("abc"), "n": dice.choice([None, 1, 2, 3, 4, 5])}
        for n in range(60)
    ]


def matches(condition: Any, rows: list[dict[str, Any]], size: int, *, strict: bool) -> list[Any]:
    builder = PatternBuilder.create("p").where("a", pl.col("kind") == "a")
    builder = builder.next("b", condition) if strict else builder.where("b", condition)
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(builder.times(1, 3).within(20).build())
    schema = {"ts": pl.Int64(), "user": pl.String(), "kind": pl.String(), "n": pl.Int64()}
    found = [matcher.process(pl.DataFrame(rows[at : at + size], schema=schema)) for at in range(0, len(rows), size)]
    return [row for frame in found if frame.height for row in frame.rows()]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("text", TEXTS)
def test_a_condition_means_the_same_whole_and_in_parts(text: str, strict: bool):
    condition = MatchCondition(text)
    assert (condition.plain is None) == (text == TEXTS[2])
    total = 0
    for seed in range(6):
        rows = events(seed)
        whole = matches(lambda e, m: condition(e, m), rows, 60, strict=strict)
        for size in (1, 7, 60):
            assert matches(condition, rows, size, strict=strict) == whole
        total += len(whole)
    assert total > 5


def test_only_events_that_meet_the_plain_part_are_asked(monkeypatch: pytest.MonkeyPatch):
    condition, asked = MatchCondition("kind == 'b' && n > LAST(a.n)"), []
    rest = condition.rest

    def noted(event: Any, match: Any) -> bool:
        asked.append(event.kind)
        return rest(event, match)

    monkeypatch.setattr(condition, "rest", noted)
    assert matches(condition, events(1), 60, strict=False)
    assert set(asked) == {"b"}


def test_what_tests_can_say_is_what_they_do_say():
    dice = random.Random(3)

    def draw(depth: int) -> EdgeTest:
        what = dice.randrange(6 if depth else 3)
        if what == 0:
            return Constant(dice.random() < 0.5)
        if what == 1:
            return HasBit(dice.randrange(2), "bit")
        if what == 2:
            name = dice.choice("pq")
            return Iterative(lambda event, partial: event[name], name)
        if what == 3:
            return Not(draw(depth - 1))
        if what == 4:
            return Both(draw(depth - 1), draw(depth - 1))
        return Either((draw(depth - 1), draw(depth - 1)))

    class View:
        partial = None

        def __init__(self, p: bool, q: bool) -> None:
            self.event = {"p": p, "q": q}

    for _ in range(500):
        test, bits = draw(3), dice.randrange(4)
        said = {test(bits, View(p, q)) for p in (False, True) for q in (False, True)}
        possible = outcomes(test, bits)
        # One condition may stand in a test twice, so that not all that is possible is said.
        assert all(possible & (YES if value else NO) for value in said)
        assert possible in (YES, NO, YES | NO)


def test_an_event_that_cannot_begin_is_passed_over_and_one_that_may_is_not():
    pattern = PatternBuilder.create("p").where("a", lambda e, m: e.n > 3).where("b", pl.col("kind") == "b").build()
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(pattern)
    rows = [("c", 1), ("b", 1), ("c", 4), ("c", 1), ("b", 9)]
    found = matcher.process([{"ts": t, "user": "u", "kind": kind, "n": n} for t, (kind, n) in enumerate(rows)])
    assert found.select("match_start", "match_end").rows() == [(2, 4)]

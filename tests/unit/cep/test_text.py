"""The textual form: what it says, that it comes back the same, what it refuses, and files."""

from __future__ import annotations

import json
import random
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.conformance.cep_cases import case_pattern
from tests.unit.cep.test_against_definition import Drawn
from tests.unit.cep.test_matcher import found, rows, source

from thalweg.cep import AfterMatch, Pattern, PatternBuilder, PatternMatcher
from thalweg.cep.conditions import Condition
from thalweg.cep.pattern import asks_match, flatten
from thalweg.cep.text import load_patterns, parse_pattern, parse_patterns
from thalweg.cep.text.expressions import condition_text
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.testing import TestDriver

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "conformance/data/cep/cases.jsonl").read_text().splitlines()
]
ABC = 'DEFINE a AS kind == "a", b AS kind == "b", c AS kind == "c"'


def matches(pattern: Pattern, events: str) -> list[list[int]]:
    driver = TestDriver(source().key_by("user").detect(pattern))
    driver.send(rows(events))
    driver.end()
    return [taken for _, taken in found(driver)]


@pytest.mark.parametrize(
    ("text", "described"),
    [
        ("a b", "a ⇒ b"),
        ("a -> b", "a → b"),
        ("a ->> b", "a ⇝ b"),
        ("a !b c", "a ⇏ b ⇒ c"),
        ("a -> !b -> c", "a ↛ b → c"),
        ("a+", "a+ consecutive greedy"),
        ("a->+?", "a+"),
        ("a->>*?", "a* combinations"),
        ("a->{2,3}?", "a{2,3}"),
        ("a{3}", "a{3} consecutive"),
        ("a b?", "a ⇒ b?"),
        ("a (b->{2})?", "a ⇒ b{2}?"),
        ("a ((b->{2}))?", "a ⇒ (b{2})?"),
        ("(a b)->{2,}", "(a ⇒ b){2,}"),
        ("(a | b -> c)", "(a | b → c)"),
        ("PERMUTE->(a, b, c)", "(a &→ b &→ c)"),
        ("PERMUTE(a, b)", "(a & b)"),
        ('a -> b->+ UNTIL (kind == "c") -> c', "a → b+ greedy → c"),
    ],
)
def test_what_the_signs_mean(text: str, described: str):
    names = [name for name in "abc" if name in text.replace("kind", "")]
    define = ", ".join(
        f'{name} AS kind == "{name}"' for name in names if f"{name}" in text.split("UNTIL")[0] or name != "c"
    )
    pattern = parse_pattern("p", f"PATTERN ({text}) DEFINE {define}")
    assert pattern.describe() == f"p: {described}, skip_past_last"
    assert parse_pattern("p", pattern.to_text()).describe() == pattern.describe()


def test_a_text_does_what_its_builder_does():
    text = f"""
    MEASURES COUNT(b) AS bs, SUM(b.n) / COUNT(b) AS mean, LAST(c.n) - FIRST(a.n) AS distance, DURATION() AS ms
    AFTER MATCH NO SKIP
    PATTERN (a -> b->+? -> c)  // strict, relaxed and any are written '', -> and ->>
    WITHIN 1m30s MAX GAP 10s
    {ABC}
    """
    pattern = Pattern.parse("p", text, "A pattern")
    assert (pattern.name, pattern.within, pattern.max_gap) == ("A pattern", 90_000, 10_000)
    driver = TestDriver(source().detect(pattern))
    driver.send(rows("axbbc"))
    driver.end()
    out = driver.output().sort("bs").select("bs", "mean", "distance", "ms")
    assert out.rows() == [(1, 2.0, 4, 4000), (2, 2.5, 4, 4000)]


def test_conditions_on_the_match():
    rising = parse_pattern("p", "PATTERN (up->{3}) DEFINE up AS COUNT(up) == 0 or n > 2 * LAST(up.n)")
    assert matches(rising, "xxxxxxxxxx") == [[0, 1, 3]]
    bounded = "PATTERN (a->+ -> b) DEFINE a AS kind == 'a' && (SUM(a.n) + n < 4 || n in [7]), b AS kind == 'b'"
    assert matches(parse_pattern("p", bounded), "aaaab") == [[0, 1, 2, 4]]
    nothing = "PATTERN (a b) DEFINE a AS kind == 'a', b AS n > AVG(b.n) || MAX(a.n) != MIN(a.n) || !(n >= FIRST(b.n))"
    assert matches(parse_pattern("p", nothing), "aa") == []


@pytest.mark.parametrize("seed", range(150))
def test_drawn_patterns_come_back_the_same(seed: int):
    pattern = Drawn(random.Random(seed)).pattern
    text = pattern.to_text()
    again = parse_pattern("p", text)
    assert again.describe() == pattern.describe()
    assert again.to_text() == text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_the_published_patterns_come_back_the_same(case: dict[str, Any]):
    pattern = case_pattern(case["pattern"])
    named = [step.name for step in flatten(pattern.steps) if not step.name.isidentifier()]
    iterative = asks_match(pattern.steps)
    if named or iterative:
        with pytest.raises(ConfigurationError, match="rename it" if not iterative else "rename it|event and the match"):
            pattern.to_text()
        return
    text = pattern.to_text()
    assert parse_pattern("case", text).describe() == pattern.describe()


def test_conditions_of_any_kind_are_written():
    pattern = (
        PatternBuilder.create("p")
        .where("a", (pl.col("n") > 3) & ~pl.col("kind").str.starts_with("x") | pl.col("user").is_null())
        .where("b", lambda e: (e.n >= 1.5) & (e.kind != "q"))
        .where("c", pl.col("n").is_between(1, 9, closed="left") & pl.col("kind").str.contains("b", literal=True))
        .where("d", "n % 2 == 1")
        .build()
    )
    text = pattern.to_text()
    assert text.splitlines()[1:] == [
        "PATTERN (a -> b -> c -> d)",
        'DEFINE a AS (((n > 3) && !kind.startsWith("x")) || (user == null)),',
        '       b AS (((n >= 1.5) && (n <= 1e999)) && !((kind == null ? null : kind == "q") == true)),',
        '       c AS ((n >= 1 && n < 9) && kind.contains("b")),',
        "       d AS n % 2 == 1",
    ]
    assert matches(parse_pattern("p", text), "aaaaaabbb") == matches(pattern, "aaaaaabbb") == [[4, 5, 6, 7]]


@pytest.mark.parametrize(
    "condition",
    [
        ~(pl.col("x") == "q"),
        ~((pl.col("x") != "q") | (pl.col("n") == 1)),
        (pl.col("x") != "q") & (pl.col("n") != pl.col("m")),
        (pl.col("x") == pl.col("y")) | ~(pl.col("x") == pl.col("y")),
        ~(pl.col("n").is_between(1, 2) & pl.col("x").is_not_null()),
        (pl.col("n") == 1).fill_null(True) & ~(pl.col("x") == "q").fill_null(False),
        ~(pl.col("x").str.contains("q", literal=True) & (pl.col("n") + 1 > pl.col("m"))),
    ],
    ids=str,
)
def test_null_means_the_same_in_the_text(condition: pl.Expr):
    values = {"x": ["q", "r", None], "y": ["q", None], "n": [1, 2, None], "m": [2, None]}
    frame = pl.DataFrame(list(product(*values.values())), schema=list(values), orient="row")
    text = condition_text(condition)
    assert Condition(text).matches(frame).to_list() == frame.select(condition.fill_null(False)).to_series().to_list()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda p: p.where("a", lambda e, m: m.count("a") < 3), "function of the event and the match"),
        (lambda p: p.where("a", lambda e: {"x": 1}[e.kind] == 1), "runs per row"),
        (lambda p: p.where("a b", pl.col("n") > 1), "rename it"),
        (lambda p: p.where("SKIP", pl.col("n") > 1), "rename it"),
        (lambda p: p.where("a", pl.col("n").cast(pl.String) == "1"), "have no Cast"),
        (lambda p: p.where("a", "n > 1").skip(AfterMatch.to_first("a", required=True)), "no textual form"),
        (lambda p: p.where("a", "n > 1").measures(x=lambda m: m.count("a")), "measure 'x'"),
    ],
)
def test_what_has_no_text_says_so(build: Any, message: str):
    with pytest.raises(ConfigurationError, match=message):
        build(PatternBuilder.create("p")).build().to_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("PATTERN (a -> ) DEFINE a AS n > 1", "line 1, column 15: '\\)' is not expected"),
        ("PATTERN (a", "ends too early"),
        ("PATTERN (a) DEFINE b AS n > 1", "DEFINE names 'b'"),
        ("PATTERN (a) DEFINE a AS n > 1, a AS n > 2", "names a step twice"),
        ("PATTERN (a a)", "comes twice"),
        ("PATTERN (a{3,2})", "asks for nothing"),
        ("PATTERN (a{0})", "asks for nothing"),
        ("PATTERN (a->?)", "before a repetition"),
        ("PATTERN (a -> !b) DEFINE b AS n > 1", "needs within"),
        ("PATTERN (a) WITHIN 0s", "at least 1 ms"),
        ("AFTER MATCH SKIP TO LAST z PATTERN (a)", "skip names the step 'z'"),
        ("MEASURES SUM(a) AS x PATTERN (a)", "takes step.field"),
        ("MEASURES COUNT(z) AS x PATTERN (a)", "no step 'z'"),
        ("MEASURES lower(a) AS x PATTERN (a)", "a measure is made of"),
        ("PATTERN (a) DEFINE a AS n in COUNT(a)", "list of constants"),
        ("PATTERN (a) DEFINE a AS lower(kind) == FIRST(a.kind)", "can't be part of a condition on the match"),
    ],
)
def test_what_cannot_be_read_says_where(text: str, message: str):
    with pytest.raises(ConfigurationError, match=message):
        parse_pattern("p", text)


def test_files(tmp_path: Path):
    file = tmp_path / "patterns.yaml"
    file.write_text(
        """
patterns:
  - id: ab
    pattern: |
      PATTERN (a -> b) WITHIN 1m
      DEFINE a AS kind == "a", b AS kind == "b"
  - id: triple
    name: Three in a row
    pattern: PATTERN (x{3}) DEFINE x AS kind == "c"
"""
    )
    matcher = PatternMatcher(key="user")
    for pattern in load_patterns(file):
        matcher.register_pattern(pattern)
    assert [(p.id, p.name) for p in matcher.patterns] == [("ab", "ab"), ("triple", "Three in a row")]
    driver = TestDriver(source().detect(matcher))
    driver.send(rows("acccb"))
    driver.end()
    assert found(driver) == [("ab", [0, 4]), ("triple", [1, 2, 3])]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patterns: [{id: a}]", "pattern"),
        ("patterns: [{id: a, pattern: 'PATTERN (a', name: x}]", "pattern 'a': line 1"),
        ("patterns: [{id: a, pattern: PATTERN (x)}, {id: a, pattern: PATTERN (x)}]", "comes twice"),
        ("patterns: [{id: a, pattern: PATTERN (x), within: 3}]", "within"),
        ("patterns: [", "patterns"),
    ],
)
def test_files_that_are_refused(text: str, message: str):
    with pytest.raises(ConfigurationError, match=message):
        parse_patterns(text)


def test_a_field_that_the_events_lack_is_refused_before_anything_runs():
    with pytest.raises((PlanError, ConfigurationError), match="nowhere"):
        TestDriver(source().detect(parse_pattern("p", "PATTERN (a) DEFINE a AS nowhere == 1")))

"""The automaton as a picture, why a match is one, and dry runs."""

from __future__ import annotations

import re
from typing import Any

import polars as pl
import pytest
from tests.unit.cep.test_matcher import rows, source, steps

from thalweg.cep import Pattern, PatternBuilder, PatternMatcher
from thalweg.errors import ConfigurationError
from thalweg.streams.testing import TestDriver


def test_a_diagram_has_the_edges_of_the_automaton():
    pattern = steps("p", "a").one_or_more().greedy().until("kind == 'u'").next("z", "kind == 'z'")
    text = pattern.not_followed_by("n", "kind == 'n'").within("1s").build().diagram()
    assert text.startswith("flowchart LR\n    begin((start)) --> s")
    assert "-->|¬until p_a ∧ p_a|" in text
    assert '[/"no n, until the time is up"/]' in text
    nodes = set(re.findall(r"\bs\d+\b", text))
    assert all(re.search(rf"{node}(\[|\(|{{)", text) for node in nodes)


@pytest.mark.parametrize("text", ["(a | b c)+ -> d", "PERMUTE->(a, b, c)", "a !b -> c (d e){1,3}?"[:-1], "a->*? -> b"])
def test_every_kind_of_pattern_has_a_diagram(text: str):
    diagram = Pattern.parse("p", f"PATTERN ({text})").diagram()
    assert '(["match"])' in diagram
    assert all(re.fullmatch(r"    \S.* (-->|-\.->|==>)(\|.*\|)? .*", line) for line in diagram.splitlines()[1:])


def test_a_match_says_which_event_met_which_condition():
    told: list[Any] = []
    matcher = PatternMatcher(key="user")
    pattern = (
        PatternBuilder.create("p")
        .where("a", lambda e: e.kind == "a")
        .times(2)
        .not_followed_by("x", pl.col("kind") == "x")
        .where("b", 'kind == "b"')
        .where("any")
        .where("c", lambda e, m: e.n > m.first("a").n)
        .within("1m")
        .build()
    )
    matcher.register_pattern(pattern)
    matcher.on("match", told.append)
    found = matcher.process(rows("aabqc"))
    lines = told[0].explain().splitlines()
    assert lines == [
        "p: 0 to 4000",
        "  a 1/2: e.kind == 'a'  ←  kind='a', user='x', ts=0, n=0",
        "  a 2/2: e.kind == 'a'  ←  kind='a', user='x', ts=1000, n=1",
        "  b: kind == \"b\"  ←  kind='b', user='x', ts=2000, n=2",
        "  any: any event  ←  kind='q', user='x', ts=3000, n=3",
        "  c: <lambda>(event, match)  ←  kind='c', user='x', ts=4000, n=4",
        '  no x: [(col("kind")) == ("x")]',
        "  within 60000 ms: 4000 ms",
    ]
    assert matcher.explain(found.to_dicts()[0]).splitlines() == lines == pattern.explain(told[0]).splitlines()
    with pytest.raises(ConfigurationError, match="not among"):
        steps("other", "ab").build().explain(told[0])


def test_in_a_stream_handlers_get_matches_that_explain_themselves():
    told: list[Any] = []
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(steps("ab", "ab").build())
    matcher.on("match", told.append)
    driver = TestDriver(source().detect(matcher))
    driver.send(rows("ab"))
    driver.end()
    assert (told[0].key, told[0].timestamp, told[0].events.ab_b[0].n) == ("x", 1000, 1)
    assert "ab_b" in told[0].explain()


def test_a_dry_run_tells_how_near_patterns_come_and_leaves_nothing():
    called: list[Any] = []
    matcher = PatternMatcher(key="user")
    matcher.on("match", called.append)
    matcher.register_pattern(steps("ab", "ab").within("3s").build())
    quiet = PatternBuilder.create("quiet").where("q", "kind == 'q'").not_followed_by("r", "kind == 'r'").within("2s")
    matcher.register_pattern(quiet.build())
    matcher.register_pattern(PatternBuilder.create("up").where("u", lambda e, m: e.n == 3).build())
    events = rows("axxxaqb") + rows("b", user="y")
    run = matcher.dry_run(pl.DataFrame(events).reverse())
    assert run.events == 8
    assert run.matches["pattern"].to_list() == ["up", "ab", "quiet"]
    assert run.timed_out.select("pattern", "match_start").rows() == [("ab", 0)]
    assert run.met == {"ab": {"ab_a": 2, "ab_b": 2}, "quiet": {"q": 1, "r": 0}, "up": {"u": None}}
    assert run.reached == {"ab": {"ab_a": 2, "ab_b": 1}, "quiet": {"q": 1}, "up": {"u": 1}}
    assert run.open == 1
    assert run.report().splitlines()[:3] == [
        "8 events, 3 matches, 1 timed out",
        "ab: 1 matches",
        "  ab_a: 2 events, reached 2 times",
    ]
    assert called == []
    assert matcher.stats()["partial_matches"] == 0
    with pytest.raises(ConfigurationError, match="no column 'time'"):
        matcher.dry_run(events, timestamp="time")

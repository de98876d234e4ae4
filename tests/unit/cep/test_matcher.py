"""Patterns that come and go, measures, time by the clock, bounds, many conditions."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from thalweg import App
from thalweg.cep import AfterMatch, Contiguity, PatternBuilder, PatternMatcher
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams import DataStream, TimeSemantics
from thalweg.streams.testing import TestDriver

SCHEMA = {"kind": str, "user": str, "ts": int, "n": int}


def steps(pattern_id: str, kinds: str, **names: str) -> PatternBuilder:
    builder = PatternBuilder.create(pattern_id)
    for kind in kinds:
        builder.where(f"{pattern_id}_{kind}", pl.col("kind") == kind)
    return builder


def source() -> DataStream:
    return App("patterns").stream("in", schema=SCHEMA, timestamp="ts", watermark=0)


def rows(text: str, first: int = 0, user: str = "x") -> list[dict[str, Any]]:
    return [{"kind": k, "user": user, "ts": (first + n) * 1000, "n": first + n} for n, k in enumerate(text)]


def found(driver: TestDriver) -> list[tuple[str, list[int]]]:
    frame = driver.output()
    matches = frame.to_dicts() if frame.height else []
    return sorted((m["pattern"], [e["n"] for es in m["events"].values() for e in es or ()]) for m in matches)


# -- patterns that come and go


def running(*patterns: PatternBuilder, key: str = "user") -> tuple[PatternMatcher, TestDriver]:
    matcher = PatternMatcher(key=key)
    for pattern in patterns:
        matcher.register_pattern(pattern.build())
    return matcher, TestDriver(source().detect(matcher))


def test_patterns_are_added_replaced_and_removed_while_others_go_on():
    matcher, driver = running(steps("ab", "ab"), steps("ac", "ac"))
    driver.send(rows("ax"))
    matcher.register_pattern(steps("ad", "ad").build())
    matcher.replace_pattern(steps("ac", "aec").build())
    driver.send(rows("axbdecx", first=2))
    # ab went on with event 0; ad and the new ac know what came since.
    assert found(driver) == [("ab", [0, 4]), ("ac", [2, 6, 7]), ("ad", [2, 5])]
    matcher.remove_pattern("ab")
    driver.send(rows("abdx", first=9))
    assert found(driver) == [("ad", [9, 11])]


@pytest.mark.parametrize("loop", [False, True])
def test_a_pattern_of_the_same_structure_takes_the_partial_matches_over(loop: bool):
    def two(second: str, name: str = "second") -> PatternBuilder:
        builder = PatternBuilder.create("p").where("first", pl.col("kind") == "a")
        return (
            builder.one_or_more().where(name, pl.col("kind") == second)
            if loop
            else builder.where(name, pl.col("kind") == second)
        )

    matcher, driver = running(two("b"))
    driver.send(rows("ax"))
    matcher.replace_pattern(two("c").build())
    driver.send(rows("bcax", first=2))
    assert found(driver) == [("p", [0, 3])]
    matcher.replace_pattern(two("c", "other").build())  # another structure
    driver.send(rows("cx", first=6))
    assert found(driver) == []


def test_a_removed_patterns_partial_matches_leave_the_state(caplog: pytest.LogCaptureFixture):
    matcher, driver = running(steps("ab", "ab").within("1h"), steps("ac", "ac").within("1h"))
    driver.send(rows("ax"))
    before = driver.snapshot()
    matcher.remove_pattern("ab")
    driver.send(rows("x", first=2))
    after = driver.snapshot()
    again = TestDriver(source().detect(matcher))
    with caplog.at_level("WARNING"):
        again.restore(before, after)
    assert not caplog.records
    assert matcher.stats() == {"partial_matches": 2, "partial_matches_dropped": 0, "events": 2, "keys": 2}


def test_waiting_events_are_asked_by_the_patterns_of_the_moment():
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(steps("ab", "ab").build())
    stream = App("p").stream("in", schema=SCHEMA, timestamp="ts", watermark=10_000).detect(matcher)
    driver = TestDriver(stream)
    driver.send(rows("aab"))
    matcher.register_pattern(steps("aa", "a").times(2).build())
    driver.end()
    assert found(driver) == [("aa", [0, 1]), ("ab", [0, 2])]


def test_what_does_not_fit_is_refused_where_it_is_registered():
    matcher, _ = running(steps("ab", "ab"))
    with pytest.raises(PlanError, match="nowhere"):
        matcher.register_pattern(PatternBuilder.create("q").where("a", pl.col("nowhere") == 1).build())
    with pytest.raises(ConfigurationError, match="registered already"):
        matcher.register_pattern(steps("ab", "a").build())
    with pytest.raises(ConfigurationError, match="no pattern 'zz'"):
        matcher.replace_pattern(steps("zz", "a").build())
    with pytest.raises(ConfigurationError, match="only pattern"):
        matcher.remove_pattern("ab")
    assert [pattern.id for pattern in matcher.patterns] == ["ab"]


def test_by_itself_a_matcher_takes_new_patterns_too():
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(steps("ab", "ab").build())
    assert matcher.process(rows("a")).is_empty()
    matcher.register_pattern(steps("bc", "bc").build())
    assert matcher.process(rows("bc", first=1))["pattern"].to_list() == ["ab", "bc"]


# -- measures


def test_measures_are_columns():
    pattern = (
        steps("m", "ab")
        .one_or_more()
        .where("c", pl.col("kind") == "c")
        .optional()
        .measures(
            total=lambda m: m.sum("m_b", "n"),
            count=lambda m: m.count("m_b"),
            first=lambda m: m.first("m_a").n,
            mean=lambda m: m.avg("m_b", "n"),
            spread=lambda m: m.max("m_b", "n") - m.min("m_b", "n"),
            left_out=lambda m: m.last("c")["kind"],
            ms=lambda m: m.duration,
        )
        .skip(AfterMatch.NO_SKIP)
        .build()
    )
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(pattern)
    matcher.register_pattern(steps("plain", "a").build())
    stream = source().detect(matcher)
    driver = TestDriver(stream)
    driver.send(rows("abb"))
    driver.end()
    out = driver.output().drop("events", "match_start", "match_end", "user")
    assert out.columns == ["pattern", "total", "count", "first", "mean", "spread", "left_out", "ms"]
    assert out.sort("pattern", "ms").rows() == [
        ("m", 1, 1, 0, 1.0, 0, None, 1000),
        ("m", 3, 2, 0, 1.5, 1, None, 2000),
        ("plain", None, None, None, None, None, None, None),
    ]
    assert stream.schema is not None
    assert {name: stream.schema[name] for name in out.columns} == dict(out.schema)


def test_measures_that_cannot_be_are_refused():
    with pytest.raises(ConfigurationError, match="no step 'zz'"):
        steps("m", "ab").measures(x=lambda m: m.first("zz").n).build()
    with pytest.raises(ConfigurationError, match="result column"):
        steps("m", "ab").measures(events=lambda m: m.count("m_a")).build()
    with pytest.raises(ConfigurationError, match="not an expression"):
        steps("m", "ab").measures(x=lambda m: 3).build()
    with pytest.raises(ConfigurationError, match="the measure 'x'"):
        steps("m", "ab").measures(x=lambda m: 1 if m.count("m_a") > 1 else 2).build()
    with pytest.raises(PlanError, match="nowhere"):
        TestDriver(source().detect(steps("m", "ab").measures(x=lambda m: m.first("m_a").nowhere).build()))
    pattern = steps("m", "ab").measures(user=lambda m: m.first("m_a").n).build()
    with pytest.raises(ConfigurationError, match="key column"):
        TestDriver(source().key_by("user").detect(pattern))


# -- time by the clock


def test_processing_time_takes_events_as_they_come():
    matcher = PatternMatcher(key="user", time_semantics=TimeSemantics.PROCESSING_TIME)
    matcher.register_pattern(steps("ab", "ab").within("3s").build())
    silence = steps("quiet", "a").not_followed_by("b", pl.col("kind") == "b").within("3s")
    matcher.register_pattern(silence.build())
    driver = TestDriver(source().detect(matcher))
    backwards = rows("a", first=50)
    driver.send(backwards)
    assert driver.output().is_empty()
    driver.advance_clock(1_000)
    driver.send(rows("b", first=1))
    assert found(driver) == [("ab", [50, 1])]
    driver.send(rows("a", first=7))
    driver.advance_clock(3_999)
    assert found(driver) == []
    driver.advance_clock(4_000)
    out = driver.output(reserved=True)
    assert out.select("pattern", "match_start", "__ts").rows() == [("quiet", 1_000, 4_000)]
    assert driver.late().is_empty()
    assert all(account.closes for account in driver.accounts().values())


def test_processing_time_survives_a_crash():
    def started() -> TestDriver:
        matcher = PatternMatcher(key="user", time_semantics=TimeSemantics.PROCESSING_TIME)
        matcher.register_pattern(steps("ab", "ab").within("3s").build())
        return TestDriver(source().detect(matcher))

    driver = started()
    driver.advance_clock(500)
    driver.send(rows("a"))
    saved, driver = driver.snapshot(), started()
    driver.restore(saved)
    driver.advance_clock(3_499)
    driver.send(rows("b", first=1))
    assert found(driver) == [("ab", [0, 1])]


# -- bounds


@pytest.mark.parametrize("iterative", [False, True])
def test_a_key_has_no_more_partial_matches_than_it_may(iterative: bool):
    matcher = PatternMatcher(key="user", max_partial_matches=3)
    a = (lambda e, m: e.kind == "a") if iterative else pl.col("kind") == "a"
    builder = PatternBuilder.create("p").where("a", a).where("b", pl.col("kind") == "b")
    matcher.register_pattern(builder.skip(AfterMatch.NO_SKIP).build())
    driver = TestDriver(source().detect(matcher), batch_size=2)
    driver.send(rows("aaaaaaaab") + rows("ab", first=9, user="y"))
    driver.end()
    assert found(driver) == [("p", [5, 8]), ("p", [6, 8]), ("p", [7, 8]), ("p", [9, 10])]
    assert matcher.stats()["partial_matches_dropped"] == 5


# -- many patterns


def test_a_hundred_patterns_share_their_conditions():
    kinds = [f"k{n}" for n in range(150)]
    matcher = PatternMatcher(key="user")
    for n in range(100):
        builder = PatternBuilder.create(f"p{n}")
        for step in range(3):
            builder.where(f"p{n}s{step}", pl.col("kind") == kinds[(n + step) % 150])
        if n % 2:
            builder.one_or_more()
        matcher.register_pattern(builder.build())
    for batch_size in (None, 7):
        driver = TestDriver(source().detect(matcher), batch_size=batch_size)
        events = [{"kind": kind, "user": user, "ts": n, "n": n} for n, kind in enumerate(kinds) for user in "xy"]
        driver.send(events)
        driver.end()
        assert sorted(found(driver)) == sorted((f"p{n}", [n, n + 1, n + 2]) for n in range(100) for _ in "xy")


# -- what the builder refuses


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda p: p.any_of(("a", None)), "two branches"),
        (lambda p: p.any_of(("a", 1), ("b", 1), contiguity=Contiguity.NOT_NEXT), "can't be not_next"),
        (lambda p: p.any_of(("a", 1), PatternBuilder.create("q").where("b", 1).optional()), "may be left out"),
        (lambda p: p.permutation(PatternBuilder.create("q").where("b", 1)), "two steps or more"),
        (lambda p: p.permutation(PatternBuilder.create("q").where("b", 1).where("c", 2).next("d", 3)), "same cont"),
        (lambda p: p.permutation(PatternBuilder.create("q").where("b", 1).where("c", 1).optional()), "none may be"),
        (lambda p: p.any_of(("a", 1), ("b", 1)).one_or_more().greedy(), "greedy does not apply"),
    ],
)
def test_alternatives_that_cannot_be_are_refused(build: Any, message: str):
    with pytest.raises(ConfigurationError, match=message):
        build(PatternBuilder.create("p"))

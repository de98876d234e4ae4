"""Patterns that were changed while a job ran: kept with its state, whatever they were changed to and from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from thalweg import App
from thalweg.cep import Pattern, PatternBuilder, PatternMatcher
from thalweg.cep.changes import SCHEMA, frame_of, read
from thalweg.streams.testing import TestDriver


def steps(id: str, kinds: str, name: str | None = None) -> Pattern:
    builder = PatternBuilder.create(id, name or f"pattern {id}")
    for number, kind in enumerate(kinds):
        builder.where(f"s{number}", pl.col("kind") == kind)
    return builder.within("10s").build()


def job(*patterns: Pattern) -> tuple[PatternMatcher, TestDriver]:
    """A job, or the same job again after a restart of its program."""
    matcher = PatternMatcher(key="user")
    for pattern in patterns:
        matcher.register_pattern(pattern)
    stream = App("a").stream("s", schema={"kind": str, "user": str, "ts": int}, timestamp="ts", watermark=0)
    return matcher, TestDriver(stream.detect(matcher))


def send(driver: TestDriver, kinds: str, start: int) -> None:
    rows: list[dict[str, Any]] = [{"kind": kind, "user": "u", "ts": start + n} for n, kind in enumerate(kinds)]
    driver.send(rows)


def found(driver: TestDriver) -> list[tuple[str, int]]:
    return driver.output().select("pattern", "match_start").rows()


def changed(matcher: PatternMatcher, driver: TestDriver) -> None:
    matcher.register_pattern(steps("new", "xy"))
    matcher.replace_pattern(steps("replaced", "cd", "better"))
    matcher.remove_pattern("removed")
    send(driver, "xca", 0)


PROGRAM = (steps("kept", "ab"), steps("replaced", "cb"), steps("removed", "ab"))


@pytest.mark.parametrize("order", [("kept", "replaced", "removed"), ("removed", "kept", "replaced")])
def test_a_restarted_program_goes_on_with_the_changed_patterns_and_their_partial_matches(order: tuple[str, ...]):
    matcher, driver = job(*PROGRAM)
    send(driver, "z", 0)
    first = driver.snapshot()
    changed(matcher, driver)
    again, restarted = job(*(next(p for p in PROGRAM if p.id == id) for id in order))
    restarted.restore(first, driver.snapshot())
    send(restarted, "ydbz", 10)
    assert sorted(found(restarted)) == [("kept", 2), ("new", 0), ("replaced", 1)]
    assert {p.id: p.name for p in again.patterns} == {
        "kept": "pattern kept",
        "new": "pattern new",
        "replaced": "better",
    }


def test_changes_outlive_a_second_restart_and_can_be_taken_back():
    matcher, driver = job(*PROGRAM)
    changed(matcher, driver)
    snapshots = [driver.snapshot()]
    again, restarted = job(*PROGRAM)
    restarted.restore(*snapshots)
    again.remove_pattern("new")
    again.register_pattern(steps("removed", "ab"))
    send(restarted, "z", 20)
    snapshots.append(restarted.snapshot())
    third, _driver = job(*PROGRAM)
    _driver.restore(*snapshots)
    assert sorted(p.id for p in third.patterns) == ["kept", "removed", "replaced"]


def test_what_the_program_has_changed_since_counts(caplog: pytest.LogCaptureFixture):
    matcher, driver = job(*PROGRAM)
    changed(matcher, driver)
    again, restarted = job(steps("kept", "ab"), steps("replaced", "zz"), steps("new", "qq"))
    with caplog.at_level("ERROR"):
        restarted.restore(driver.snapshot())
    assert [pattern.describe() for pattern in again.patterns] == [
        steps("kept", "ab").describe(), steps("replaced", "zz").describe(), steps("new", "qq").describe()
    ]  # fmt: skip
    assert [str(p.steps[0].condition) for p in again.patterns[1:]] == [  # type: ignore[union-attr]
        str(pl.col("kind") == kind) for kind in "zq"
    ]
    assert caplog.text.count("the program has another pattern of that id than it had") == 2


@pytest.mark.parametrize(
    "condition", [lambda e: {"a": True}.get(e.kind, False), lambda e, m: e.kind == "a" and m.count("s") == 0]
)
def test_a_pattern_that_has_no_text_is_said_not_to_be_kept(
    condition: Callable[..., Any], caplog: pytest.LogCaptureFixture
):
    matcher, driver = job(*PROGRAM)
    with caplog.at_level("WARNING"):
        matcher.register_pattern(PatternBuilder.create("python").where("s", condition).build())
    assert "pattern 'python' is not kept with the state" in caplog.text
    send(driver, "az", 0)
    assert ("python", 0) in found(driver)
    again, restarted = job(*PROGRAM)
    restarted.restore(driver.snapshot())
    assert [pattern.id for pattern in again.patterns] == [pattern.id for pattern in PROGRAM]


def test_what_no_longer_fits_the_events_is_left_out(caplog: pytest.LogCaptureFixture):
    matcher, driver = job(*PROGRAM)
    matcher.register_pattern(Pattern.parse("odd", 'PATTERN (a) DEFINE a AS user == "q"'))
    send(driver, "z", 0)
    again = PatternMatcher(key="who")
    again.register_pattern(steps("kept", "ab"))
    other = App("a").stream("s", schema={"kind": str, "who": str, "ts": int}, timestamp="ts", watermark=0)
    stream = other.detect(again)
    TestDriver(stream)
    with caplog.at_level("ERROR"):
        again.recover(matcher.changes())
    assert [pattern.id for pattern in again.patterns] == ["kept"]
    assert "pattern 'odd' stays as the program has it" in caplog.text


def test_of_several_workers_the_newest_change_counts():
    one, other = (job(*PROGRAM)[0] for _ in range(2))
    for matcher in (one, other):
        matcher.replace_pattern(steps("kept", "ac"))
    other.replace_pattern(steps("kept", "ad"))
    frames = [frame_of(one.changes()), frame_of(other.changes())]
    key_group = next(name for name in frames[0].columns if name not in SCHEMA)
    half = pl.col(key_group) < 64
    kept = read([frames[0].filter(half), frames[1].filter(~half)])
    assert [(change.id, "'d'" in str(change.text) or '"d"' in str(change.text)) for change in kept] == [("kept", True)]

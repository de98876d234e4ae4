"""Loops, options and gaps against a search by definition; absence, timeouts, skips; crashes and splits in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import App
from thalweg.cep import AfterMatch, Pattern, PatternBuilder
from thalweg.cep.sequence.slots import linear_steps
from thalweg.streams import DataStream
from thalweg.streams.testing import TestDriver

SCHEMA = {"kind": str, "user": str, "ts": int, "n": int}


class Shape(NamedTuple):
    """A step of a drawn pattern."""

    kind: str
    how: str
    minimum: int
    maximum: int | None
    optional: bool
    inner: str


Path = tuple[tuple[int, int], ...]
"""(step, position) of each event of a match."""


def search(kinds: list[str], steps: list[Shape]) -> Iterator[Path]:
    """Every match of the definition, each once."""
    for start in range(len(kinds)):
        if kinds[start] == steps[0].kind:
            yield from _after(kinds, steps, 0, 1, ((0, start),))


def _after(kinds: list[str], steps: list[Shape], step: int, count: int, path: Path) -> Iterator[Path]:
    """All matches that begin with this path, whose last event is number `count` of its step."""
    shape = steps[step]
    if count >= shape.minimum:
        following = step + 1
        while following < len(steps):
            for at in _reach(kinds, path, steps[following].kind, steps[following].how):
                yield from _after(kinds, steps, following, 1, (*path, (following, at)))
            if not steps[following].optional:
                break
            following += 1
        else:
            yield path
    if shape.maximum is None or count < shape.maximum:
        for at in _reach(kinds, path, shape.kind, shape.inner):
            yield from _after(kinds, steps, step, count + 1, (*path, (step, at)))


def _reach(kinds: list[str], path: Path, kind: str, how: str) -> list[int]:
    """Where the next event of this kind may be."""
    after = path[-1][1] + 1
    if how == "strict":
        return [after] if kinds[after : after + 1] == [kind] else []
    fitting = [at for at in range(after, len(kinds)) if kinds[at] == kind]
    return fitting if how == "any" else fitting[:1]


def pattern_of(steps: list[Shape], within: int | None = None, gap: int | None = None) -> Pattern:
    builder = PatternBuilder.create("p").skip(AfterMatch.NO_SKIP)
    for number, shape in enumerate(steps):
        add = {"strict": builder.next, "relaxed": builder.followed_by, "any": builder.followed_by_any}[shape.how]
        add(f"s{number}", pl.col("kind") == shape.kind)
        if shape.maximum is None:
            builder.times_or_more(shape.minimum)
        elif shape.maximum > 1:
            builder.times(shape.minimum, shape.maximum)
        if shape.optional and number:
            builder.optional()
        if shape.maximum != 1 and shape.inner != "relaxed":
            builder.consecutive() if shape.inner == "strict" else builder.allow_combinations()
    if within is not None:
        builder.within(within)
    if gap is not None:
        builder.max_gap(gap)
    return builder.build()


def stream_of(*patterns: Pattern) -> DataStream:
    from thalweg.cep import PatternMatcher

    matcher = PatternMatcher(key="user")
    for pattern in patterns:
        matcher.register_pattern(pattern)
    return App("patterns").stream("in", schema=SCHEMA, timestamp="ts", watermark=0).key_by("user").detect(matcher)


def events(text: str, user: str = "x", first: int = 0) -> list[dict[str, Any]]:
    """One event per letter, a second apart."""
    return [{"kind": k, "user": user, "ts": (first + n) * 1000, "n": first + n} for n, k in enumerate(text)]


def run(
    stream: DataStream, rows: list[dict[str, Any]], *, batch_size: int | None = None, crash: int | None = None
) -> pl.DataFrame:
    driver = TestDriver(stream, batch_size=batch_size)
    driver.send(rows[:crash])
    frames = [driver.output()]
    if crash is not None:
        saved, driver = driver.snapshot(), TestDriver(stream, batch_size=batch_size)
        driver.restore(saved)
        driver.send(rows[crash:])
    driver.end()
    frames.append(driver.output())
    assert all(account.closes for account in driver.accounts().values())
    return pl.concat([f for f in frames if f.height] or frames[:1])


def paths(found: pl.DataFrame) -> Counter[Path]:
    matches = found.get_column("events").to_list() if found.height else []
    return Counter(
        tuple((int(step[1:]), event["n"]) for step, taken in match.items() for event in taken) for match in matches
    )


def texts(found: pl.DataFrame) -> list[str]:
    """Matches as `step:n,n step:n`, sorted."""
    matches = found.get_column("events").to_list() if found.height else []
    return sorted(
        " ".join(f"{s}:{','.join(str(e['n']) for e in taken)}" for s, taken in m.items() if taken) for m in matches
    )


hows = st.sampled_from(["strict", "relaxed", "any"])
shapes = st.builds(
    lambda kind, how, minimum, more, optional, inner: Shape(
        kind, how, minimum, None if more is None else minimum + more, optional, inner
    ),
    st.sampled_from("ab"),
    hows,
    st.integers(1, 2),
    st.sampled_from([0, 0, 1, None]),
    st.booleans(),
    hows,
)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(shapes, min_size=1, max_size=3), text=st.text("abc", max_size=8), data=st.data())
def test_the_matches_are_those_of_the_definition(steps: list[Shape], text: str, data: st.DataObject):
    steps[0] = steps[0]._replace(optional=False)
    stream = stream_of(pattern_of(steps))
    batch_size = data.draw(st.sampled_from([None, 1, 3]))
    crash = data.draw(st.none() | st.integers(0, len(text)))
    if text:
        found = run(stream, events(text), batch_size=batch_size, crash=crash)
        assert paths(found) == Counter(search(list(text), steps))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(shapes, min_size=2, max_size=3),
    text=st.text("abc", min_size=1, max_size=8),
    within=st.integers(500, 6000),
    gap=st.integers(500, 4000),
)
def test_within_and_max_gap_leave_the_matches_that_fit(steps: list[Shape], text: str, within: int, gap: int):
    steps[0] = steps[0]._replace(optional=False)
    found = paths(run(stream_of(pattern_of(steps, within, gap)), events(text), batch_size=1))

    def fits(path: Path) -> bool:
        at = [place * 1000 for _, place in path]
        return at[-1] - at[0] < within and all(b - a < gap for a, b in pairwise(at))

    assert found == Counter(path for path in search(list(text), steps) if fits(path))


# -- what must not come


def absence(within: str = "5s") -> Pattern:
    paid = pl.col("kind") == "p"
    return (
        PatternBuilder.create("unpaid")
        .where("order", pl.col("kind") == "o")
        .not_followed_by("paid", paid)
        .within(within)
        .build()
    )


def test_an_absence_at_the_end_is_known_when_within_has_passed():
    stream = stream_of(absence())
    driver = TestDriver(stream)
    driver.send(events("o") + events("op", "y"))
    driver.advance_watermark(4999)
    assert driver.output().is_empty()
    driver.advance_watermark(5000)
    found = driver.output(reserved=True)
    assert texts(found) == ["order:0"]
    assert found.select("user", "match_start", "match_end", "__ts").row(0) == ("x", 0, 0, 5000)


def test_an_absence_survives_a_crash():
    assert texts(run(stream_of(absence()), events("oxox"), crash=2)) == ["order:0", "order:2"]


def test_not_next_asks_the_next_event_only():
    a, b = (pl.col("kind") == kind for kind in "ab")
    pattern = PatternBuilder.create("p").where("a", a).not_next("b", b).build()
    assert texts(run(stream_of(pattern), events("abacb"))) == ["a:2"]


def test_not_followed_by_holds_until_the_next_step():
    a, b, c = (pl.col("kind") == kind for kind in "abc")
    pattern = PatternBuilder.create("p").where("a", a).not_followed_by("b", b).followed_by("c", c).build()
    assert texts(run(stream_of(pattern), events("axcabc"))) == ["a:0 c:2"]


# -- skips, greed, groups, iterative conditions, by example


@pytest.mark.parametrize(
    ("skip", "expected"),
    [
        (AfterMatch.NO_SKIP, ["a:0 b:1", "a:0 b:1,2", "a:0 b:1,2,3"]),
        (AfterMatch.TO_NEXT, ["a:0 b:1"]),
        (AfterMatch.PAST_LAST, ["a:0 b:1"]),
    ],
)
def test_what_a_match_ends(skip: AfterMatch, expected: list[str]):
    a, b = (pl.col("kind") == kind for kind in "ab")
    pattern = PatternBuilder.create("p").where("a", a).followed_by("b", b).one_or_more().skip(skip).build()
    assert texts(run(stream_of(pattern), events("abbb"))) == expected


def test_skipping_to_a_step_that_has_no_event_can_be_an_error():
    a, b = (pl.col("kind") == kind for kind in "ab")
    skip = AfterMatch.to_first("b", required=True)
    pattern = PatternBuilder.create("p").where("a", a).followed_by("b", b).optional().skip(skip).build()
    with pytest.raises(Exception, match="no event for step 'b'"):
        run(stream_of(pattern), events("a"))


def test_a_condition_may_ask_for_the_partial_match():
    pattern = (
        PatternBuilder.create("rising")
        .where("up", lambda e, m: m.last("up") is None or e.n > 2 * m.last("up").n)
        .times(3)
        .build()
    )
    assert linear_steps(pattern) is None
    assert texts(run(stream_of(pattern), events("xxxxxxxxxx", first=1), crash=4)) == ["up:1,3,7"]


def test_groups_repeat_as_one():
    a, b, c = (pl.col("kind") == kind for kind in "abc")
    pair = PatternBuilder.create("pair").where("a", a).followed_by("b", b)
    pattern = PatternBuilder.create("p").group(pair).times(2).followed_by("c", c).build()
    assert texts(run(stream_of(pattern), events("abxabc"), batch_size=1)) == ["a:0,3 b:1,4 c:5"]


# -- time that runs out


def test_timeouts_leave_by_their_own_port():
    a, b = (pl.col("kind") == kind for kind in "ab")
    pattern = PatternBuilder.create("p").where("a", a).times(2).followed_by("b", b).within("3s").build()
    for crash in (None, 2):
        stream = stream_of(pattern)
        timeouts = stream.port("timeout")
        driver = TestDriver(stream, timeouts)
        rows = events("aacaab")
        driver.send(rows[:crash])
        frames = [driver.output(timeouts, reserved=True)]
        if crash is not None:
            saved, driver = driver.snapshot(), TestDriver(stream, timeouts)
            driver.restore(saved)
            driver.send(rows[crash:])
        driver.end()
        frames.append(driver.output(timeouts, reserved=True))
        found = pl.concat([f for f in frames if f.height])
        assert texts(found) == ["a:0,1", "a:1,3"]
        assert found.get_column("__ts").to_list() == [3000, 4000]
        assert texts(driver.output(stream)) == ["a:3,4 b:5"]

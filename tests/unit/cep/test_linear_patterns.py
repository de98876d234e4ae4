"""Lines of steps against a plain reference: any batch split, two partitions, a crash in between; late rows."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import App
from thalweg.cep import AfterMatch, Pattern, PatternBuilder, PatternMatcher
from thalweg.streams import DataStream
from thalweg.streams.testing import TestDriver

BOUND = 50
Shape = tuple[list[tuple[str, bool]], int | None, bool]


def reference(rows: list[dict[str, Any]], slots: list[tuple[str, bool]], within: int | None, skip: bool) -> list[Any]:
    """By definition, not by automaton: every start has at most one run; of overlapping runs the first to end counts.

    `slots` are (kind, strict); `rows` are in order of time.
    """
    found = []
    for key in {row["user"] for row in rows}:
        own = [row for row in rows if row["user"] == key]
        runs = [run for start in range(len(own)) if (run := _run(own, start, slots, within))]
        last = -1
        for run in sorted(runs, key=lambda run: (run[-1], run[0])):
            if not skip or run[0] > last:
                last = run[-1]
                found.append((key, tuple(own[place]["n"] for place in run)))
    return sorted(found, key=repr)


def _run(own: list[dict[str, Any]], start: int, slots: list[tuple[str, bool]], within: int | None) -> list[int] | None:
    if own[start]["kind"] != slots[0][0]:
        return None
    run = [start]
    for kind, strict in slots[1:]:
        reach = own[run[-1] + 1 : run[-1] + 2] if strict else own[run[-1] + 1 :]
        step = next((i for i, row in enumerate(reach) if row["kind"] == kind), None)
        if step is None:
            return None
        run.append(run[-1] + 1 + step)
    if within is not None and own[run[-1]]["ts"] - own[start]["ts"] >= within:
        return None
    return run


def pattern_of(shape: Shape) -> Pattern:
    slots, within, skip = shape
    builder = PatternBuilder.create("p")
    for number, (kind, strict) in enumerate(slots):
        condition = pl.col("kind") == kind
        name = f"s{number}"
        builder = builder.next(name, condition) if strict and number else builder.followed_by(name, condition)
    if within is not None:
        builder = builder.within(within)
    return builder.skip(AfterMatch.PAST_LAST if skip else AfterMatch.NO_SKIP).build()


def detect(pattern: Pattern) -> DataStream:
    schema = {"kind": str, "user": str, "ts": int, "n": int}
    stream = App("patterns").stream("in", schema=schema, timestamp="ts", watermark=BOUND)
    return stream.key_by("user").detect(pattern)


def matches_of(frames: list[pl.DataFrame]) -> list[Any]:
    rows = [row for frame in frames if frame.height for row in frame.to_dicts()]
    return sorted(((r["user"], tuple(e["n"] for es in r["events"].values() for e in es)) for r in rows), key=repr)


shapes = st.tuples(
    st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), min_size=1, max_size=4),
    st.none() | st.integers(1, 200),
    st.booleans(),
)
# Distinct times: between partitions, the order of equal ones is the engine's own.
events = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from("abc"), st.sampled_from(["x", "y", None]), st.integers(0, 1)),
    max_size=40,
)


def rows_of(drawn: list[tuple[int, str, str | None, int]]) -> list[dict[str, Any]]:
    rows, time = [], 0
    for n, (pause, kind, user, partition) in enumerate(drawn):
        time += pause + 1
        rows.append({"kind": kind, "user": user, "ts": time, "n": n, "partition": partition})
    return rows


def feed(driver: TestDriver, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        driver.send([{name: row[name] for name in ("kind", "user", "ts", "n")}], partition=row["partition"])


@settings(max_examples=60, deadline=None)
@given(shape=shapes, drawn=events, data=st.data())
def test_any_split_order_and_crash_gives_the_matches_of_the_definition(shape: Shape, drawn: Any, data: st.DataObject):
    rows = rows_of(drawn)
    expected = reference(rows, *shape)
    out = detect(pattern_of(shape))

    plain = [{name: row[name] for name in ("kind", "user", "ts", "n")} for row in rows]
    if plain:
        whole = TestDriver(out, batch_size=data.draw(st.sampled_from([None, 1, 7])))
        whole.send(plain)
        whole.end()
        assert matches_of([whole.output()]) == expected

    # Each row moved by less than the bound from its place: in time for every partition.
    shifts = data.draw(st.lists(st.integers(0, BOUND - 1), min_size=len(rows), max_size=len(rows)))
    arriving = [row for _, row in sorted(zip(shifts, rows, strict=True), key=lambda pair: pair[0] + pair[1]["ts"])]
    cut = data.draw(st.integers(0, len(rows)))
    driver = TestDriver(out, partitions=2)
    feed(driver, arriving[:cut])
    frames = [driver.output()]
    snapshot = driver.snapshot()
    driver = TestDriver(out, partitions=2)
    driver.restore(snapshot)
    feed(driver, arriving[cut:])
    driver.end()
    frames.append(driver.output())
    assert matches_of(frames) == expected
    assert driver.late().is_empty()
    assert all(account.closes for account in driver.accounts().values())


def test_rows_behind_their_partitions_watermark_are_late_and_match_nothing():
    driver = TestDriver(detect(pattern_of(([("a", False), ("b", False)], None, True))))
    driver.send([{"kind": "a", "user": "x", "ts": t, "n": n} for n, t in enumerate([1000, 1000 - BOUND])])
    driver.send([{"kind": "b", "user": "x", "ts": 1000 - BOUND - 1, "n": 2}])
    driver.end()
    assert driver.output().is_empty()
    assert driver.late()["n"].to_list() == [2]
    assert all(account.closes for account in driver.accounts().values())


def test_a_match_ends_strictly_before_within_has_passed():
    for last, found in ((1099, 1), (1100, 0)):
        driver = TestDriver(detect(pattern_of(([("a", False), ("b", False)], 100, True))))
        driver.send([{"kind": "a", "user": "x", "ts": 1000, "n": 0}, {"kind": "b", "user": "x", "ts": last, "n": 1}])
        driver.end()
        assert driver.output().height == found


def test_handlers_read_the_events_of_each_step_by_name():
    seen = []
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(PatternBuilder.create("bf").where("failed", pl.col("ok") == False).times(2).build())  # noqa: E712
    matcher.on("match", seen.append)
    events = [{"ts": 1, "user": "x", "ok": False}, {"ts": 2, "user": "x", "ok": False}]
    result = matcher.process(events)
    assert result.height == 1
    assert [event.ts for event in seen[0].events["failed"]] == [1, 2]
    assert (seen[0].pattern, seen[0].user, seen[0].match_start, seen[0].match_end) == ("bf", "x", 1, 2)


def test_a_field_that_the_stream_lacks_is_refused_before_anything_runs():
    pattern = PatternBuilder.create("p").where("a", pl.col("nowhere") == 1).build()
    with pytest.raises(Exception, match="nowhere"):
        TestDriver(detect(pattern))

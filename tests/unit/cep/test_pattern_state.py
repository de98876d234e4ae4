"""What a detect step keeps, for how long, and what of it can be handed over."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import polars as pl
import pytest

from thalweg import App
from thalweg.cep import Pattern, PatternBuilder, PatternMatcher
from thalweg.cep.sequence.conditions import Conditions
from thalweg.cep.sequence.keys import KeyCodes
from thalweg.cep.sequence.operator import Detect
from thalweg.streams import DataStream
from thalweg.streams.batch import KEY_GROUP, TIMESTAMP, WATERMARK, Batch, Watermark
from thalweg.streams.operator import StateDelta
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.testing import TestDriver

SCHEMA = pl.Schema({"kind": pl.String(), "user": pl.String(), "ts": pl.Int64(), "n": pl.Int64()})


def two(within: str | None = "10s", loop: bool = False) -> Pattern:
    a, b = (pl.col("kind") == kind for kind in "ab")
    builder = PatternBuilder.create("two").where("a", a)
    if loop:
        builder.one_or_more()
    builder.followed_by("b", b)
    if within is not None:
        builder.within(within)
    return builder.build()


def detect_of(*patterns: Pattern, keys: tuple[str, ...] = ("user",)) -> Detect:
    return Detect("detect", patterns, keys, Conditions(patterns, SCHEMA))


def send(operator: Detect, rows: list[tuple[str, str | None, int]]) -> list[pl.DataFrame]:
    """Rows (kind, user, time), in order of time; the watermark follows."""
    frame = pl.DataFrame(
        [{"kind": kind, "user": user, "ts": time, "n": n} for n, (kind, user, time) in enumerate(rows)], schema=SCHEMA
    )
    found = list(
        operator.on_batch(Batch(frame.with_columns(pl.col("ts").alias(TIMESTAMP), pl.col("ts").alias(WATERMARK))))
    )
    return [batch.frame for batch in (*found, *advance(operator, rows[-1][2] + 1))]


def advance(operator: Detect, time: int) -> list[Batch]:
    return list(operator.on_watermark(Watermark(time, time)))


def state_of(*deltas: StateDelta, groups: range = range(128)) -> dict[str, list[pl.DataFrame]]:
    """What the engine would give back of some deltas, of these key groups."""
    state: dict[str, list[pl.DataFrame]] = {}
    for delta in deltas:
        if delta.full:
            state.clear()
        for name in delta.drops:
            state.pop(name, None)
        for name, frame in delta.puts:
            kept = frame.filter(pl.col(KEY_GROUP).is_in(list(groups)))
            if kept.height:
                state.setdefault(name, []).append(kept)
    return state


@pytest.mark.parametrize("loop", [False, True])
def test_idle_keys_leave_nothing_behind(loop: bool):
    operator = detect_of(two(loop=loop))
    for second in range(60):
        send(operator, [("a", f"user-{second}-{n}", second * 1000 + n) for n in range(500)])
        operator.snapshot()
    engine = operator.engine
    assert 5_000 <= engine.alive <= 7_000
    assert engine.store.rows < 20_000
    assert len(engine.codes) < 25_000
    advance(operator, 100_000)
    advance(operator, 200_000)
    assert engine.alive == 0
    assert engine.store.rows <= 4_096
    assert len(engine.codes) <= 2_048
    operator.snapshot()
    send(operator, [("a", f"again-{n}", 300_000) for n in range(3_000)])
    operator.snapshot()
    advance(operator, 400_000)
    assert state_of(operator.snapshot(full=True)).keys() == {"clock"}


@pytest.mark.parametrize("loop", [False, True])
def test_key_groups_can_be_handed_over_apart(loop: bool):
    users = [f"user-{n}" for n in range(200)]
    first = detect_of(two(loop=loop))
    send(first, [("a", user, 1000) for user in users])
    deltas = [first.snapshot()]
    send(first, [("b", user, 2000) for user in users[:50]])
    list(
        first.on_batch(
            Batch(pl.DataFrame({"kind": ["b"], "user": ["user-60"], "ts": [3000], "n": [0], TIMESTAMP: [3000]}))
        )
    )
    deltas.append(first.snapshot())
    found: list[str] = []
    for groups in (range(40), range(40, 128)):
        second = detect_of(two(loop=loop))
        second.restore(state_of(*deltas, groups=groups))
        mine = [
            u for u, kg in zip(users, key_groups(pl.DataFrame({"user": users}), ["user"]), strict=True) if kg in groups
        ]
        frames = send(second, [("b", user, 4000) for user in mine])
        assert {u for f in frames for u in f["user"]} == set(mine) - set(users[:50])
        found += [u for f in frames for u in f["user"]]
        assert 3000 in [end for f in frames for end in f["match_end"]] or "user-60" not in mine
    assert sorted(found) == sorted(users[50:])


def test_a_delta_holds_the_keys_that_changed():
    operator = detect_of(two())
    send(operator, [("a", f"user-{n}", 1000) for n in range(1000)])
    operator.snapshot()
    send(operator, [("b", "user-7", 2000), ("a", "new", 2000)])
    changed = {name: frame for name, frame in operator.snapshot().puts if name != "clock"}
    assert sorted(changed["partials"]["user"].to_list()) == ["new", "user-7"]


def test_partial_matches_of_a_changed_pattern_are_left_out_and_others_go_on(caplog: pytest.LogCaptureFixture):
    other = PatternBuilder.create("other").where("a", pl.col("kind") == "a").where("c", pl.col("kind") == "c").build()
    before = detect_of(two(), other)
    send(before, [("a", "x", 1000)])
    after = detect_of(other, two(within="20s"))
    with caplog.at_level(logging.WARNING):
        after.restore(state_of(before.snapshot()))
    assert "1 partial matches of patterns that changed are left out (two)" in caplog.text
    frames = send(after, [("b", "x", 2000), ("c", "x", 3000)])
    assert [f["pattern"].to_list() for f in frames] == [["other"]]


def test_waiting_events_are_asked_again_after_a_restart():
    before = detect_of(two())
    rows = pl.DataFrame({"kind": ["a", "b"], "user": ["x", "x"], "ts": [1, 2], "n": [0, 1], TIMESTAMP: [1, 2]})
    list(before.on_batch(Batch(rows)))
    b = PatternBuilder.create("b").where("b", pl.col("kind") == "b").build()
    after = detect_of(b, two())
    after.restore(state_of(before.snapshot()))
    found = advance(after, 100)
    assert [batch.frame["pattern"].to_list() for batch in found] == [["b", "two"]]


def test_null_and_several_key_columns():
    operator = detect_of(two(), keys=("user", "n"))
    frame = pl.DataFrame(
        {
            "kind": ["a", "a", "b", "b"],
            "user": [None, "x", None, "x"],
            "ts": [1, 2, 3, 4],
            "n": [1, 2, 1, 1],
        },
        schema=SCHEMA,
    )
    list(operator.on_batch(Batch(frame.with_columns(pl.col("ts").alias(TIMESTAMP)))))
    found = advance(operator, 10)
    assert [batch.frame.select("user", "n").rows() for batch in found] == [[(None, 1)]]


def test_key_codes_survive_growth_widening_and_forgetting():
    codes = KeyCodes(["k"])
    many = pl.DataFrame({"k": np.arange(5_000)})
    assert codes.of(many).tolist() == list(range(5_000))
    assert codes.of(pl.DataFrame({"k": [4_999, 7_000]}), np.array([False, False])).tolist() == [4_999, -1]
    assert codes.of(pl.DataFrame({"k": [3.0, 2.5]})).tolist() == [3, 5_000]
    alive = np.zeros(len(codes), np.bool_)
    alive[[3, 5_000]] = True
    renumbered = codes.keep(alive)
    assert renumbered is not None
    assert renumbered[[3, 4, 5_000]].tolist() == [0, -1, 1]
    assert codes.of(pl.DataFrame({"k": [2.5, 3.0, 4.0]})).tolist() == [1, 0, 2]
    assert codes.values()["k"].to_list() == [3.0, 2.5, 4.0]


def test_keys_that_come_a_few_at_a_time_are_found_by_their_codes():
    codes = KeyCodes(["k", "s"])
    chance = np.random.default_rng(5)
    names: list[tuple[int, str]] = []
    for batch in range(300):
        new = [(len(names) + n, f"a key of batch {batch}") for n in range(int(chance.integers(0, 9)))]
        rows = pl.DataFrame(new, schema={"k": pl.Int64, "s": pl.String}, orient="row")
        assert codes.of(rows).tolist() == [k for k, _ in new]
        names += new
        if batch % 7 == 0 and names:
            some = np.unique(chance.integers(0, len(names), 20))
            assert codes.values_of(some).rows() == [names[code] for code in some]
    assert codes.values().rows() == names
    assert codes.values_of(np.arange(len(names))).rows() == names


def test_a_matcher_by_itself_forgets_idle_keys_too():
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(two())
    for second in range(40):
        matcher.process([{"kind": "a", "user": f"user-{second}-{n}", "ts": second * 1000} for n in range(500)])
    assert matcher._alone is not None
    assert len(matcher._alone.engine.codes) < 15_000


# -- in a plan


def stream(*, keyed: bool = True) -> DataStream:
    source = App("patterns").stream(
        "in", schema={"kind": str, "user": str, "ts": int, "n": int}, timestamp="ts", watermark=0
    )
    return source.key_by("user") if keyed else source


def test_a_matcher_keys_a_stream_that_is_not_keyed_and_refuses_another_key():
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(two())
    out = stream(keyed=False).detect(matcher)
    assert "key_by" in out.explain()
    driver = TestDriver(out)
    driver.send(
        [{"kind": "a", "user": "x", "ts": 1}, {"kind": "b", "user": "y", "ts": 2}, {"kind": "b", "user": "x", "ts": 3}]
    )
    driver.end()
    assert driver.output()["user"].to_list() == ["x"]
    with pytest.raises(ValueError, match="the matcher's key is user, the stream is keyed by n"):
        stream(keyed=False).key_by("n").detect(matcher)


def test_a_condition_that_raises_makes_a_dead_letter_of_its_event():
    def fragile(event: Any) -> bool:
        return {"a": True, "b": False}[event.kind]

    pattern = PatternBuilder.create("p").where("a", fragile).build()
    driver = TestDriver(stream().detect(pattern))
    driver.send([{"kind": kind, "user": "x", "ts": n, "n": n} for n, kind in enumerate("aba?a")])
    driver.end()
    assert driver.output().height == 3
    letters = driver.dead_letters()
    assert letters.select("error_class", "offset", "operator").rows() == [("KeyError", 3, "detect-1")]
    assert all(account.closes for account in driver.accounts().values())


def test_a_condition_that_looks_across_rows_is_refused():
    pattern = PatternBuilder.create("p").where("a", pl.col("n") > pl.col("n").mean()).build()
    with pytest.raises(Exception, match="looks across rows"):
        stream().detect(pattern)


def test_handlers_run_in_a_stream():
    matches, timeouts = [], []
    matcher = PatternMatcher(key="user")
    matcher.register_pattern(two())
    matcher.on("match", matches.append)
    matcher.on("timeout", timeouts.append)
    driver = TestDriver(stream().detect(matcher))
    rows = [("a", "x"), ("a", "y"), ("b", "x")]
    driver.send([{"kind": kind, "user": user, "ts": n} for n, (kind, user) in enumerate(rows)])
    driver.end()
    assert [(m.pattern, m.key, m.events.b[0].ts) for m in matches] == [("two", "x", 2)]
    assert [(m.key, m.timestamp, len(m.events["b"])) for m in timeouts] == [("y", 10_001, 0)]


def test_a_matcher_by_itself():
    matcher = PatternMatcher(key="user")
    with pytest.raises(ValueError, match="no pattern"):
        matcher.process([{"user": "x", "ts": 1}])
    matcher.register_pattern(two())
    with pytest.raises(ValueError, match="registered already"):
        matcher.register_pattern(two())
    with pytest.raises(ValueError, match="'match' and 'timeout'"):
        matcher.on("mtach", print)
    rows = [{"kind": kind, "user": "x", "ts": n} for n, kind in enumerate("axb")]
    assert matcher.process(rows[:2]).is_empty()
    assert matcher.process(rows[2:]).drop("events").rows() == [("two", "x", 0, 2)]
    with pytest.raises(ValueError, match="go back"):
        matcher.process(rows)
    with pytest.raises(ValueError, match="no column 'time'"):
        matcher.process(rows, timestamp="time")

"""Many rules that watch states at once: as by definition, however events are cut, late, saved and taken back."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.alerts.alerting import rule
from tests.unit.alerts.reference_states import Reference

from thalweg.alerts import AlertRule
from thalweg.alerts.evaluate import RuleSet
from thalweg.alerts.plain import event_of, event_texts
from thalweg.alerts.states import Change, ChangeKind, Followed, StateTracker
from thalweg.streams.batch import TIMESTAMP, WATERMARK

SCHEMA = {"host": pl.String, "disk": pl.Int64, "cpu": pl.Int64, TIMESTAMP: pl.Int64, WATERMARK: pl.Int64}
LATENESS = 4
CPU = pl.col("cpu")
RULES = [
    rule("held", hold=5, auto_resolve=True),
    rule("at once", auto_resolve=True),
    rule("between", clear=CPU < 50, auto_resolve=7),
    rule("all of it", hold=3, clear=CPU < 50, auto_resolve=4, by=["host", "disk"]),
    rule("stays", hold=4, by=["disk"]),
    rule("stays, between", hold=2, clear=CPU < 50),
    rule("together", by=[], hold=6, auto_resolve=3),
    rule("silent", condition=CPU > 50, absent=6, auto_resolve=True),
    rule("silent, stays", condition=CPU > 90, absent=9, by=["disk"]),
]


def drawn(seed: int, count: int = 60) -> pl.DataFrame:
    """Events, some of them late, with the watermark before each."""
    choose = random.Random(seed)
    time, newest, rows = 0, -LATENESS, []
    for _ in range(count):
        time += choose.choice([0, 0, 1, 1, 2, 5])
        at = time - choose.choice([0, 0, 0, 2, 3])
        host, disk, cpu = choose.choice("ab"), choose.randrange(2), choose.choice([95, 95, 70, 10])
        rows.append((host, disk, cpu, at, newest - LATENESS))
        newest = max(newest, at)
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def by_definition(frame: pl.DataFrame, rules: list[AlertRule]) -> tuple[list[Any], int]:
    """What happens to states, and how many are under way at the end."""
    reference = Reference()
    for row in frame.iter_rows(named=True):
        for one in rules:
            key = str(tuple(str(row[name]) for name in one.by or ()))
            holds = row["cpu"] > (50 if one.id == "silent" else 90)
            clears = None if one.clear is None else row["cpu"] < 50
            reference.event(one, key, row[TIMESTAMP], row[WATERMARK], holds, clears)
    reference.time(_end(frame), rules)
    return sorted(reference.happened), len(reference.states)


def _end(frame: pl.DataFrame) -> int:
    return int(frame[TIMESTAMP].max()) - LATENESS  # type: ignore[arg-type]


def followed(frame: pl.DataFrame, rules: list[AlertRule], size: int, save: random.Random) -> tuple[list[Any], int]:
    """The same by the tracker: events so many at a time, now and then taken back from its snapshots."""
    by_id = {one.id: one for one in rules}
    compiled, tracker = RuleSet(rules, frame.drop(TIMESTAMP, WATERMARK).schema), StateTracker()
    saved: list[pl.DataFrame] = []
    changes: list[Change] = []
    for part in frame.iter_slices(size):
        changes += tracker.follow(part, compiled, compiled.verdicts(part), ())
        changes += tracker.on_time(int(part[WATERMARK].max()), by_id)  # type: ignore[arg-type]
        if save.random() < 0.3:
            full = save.random() < 0.3
            snapshot = tracker.snapshot(full=full)
            saved = [*([] if full else saved), *([] if snapshot is None else [snapshot])]
            if save.random() < 0.5:
                tracker = StateTracker()
                tracker.load(saved, by_id, ())
    changes += tracker.on_time(_end(frame), by_id)
    names = {by_id[id].fingerprint(dict(zip(by_id[id].by or (), key, strict=True))): key for id, key in _keys(by_id)}
    ends = [c for c in changes if c.kind is not ChangeKind.GOES_ON]
    return sorted((str(c.kind), c.rule, str(names[c.fingerprint]), c.at, c.began) for c in ends), len(tracker)


def _keys(rules: dict[str, AlertRule]) -> list[tuple[str, tuple[str, ...]]]:
    values = {"host": "ab", "disk": "01"}
    found = []
    for one in rules.values():
        keys: list[tuple[str, ...]] = [()]
        for name in one.by or ():
            keys = [(*key, value) for key in keys for value in values[name]]
        found += [(one.id, key) for key in keys]
    return found


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 7, 1000]), st.integers(0, 10**6))
def test_states_are_what_they_are_by_definition(seed: int, size: int, saving: int):
    frame = drawn(seed)
    assert followed(frame, RULES, size, random.Random(saving)) == by_definition(frame, RULES)


def test_a_thousand_rules_at_once_are_a_thousand_rules_each():
    dice = random.Random(7)
    rules = [
        replace(RULES[n % len(RULES)], id=f"{n}", condition=CPU > 90, hold=RULES[n % len(RULES)].hold and n % 9 + 1)
        for n in range(1_000)
    ]
    frame = drawn(3, 200)
    assert followed(frame, rules, 64, dice) == by_definition(frame, rules)


def test_nothing_is_kept_of_what_is_over():
    tracker, hot = StateTracker(), rule("held", hold=1_000)
    compiled = RuleSet([hot], pl.Schema({"host": pl.String, "cpu": pl.Int64}))
    for start in range(0, 20_000, 2_000):
        hosts = [f"h{n}" for n in range(start, start + 2_000)]
        both = pl.DataFrame({"host": hosts * 2, "cpu": [95] * 2_000 + [1] * 2_000})
        both = both.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(TIMESTAMP))
        for part in (both[:2_000], both[2_000:]):
            tracker.follow(part, compiled, compiled.verdicts(part), ())
    assert len(tracker) == 0
    assert (tracker.bytes, tracker.snapshot(full=True)) == (0, None)


def test_states_that_other_versions_kept_one_by_one_are_taken_back():
    """Documents without a key: it is found in the event."""
    hot = rule("held", hold=10, auto_resolve=True)
    print_of = hot.fingerprint({"host": "a"})
    document = {"rule": "held", "fingerprint": print_of, "group": 0, "since": 5, "last": 9}
    body = msgspec.json.encode({**document, "event": {"host": "a", "cpu": 95}, "told": 0, "more": 2})
    tracker = StateTracker()
    tracker.restore([msgspec.json.decode(body, type=Followed)], {"held": hot})
    assert tracker.changed() == ([], set())
    [begun] = tracker.on_time(15, {"held": hot})
    assert (begun.kind, begun.fingerprint, begun.event) == (ChangeKind.BEGUN, print_of, {"host": "a", "cpu": 95})
    [state], gone = tracker.changed()
    assert (state.firing, state.key, state.more, gone) == (True, ("a",), 2, set())


def test_a_rule_by_other_columns_begins_anew():
    tracker, schema = StateTracker(), pl.Schema({"host": pl.String, "disk": pl.Int64, "cpu": pl.Int64})
    frame = pl.DataFrame([("a", 1, 95, 0, -9)], schema=SCHEMA, orient="row")
    for by, count in ((["host"], 1), (["disk"], 1)):
        compiled = RuleSet([rule("held", hold=10, by=by)], schema)
        tracker.follow(frame, compiled, compiled.verdicts(frame), ())
        assert len(tracker) == count
    [state] = tracker.all()
    assert state.key == ("1",)
    assert tracker.snapshot(full=False) is not None


def test_rules_that_do_not_look_at_events_keep_their_states():
    tracker, schema = StateTracker(), pl.Schema({"host": pl.String, "disk": pl.Int64, "cpu": pl.Int64})
    both = [rule("held", hold=10), rule("other", hold=10)]
    hot, cold = (pl.DataFrame([("a", 1, cpu, at, -9)], schema=SCHEMA, orient="row") for cpu, at in ((95, 0), (1, 1)))
    for rules, frame in ((both, hot), (both[:1], cold)):
        compiled = RuleSet(rules, schema)
        tracker.follow(frame, compiled, compiled.verdicts(frame), ())
    assert [state.rule for state in tracker.all()] == ["other"]


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"a": ['x"\n\x01é', None], "b": [1, None], "c": [0.1, float("nan")], "d": [True, None]}),
        pl.DataFrame({"u": [2**64 - 1, 0], "i": [-(2**63), 2**63 - 1], "f": [float("-inf"), 1e300]}, strict=False),
        pl.DataFrame({"l": [[1, 2], []], "s": [{"x": 1.5}, {"x": None}], "y": [b"\x00\xff", None], "n": [None, None]}),
        pl.DataFrame({"f": pl.Series([0.1, 2.0], dtype=pl.Float32)}).with_columns(t=pl.datetime(2026, 1, 1)),
    ],
)
def test_events_as_text_are_the_events(frame: pl.DataFrame):
    texts = event_texts(frame.with_columns(pl.lit(0).alias(TIMESTAMP)))
    assert [msgspec.json.decode(text) for text in texts] == [event_of(row) for row in frame.iter_rows(named=True)]

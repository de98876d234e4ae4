"""Windows against a plain-Python reference: any batch cut, any order within bounds, any crash gives the same result."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from thalweg.analytics import average, count, count_distinct, max_, min_, percentile, sum_
from thalweg.streams.batch import LATE, MAIN, MAX_TIME, MIN_TIME, Batch, Watermark
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.window import WindowAggregateNode
from thalweg.streams.windows import SessionWindow, SlidingWindow, TumblingWindow, Window

AGGREGATES: dict[str, object] = {
    "n": count(),
    "values": count("v"),
    "total": sum_("v"),
    "mean": average("v"),
    "low": min_("v"),
    "high": max_("v"),
    "parts": sum_("f"),
    "median": percentile("v", 50, exact=True),
    "kinds": count_distinct("v"),
}
SCHEMA = {"k": pl.String, "v": pl.Int64, "f": pl.Float64, "__ts": pl.Int64, "__wm": pl.Int64, "__partition": pl.Int32}


@dataclass(frozen=True)
class Event:
    key: str | None
    value: int | None
    time: int
    partition: int


events = st.lists(
    st.builds(
        Event,
        key=st.sampled_from(["a", "b", "a key that is longer than twelve bytes", None]),
        value=st.none() | st.integers(-5, 5),
        time=st.integers(-60, 60),
        partition=st.integers(0, 1),
    ),
    max_size=60,
)
aligned = st.one_of(
    st.builds(TumblingWindow, st.integers(1, 25), st.integers(-30, 30)),
    st.builds(SlidingWindow, st.integers(1, 25), st.integers(1, 25), st.integers(-30, 30)),
)
sessions = st.builds(SessionWindow, st.integers(1, 12))
bounds = st.integers(0, 20)
cuts = st.sampled_from([1, 7, None])


def frame_of(given_events: Sequence[Event], out_of_order: int) -> pl.DataFrame:
    """What the source stage makes of events: each with the watermark of its partition just before it."""
    highest: dict[int, int] = {}
    rows = []
    for event in given_events:
        before = highest.get(event.partition)
        watermark = MIN_TIME if before is None else before - out_of_order
        highest[event.partition] = event.time if before is None else max(before, event.time)
        part = None if event.value is None else event.value + 0.1
        rows.append((event.key, event.value, part, event.time, watermark, event.partition))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def build(window: Window, keys: tuple[str, ...] = ("k",), aggregates: dict[str, object] | None = None) -> Operator:
    node = WindowAggregateNode(window=window, keys=keys, aggregates=aggregates or AGGREGATES)
    return node.build(OperatorContext("windows", []))


def feed(
    operator: Operator, frame: pl.DataFrame, batch_size: int | None, highest: dict[int, int], bound: int
) -> list[Batch]:
    out = []
    for start in range(0, frame.height, batch_size or max(frame.height, 1)):
        part = frame.slice(start, batch_size or frame.height)
        out += operator.on_batch(Batch(part))
        for partition, time in part.select("__partition", "__ts").rows():
            highest[partition] = max(highest.get(partition, time), time)
        if len(highest) == 2:
            out += operator.on_watermark(Watermark(min(highest.values()) - bound, 0))
        assert operator.account.closes
    return out


def run(
    window: Window, frame: pl.DataFrame, batch_size: int | None, bound: int, **options: object
) -> tuple[list, list]:
    """All results and all late rows, sorted."""
    operator = build(window, **options)  # type: ignore[arg-type]
    out = feed(operator, frame, batch_size, {}, bound)
    out += operator.on_watermark(Watermark(MAX_TIME, 0))
    assert operator.account.received == frame.height
    assert operator.account.closes
    return collected(out)


def collected(out: list[Batch]) -> tuple[list, list]:
    results = [row for batch in out if batch.port == MAIN for row in batch.frame.drop("__ts", "__wm").rows()]
    late = [row for batch in out if batch.port == LATE for row in batch.frame.rows()]
    return sorted(results, key=repr), sorted(late, key=repr)


def summary(values: Sequence[int | None]) -> tuple:
    known = [value for value in values if value is not None]
    if not known:
        return len(values), 0, None, None, None, None, None, None, 0
    ordered = sorted(known)
    middle = (ordered[(len(known) - 1) // 2] + ordered[len(known) // 2]) / 2
    parts = math.fsum(value + 0.1 for value in known)
    mean = math.fsum(known) / len(known)
    return len(values), len(known), sum(known), mean, min(known), max(known), parts, middle, len(set(known))


def aligned_reference(window: TumblingWindow | SlidingWindow, frame: pl.DataFrame) -> tuple[list, list, int]:
    groups: dict[tuple, list] = defaultdict(list)
    late, nowhere = [], 0
    for row in frame.rows(named=True):
        time, watermark = row["__ts"], row["__wm"]
        starts = [s for s in range(time - window.size + 1, time + 1) if (s - window.offset) % window.slide == 0]
        ends = [start + window.size for start in starts]
        nowhere += not ends
        for end in ends:
            if watermark < end:
                groups[(row["k"], end - window.size, end)].append(row["v"])
        if ends and watermark >= max(ends):
            late.append((*row.values(), max(ends), watermark - max(ends)))
    return as_results(groups), sorted(late, key=repr), nowhere


def session_reference(window: SessionWindow, frame: pl.DataFrame) -> tuple[list, list]:
    """Events one at a time; open[key] holds [start, last, values] of every session ever, open by each event's view."""
    gap = window.gap
    kept: dict[str | None, list] = defaultdict(list)
    late = []
    for row in frame.rows(named=True):
        time, watermark = row["__ts"], row["__wm"]
        mine = kept[row["k"]]
        joined = [s for s in mine if s[1] + gap > watermark and s[0] - time < gap and time - s[1] < gap]
        if not joined and time + gap <= watermark:
            late.append((*row.values(), time + gap, watermark - time - gap))
            continue
        for session in joined:
            mine.remove(session)
        starts, lasts = [s[0] for s in joined], [s[1] for s in joined]
        values = [value for session in joined for value in session[2]]
        mine.append([min([time, *starts]), max([time, *lasts]), [*values, row["v"]]])
    groups = defaultdict(list)
    for key, mine in kept.items():
        for start, last, values in mine:
            groups[(key, start, last + gap)].append(values)
    return sorted(
        (row for key, many in groups.items() for v in many for row in as_results({key: v})), key=repr
    ), sorted(late, key=repr)


def as_results(groups: dict[tuple, list]) -> list:
    return sorted(((*key, *summary(values)) for key, values in groups.items()), key=repr)


def assert_same(left: list, right: list) -> None:
    assert len(left) == len(right), (left, right)
    for one, other in zip(left, right, strict=True):
        for a, b in zip(one, other, strict=True):
            if isinstance(a, float) and isinstance(b, float):
                assert math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12), (one, other)
            else:
                assert a == b, (one, other)


@given(events, aligned, bounds, cuts)
@settings(deadline=None, max_examples=150)
def test_aligned_windows_equal_the_reference(given_events, window, bound, batch_size):
    frame = frame_of(given_events, bound)
    results, late = run(window, frame, batch_size, bound)
    expected, expected_late, _ = aligned_reference(window, frame)
    assert_same(by_key(results), by_key(expected))
    assert late == expected_late


@given(events, sessions, bounds, cuts)
@settings(deadline=None, max_examples=150)
def test_sessions_equal_the_reference(given_events, window, bound, batch_size):
    frame = frame_of(given_events, bound)
    results, late = run(window, frame, batch_size, bound)
    expected, expected_late = session_reference(window, frame)
    assert_same(by_key(results), by_key(expected))
    assert late == expected_late


def by_key(rows: list) -> list:
    """Sorted by what is exact: floats may differ in their last digits, which would change a sort by text."""
    return sorted(rows, key=lambda row: repr([value for value in row if not isinstance(value, float)]))


@given(st.data(), st.one_of(aligned, sessions, st.builds(SessionWindow, st.integers(1, 12), st.integers(12, 30))))
@settings(deadline=None, max_examples=80)
def test_order_within_bounds_and_batch_cuts_do_not_matter(data, window):
    given_events = data.draw(events)
    order = data.draw(st.permutations(range(len(given_events))))
    bound = max((e.time for e in given_events), default=0) - min((e.time for e in given_events), default=0)
    shuffled = frame_of([given_events[i] for i in order], bound)
    first, late = run(window, frame_of(given_events, bound), None, bound)
    assert not late
    for batch_size in (1, 7, 1000):
        again, late = run(window, shuffled, batch_size, bound)
        assert not late
        assert_same(by_key(first), by_key(again))


@given(
    st.data(),
    events,
    st.one_of(aligned, sessions, st.builds(SessionWindow, st.integers(1, 12), st.integers(12, 30))),
    bounds,
)
@settings(deadline=None, max_examples=150)
def test_a_restart_from_snapshots_changes_nothing(data, given_events, window, bound):
    frame = frame_of(given_events, bound)
    expected, expected_late = run(window, frame, 7, bound)
    operator, state, highest, out = build(window), {}, {}, []
    places = sorted(data.draw(st.lists(st.integers(0, frame.height), max_size=4)))
    for start, stop in zip([0, *places], [*places, frame.height], strict=True):
        out += feed(operator, frame.slice(start, stop - start), 3, highest, bound)
        apply(state, operator.snapshot(full=data.draw(st.booleans())))
        if data.draw(st.booleans()):
            operator = build(window)
            operator.restore(state)
    out += operator.on_watermark(Watermark(MAX_TIME, 0))
    results, late = collected(out)
    assert_same(by_key(results), by_key(expected))
    assert late == expected_late
    assert operator.account.received == frame.height
    assert operator.account.late == len(expected_late)


@given(events, st.one_of(aligned, sessions), bounds, st.integers(0, 60), st.integers(0, 128))
@example(
    # A window that was given stays given, though its slice is kept for the next window.
    [*[Event("a", None, 0, 1)] * 3, Event("a", None, -42, 0), Event("a", None, -41, 0)],
    SlidingWindow(2, 1),
    0,
    5,
    0,
)
@settings(deadline=None, max_examples=80)
def test_state_can_be_split_by_key_group(given_events, window, bound, place, edge):
    frame = frame_of(given_events, bound)
    expected, _ = run(window, frame, 7, bound)
    place = min(place, frame.height)
    operator, highest = build(window), {}
    out = feed(operator, frame.head(place), 5, highest, bound)
    state: dict[str, list[pl.DataFrame]] = {}
    apply(state, operator.snapshot())
    groups = operator.key_groups(frame)
    for mine, rows in ((pl.col("__kg") < edge, groups < edge), (pl.col("__kg") >= edge, groups >= edge)):
        owner = build(window)
        owner.restore({name: [f.filter(mine) for f in frames] for name, frames in state.items()})
        seen = dict(highest)
        if len(seen) == 2:
            out += owner.on_watermark(Watermark(min(seen.values()) - bound, 0))
        rest = frame.with_columns(rows.alias("__mine")).slice(place).filter(pl.col("__mine")).drop("__mine")
        out += feed(owner, rest, 5, seen, bound)
        out += owner.on_watermark(Watermark(MAX_TIME, 0))
    assert_same(by_key(collected(out)[0]), by_key(expected))


def apply(state: dict[str, list[pl.DataFrame]], delta) -> None:
    if delta.full:
        state.clear()
    for name in delta.drops:
        state.pop(name, None)
    for name, frame in delta.puts:
        assert frame.schema["__kg"] == pl.UInt16
        state.setdefault(name, []).append(frame)


@pytest.mark.parametrize("window", [TumblingWindow(10), SlidingWindow(10, 4), SessionWindow(5)])
def test_without_keys_all_events_are_one_group(window):
    frame = frame_of([Event("a", 1, 1, 0), Event("b", 2, 3, 0), Event(None, None, 4, 0)], 10)
    results, _ = run(window, frame, 1, 10, keys=())
    assert results[0][2:5] == (3, 2, 3)
    only_sketch, _ = run(window, frame, 1, 10, keys=(), aggregates={"p": percentile("v", 100, exact=True)})
    assert [row[2] for row in only_sketch][:1] == [2.0]

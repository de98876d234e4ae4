"""Groups that are updated in place hold what a group-by of the same events gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from thalweg.analytics import average, count, max_, min_, stddev, sum_, variance
from thalweg.streams.aggregate import AggregatePlan, to_aggregates
from thalweg.streams.aggregate.accumulators import Accumulators
from thalweg.streams.aggregate.group_store import GroupStore
from thalweg.streams.batch import MIN_TIME, Batch, Watermark
from thalweg.streams.engine.hot_groups import MOST, HotGroups
from thalweg.streams.engine.window_aligned import AlignedWindowOperator
from thalweg.streams.state.row_store import SLOT
from thalweg.streams.windows import SlidingWindow, TumblingWindow, Window

NUMBERS = [pl.Int8(), pl.Int16(), pl.Int32(), pl.Int64(), pl.UInt8(), pl.UInt16(), pl.UInt32()]
FLOATS = [pl.Float32(), pl.Float64()]
TIMES = [pl.Date(), pl.Datetime("ms"), pl.Datetime("us", "Europe/Berlin"), pl.Duration("ns"), pl.Time()]


def plan_of(**aggregates: Any) -> AggregatePlan:
    return AggregatePlan(to_aggregates(aggregates))


def numeric() -> AggregatePlan:
    v = "v"
    moments = {"variance": variance(v), "deviation": stddev(v)}
    return plan_of(n=count(), some=count(v), total=sum_(v), mean=average(v), low=min_(v), high=max_(v), **moments)


def by_group_by(plan: AggregatePlan, batches: list[pl.DataFrame], group: list[str]) -> pl.DataFrame:
    rows = [plan.prepare(batch, group)[0] for batch in batches]
    return plan.finish([plan.merge(plan.tables[0], rows, group)], group).sort(group)


def by_cells(plan: AggregatePlan, batches: list[pl.DataFrame], group: list[str]) -> pl.DataFrame:
    hot = HotGroups(plan.tables[0].parts, group, None)
    for batch in batches:
        assert hot.add(plan.with_inputs(batch), np.array([10]), np.array([10]))
    ((end, rows),) = hot.take()
    assert end == 10
    assert not len(hot)
    return plan.finish([plan.merge(plan.tables[0], [rows], group)], group).sort(group)


integers = st.integers(-128, 127) | st.integers(0, 2**31 - 1) | st.integers(-(2**63), 2**63 - 1)
floats = st.floats(width=32, min_value=-1e6, max_value=1e6) | st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -0.0])


@settings(max_examples=150, deadline=None)
@given(
    dtype=st.sampled_from([*NUMBERS, *FLOATS]),
    values=st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.none() | integers, st.none() | floats), min_size=1),
    cut=st.integers(1, 7),
)
def test_numbers(dtype: pl.DataType, values: list[tuple[str | None, int | None, float | None]], cut: int) -> None:
    given_values = [f if dtype.is_float() else i for _, i, f in values]
    column = pl.Series("v", given_values, dtype=pl.Float64 if dtype.is_float() else pl.Int64, strict=False)
    rows = pl.DataFrame(
        {"k": pl.Series([k for k, _, _ in values], dtype=pl.String), "v": column.cast(dtype, strict=False)}
    )
    batches = [rows[start : start + cut] for start in range(0, rows.height, cut)]
    assert_frame_equal(by_cells(numeric(), batches, ["k"]), by_group_by(numeric(), batches, ["k"]), rel_tol=1e-9)


@pytest.mark.parametrize("dtype", TIMES, ids=str)
def test_times(dtype: pl.DataType) -> None:
    plan = plan_of(first=min_("v"), last=max_("v"))
    values = pl.Series("v", [5, 2, None, 9, None], dtype=pl.Int64).cast(pl.Int32 if dtype == pl.Date else pl.Int64)
    rows = pl.DataFrame({"k": [1, 1, 1, 1, 2], "v": values.cast(dtype)})
    assert_frame_equal(by_cells(plan, [rows], ["k"]), by_group_by(plan, [rows], ["k"]))


def test_booleans_and_conditions() -> None:
    plan = plan_of(yes=sum_("v"), share=average("v"), some=count("v"), big=sum_("w").where(pl.col("w") > 2))
    rows = pl.DataFrame({"k": ["a", "a", "b", "b"], "v": [True, None, False, True], "w": [1, 3, 5, 2]})
    assert_frame_equal(by_cells(plan, [rows, rows[:1]], ["k"]), by_group_by(plan, [rows, rows[:1]], ["k"]))


@pytest.mark.parametrize("dtype", [pl.Decimal(10, 2), pl.UInt64(), pl.Int128()], ids=str)
def test_what_an_array_cannot_hold_is_left_to_the_group_by(dtype: pl.DataType) -> None:
    rows = pl.DataFrame({"k": ["a"], "v": pl.Series([1]).cast(dtype)})
    plan = plan_of(total=sum_("v"))
    assert Accumulators.of(plan.tables[0].parts, rows) is None
    assert not HotGroups(plan.tables[0].parts, ["k"], None).add(rows, np.array([1]), np.array([1]))


def test_text_has_extremes_by_the_group_by() -> None:
    operator = AlignedWindowOperator("w", TumblingWindow(10), ["k"], plan_of(low=min_("v"), n=count()))
    assert results(operator, [(["a", "a"], ["y", "x"], [1, 2])]).rows() == [("a", 0, 10, "x", 2)]


def test_many_cells_in_several_slices() -> None:
    plan = plan_of(n=count(), total=sum_("v"))
    dice = np.random.default_rng(5)
    hot = HotGroups(plan.tables[0].parts, ["k"], "first")
    keys, ends = dice.integers(0, 5_000, 40_000), dice.integers(1, 4, 40_000) * 10
    rows = pl.DataFrame({"k": keys, "v": np.arange(40_000), "end": ends, "first": ends + 5 * (keys % 2)})
    for start in range(0, rows.height, 7_000):
        part = rows[start : start + 7_000]
        assert hot.add(part, part["end"].to_numpy(), part["first"].to_numpy())
    assert hot.lowest == 10
    assert hot.memory().rows == len(hot) > 10_000
    taken = pl.concat([part.with_columns(pl.lit(end).cast(pl.Int64).alias("end")) for end, part in hot.take()])
    group = ["k", "first", "end"]
    found = plan.finish([taken], group).sort(group)
    assert_frame_equal(found, by_group_by(plan, [rows], group))
    assert hot.memory().rows == 0
    assert list(hot.take()) == []


def results(operator: AlignedWindowOperator, batches: list[tuple[list[Any], list[Any], list[int]]]) -> pl.DataFrame:
    """What the windows give at the end, with a snapshot after every batch."""
    for keys, values, times in batches:
        frame = pl.DataFrame({"k": keys, "v": values, "__ts": times, "__wm": [MIN_TIME] * len(times)})
        assert not list(operator.on_batch(Batch(frame)))
        operator.snapshot()
    out = [batch.frame for batch in operator.on_watermark(Watermark(1_000, 0))]
    return pl.concat(out).drop("__ts", "__wm")


def test_a_column_that_turns_from_integers_to_floats() -> None:
    operator = AlignedWindowOperator("w", TumblingWindow(10), ["k"], plan_of(total=sum_("v"), n=count()))
    found = results(operator, [(["a"], [1], [1]), (["a"], [0.5], [2]), (["a"], [2], [3])])
    assert found.rows() == [("a", 0, 10, 3.5, 3)]


def test_more_groups_than_are_kept_hot() -> None:
    operator = AlignedWindowOperator("w", TumblingWindow(10), ["k"], plan_of(n=count()))
    for _ in range(2):
        keys = np.arange(MOST + 1_000)
        frame = pl.DataFrame({"k": keys}).with_columns(__ts=pl.lit(1), __wm=pl.lit(MIN_TIME, pl.Int64))
        assert not list(operator.on_batch(Batch(frame)))
    (out,) = operator.on_watermark(Watermark(10, 0))
    assert out.frame.height == MOST + 1_000
    assert out.frame["n"].unique().to_list() == [2]


@pytest.mark.parametrize("window", [TumblingWindow(10), SlidingWindow(10, 4)], ids=str)
@pytest.mark.parametrize("keys", [["k"], []], ids=["by key", "all"])
def test_windows_are_those_of_the_group_by(window: Window, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(1)
    batches = [
        (dice.integers(0, 9, 50).tolist(), dice.normal(size=50).tolist(), dice.integers(turn, turn + 30, 50).tolist())
        for turn in range(0, 60, 6)
    ]
    assert isinstance(window, TumblingWindow | SlidingWindow)
    hot = results(AlignedWindowOperator("w", window, keys, numeric()), batches)
    monkeypatch.setattr(Accumulators, "of", classmethod(lambda *_: None))
    cold = results(AlignedWindowOperator("w", window, keys, numeric()), batches)
    assert hot.height > 5
    assert_frame_equal(hot, cold, rel_tol=1e-9)


def test_what_is_hot_is_saved_and_asked_for() -> None:
    def build() -> AlignedWindowOperator:
        return AlignedWindowOperator("w", TumblingWindow(10), ["k"], plan_of(n=count()))

    operator = build()
    frame = pl.DataFrame({"k": ["a", "b", "a"], "__ts": [1, 2, 3], "__wm": [MIN_TIME] * 3})
    list(operator.on_batch(Batch(frame)))
    assert operator.query(None).rows() == [("a", 0, 10, 2), ("b", 0, 10, 1)]
    list(operator.on_batch(Batch(frame)))
    delta = operator.snapshot()
    other = build()
    state: dict[str, list[pl.DataFrame]] = {}
    for name, put in delta.puts:
        state.setdefault(name, []).append(put)
    other.restore(state)
    assert other.query(None).rows() == operator.query(None).rows() == [("a", 0, 10, 4), ("b", 0, 10, 2)]
    assert not operator.snapshot().puts


def test_a_store_takes_over_what_it_held_as_frames() -> None:
    plan = plan_of(n=count(), total=sum_("v"), mean=average("v"), low=min_("v"), spread=variance("v"))
    events = pl.DataFrame({"v": [1.5, 2.5, None, 4.0]})
    into = np.array([3, 1, 3, 3])
    rows = plan.prepare(events.with_columns(pl.Series(SLOT, into)), [SLOT])[0]
    store = GroupStore(plan.tables[0])
    store.reserve(8)
    store.write(rows)
    assert not store.in_place
    assert store.decide(events)
    store.add(into, events)
    expected = plan.finish([plan.merge(plan.tables[0], [rows, rows], [SLOT])], [SLOT]).sort(SLOT)
    assert_frame_equal(plan.finish([store.read(np.array([1, 2, 3]))], [SLOT]), expected)
    assert store.has(np.arange(4)).tolist() == [False, True, False, True]
    store.unite(np.array([3]), np.array([1]))
    store.free(np.array([3]))
    found = store.read(np.arange(8))
    assert found is not None
    assert found[SLOT].to_list() == [1]
    twice = pl.concat([events, events]).with_columns(pl.lit(1, pl.Int64).alias(SLOT))
    assert_frame_equal(plan.finish([found], [SLOT]), plan.finish(plan.prepare(twice, [SLOT]), [SLOT]))


def test_a_store_goes_back_to_frames_where_a_type_changes() -> None:
    plan = plan_of(total=sum_("v"))
    store = GroupStore(plan.tables[0])
    store.reserve(8)
    assert store.decide(pl.DataFrame({"v": [1]}))
    store.add(np.array([5]), pl.DataFrame({"v": [1]}))
    assert not store.decide(pl.DataFrame({"v": [0.5]}))
    assert not store.in_place
    found = plan.finish([store.read(np.array([5]))], [SLOT])
    assert found.rows() == [(5, 1)]
    assert not store.decide(pl.DataFrame({"v": [1]}))  # for good


def test_counts_without_keys_or_inputs_are_kept_between_batches() -> None:
    hot = HotGroups(plan_of(n=count()).tables[0].parts, [], None)
    for _ in range(3):
        events = pl.DataFrame({"x": [1, 2]})
        assert hot.takes(events)
        assert hot.add(events, np.array([10]), np.array([10]))
    assert len(hot) == 1
    ((end, rows),) = hot.take()
    assert (end, rows["rows()"].to_list()) == (10, [6])

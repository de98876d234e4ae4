"""Aggregates: any split and any order of merging gives the same result, and the results are right."""

from __future__ import annotations

import math
import random
import statistics
from decimal import Decimal
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg import analytics as a
from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate import AggregatePlan, to_aggregate, to_aggregates, to_input
from thalweg.streams.aggregate.spelling import identity_of

ALL = {
    "n": a.count(),
    "known": a.count("v"),
    "total": a.sum_("v"),
    "mean": a.average("v"),
    "low": a.min_("v"),
    "high": a.max_("v"),
    "spread": a.stddev("v"),
    "p50": a.percentile("v", 50),
    "p95": a.percentile("v", 95),
    "exact": a.percentile("v", 50, exact=True),
    "kinds": a.count_distinct("v"),
    "all": a.collect("v"),
}


def result(
    aggregates: dict[str, object], *batches: pl.DataFrame, seed: int = 0, keys: tuple[str, ...] = ("k",)
) -> pl.DataFrame:
    """Prepares each batch, merges the partial rows in a random tree, finishes."""
    plan = AggregatePlan(to_aggregates(aggregates))
    frames = [plan.prepare(batch, list(keys)) for batch in batches if batch.height]
    dice = random.Random(seed)
    while len(frames) > 1:
        some = [frames.pop(dice.randrange(len(frames))) for _ in range(min(len(frames), dice.randint(2, 4)))]
        merged = [plan.merge(t, [f[i] for f in some], list(keys)) for i, t in enumerate(plan.tables)]
        frames.append(merged)
    return plan.finish(frames[0], list(keys)).sort(*keys)


def one(aggregate: object, *values: pl.Series | list) -> object:
    frames = [pl.DataFrame({"k": ["x"] * len(v), "v": v}) for v in values]
    return result({"r": aggregate}, *frames)["r"][0]


floats = st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-1e150, max_value=1e150)
rows = st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.none() | floats), min_size=1, max_size=40)


@given(rows, st.integers(1, 10), st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_merging_is_associative_and_commutative(given_rows, size, seed):
    frame = pl.DataFrame(given_rows, schema={"k": pl.String, "v": pl.Float64}, orient="row")
    whole = result(ALL, frame)
    pieces = [frame.slice(start, size) for start in range(0, frame.height, size)]
    split = result(ALL, *random.Random(seed).sample(pieces, len(pieces)), seed=seed)
    assert whole.columns == split.columns
    for name in whole.columns:
        for mine, theirs in zip(whole[name].to_list(), split[name].to_list(), strict=True):
            if name in ("total", "mean", "spread") and mine is not None:
                scale = max(abs(v) for _, v in given_rows if v is not None)
                assert math.isclose(
                    mine, theirs, rel_tol=1e-9, abs_tol=1e-20 * scale if name != "spread" else 1e-7 * scale
                )
            else:
                assert mine == theirs, name


@given(
    st.lists(st.sampled_from([1e16, -1e16, 1.0, 3e8, -3e8, 0.1, -7e-9]), min_size=2, max_size=200), st.integers(0, 99)
)
@settings(deadline=None)
def test_float_sums_survive_cancellation(values, seed):
    exact = float(sum(Fraction(v) for v in values))
    order = random.Random(seed).sample(values, len(values))
    total = one(a.sum_("v"), order[: len(order) // 2], order[len(order) // 2 :])
    assert math.isclose(total, exact, rel_tol=1e-9, abs_tol=1e-22)
    assert math.isclose(one(a.average("v"), order), exact / len(values), rel_tol=1e-9, abs_tol=1e-22)


def test_a_plain_sum_would_not_survive_it():
    values = [1e16, 1.0, -1e16] * 10
    assert pl.Series(values).sum() != 10.0
    assert one(a.sum_("v"), values) == 10.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, math.inf], math.inf),
        ([-math.inf, 5.0], -math.inf),
        ([1.0, math.nan], math.nan),
        ([math.inf, -math.inf], math.nan),
    ],
)
def test_infinities_and_nan_go_through_sums(values, expected):
    for found in (one(a.sum_("v"), values), one(a.sum_("v"), values[:1], values[1:])):
        assert found == expected or (math.isnan(found) and math.isnan(expected))


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30))
@settings(deadline=None)
def test_integer_sums_are_exact_or_null(values):
    exact = sum(values)
    found = one(a.sum_("v"), values[:7], values[7:])
    assert found == (exact if -(2**63) <= exact < 2**63 else None)
    assert math.isclose(one(a.average("v"), values[:7], values[7:]), exact / len(values), rel_tol=1e-12, abs_tol=1e-3)


def test_an_overflow_is_said_once(caplog):
    plan = AggregatePlan({"s": a.sum_("v")})
    frame = pl.DataFrame({"k": ["a", "a", "b"], "v": [2**62, 2**62, 1]})
    for _ in range(2):
        assert plan.finish(plan.prepare(frame, ["k"]), ["k"]).sort("k")["s"].to_list() == [None, 1]
    assert [record.message for record in caplog.records if "1 of 2 groups" in record.message] != []
    assert len(caplog.records) == 1


def test_types_of_sums():
    assert one(a.sum_("v"), pl.Series([2**64 - 1], dtype=pl.UInt64), pl.Series([5], dtype=pl.UInt64)) is None
    assert one(a.sum_("v"), pl.Series([2**63 - 6], dtype=pl.UInt64), pl.Series([5], dtype=pl.UInt64)) == 2**63 - 1
    assert one(a.sum_("v"), pl.Series([100, 100], dtype=pl.Int8)) == 200
    assert one(a.sum_("v"), [True, False, True]) == 2
    assert one(a.sum_("v"), [Decimal("1.10"), Decimal("2.20")]) == Decimal("3.30")
    assert one(a.average("v"), [Decimal("1.10"), Decimal("2.20")]) == 1.65
    assert one(a.sum_("v"), pl.Series([0.5, 0.25], dtype=pl.Float32)) == 0.75
    with pytest.raises(ConfigurationError, match=r"'v'.*not a number"):
        one(a.sum_("v"), ["text"])


def test_a_column_may_turn_from_integers_to_floats():
    assert one(a.sum_("v"), [1, 2], [0.5], [4]) == 7.5
    assert one(a.average("v"), [0.5], [1, 2], [4]) == 1.875
    assert one(a.max_("v"), [1, 2], [2.5]) == 2.5


def test_nothing_is_null_and_counts_are_zero():
    found = result(ALL, pl.DataFrame({"k": ["x", "x"], "v": [None, None]}, schema={"k": pl.String, "v": pl.Float64}))
    assert found.drop("k").row(0, named=True) == {
        **dict.fromkeys(("total", "mean", "low", "high", "spread", "p50", "p95", "exact")),
        "n": 2,
        "known": 0,
        "kinds": 0,
        "all": [],
    }


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=60),
    st.floats(0, 1),
    st.sampled_from([0.001, 0.01, 0.1]),
)
@settings(deadline=None, max_examples=200)
def test_quantiles_are_within_their_error(values, q, error):
    found = one(a.quantile("v", q, error=error), values[::2], values[1::2])
    known = sorted(v for v in values if not math.isnan(v))
    if not known:
        assert found is None
        return
    sample = known[math.floor(q * (len(known) - 1))]
    if abs(sample) < 2.2250738585072014e-308:
        assert found == 0
    elif math.isinf(sample):
        assert found == sample
    else:
        # A whisker beyond the bound: logarithms round.
        assert abs(found - sample) <= error * abs(sample) * (1 + 1e-9) + 1e-300, (found, sample)


@given(st.lists(st.integers(-1000, 1000) | st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(0, 100))
@settings(deadline=None)
def test_exact_percentiles_equal_numpy(values, p):
    values = [float(v) for v in values]
    found = one(a.percentile("v", p if p != 0.5 else 1, exact=True), values[:9], values[9:])
    assert math.isclose(found, float(np.percentile(values, p)), rel_tol=1e-9, abs_tol=1e-9)


def test_percentiles_of_one_value_share_a_sketch():
    plan = AggregatePlan({f"p{p}": a.percentile("v", p) for p in (50, 95, 99)})
    assert len(plan.tables) == 2


def test_a_sketch_does_not_grow_with_the_events():
    plan = AggregatePlan({"p": a.percentile("v", 95)})
    values = np.random.default_rng(1).lognormal(3, 1, 100_000)
    rows = plan.prepare(pl.DataFrame({"k": [0] * len(values), "v": values}), ["k"])[1]
    assert rows.height < 600


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=40))
@settings(deadline=None)
def test_variance(values):
    assert math.isclose(
        one(a.variance("v"), values[:5], values[5:]), statistics.variance(values), rel_tol=1e-9, abs_tol=1e-9
    )
    assert math.isclose(
        one(a.stddev("v", ddof=0), values[:5], values[5:]), statistics.pstdev(values), rel_tol=1e-9, abs_tol=1e-9
    )


def test_inputs_may_be_expressions():
    frame = pl.DataFrame({"k": ["x", "x"], "v": [1.0, 3.0], "w": [2, 4]})
    found = result({"r": a.average(pl.col("v") * pl.col("w")), "s": a.sum_(pl.col("w") + 1)}, frame)
    assert found.row(0) == ("x", 7.0, 8)


def test_extremes_of_text_and_times():
    assert one(a.min_("v"), ["pear"], ["apple"]) == "apple"
    assert one(a.max_("v"), [math.nan, 2.0]) == 2.0


@pytest.mark.parametrize(
    ("expression", "same"),
    [
        (pl.col("v").mean(), a.average("v")),
        (pl.col("v").sum(), a.sum_("v")),
        (pl.col("v").min(), a.min_("v")),
        (pl.col("v").max(), a.max_("v")),
        (pl.col("v").count(), a.count("v")),
        (pl.col("v").len(), a.count()),
        (pl.len(), a.count()),
        (pl.col("v").std(), a.stddev("v")),
        (pl.col("v").var(), a.variance("v")),
        (pl.col("v").median(), a.quantile("v", 0.5, exact=True)),
        (pl.col("v").quantile(0.9, "linear"), a.quantile("v", 0.9, exact=True)),
        ((pl.col("v") * 2).sum().alias("x"), a.sum_(pl.col("v") * 2)),
    ],
)
def test_two_spellings_are_one_aggregate(expression, same):
    assert repr(to_aggregate(expression)) == repr(same)


@pytest.mark.parametrize(
    "bad",
    [
        pl.col("v"),
        pl.col("v") + 1,
        pl.col("v").mean() / 2,
        pl.col("v").first(),
        pl.col("v").quantile(0.9, "lower"),
        7,
        "v",
    ],
)
def test_what_is_no_aggregate_is_refused_by_name(bad):
    with pytest.raises(ConfigurationError, match="avg"):
        to_aggregates({"avg": bad})


@pytest.mark.parametrize("name", ["__kg", "window_start", "window_end"])
def test_reserved_names_are_refused(name):
    with pytest.raises(ConfigurationError, match="reserved"):
        to_aggregates({name: a.count()})


def test_arguments_are_checked():
    with pytest.raises(ConfigurationError, match="quantile"):
        a.percentile("v", 0.95)
    with pytest.raises(ConfigurationError, match="0 and 100"):
        a.percentile("v", 101)
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        a.quantile("v", 2)
    with pytest.raises(ConfigurationError, match="no input"):
        to_input(3)
    with pytest.raises(ConfigurationError, match="at least one"):
        to_aggregates({})


def test_the_name_of_a_function_outlives_a_restart():
    def scaled(factor: object):
        return lambda e: e.v * factor

    class Scale:
        def __call__(self, event: object) -> object:
            return event

    assert identity_of(scaled(2)) == identity_of(scaled(2)) != identity_of(scaled(3))
    one, other = Scale(), Scale()
    assert identity_of(one) == identity_of(one) == "Scale#0"
    assert identity_of(other) == "Scale#1"
    assert identity_of(scaled(one)) == identity_of(scaled(one)) != identity_of(scaled(other))

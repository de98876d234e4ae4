"""Aggregates of pairs, bits, orders, sketches and users' own: against NumPy or plain Python, by any cut."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.analytics import (
    all_true,
    any_true,
    approx_distinct,
    bit_and,
    bit_or,
    bit_xor,
    collect,
    correlation,
    count,
    count_distinct,
    covariance,
    first,
    fold,
    last,
    mergeable,
    moving_average,
    percentile,
    regression,
    sum_,
    top_k,
)
from thalweg.errors import ConfigurationError
from thalweg.streams import App, TumblingWindow
from thalweg.streams.testing import TestDriver

SIZES = (1, 7, 1000, None)


def run(
    rows: list[dict[str, Any]], size: int | None, *, crash: bool = False, **aggregates: Any
) -> list[dict[str, Any]]:
    """Per key the results of one window over everything."""
    stream = App("aggregates").stream("events", timestamp="t", watermark=10**9).key_by("k")
    driver = TestDriver(stream.window(TumblingWindow(10**6)).aggregate(**aggregates), batch_size=size)
    driver.send(rows[: len(rows) // 2]) if len(rows) > 1 else None
    if crash:
        driver.restore(driver.snapshot())
    driver.send(rows[len(rows) // 2 :] if len(rows) > 1 else rows)
    driver.end()
    return driver.output().sort("k").drop("window_start", "window_end").to_dicts()


numbers = st.none() | st.integers(-1000, 1000)
events = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 99), numbers, numbers), min_size=1, max_size=40)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(events)
def test_pairs_bits_and_orders(rows):
    records = [{"k": k, "t": t, "x": x, "y": y} for k, t, x, y in rows]
    schema = {"k": pl.String, "t": pl.Int64, "x": pl.Int64, "y": pl.Int64}
    asked = {
        "cov": covariance("y", "x"),
        "pop": covariance("y", "x", ddof=0),
        "corr": correlation("y", "x"),
        "line": regression("y", "x"),
        "bits": bit_and("x"),
        "either": bit_or("x"),
        "odd": bit_xor("x"),
        "all": all_true(pl.col("x") > 0),
        "any": any_true(pl.col("x") > 0),
        "first": first("x"),
        "last": last("x"),
        "top": last("y", by="x"),
        "ma": moving_average("x", 3),
        "items": collect("x", distinct=True),
        "paid": sum_("x").where(pl.col("y") > 0),
        "n": count().where(pl.col("y") > 0),
        "kinds": count_distinct("x").where(lambda e: e.y > 0),
    }
    for size, crash in ((1, False), (7, True), (None, False)):
        found = {row["k"]: row for row in run(pl.DataFrame(records, schema=schema), size, crash=crash, **asked)}  # type: ignore[arg-type]
        for key in {row["k"] for row in records}:
            check(found[key], [row for row in records if row["k"] == key])


def check(found: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    xs = [r["x"] for r in rows if r["x"] is not None]
    pairs = [(r["x"], r["y"]) for r in rows if r["x"] is not None and r["y"] is not None]
    assert found["items"] == sorted(set(xs))
    assert found["bits"] == (int(np.bitwise_and.reduce(xs)) if xs else None)
    assert found["either"] == (int(np.bitwise_or.reduce(xs)) if xs else None)
    assert found["odd"] == (int(np.bitwise_xor.reduce(xs)) if xs else None)
    assert found["all"] == (all(x > 0 for x in xs) if xs else None)
    assert found["any"] == (any(x > 0 for x in xs) if xs else None)
    timed = sorted((r["t"], r["x"]) for r in rows if r["x"] is not None)
    assert found["first"] == (timed[0][1] if timed else None)
    assert found["last"] == (timed[-1][1] if timed else None)
    assert found["top"] == (max(pairs)[1] if pairs else None)
    newest = [x for _, x in timed[-3:]]
    assert found["ma"] == (pytest.approx(sum(newest) / len(newest)) if newest else None)
    paid = [r["x"] for r in rows if r["y"] is not None and r["y"] > 0]
    assert found["n"] == len(paid)
    assert found["paid"] == (sum(x for x in paid if x is not None) if any(x is not None for x in paid) else None)
    assert found["kinds"] == len({x for x in paid if x is not None})
    x, y = (np.array([pair[i] for pair in pairs], dtype=float) for i in (0, 1))
    assert found["line"]["count"] == len(pairs)
    assert found["pop"] == (pytest.approx(np.cov(y, x, ddof=0)[0, 1], abs=1e-6) if pairs else None)
    assert found["cov"] == (pytest.approx(np.cov(y, x)[0, 1], abs=1e-6) if len(pairs) > 1 else None)
    if len(pairs) > 1 and x.std() > 0:
        slope, intercept = np.polyfit(x, y, 1)
        assert found["line"]["slope"] == pytest.approx(slope, abs=1e-6)
        assert found["line"]["intercept"] == pytest.approx(intercept, abs=1e-6)
        assert found["line"]["sxx"] == pytest.approx(((x - x.mean()) ** 2).sum())
        if y.std() > 0:
            assert found["corr"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
            assert found["line"]["r2"] == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, abs=1e-9)
    else:
        assert found["line"]["slope"] is None
        assert found["corr"] is None


def test_large_values_keep_their_digits():
    start = 1_695_000_000_000_000
    rows = [{"k": "a", "t": i, "x": start + i * 1000, "y": i % 7} for i in range(500)]
    for size in SIZES:
        line = run(rows, size, line=regression("y", "x"))[0]["line"]
        x = np.arange(500) * 1000.0
        assert line["sxx"] == pytest.approx(((x - x.mean()) ** 2).sum(), rel=1e-9)
        assert line["slope"] == pytest.approx(np.polyfit(x, [i % 7 for i in range(500)], 1)[0], rel=1e-6)


def test_distinct_values_about():
    random = np.random.default_rng(3)
    for number in (0, 1, 100, 30_000):
        rows = pl.DataFrame({"k": ["a"] * 60_000, "t": [1] * 60_000, "v": random.integers(0, max(number, 1), 60_000)})
        rows = rows.with_columns(v=pl.when(number > 0).then("v"))
        exact = rows["v"].drop_nulls().n_unique()
        found = {run(rows, size, n=approx_distinct("v"))[0]["n"] for size in (5000, None)}  # type: ignore[arg-type]
        assert len(found) == 1
        assert abs(found.pop() - exact) <= 0.03 * exact
    words = [{"k": "a", "t": 1, "v": f"user-{i % 1000}"} for i in range(3000)]
    assert run(words, None, crash=True, n=approx_distinct("v"))[0]["n"] == pytest.approx(1000, rel=0.02)


def test_the_hash_of_distinct_values_is_for_ever():
    found = run([{"k": "a", "t": 1, "v": f"user-{i}"} for i in range(5000)], None, n=approx_distinct("v", precision=10))
    assert found[0]["n"] == FROZEN


FROZEN = 4891


def test_the_most_frequent():
    rows = [{"k": "a", "t": 1, "v": v} for v in "xyzzyxzw"] + [{"k": "b", "t": 1, "v": None}]
    for size in SIZES:
        found = run(rows, size, top=top_k("v", 2), n=count())
        assert found[0]["top"] == [{"value": "z", "count": 3}, {"value": "x", "count": 2}]
        assert not found[1]["top"]


def test_a_custom_aggregate_in_columns():
    rms = mergeable(
        "rms",
        prepare={"squares": (pl.col("v") * pl.col("v")).sum(), "n": pl.col("v").count()},
        merge=lambda part: {"squares": part.squares.sum(), "n": part["n"].sum()},
        finish=lambda part: (part.squares / part.n).sqrt(),
    )
    rows = [{"k": "ab"[i % 2], "t": i, "v": float(i)} for i in range(50)]
    for size in SIZES:
        found = run(rows, size, crash=True, rms=rms, n=count())
        for offset, row in enumerate(found):
            values = [r["v"] for r in rows[offset::2]]
            assert row["rms"] == pytest.approx(math.sqrt(sum(v * v for v in values) / 25))
    with pytest.raises(ConfigurationError, match="must be the same"):
        mergeable("bad", prepare={"a": pl.col("v").sum()}, merge=lambda p: {"b": p.a.sum()}, finish=lambda p: p.a)
    with pytest.raises(ConfigurationError, match="makes no 'c'"):
        mergeable("bad", prepare={"a": pl.col("v").sum()}, merge=lambda p: {"a": p.c.sum()}, finish=lambda p: p.a)
    with pytest.raises(ConfigurationError, match="can't be filtered"):
        rms.where(pl.col("v") > 0)


def test_an_aggregate_in_plain_python():
    longest = fold(
        pl.struct("v", "w"),
        name="longest",
        init=lambda: ["", 0],
        add=lambda state, e: [max(state[0], e["v"], key=lambda s: (len(s), s)), state[1] + e["w"]],
        merge=lambda a, b: [max(a[0], b[0], key=lambda s: (len(s), s)), a[1] + b[1]],
        result=lambda state: f"{state[0]}:{state[1]}",
        returns=pl.String,
    )
    rows = [{"k": "a", "t": i, "v": "x" * (i % 11), "w": i} for i in range(40)]
    for size in SIZES:
        assert run(rows, size, crash=True, longest=longest, p=percentile("w", 50))[0]["longest"] == "xxxxxxxxxx:780"
    broken = fold("w", name="bad", init=object, add=lambda s, v: s, merge=lambda a, b: a)
    with pytest.raises(Exception, match="keep numbers, texts"):
        run(rows, None, broken=broken)


def test_reduce_gives_events_of_the_same_kind():
    stream = App("reduced").stream("events", timestamp="t", watermark=1000).key_by("k")
    best = stream.window(TumblingWindow(100)).reduce(lambda a, b: a if a.v >= b.v else b, "v", "name")
    rows = [{"k": "a", "t": i, "v": i % 5, "name": f"n{i}"} for i in range(5)]
    for size in SIZES:
        driver = TestDriver(best, batch_size=size)
        driver.send(rows)
        driver.end()
        assert driver.output().to_dicts() == [{"k": "a", "window_start": 0, "window_end": 100, "v": 4, "name": "n4"}]


def test_reduce_of_columns_whose_types_are_known():
    trades = App("t").stream("trades", schema={"k": str, "t": int, "price": float, "n": int}, timestamp="t").key_by("k")
    dearest = trades.reduce(lambda a, b: a if a.price > b.price else b, "price", "n")
    assert dearest.schema == {"k": pl.String, "price": pl.Float64, "n": pl.Int64}
    driver = TestDriver(dearest)
    driver.send([{"k": "a", "t": 0, "price": 2.5, "n": 1}, {"k": "a", "t": 1, "price": 2.0, "n": 2}])
    assert driver.output().select("price", "n").rows() == [(2.5, 1)]

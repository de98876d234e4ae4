"""Many conditions at once give what each gives alone, whatever they have in common and wherever they are evaluated."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.alerts.alerting import Kept, made, rule

from thalweg.alerts.masks import Masks
from thalweg.cep.conditions import Condition

SCHEMA = pl.Schema(
    {"a": pl.Int64, "b": pl.Float64, "c": pl.String, "d": pl.String, "e": pl.Boolean, "f": pl.List(pl.Int64)}
)


def frame(choose: random.Random, height: int) -> pl.DataFrame:
    """Values that repeat themselves (`c`), that don't (`d`), and nulls."""

    def column(make: Callable[[], Any]) -> list[Any]:
        return [None if choose.random() < 0.1 else make() for _ in range(height)]

    return pl.DataFrame(
        {
            "a": column(lambda: choose.randrange(100)),
            "b": column(lambda: choose.choice([choose.random(), float("nan"), float("inf")])),
            "c": column(lambda: choose.choice("xyz")),
            "d": column(lambda: f"{choose.randrange(10**6)}"),
            "e": column(lambda: choose.random() < 0.5),
            "f": column(lambda: [choose.randrange(3)]),
        },
        schema=SCHEMA,
    )


def part(choose: random.Random) -> pl.Expr:
    number = choose.randrange(100)
    return choose.choice(
        [
            pl.col("a") > number,
            pl.col("a") == number,
            pl.col("b") < number / 100,
            pl.col("c") == choose.choice("xyz"),
            pl.col("c").is_in(choose.sample("wxyz", 2)),
            pl.col("d").str.ends_with(str(number)),
            pl.col("e"),
            ~pl.col("e"),
            pl.col("c").is_null() | (pl.col("a") < number),
            pl.col("f").list.first() == 1,
            pl.col("a") > pl.col("a").mean(),
            pl.col("a") >= pl.col("a").shift(1),
            pl.lit(number > 20),
            Condition(f"d.contains('{number}') && a < {number}").expression(SCHEMA),
        ]
    )


def condition(choose: random.Random) -> pl.Expr:
    whole = part(choose)
    for _ in range(choose.randrange(4)):
        whole = whole & part(choose)
    return whole


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([1, 5, 64, 700]), st.sampled_from([1, 6, 80]))
def test_together_they_say_what_each_says(seed: int, height: int, count: int):
    choose = random.Random(seed)
    events = frame(choose, height)
    conditions = [condition(choose) for _ in range(count)]
    found = Masks(conditions, SCHEMA).rows(events)
    bits: dict[int, Any] = {}
    dense = Masks(conditions, SCHEMA, range(0, len(conditions), 2))
    rest = dense.rows(events, bits)
    as_rows = {n: np.flatnonzero(np.unpackbits(one, count=events.height)) for n, one in bits.items()}
    assert {n: r.tolist() for n, r in (rest | as_rows).items()} == {n: r.tolist() for n, r in found.items()}
    assert all(n % 2 == 0 for n in bits)
    assert all(n % 2 for n in rest)
    for number, one in enumerate(conditions):
        alone = events.select(one.fill_null(False).alias("x"))["x"]
        alone = alone if alone.len() == height else alone.new_from_index(0, height)
        assert found.get(number, np.empty(0)).tolist() == alone.arg_true().to_list(), str(one)
    assert all(len(rows) for rows in found.values())


def test_a_batch_is_cut_where_it_is_long(monkeypatch: pytest.MonkeyPatch):
    choose = random.Random(7)
    events = frame(choose, 1_000)
    conditions = [condition(choose) for _ in range(60)]
    whole = Masks(conditions, SCHEMA).rows(events)
    monkeypatch.setattr("thalweg.alerts.masks.SLICE", 64)
    cut = Masks(conditions, SCHEMA).rows(events)
    assert {n: rows.tolist() for n, rows in cut.items()} == {n: rows.tolist() for n, rows in whole.items()}


def test_whole_numbers_joined_by_and_are_no_two_conditions():
    events = pl.DataFrame({"a": [1, 2, 3]}, schema={"a": pl.Int64})
    odd = (pl.col("a") & pl.lit(1)).cast(pl.Boolean)
    assert {n: r.tolist() for n, r in Masks([odd], events.schema).rows(events).items()} == {0: [0, 2]}


def test_no_conditions_and_no_events():
    assert Masks([], SCHEMA).rows(frame(random.Random(1), 5)) == {}
    assert Masks([pl.col("a") > 1], SCHEMA).rows(pl.DataFrame(schema=SCHEMA)) == {}


def test_a_condition_that_calls_python_is_evaluated_with_the_rest():
    manager, _ = made(team=Kept())
    called = pl.col("cpu").map_batches(lambda cpu: cpu > 90, return_dtype=pl.Boolean)
    manager.add_rule(rule("python", condition=called))
    manager.add_rule(rule("both", condition=called & (pl.col("host") == "a")))
    manager.add_rule(rule("row", condition=lambda e: str(e.host) == "a" and int(e.cpu) > 90))
    schema = {"host": pl.String, "cpu": pl.Int64, "__ts": pl.Int64}
    batch = pl.DataFrame([("a", 95, 0), ("b", 99, 1), ("a", 5, 2)], schema=schema, orient="row")
    found, _ = manager.process_frame(batch)
    assert [(row, alert.rule) for row, alert in found] == [(0, "python"), (0, "both"), (0, "row"), (1, "python")]

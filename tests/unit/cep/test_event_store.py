"""The events that partial matches hold: found by id, however they came and whatever was dropped between."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.cep.sequence.events import EventStore


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 700), st.booleans()), min_size=1, max_size=90),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_events_are_found_by_id_after_any_additions_and_drops(steps: list[tuple[int, bool]], seed: int, nested: bool):
    store, dice = EventStore(), np.random.default_rng(seed)
    kept: set[int] = set()
    for size, trims in steps:
        numbers = np.arange(store.next_id, store.next_id + size)
        events = pl.DataFrame({"n": numbers, "text": pl.Series(numbers).cast(pl.String)})
        ids = store.add(events.with_columns(pl.concat_list("text")) if nested else events)
        assert ids.tolist() == numbers.tolist()
        kept |= set(ids.tolist())
        if trims:
            wanted = np.array(sorted(kept))[dice.random(len(kept)) < 0.3].astype(np.int64)
            before = store.rows
            store.trim(lambda wanted=wanted: wanted, now=True)  # type: ignore[misc]
            if store.rows != before or before > 4_096:
                assert store.rows == len(wanted)
                kept = set(wanted.tolist())
        assert store.rows == len(kept)
        asked = dice.permutation(np.array(sorted(kept), dtype=np.int64))[:20]
        if len(asked):
            found = [(n, [str(n)] if nested else str(n)) for n in asked.tolist()]
            assert store.get(asked).rows() == found


def test_many_small_additions_are_put_together():
    store = EventStore()
    for number in range(10_000):
        store.add(pl.DataFrame({"n": [number]}))
    assert len(store._parts) <= 64
    assert store.get(np.array([9_999, 0, 5_000]))["n"].to_list() == [9_999, 0, 5_000]


def test_columns_may_differ_between_additions():
    store = EventStore()
    store.add(pl.DataFrame({"n": [1]}))
    store.add(pl.DataFrame({"n": [2.5], "more": ["x"]}))
    assert store.get(np.array([1, 0])).rows() == [(2.5, "x"), (1.0, None)]

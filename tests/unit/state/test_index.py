"""Keys as slots, and slots by time: against dictionaries."""

from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.streams.state.due_queue import NEVER, DueQueue
from thalweg.streams.state.key_index import KeyIndex

steps = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove"]), st.lists(st.integers(0, 60), min_size=1, max_size=40)),
    max_size=30,
)


@given(steps)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_a_key_index_is_a_dictionary(given_steps):
    index, known = KeyIndex(), dict[int, int]()
    for kind, keys in given_steps:
        frame = pl.DataFrame({"k": keys})
        if kind == "add":
            slots, created = index.assign(frame, len(keys))
            new = [key for n, key in enumerate(keys) if key not in known and key not in keys[:n]]
            assert [keys[row] for row in created] == new
            for key, slot in zip(keys, slots.tolist(), strict=True):
                assert known.setdefault(key, slot) == slot
        else:
            gone = sorted({key for key in keys if key in known})
            index.remove(np.array([known.pop(key) for key in gone], dtype=np.int64))
        assert len(index) == len(known)
        assert sorted(index.alive().tolist()) == sorted(known.values())
        asked = list(range(61))
        assert index.find(pl.DataFrame({"k": asked}), 61).tolist() == [known.get(key, -1) for key in asked]


def test_a_key_index_grows_and_shrinks_by_the_ten_thousand():
    index = KeyIndex()
    for wave in range(6):
        keys = pl.DataFrame({"k": np.arange(30_000) + wave * 10_000})
        slots, _ = index.assign(keys, 30_000)
        assert len(np.unique(slots)) == 30_000
        index.remove(index.find(keys[:20_000], 20_000))
        assert len(index) == 10_000
        assert index.capacity < 130_000


moves = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 20), st.integers(0, 3_000)),
        st.tuples(st.just("lower"), st.integers(0, 20), st.integers(0, 3_000)),
        st.tuples(st.just("never"), st.integers(0, 20), st.just(0)),
        st.tuples(st.just("due"), st.just(0), st.integers(0, 3_000)),
    ),
    max_size=60,
)


@given(moves)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_a_due_queue_is_a_dictionary_of_times(given_moves):
    queue, times, now = DueQueue(), dict[int, int](), 0
    queue.reserve(21)
    for kind, slot, time in given_moves:
        one = np.array([slot])
        if kind == "set":
            queue.set(one, np.array([time]))
            times[slot] = time
        elif kind == "lower":
            queue.lower(one, np.array([time]))
            times[slot] = min(time, times.get(slot, NEVER))
        elif kind == "never":
            queue.set(one, np.array([NEVER]))
            times.pop(slot, None)
        else:
            now = max(now, time)
            due = sorted(s for s, t in times.items() if t <= now)
            assert queue.due(now).tolist() == due
            for s in due:
                del times[s]
        assert {s: t for s, t in enumerate(queue.at.tolist()) if t != NEVER} == times

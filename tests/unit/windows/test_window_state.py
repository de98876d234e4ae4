"""The stores behind windows: frame logs, row stores and the session index against plain dicts and lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.streams.state import row_store, runs
from thalweg.streams.state.frame_log import FrameLog
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.state.row_store import SLOT, RowStore
from thalweg.streams.state.runs import Runs, compact_strings
from thalweg.streams.state.session_index import SessionIndex
from thalweg.streams.state.slot_table import identities


def add_up(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames).group_by("k").agg(pl.col("n").sum())


def log() -> FrameLog:
    return FrameLog("log", add_up, lambda frame: key_groups(frame, ["k"]), ["k"])


batches = st.lists(st.lists(st.integers(0, 200), min_size=1, max_size=30), max_size=60)


@given(batches)
@settings(deadline=None, max_examples=60)
def test_runs_keep_every_row_once(given_batches):
    held, expected = Runs(add_up, ["k"]), Counter()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "SPLIT", 16)
        for keys in given_batches:
            held.append(pl.DataFrame({"k": keys, "n": [1] * len(keys)}))
            expected.update(keys)
            frames = held.all_frames()
            assert held.rows == sum(frame.height for frame in frames)
            assert dict(add_up(frames).rows()) == expected


def test_no_append_merges_more_than_a_bounded_number_of_rows(monkeypatch):
    monkeypatch.setattr(runs, "SPLIT", 1000)
    touched = []

    def merge(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
        touched[-1] += sum(frame.height for frame in frames)
        return add_up(frames)

    held = Runs(merge, ["k"])
    for batch in range(1500):
        touched.append(0)
        held.append(pl.DataFrame({"k": np.arange(batch * 100, batch * 100 + 100), "n": np.ones(100, dtype=np.int64)}))
    assert held.rows == 150_000
    assert max(touched) < 10_000
    # Geometric: each row is merged a few times over its life, not once for each batch after it.
    assert sum(touched) < 8 * 150_000


def test_a_log_gives_only_what_changed():
    one = log()
    one.append(10, pl.DataFrame({"k": ["a"], "n": [1]}))
    first = one.snapshot(full=False)
    assert [name for name, _ in first.puts] == ["log@10"]
    assert first.puts[0][1].schema["__kg"] == pl.UInt16
    assert not one.snapshot(full=False)
    one.append(10, pl.DataFrame({"k": ["b"], "n": [2]}))
    one.append(20, pl.DataFrame({"k": ["a"], "n": [3]}))
    one.drop(20)
    second = one.snapshot(full=False)
    assert [(name, frame["n"].to_list()) for name, frame in second.puts] == [("log@10", [2])]
    assert not second.drops, "a pane that was never saved needs no drop"
    one.drop(10)
    assert list(one.snapshot(full=False).drops) == ["log@10"]
    assert not one.snapshot(full=True).puts


def test_a_log_restores_its_own_names_only():
    one, other = log(), log()
    one.append(-5, pl.DataFrame({"k": ["a"], "n": [1]}))
    state = {name: [frame] for name, frame in one.snapshot(full=False).puts}
    other.restore({**state, "other@3": []})
    assert list(other.panes()) == [-5]
    other.drop(-5)
    assert list(other.snapshot(full=False).drops) == ["log@-5"]


def test_kept_text_does_not_keep_its_batch_alive():
    batch = pl.DataFrame({"k": [f"a key of more than twelve bytes {i}" for i in range(50_000)]})
    some = batch[[7]]
    array = compact_strings(some)["k"].to_arrow(compat_level=pl.CompatLevel.newest())
    assert sum(buffer.size for buffer in array.buffers() if buffer is not None) < 1000
    assert compact_strings(some).equals(some)
    nulls = pl.DataFrame({"k": [None, "x"], "b": [b"y", None], "i": [1, 2]})
    assert compact_strings(nulls).equals(nulls, null_equal=True)


steps = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "free"]), st.lists(st.integers(0, 15), min_size=1, max_size=8)
    ),
    max_size=40,
)


def rows_of(kind: str, turn: int, slots: Sequence[int]) -> pl.DataFrame:
    """Rows with a value of their own each: as text, in a list, or beside a column that only some frames have."""
    values = [f"value {turn} {i}" for i in range(len(slots))]
    rows = pl.DataFrame({SLOT: slots, "v": values}, schema={SLOT: pl.Int64, "v": pl.String})
    if kind == "listed":
        return rows.with_columns(pl.concat_list("v").alias("v"))
    return rows.with_columns(more=pl.lit(turn)) if kind == "growing" and turn % 3 else rows


@given(steps, st.sampled_from(["flat", "listed", "growing"]))
@settings(deadline=None, max_examples=150)
def test_a_row_store_is_a_dict_of_rows(given_steps, kind):
    store, expected = RowStore(), {}
    store.reserve(16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_store, "_LARGE", 12)
        for turn, (what, slots) in enumerate(given_steps):
            if what == "write":
                rows = rows_of(kind, turn, slots)
                store.write(rows)
                expected |= {slot: sorted(v for s, v in rows.select(SLOT, "v").rows() if s == slot) for slot in slots}
            else:
                store.free(np.unique(slots))
                expected = {slot: rows for slot, rows in expected.items() if slot not in slots}
            found = store.read(np.arange(16))
            rows = [] if found is None else found.select(SLOT, "v").rows()
            assert {s: sorted(v for t, v in rows if t == s) for s, _ in rows} == expected
            assert len(store) == sum(map(len, expected.values()))
            single = np.array(
                [slot for slot in reversed(range(16)) if len(expected.get(slot, ())) == 1], dtype=np.int64
            )
            if len(single):
                assert store.in_order(single).select(SLOT, "v").rows() == [(s, *expected[s]) for s in single.tolist()]


def test_a_row_store_lets_go_of_what_was_overwritten():
    """Many frames are read as one, which must not keep those that are gone."""
    store = RowStore()
    store.reserve(100)
    for turn in range(20):
        store.write(pl.DataFrame({SLOT: np.arange(100), "v": [f"a value that is long enough, {turn}"] * 100}))
        store.write(pl.DataFrame({SLOT: np.arange(50), "v": [f"another long value, {turn}"] * 50}))
        assert store.read(np.arange(100)).height == 100
    held = sum(len(rows) for rows in (store._chunks._rows,)) if store._chunks is not None else 0
    assert held <= sum(cell.height for cell in store._frames.values())


def test_a_row_store_does_not_grow_with_rewrites():
    store = RowStore()
    store.reserve(1000)
    rows = pl.DataFrame({SLOT: np.arange(1000), "v": np.arange(1000)})
    for turn in range(300):
        store.write(rows.with_columns(v=pl.lit(turn)).sample(100, seed=turn))
    assert sum(frame.height for frame in store._frames.values()) < 4000
    assert len(store._frames) < 30


def test_the_session_index_survives_growth_and_reuse():
    """Many keys, closed in waves: the hash table grows, deletes and refills without losing a session."""
    index, open_sessions = SessionIndex(10), {}
    dice = np.random.default_rng(3)
    for wave in range(30):
        now = wave * 7
        due = index.due(now)
        found = sorted(zip(index.start[due].tolist(), index.last[due].tolist(), strict=True))
        assert found == sorted(bounds for bounds in open_sessions.values() if bounds[1] + 10 <= now)
        index.close(due)
        index.release(due)
        open_sessions = {key: bounds for key, bounds in open_sessions.items() if bounds[1] + 10 > now}
        keys = dice.integers(0, 3000, 1500)
        times = np.full(len(keys), now)
        given = index.assign(identities(pl.DataFrame({"k": keys}), len(keys)), times, times - 100)
        assert (given.slots >= 0).all()
        for key in keys.tolist():
            open_sessions[key] = (open_sessions[key][0] if key in open_sessions else now, now)
        assert len(index) == len(open_sessions) == len(index.alive())
    assert index.capacity < 9000, "slots are used again"


def test_sessions_grow_without_being_looked_at_each_time():
    index = SessionIndex(1000)
    for time in range(0, 20_000, 500):
        given = index.assign(identities(pl.DataFrame({"k": ["a"]}), 1), np.array([time]), np.array([time - 10]))
        assert given.slots.tolist() == [0]
        assert not len(index.due(time - 10))
    assert index.due(20_499).tolist() == []
    assert index.due(20_500).tolist() == [0]


def test_what_merged_sessions_leave_does_not_pile_up():
    """A slot that is used again while an entry of the session before it waits to be looked at."""
    index = SessionIndex(10)
    dice = np.random.default_rng(5)
    for wave in range(300):
        now = wave * 6
        due = index.due(now)
        assert len(due) == len(np.unique(due))
        assert (index.last[due] + 10 <= now).all()
        index.close(due)
        index.release(due)
        keys, times = dice.integers(0, 20, 40), now + dice.integers(0, 30, 40)
        given = index.assign(identities(pl.DataFrame({"k": keys}), 40), times, np.full(40, now))
        index.release(given.gone)
        open_now = len(index.alive())
        assert open_now == len(index)
        assert sum(len(entry) for bucket in index._buckets.values() for entry in bucket) < 10 * open_now
    index.close(last := index.due(10_000))
    index.release(last)
    assert not len(index)
    assert not index._buckets

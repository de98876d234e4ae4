"""Watermarks: per row of its own partition, their minimum, idleness, the close by the clock."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.errors import ConfigurationError
from thalweg.streams import WatermarkGenerator
from thalweg.streams.batch import MIN_TIME
from thalweg.streams.watermarks import PartitionWatermarks

ALL = frozenset({0, 1})


def assign(watermarks: PartitionWatermarks, rows: list[tuple[int, int]], clock: int = 0) -> list[int]:
    stamps = np.array([t for _, t in rows], dtype=np.int64)
    partitions = np.array([p for p, _ in rows], dtype=np.int32)
    return watermarks.assign(stamps, partitions, clock).tolist()


def test_a_row_sees_only_the_rows_before_it_in_its_own_partition() -> None:
    watermarks = PartitionWatermarks([0, 1], 5)
    assert assign(watermarks, [(0, 10), (0, 7), (1, 100), (0, 20), (1, 50), (0, 1)]) == [
        MIN_TIME,
        5,
        MIN_TIME,
        5,
        95,
        15,
    ]


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-(10**12), 10**13)), max_size=60),
    st.integers(0, 1000),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_any_cut_into_batches_gives_the_same(rows: list[tuple[int, int]], lateness: int, cuts: list[int]) -> None:
    whole = assign(PartitionWatermarks(range(3), lateness), rows)
    pieces = PartitionWatermarks(range(3), lateness)
    edges = sorted({0, len(rows), *(c for c in cuts if c < len(rows))})
    got = [w for a, b in itertools.pairwise(edges) for w in assign(pieces, rows[a:b])]
    assert got == whole
    expected, largest = [], dict.fromkeys(range(3), MIN_TIME)
    for partition, stamp in rows:
        expected.append(MIN_TIME if largest[partition] == MIN_TIME else largest[partition] - lateness)
        largest[partition] = max(largest[partition], stamp)
    assert whole == expected


def test_a_partition_that_is_not_owned_is_refused() -> None:
    with pytest.raises(IndexError):
        assign(PartitionWatermarks([0], 0), [(1, 5)])
    with pytest.raises(IndexError):
        assign(PartitionWatermarks([0], 0), [(-1, 5)])


def test_the_minimum_waits_for_every_partition_and_never_goes_back() -> None:
    watermarks = PartitionWatermarks([0, 1], 0)
    assign(watermarks, [(0, 100)])
    watermarks.advance(0, frozenset())
    assert watermarks.event_time == MIN_TIME
    assign(watermarks, [(1, 40)])
    watermarks.advance(0, frozenset())
    assert watermarks.event_time == 40


def test_idleness_needs_evidence_and_time() -> None:
    watermarks = PartitionWatermarks([0, 1], 0, idle_timeout=1000)
    assign(watermarks, [(0, 100), (1, 10)], clock=0)
    assign(watermarks, [(0, 200)], clock=900)
    watermarks.advance(1500, frozenset({0}))  # time alone does not do
    assert watermarks.event_time == 10
    watermarks.advance(900, ALL)  # nor evidence alone
    assert watermarks.event_time == 10
    watermarks.advance(1500, ALL)
    assert (watermarks.event_time, watermarks.idle) == (200, {1})


def test_a_partition_comes_back_at_the_watermark_that_went_on_without_it() -> None:
    watermarks = PartitionWatermarks([0, 1], 10, idle_timeout=1000)
    assign(watermarks, [(0, 100), (1, 10)], clock=0)
    assign(watermarks, [(0, 500)], clock=1500)
    watermarks.advance(1500, ALL)
    assert watermarks.event_time == 490
    assert assign(watermarks, [(1, 20)], clock=1600) == [490]
    watermarks.advance(1600, ALL)
    assert watermarks.event_time == 490
    assert watermarks.committed() == {0: 500, 1: 500}


def test_all_idle_holds_the_watermark() -> None:
    watermarks = PartitionWatermarks([0, 1], 0, idle_timeout=1000)
    assign(watermarks, [(0, 100), (1, 10)], clock=0)
    watermarks.advance(10_000, ALL)
    assert watermarks.all_idle
    assert watermarks.event_time == MIN_TIME  # both fell idle before a minimum was ever taken: nothing closes


def test_a_quiet_stream_is_closed_by_the_clock_only_when_asked() -> None:
    quiet = PartitionWatermarks([0, 1], 5, idle_timeout=None, close_idle_after=1000)
    assign(quiet, [(0, 100), (1, 60)], clock=0)
    quiet.advance(999, ALL)
    assert (quiet.event_time, quiet.closed_by_clock) == (55, False)
    quiet.advance(5000, frozenset({0}))  # one partition still has records to read
    assert (quiet.event_time, quiet.closed_by_clock) == (55, False)
    quiet.advance(5000, ALL)
    assert (quiet.event_time, quiet.closed_by_clock) == (100 + 5000 - 5, True)
    quiet.advance(6000, ALL)
    assert quiet.event_time == 100 + 6000 - 5
    assert assign(quiet, [(1, 70)], clock=6001) == [6095]  # late by its own watermark, also on a replay
    assert not quiet.closed_by_clock


def test_goes_on_from_what_was_committed() -> None:
    before = PartitionWatermarks([0, 1], 5)
    assign(before, [(0, 100), (1, 60)])
    after = PartitionWatermarks([0, 1], 5)
    after.restore(before.committed())
    assert assign(after, [(0, 1), (1, 1)]) == [95, 55]


def test_the_generator_takes_durations() -> None:
    assert WatermarkGenerator(5_000) == WatermarkGenerator("5s")
    with pytest.raises(ConfigurationError, match="max_out_of_orderness"):
        WatermarkGenerator(-1)

"""Partitions of keyless records: one request's worth under way to each, and the turn goes to the one with least."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.kafka._lanes import TopicLanes
from thalweg.records import Int64s

REQUEST = 1_000_000


def lanes_of(partitions: int, *, linger: float = 60.0) -> tuple[TopicLanes, Int64s, Int64s]:
    returned, given = np.zeros(partitions + 1, np.int64), np.zeros(partitions + 1, np.int64)
    pairs = [(number + 1, number) for number in range(partitions)]
    return TopicLanes(pairs, returned, given, REQUEST, linger), returned, given


def never() -> None:
    raise AssertionError("there was room")


def send(lanes: TopicLanes, size: int | None = None, wait: Callable[[], None] = never) -> int:
    """Sends what the lane takes, or so much; returns the partition."""
    lane = lanes.choose(wait)
    lanes.sent(lane, lane.room if size is None else size, full=False)
    return lane.partition


def test_each_partition_gets_a_request_before_any_gets_a_second() -> None:
    lanes, returned, given = lanes_of(4)
    assert sorted(send(lanes) for _ in range(4)) == [0, 1, 2, 3]

    def third_comes_back() -> None:
        returned[3] = given[3]

    assert send(lanes, wait=third_comes_back) == 2


def test_small_sends_stay_with_a_partition_until_half_a_request_or_the_linger_time_is_over() -> None:
    lanes, _, _ = lanes_of(4)
    assert len({send(lanes, 1000) for _ in range(100)}) == 1
    hasty, _, _ = lanes_of(4, linger=0.0)
    assert {send(hasty, 1000) for _ in range(100)} == {0, 1, 2, 3}


def test_as_many_records_as_a_request_takes_end_the_turn() -> None:
    lanes, _, _ = lanes_of(2)
    lane = lanes.choose(never)
    first = lane.partition
    lanes.sent(lane, 10, full=True)
    assert send(lanes, 10) != first


def test_a_dead_partition_holds_one_request_and_stops_nobody() -> None:
    lanes, returned, given = lanes_of(3)

    def all_but_the_first_come_back() -> None:
        returned[2:] = given[2:]

    chosen = [send(lanes, wait=all_but_the_first_come_back) for _ in range(50)]
    assert chosen.count(0) == 1
    assert given[1] <= REQUEST


@pytest.mark.parametrize(("partitions", "requests"), [(1, 3), (2, 4), (3, 3), (12, 12)])
def test_few_partitions_have_several_requests_under_way(partitions: int, requests: int) -> None:
    lanes, returned, given = lanes_of(partitions)
    waits = 0

    def come_back() -> None:
        nonlocal waits
        waits += 1
        returned[:] = given

    sent = 0
    while not waits:
        send(lanes, wait=come_back)
        sent += 1
    assert sent == requests + 1


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.lists(st.tuples(st.integers(1, REQUEST), st.integers(0, 6)), max_size=60), st.booleans())
def test_never_more_than_the_pipeline_is_under_way(partitions: int, steps: list[tuple[int, int]], hasty: bool) -> None:
    lanes, returned, given = lanes_of(partitions, linger=0.0 if hasty else 60.0)

    def come_back() -> None:
        returned[:] = given

    for size, back in steps:
        lane = lanes.choose(come_back)
        lanes.sent(lane, min(size, lane.room), full=False)
        if 0 < back <= partitions:
            returned[back] = given[back]
        away = given - returned
        assert (away >= 0).all()
        assert away[1:].max() <= 4 * REQUEST
        assert away.sum() <= (max(partitions, 3) + partitions) * REQUEST

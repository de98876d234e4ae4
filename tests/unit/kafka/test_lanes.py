"""Partitions of keyless records: one request's worth under way to each, and the turn goes to the one with least."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.kafka._delivery import ProduceError
from thalweg.kafka._lanes import EVERYWHERE, TopicLanes
from thalweg.kafka._send_columns import Records
from thalweg.kafka.partitioners import partition_for
from thalweg.records import EncodedRecords, Int64s

REQUEST = 1_000_000


def lanes_of(partitions: int, *, linger: float = 60.0) -> tuple[TopicLanes, Int64s, Int64s]:
    returned, given = np.zeros(partitions + 1, np.int64), np.zeros(partitions + 1, np.int64)
    numbers = np.arange(1, partitions + 1)
    return TopicLanes(numbers, range(partitions), returned, given, REQUEST, linger), returned, given


def never() -> None:
    raise AssertionError("there was room")


def send(lanes: TopicLanes, size: int | None = None, wait: Callable[[], None] = never) -> int:
    """Sends what the lane takes, or so much; returns the partition."""
    lane = lanes.choose(wait)
    lanes.sent(lane, lane.room if size is None else size)
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
        lanes.sent(lane, min(size, lane.room))
        if 0 < back <= partitions:
            returned[back] = given[back]
        away = given - returned
        assert (away >= 0).all()
        assert away[1:].max() <= 4 * REQUEST
        assert away.sum() <= (max(partitions, 3) + partitions) * REQUEST


# ---------------------------------------------------------------- records with keys or partitions


def encoded(rows: list[bytes]) -> EncodedRecords:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return EncodedRecords(np.frombuffer(b"".join(rows), np.uint8), offsets)


@given(st.lists(st.tuples(st.one_of(st.none(), st.binary(max_size=9)), st.integers(-1, 4)), max_size=30))
def test_a_given_partition_counts_before_the_key_and_the_key_before_chance(
    rows: list[tuple[bytes | None, int]],
) -> None:
    lanes, _, _ = lanes_of(5)
    keys = [key for key, _ in rows]
    records = Records(
        encoded([b"v"] * len(rows)),
        encoded([key or b"" for key in keys]),
        np.array([key is None for key in keys], dtype=np.bool_),
        partitions=np.array([partition for _, partition in rows], dtype=np.int32),
    )
    placed = lanes.place(records).tolist()
    assert len(placed) == len(rows)
    for (key, partition), chosen in zip(rows, placed, strict=True):
        if partition >= 0:
            assert chosen == partition
        elif key is not None:
            assert chosen == partition_for(key, 5)
        else:
            assert 0 <= chosen < 5


def test_keyless_records_amid_others_fill_a_request_of_one_partition_after_the_other() -> None:
    lanes, _, _ = lanes_of(3)
    records = Records(encoded([b"x" * 999_000] * 7), partitions=np.full(7, -1, np.int32))
    chosen = lanes.place(records).tolist()
    assert sorted(chosen[:3]) == sorted(chosen[3:6]) == [0, 1, 2]
    small, _, _ = lanes_of(3)
    some = Records(encoded([b"x"] * 100), partitions=np.full(100, -1, np.int32))
    assert len({*small.place(some).tolist(), *small.place(some).tolist()}) == 1


def test_a_partition_that_does_not_exist_is_refused_and_asked_for_again() -> None:
    lanes, _, _ = lanes_of(3)
    with pytest.raises(ProduceError, match=r"2 records can't be sent: .*the topic has 3"):
        lanes.place(Records(encoded([b"a", b"b"]), partitions=np.array([0, 3], np.int32)))
    assert lanes.stale


def test_a_partition_takes_more_when_most_of_its_request_has_come_back_sooner_for_who_has_waited() -> None:
    lanes, returned, _ = lanes_of(4)
    both = np.array([1, 3])
    full = lanes.rooms(both)
    assert (full > 0.99 * REQUEST).all()
    lanes.handed_over(both, np.array([full[0], 10]))
    assert lanes.rooms(both).tolist() == [0, full[1] - 10]
    assert lanes.rooms(both, waited=True).tolist() == [0, full[1] - 10]
    returned[2] = full[0] * 2 // 3
    assert lanes.rooms(both)[0] == 0
    assert lanes.rooms(both, waited=True)[0] == returned[2]
    returned[2] = full[0] * 4 // 5
    assert lanes.rooms(both)[0] == returned[2]


def test_a_partition_from_which_nothing_comes_back_is_let_go_until_something_does() -> None:
    lanes, returned, _ = lanes_of(4)
    dead = np.array([2])
    lanes.handed_over(dead, lanes.rooms(dead))
    assert lanes.rooms(dead)[0] == 0
    lanes.let_go(dead)
    assert lanes.rooms(np.array([1, 2])).tolist() == [lanes.rooms(np.array([1]))[0], EVERYWHERE]
    lanes.handed_over(dead, np.array([5 * REQUEST]))
    assert lanes.rooms(dead)[0] == EVERYWHERE
    returned[3] = 1
    assert lanes.rooms(dead)[0] == 0

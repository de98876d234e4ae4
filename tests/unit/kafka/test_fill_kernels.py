"""The producer's kernels on rows laid out by hand: grouped by partition, cut to what each may take, failures kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.kafka._fill_kernels import by_partition, fill_messages, keep_failed
from thalweg.kafka._produce_kernels import LEAST_WEIGHT, MESSAGE_WORDS, RECORD_BYTES

NONE64 = np.zeros(0, np.int64)
NONE_BOOL = np.zeros(0, np.bool_)
NONE32 = np.zeros(0, np.int32)
PLENTY = 1 << 62


@given(st.lists(st.integers(0, 4), max_size=60))
def test_rows_of_a_partition_keep_their_order(partitions: list[int]) -> None:
    given_ = np.array(partitions, dtype=np.int32)
    starts, order = np.empty(6, np.int64), np.empty(len(given_), np.int64)
    by_partition(given_, starts, order)
    assert order.tolist() == np.argsort(given_, kind="stable").tolist()
    assert np.diff(starts).tolist() == np.bincount(given_, minlength=5).tolist()


class Rows:
    """Values of these sizes, one after the other from address 1000."""

    def __init__(self, sizes: list[int], *, room: int = 10_000, limit: int = PLENTY) -> None:
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.span = np.array([limit, 0, self.offsets[-1], 0], np.int64)
        self.refused = np.zeros(len(sizes), np.int64)
        self.messages = np.zeros((room, MESSAGE_WORDS), np.int64)
        self.rows = np.zeros(room, np.int64)

    def fill(self, groups: Any, order: Any = NONE64, **columns: Any) -> list[tuple[int, int, int]]:
        """(row, partition, opaque) of each message."""
        given_ = {"nulls": NONE_BOOL, "partitions": NONE32, "extra": NONE64} | columns
        count = fill_messages(
            *(1000, self.offsets, NONE64, 0, NONE64, NONE_BOOL, given_["nulls"], given_["partitions"], given_["extra"]),
            *(self.span, order, groups, self.refused, self.messages, self.rows),
        )
        assert count >= 0
        found = self.messages[:count]
        return list(zip(self.rows[:count].tolist(), found[:, 2].tolist(), found[:, 8].tolist(), strict=True))


def test_each_group_takes_what_it_has_room_for_and_goes_on_where_it_stopped() -> None:
    rows = Rows([400] * 6)
    order = np.array([0, 2, 4, 1, 3, 5])
    groups = np.array([[0, 3, 7, 70, 2 * (400 + RECORD_BYTES), 0], [3, 6, 9, 90, 1, 0]])
    assert rows.fill(groups, order) == [(0, 7, 70), (2, 7, 70), (1, 9, 90)]  # the first is taken whatever the room
    assert groups[:, 0].tolist() == [2, 4]
    assert groups[:, 5].tolist() == [2 * (400 + RECORD_BYTES), 400 + RECORD_BYTES]
    groups[:, 4] = [0, PLENTY]
    assert rows.fill(groups, order) == [(3, 9, 90), (5, 9, 90)]
    assert groups[:, 5].tolist() == [0, 2 * (400 + RECORD_BYTES)]
    groups[:, 4] = PLENTY
    assert rows.fill(groups, order) == [(4, 7, 70)]
    assert rows.fill(groups, order) == []


def test_tiny_records_count_as_what_a_request_has_room_for() -> None:
    rows = Rows([1] * 50)
    groups = np.array([[0, 50, 0, 0, 10 * LEAST_WEIGHT, 0]])
    assert len(rows.fill(groups)) == 10


def test_rows_that_are_too_large_are_named_and_take_no_room() -> None:
    rows = Rows([10, 900, 20, 901, 30], limit=899)
    groups = np.array([[0, 5, 3, 0, PLENTY, 0]])
    assert [row for row, _, _ in rows.fill(groups, extra=np.array([0, 0, 880, 0, 0]))] == [0, 4]
    assert rows.refused[: rows.span[1]].tolist() == [1, 2, 3]
    assert groups[0, 5] == 2 * LEAST_WEIGHT


def test_a_null_is_an_address_of_nothing_and_a_row_may_name_its_partition() -> None:
    rows = Rows([500, 500])
    groups = np.array([[0, 2, -1, 5, PLENTY, 0]])
    nulls = np.array([False, True])
    assert rows.fill(groups, nulls=nulls, partitions=np.array([4, -1], np.int32)) == [(0, 4, 5), (1, -1, 5)]
    assert rows.messages[:2, 3:5].tolist() == [[1000, 500], [0, 0]]
    assert groups[0, 5] == 500 + RECORD_BYTES + LEAST_WEIGHT


@pytest.mark.parametrize("offsets", [[0, 5, 3, 9], [0, 4, 9, 12], [-1, 2, 3, 4]])
def test_offsets_outside_the_data_are_refused(offsets: list[int]) -> None:
    rows = Rows([3, 3, 3])
    rows.offsets = np.array(offsets)
    with pytest.raises(AssertionError):
        rows.fill(np.array([[0, 3, 0, 0, PLENTY, 0]]))


@settings(deadline=None)
@given(st.lists(st.sampled_from([0, 0, -184, -190]), max_size=40))
def test_messages_that_were_not_taken_come_first_in_their_order(errors: list[int]) -> None:
    messages = np.zeros((len(errors), MESSAGE_WORDS), np.int64)
    messages[:, 0] = np.array(errors, np.int64) & 0xFFFFFFFF
    messages[:, 8] = np.arange(len(errors))
    rows, error = np.arange(len(errors)), np.zeros(1, np.int64)
    left = keep_failed(messages, len(errors), rows, error)
    failed = [at for at, code in enumerate(errors) if code]
    assert messages[:left, 8].tolist() == rows[:left].tolist() == failed
    assert error[0] == (errors[failed[0]] if failed else 0)

"""Numba kernels of the producer: rows to librdkafka messages (`_produce_kernels` has their layout)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from thalweg.kafka._produce_kernels import LEAST_WEIGHT, RECORD_BYTES


@njit(  # type: ignore[untyped-decorator]
    "void(Array(int32, 1, 'C', readonly=True), int64[::1], int64[::1])",
    nogil=True,
    cache=True,
)
def by_partition(partitions: Any, starts: Any, order: Any) -> None:
    """The rows of each partition, in their order.

    Args:
        partitions: of each row; all lie in [0, len(starts) - 1).
        starts: (out) partition p has the rows `order[starts[p]:starts[p + 1]]`.
    """
    starts[:] = 0
    for row in range(len(partitions)):
        starts[partitions[row] + 1] += 1
    for p in range(1, len(starts)):
        starts[p] += starts[p - 1]
    heads = starts[:-1].copy()
    for row in range(len(partitions)):
        p = partitions[row]
        order[heads[p]] = row
        heads[p] += 1


@njit(  # type: ignore[untyped-decorator]
    "int64(int64, Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64,"
    "Array(int64, 1, 'C', readonly=True), Array(boolean, 1, 'C', readonly=True), Array(boolean, 1, 'C', readonly=True),"
    "Array(int32, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64[::1], int64[::1],"
    "int64[:, ::1], int64[::1], int64[:, ::1], int64[::1])",
    nogil=True,
    cache=True,
)
def fill_messages(
    value_base: int,
    value_offsets: Any,
    value_sizes: Any,
    key_base: int,
    key_offsets: Any,
    null_keys: Any,
    null_values: Any,
    partitions: Any,
    extra: Any,
    span: Any,
    order: Any,
    groups: Any,
    refused: Any,
    messages: Any,
    rows: Any,
) -> int:
    """Fills librdkafka messages with the addresses of rows; returns how many, -1 for offsets outside the data.

    Args:
        value_sizes: bytes of each value; empty where each ends at the next one's offset.
        null_keys, null_values: empty where no row has one.
        partitions: of each row, where it overrules its group's; empty where it does not.
        extra: bytes of each row's headers, which count towards the limit; empty for none.
        span: [0] largest record, [1] number of refused rows (moved on), [2], [3] bytes of the values and of the keys.
        order: the rows, one group after the other; empty: as they come.
        groups: of each group of rows [0] the next one's place in `order` (moved on), [1] its end there, [2] its
            partition, [3] the opaque of its messages, [4] weight of a request after which another call goes on (the
            first message is always taken, unless it is 0), [5] (out) weight of what was taken.
        refused: gets the rows that are larger than the largest record allowed; they are left out.
        rows: gets the row of each message.
    """
    count = 0
    for g in range(len(groups)):
        group = groups[g]
        group[5] = 0
        at = group[0]
        while at < group[1] and group[4] > 0 and count < len(messages):
            row = order[at] if len(order) > 0 else at
            start = value_offsets[row]
            size = value_sizes[row] if len(value_sizes) > 0 else value_offsets[row + 1] - start
            has_key = len(key_offsets) > 0 and not (len(null_keys) > 0 and null_keys[row])
            key_start = key_offsets[row] if has_key else 0
            key_size = key_offsets[row + 1] - key_start if has_key else 0
            if start < 0 or size < 0 or start + size > span[2] or key_start < 0 or key_size < 0:
                return -1
            if key_start + key_size > span[3]:
                return -1
            more = extra[row] if len(extra) > 0 else 0
            if size + key_size + more > span[0]:
                refused[span[1]] = row
                span[1] += 1
                at += 1
                continue
            null = len(null_values) > 0 and null_values[row]
            weight = max((0 if null else size) + key_size + RECORD_BYTES, LEAST_WEIGHT)
            if group[5] > 0 and group[5] + weight > group[4]:
                break
            group[5] += weight
            message = messages[count]
            message[0] = 0
            message[1] = 0
            message[2] = partitions[row] if len(partitions) > 0 else group[2]
            message[3] = 0 if null else value_base + start
            message[4] = 0 if null else size
            message[5] = key_base + key_start if has_key else 0
            message[6] = key_size
            message[7] = 0
            message[8] = group[3]
            rows[count] = row
            count += 1
            at += 1
        group[0] = at
    return count


@njit("int64(int64[:, ::1], int64, int64[::1], int64[::1])", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def keep_failed(messages: Any, count: int, rows: Any, error: Any) -> int:
    """Moves the messages that were not taken to the front, in their order; returns how many there are.

    Args:
        rows: the row of each message; moved with them.
        error: (out) the first one's error.
    """
    left = 0
    for i in range(count):
        code = np.int64(np.int32(messages[i, 0] & 0xFFFFFFFF))
        if code != 0:
            if left == 0:
                error[0] = code
            if left < i:
                messages[left, :] = messages[i, :]
                rows[left] = rows[i]
            left += 1
    return left

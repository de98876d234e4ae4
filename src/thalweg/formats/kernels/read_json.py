"""JSON records into columns: the loop over records that every other kernel of the decoder is compiled into."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels.compile import entry, hot, inner
from thalweg.formats.kernels.memory import load_u8, store_u8, store_u64
from thalweg.formats.kernels.skeleton import (
    AT_START,
    BROKEN,
    CLOSING,
    COLUMN,
    INSIDE,
    LENGTH,
    OPENED,
    PREDICTED,
    ROOT,
    SEARCHED,
    UNKNOWN,
    learn,
    predict,
    search,
)
from thalweg.formats.kernels.skip import skip_space, skip_value
from thalweg.formats.kernels.values import IS_NULL, OBJECT, REFUSED, read_value

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]

# Columns of the column table.
KIND = 0
SLOTS = 1
"""Address of the first slot."""
SLOT_SIZE = 2
VALIDITY = 3
"""Address of the validity bitmap, all ones at first; 0 where nothing is kept."""
LOW = 4
"""Smallest integer allowed; ticks per second for times; for an object the one that it is in (0: the record)."""
HIGH = 5
REQUIRED = 6
COLUMN_FIELDS = 7

# Columns of the mark table.
SEEN = 0
"""The last record, counted from 1, that had the key."""
NULLS = 1
MARK_FIELDS = 2

OPEN = 0
CLOSED = 1
CLOSED_WITHIN = 2


@hot
def _set_null(column: int, row: int, columns: Int64s, marks: Int64s) -> bool:
    """Notes a null or a missing key; false where one is not allowed."""
    if columns[column, REQUIRED] != 0:
        return False
    validity = columns[column, VALIDITY]
    if validity != 0:
        byte = validity + (row >> 3)
        store_u8(byte, load_u8(byte) & ~(1 << (row & 7)))
        marks[column, NULLS] += 1
        if columns[column, SLOT_SIZE] == 16:
            # A view is followed even where it is null: it must not lead anywhere.
            slot = columns[column, SLOTS] + row * 16
            store_u64(slot, 0)
            store_u64(slot + 8, 0)
    return True


@inner
def _set_missing(row: int, columns: Int64s, marks: Int64s) -> bool:
    """Makes the columns null whose keys the record did not have; false where one is required."""
    for column in range(len(columns)):
        if marks[column, SEEN] != row + 1 and not _set_null(column, row, columns, marks):
            return False
    return True


@entry(
    "int64(Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), uint8[::1], int64[:, ::1],"
    " int64[:, ::1], Array(uint8, 1, 'C', readonly=True), int64[:, ::1], int64[::1], uint8[:, ::1], int64[:, ::1],"
    " int64[::1], int64, int64)"
)
def read_records(
    addresses: Int64s,
    lengths: Int64s,
    refused: Bytes,
    columns: Int64s,
    marks: Int64s,
    key_bytes: Bytes,
    places: Int64s,
    buckets: Int64s,
    node_bytes: Bytes,
    nodes: Int64s,
    counts: Int64s,
    side: int,
    closed: int,
) -> int:
    """Reads every record that is simple enough; marks the others in `refused` for the general parser.

    Args:
        addresses: of the records, `lengths` bytes each; a null (negative) or empty one is refused.
        refused: one byte per record, 0 at first.
        columns: one row per column, fields as above.
        marks: one row per column, 0 at first.
        key_bytes: the columns' keys, at `places` (start, length, object), indexed by `buckets`.
        node_bytes: with `nodes` and `counts` the skeleton, which grows as records are read.
        side: address of a buffer for strings of more than 12 bytes, as large as all records together.
        closed: `CLOSED` refuses a record that has a key without a column, `CLOSED_WITHIN` where it is within an object
            that has columns, `OPEN` never (inference has to see such records).

    Returns:
        How many bytes of the side buffer are taken.
    """
    taken = 0
    stretches = node_bytes.ctypes.data
    predicted = 0
    for row in range(len(addresses)):
        p = addresses[row]
        end = p + lengths[row]
        used = taken
        node = ROOT
        where = AT_START
        inside = 0
        found = 0
        fine = False
        while p < end:
            if where != AT_START and load_u8(p) == 125:
                p += 1
                if inside == 0:
                    fine = skip_space(p, end) == end
                    break
                inside = columns[inside - 1, LOW]
                where = INSIDE
                continue
            follower = predict(p, end, node, inside, nodes, stretches)
            if follower >= 0:
                predicted += 1
                node = follower
                column = nodes[node, COLUMN]
                p += nodes[node, LENGTH]
            else:
                start = p
                p, column = search(p, end, where, inside, key_bytes, places, buckets)
                if column == BROKEN:
                    break
                if column == CLOSING:
                    where = INSIDE
                    continue
                counts[SEARCHED] += 1
                node = learn(start, p - start, column, inside, node, nodes, node_bytes, counts)
            where = INSIDE
            if column == UNKNOWN:
                if closed == CLOSED or (closed == CLOSED_WITHIN and inside != 0):
                    break
                p = skip_value(p, end)
                if p == REFUSED:
                    break
                continue
            if marks[column, SEEN] == row + 1:
                break  # a duplicate key: the last one counts, and the general parser knows which that is
            marks[column, SEEN] = row + 1
            found += 1
            kind = columns[column, KIND]
            if kind == OBJECT and p < end and load_u8(p) == 123:
                p += 1
                inside = column + 1
                where = OPENED
                continue
            slot = columns[column, SLOTS] + row * columns[column, SLOT_SIZE]
            here = p
            p, used = read_value(p, end, kind, slot, columns[column, LOW], columns[column, HIGH], side, used)
            if p == IS_NULL:
                if not _set_null(column, row, columns, marks):
                    break
                p = here + 4
            if p == REFUSED:
                break
        if fine and (found == len(columns) or _set_missing(row, columns, marks)):
            taken = used
        else:
            refused[row] = 1
    counts[PREDICTED] += predicted
    return taken

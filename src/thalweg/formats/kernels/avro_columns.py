"""The columns that Avro records are read into: values and nulls at a cursor, which can go back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels.compile import hot, inner
from thalweg.formats.kernels.memory import load_i64, load_u8, store_u8, store_u64

Int64s = npt.NDArray[np.int64]

# Columns of the column table.
KIND = 0
"""0 nothing, 1 fixed, 2 view, 3 list."""
DATA = 1
SIZE = 2
VALIDITY = 3
COUNT = 4
"""How many values there are."""
SAVED = 5
NULL_COUNT = 6
ITEMS = 7
SAVED_ITEMS = 8
CAPACITY = 9
GROWS = 10
"""1: within a list, so that there may be more values than records."""
COLUMN_FIELDS = 11
COLUMN_BYTES = 8 * COLUMN_FIELDS


@hot
def _clear_bit(validity: int, index: int) -> None:
    byte = validity + (index >> 3)
    store_u8(byte, load_u8(byte) & ~(1 << (index & 7)))


@hot
def get(row: int, field: int) -> int:
    """A field of a row of a table, by the row's address: arrays as arguments would be counted at each call."""
    found: int = load_i64(row + 8 * field)
    return found


@hot
def put(row: int, field: int, value: int) -> None:
    store_u64(row + 8 * field, value)


@hot
def put_null(column: int) -> None:
    """A null in a column, given by the address of its row."""
    at = get(column, COUNT)
    _clear_bit(get(column, VALIDITY), at)
    put(column, NULL_COUNT, get(column, NULL_COUNT) + 1)
    kind = get(column, KIND)
    if kind == 2:
        # A view is followed even where it is null: it must not lead anywhere.
        store_u64(get(column, DATA) + 16 * at, 0)
        store_u64(get(column, DATA) + 16 * at + 8, 0)
    elif kind == 3:
        store_u64(get(column, DATA) + 8 * (at + 1), get(column, ITEMS))
    put(column, COUNT, at + 1)


@inner
def put_nulls(columns: int, tables: int, start: int, count: int) -> None:
    for index in range(start, start + count):
        put_null(columns + COLUMN_BYTES * get(tables, index))


@inner
def roll_back(columns: Int64s) -> None:
    """Forgets what the last record has written."""
    for column in range(len(columns)):
        validity = columns[column, VALIDITY]
        for at in range(columns[column, SAVED], columns[column, COUNT]):
            byte = validity + (at >> 3)
            bit = 1 << (at & 7)
            if load_u8(byte) & bit == 0:
                columns[column, NULL_COUNT] -= 1
                store_u8(byte, load_u8(byte) | bit)
        columns[column, COUNT] = columns[column, SAVED]
        columns[column, ITEMS] = columns[column, SAVED_ITEMS]


@inner
def has_room(columns: Int64s, more: int) -> bool:
    for column in range(len(columns)):
        if columns[column, GROWS] != 0 and columns[column, COUNT] + more > columns[column, CAPACITY]:
            return False
    return True

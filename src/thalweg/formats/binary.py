"""Byte strings by their addresses to Arrow columns: copied once, by a kernel, without an object for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg.records import Int64s, UInt64s

if TYPE_CHECKING:
    import pyarrow as pa


def binary_column(addresses: UInt64s, lengths: Int64s, *, text: bool = False) -> pa.Array:
    """Copies n byte strings into a large_binary column; a length of -1 is a null.

    Args:
        text: makes it a large_string column. The caller has checked that all of them are UTF-8.
    """
    import pyarrow as pa

    from thalweg.formats.kernels.binary import copy_rows, offsets_of

    rows = len(lengths)
    offsets = np.empty(rows + 1, dtype=np.int64)
    nulls = offsets_of(lengths, offsets)
    data = np.empty(int(offsets[-1]), dtype=np.uint8)
    copy_rows(addresses.view(np.int64), lengths, offsets, data)
    valid = pa.py_buffer(np.packbits(lengths >= 0, bitorder="little")) if nulls else None
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_string() if text else pa.large_binary(), rows, buffers, null_count=nulls)


def bad_utf8(addresses: UInt64s, lengths: Int64s) -> Int64s:
    """The rows whose bytes are not UTF-8, ascending; a null is none of them."""
    from thalweg.formats.kernels.binary import find_bad_utf8

    marks = np.empty(len(lengths), dtype=np.bool_)
    return np.flatnonzero(marks) if find_bad_utf8(addresses.view(np.int64), lengths, marks) else _NONE


_NONE = np.zeros(0, dtype=np.int64)

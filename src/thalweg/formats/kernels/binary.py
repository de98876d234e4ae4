"""Byte strings that lie anywhere in memory to one Arrow column: offsets and a copy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from thalweg.formats.kernels.compile import entry
from thalweg.formats.kernels.memory import copy_bytes, load_u32
from thalweg.formats.kernels.text import valid_utf8

Bools = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]


@entry("int64(Array(int64, 1, 'C', readonly=True), int64[::1])")
def offsets_of(lengths: Int64s, out: Int64s) -> int:
    """Arrow offsets of these lengths (null: 0 bytes) into `out`, one longer; returns how many are null."""
    total = 0
    nulls = 0
    out[0] = 0
    for row in range(min(len(lengths), len(out) - 1)):
        length = lengths[row]
        if length < 0:
            nulls += 1
        else:
            total += length
        out[row + 1] = total
    return nulls


@entry("void(Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), int64[::1], uint8[::1])")
def copy_rows(addresses: Int64s, lengths: Int64s, offsets: Int64s, out: Bytes) -> None:
    """Copies every row's bytes to its place in `out`."""
    base = out.ctypes.data
    for row in range(min(len(addresses), len(lengths), len(offsets) - 1)):
        length = lengths[row]
        if length > 0 and offsets[row] + length <= len(out):
            copy_bytes(base + offsets[row], addresses[row], length)


@entry("int64(Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True), boolean[::1])")
def find_bad_utf8(addresses: Int64s, lengths: Int64s, out: Bools) -> int:
    """Marks the rows whose bytes are not UTF-8; returns how many there are. Nulls are good."""
    bad = 0
    for row in range(min(len(addresses), len(lengths), len(out))):
        out[row] = lengths[row] > 0 and not valid_utf8(addresses[row], addresses[row] + lengths[row])
        if out[row]:
            bad += 1
    return bad


@entry("void(int64, Array(int64, 1, 'C', readonly=True), int64[::1], int64[::1])")
def read_views(views: int, buffers: Int64s, addresses: Int64s, lengths: Int64s) -> None:
    """Where the values of an Arrow view column lie.

    Args:
        views: the address of the first view: length, then up to 12 bytes in place, or else 4 of them, the number of
            the buffer that has them all, and where in it. They are Arrow's own, not from outside.
        buffers: addresses of the buffers.
    """
    for row in range(len(lengths)):
        view = views + 16 * row
        length = load_u32(view)
        lengths[row] = length
        addresses[row] = view + 4 if length <= 12 else buffers[load_u32(view + 8)] + load_u32(view + 12)

"""Numba kernels for key groups. Imported on first use: `import thalweg` does not load Numba."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from thalweg._murmur2_kernel import murmur2


@njit(  # type: ignore[untyped-decorator]
    "uint16[::1](Array(int64, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), uint32)",
    nogil=True,
    cache=True,
)
def groups(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], n: np.uint32) -> npt.NDArray[np.uint16]:
    """The key group of every row of (offsets, data)."""
    rows = len(offsets) - 1
    out = np.empty(rows, dtype=np.uint16)
    for row in range(rows):
        positive = murmur2(data, offsets[row], offsets[row + 1]) & np.uint32(0x7FFFFFFF)
        out[row] = np.uint16(positive % n)
    return out


@njit(  # type: ignore[untyped-decorator]
    "void(Array(int64, 1, 'C', readonly=True), Array(uint8, 1, 'C', readonly=True), int64[::1], uint8[::1])",
    nogil=True,
    cache=True,
)
def append_prefixed(
    offsets: npt.NDArray[np.int64],
    data: npt.NDArray[np.uint8],
    place: npt.NDArray[np.int64],
    out: npt.NDArray[np.uint8],
) -> None:
    """Writes each row's length (4 bytes, big endian) and bytes to `out` at `place[row]`, and moves `place` on."""
    for row in range(len(place)):
        start = offsets[row]
        length = offsets[row + 1] - start
        at = place[row]
        if start < 0 or length < 0 or start + length > len(data) or at < 0 or at + 4 + length > len(out):
            raise ValueError("key bytes out of bounds")
        for byte in range(4):
            out[at + byte] = np.uint8((length >> (8 * (3 - byte))) & 0xFF)
        for byte in range(length):
            out[at + 4 + byte] = data[start + byte]
        place[row] = at + 4 + length

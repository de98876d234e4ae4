"""Numba kernels for key groups. Imported on first use: `import thalweg` does not load Numba."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

_SEED = np.uint32(0x9747B28C)
_M = np.uint32(0x5BD1E995)


@njit("uint32(Array(uint8, 1, 'C', readonly=True), int64, int64)", nogil=True, cache=True)  # type: ignore[untyped-decorator]
def murmur2(data: npt.NDArray[np.uint8], start: int, stop: int) -> np.uint32:
    """MurmurHash2 as Kafka's `Utils.murmur2` computes it; reads only `data[start:stop]` that exists."""
    start = max(start, 0)
    stop = max(min(stop, len(data)), start)
    h = _SEED ^ np.uint32(stop - start)
    i = start
    while i + 4 <= stop:
        k = (
            np.uint32(data[i])
            | np.uint32(data[i + 1]) << np.uint32(8)
            | np.uint32(data[i + 2]) << np.uint32(16)
            | np.uint32(data[i + 3]) << np.uint32(24)
        )
        k = np.uint32(k * _M)
        k ^= k >> np.uint32(24)
        k = np.uint32(k * _M)
        h = np.uint32(h * _M) ^ k
        i += 4
    rest = stop - i
    if rest >= 3:
        h ^= np.uint32(data[i + 2]) << np.uint32(16)
    if rest >= 2:
        h ^= np.uint32(data[i + 1]) << np.uint32(8)
    if rest >= 1:
        h ^= np.uint32(data[i])
        h = np.uint32(h * _M)
    h ^= h >> np.uint32(13)
    h = np.uint32(h * _M)
    h ^= h >> np.uint32(15)
    return h


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

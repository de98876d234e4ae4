"""Kafka's hash as a Numba kernel. Imported on first use: `import thalweg` does not load Numba."""

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

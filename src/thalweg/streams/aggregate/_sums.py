"""Numba kernels for compensated sums and ranks. Imported on first use: `import thalweg` does not load Numba."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

Float64s = npt.NDArray[np.float64]


@njit(  # type: ignore[untyped-decorator]
    "UniTuple(float64[::1], 2)(Array(float64, 1, 'C', readonly=True), Array(float64, 1, 'C', readonly=True),"
    " Array(int64, 1, 'C', readonly=True))",
    nogil=True,
    cache=True,
)
def compensated(high: Float64s, low: Float64s, lengths: npt.NDArray[np.int64]) -> tuple[Float64s, Float64s]:
    """Sums runs of `lengths[g]` values, each value being `high[i] + low[i]` (`low` may be empty: zeros).

    Knuth's TwoSum keeps what each addition rounds away (Ogita, Rump, Oishi: Accurate sum and dot product, 2005,
    Sum2). Returns (sum, correction) per run. Infinities and NaN go as in a plain sum.
    """
    groups = len(lengths)
    sums = np.zeros(groups)
    corrections = np.zeros(groups)
    i = 0
    for g in range(groups):
        total = 0.0
        lost = 0.0
        stop = i + lengths[g]
        if lengths[g] < 0 or stop > len(high) or (len(low) > 0 and stop > len(low)):
            raise ValueError("run out of bounds")
        while i < stop:
            x = high[i]
            added = total + x
            back = added - total
            lost += (total - (added - back)) + (x - back)
            if len(low) > 0:
                lost += low[i]
            total = added
            i += 1
        result = total + lost
        if np.isfinite(result):
            sums[g] = result
            corrections[g] = lost - (result - total)
        else:
            sums[g] = total
    return sums, corrections


@njit(  # type: ignore[untyped-decorator]
    "int64[::1](Array(int64, 1, 'C', readonly=True), Array(int64, 1, 'C', readonly=True),"
    " Array(int64, 1, 'C', readonly=True))",
    nogil=True,
    cache=True,
)
def row_of_rank(
    counts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """For each run of `lengths[g]` counted rows: the first row at which the counts add up to more than `ranks[g]`."""
    rows = np.zeros(len(lengths), dtype=np.int64)
    start = 0
    for g in range(len(lengths)):
        stop = start + lengths[g]
        if lengths[g] < 1 or stop > len(counts) or g >= len(ranks):
            raise ValueError("run out of bounds")
        seen = 0
        row = start
        while row < stop - 1:
            seen += counts[row]
            if seen > ranks[g]:
                break
            row += 1
        rows[g] = row
        start = stop
    return rows

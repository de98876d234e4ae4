"""Numba kernels of the accumulators: each adds a column of values to cells, in place. Imported on first use.

`cells[i]` is the cell that value i belongs to; no cell is beyond the end of the accumulators' arrays (checked).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Int8s = npt.NDArray[np.int8]
Booleans = npt.NDArray[np.bool_]

_CELLS = "Array(int64, 1, 'C', readonly=True)"
_INTS = "Array(int64, 1, 'C', readonly=True)"
_FLOATS = "Array(float64, 1, 'C', readonly=True)"
_VALID = "Array(boolean, 1, 'C', readonly=True)"

NOTHING, NAN, SOME = 0, 1, 2
"""What an extreme of floats has seen."""


def _kernel(*signatures: str) -> Any:
    return njit([f"void({signature})" for signature in signatures], nogil=True, cache=True)


@njit(nogil=True, cache=True, inline="always")  # type: ignore[untyped-decorator]
def _check(cells: Int64s, values: int, valid: int, room: int) -> None:
    if values < len(cells) or (valid and valid < len(cells)):
        raise ValueError("columns of unequal length")
    for cell in cells:
        if cell < 0 or cell >= room:
            raise ValueError("no such cell")


@_kernel(f"{_CELLS}, {_VALID}, int64[::1]")  # type: ignore[untyped-decorator]
def count(cells: Int64s, valid: Booleans, counts: Int64s) -> None:
    """Counts the values that are valid; an empty `valid`: all are."""
    _check(cells, len(cells), len(valid), len(counts))
    if len(valid):
        for i in range(len(cells)):
            counts[cells[i]] += valid[i]
    else:
        for i in range(len(cells)):
            counts[cells[i]] += 1


@_kernel(f"{_CELLS}, {_INTS}, int64[::1], int64[::1]")  # type: ignore[untyped-decorator]
def add_integers(cells: Int64s, values: Int64s, high: Int64s, low: Int64s) -> None:
    """Adds to `high * 2**32 + low`, where `low` is below 2**32."""
    _check(cells, len(values), 0, min(len(high), len(low)))
    for i in range(len(cells)):
        cell = cells[i]
        rest = low[cell] + (values[i] & 0xFFFFFFFF)
        high[cell] += (values[i] >> 32) + (rest >> 32)
        low[cell] = rest & 0xFFFFFFFF


@_kernel(f"{_CELLS}, {_FLOATS}, {_FLOATS}, float64[::1], float64[::1]")  # type: ignore[untyped-decorator]
def add_floats(cells: Int64s, values: Float64s, rests: Float64s, total: Float64s, lost: Float64s) -> None:
    """Adds `values + rests` (`rests` may be empty: zeros), what each addition rounds away kept apart: as in
    `_sums.compensated`."""
    _check(cells, len(values), 0, min(len(total), len(lost)))
    if len(rests) and len(rests) < len(cells):
        raise ValueError("columns of unequal length")
    for i in range(len(cells)):
        cell, x = cells[i], values[i]
        before = total[cell]
        after = before + x
        back = after - before
        lost[cell] += (before - (after - back)) + (x - back)
        if len(rests):
            lost[cell] += rests[i]
        total[cell] = after


@_kernel(
    f"{_CELLS}, {_INTS}, {_VALID}, boolean, int64[::1], int8[::1]",
    f"{_CELLS}, {_FLOATS}, {_VALID}, boolean, float64[::1], int8[::1]",
)  # type: ignore[untyped-decorator]
def extreme(cells: Int64s, values: Any, valid: Booleans, largest: bool, best: Any, seen: Int8s) -> None:
    """The smallest or largest of the valid values, which are integers or floats; NaN only where there is nothing
    else."""
    _check(cells, len(values), len(valid), min(len(best), len(seen)))
    for i in range(len(cells)):
        if len(valid) and not valid[i]:
            continue
        cell, x = cells[i], values[i]
        if np.isnan(x):
            if seen[cell] == NOTHING:
                best[cell] = x
                seen[cell] = NAN
        elif seen[cell] != SOME or (x > best[cell] if largest else x < best[cell]):
            best[cell] = x
            seen[cell] = SOME


@_kernel(f"{_CELLS}, {_FLOATS}, {_VALID}, int64[::1], float64[::1], float64[::1]")  # type: ignore[untyped-decorator]
def add_moments(
    cells: Int64s, values: Float64s, valid: Booleans, counts: Int64s, means: Float64s, squares: Float64s
) -> None:
    """Count, mean and sum of squared deviations of the valid values (Welford 1962)."""
    _check(cells, len(values), len(valid), min(len(counts), len(means), len(squares)))
    for i in range(len(cells)):
        if len(valid) and not valid[i]:
            continue
        cell, x = cells[i], values[i]
        counts[cell] += 1
        away = x - means[cell]
        means[cell] += away / counts[cell]
        squares[cell] += away * (x - means[cell])


@_kernel(f"{_CELLS}, {_INTS}, int64[::1]")  # type: ignore[untyped-decorator]
def merge_counts(cells: Int64s, more: Int64s, counts: Int64s) -> None:
    """Adds counts to counts."""
    _check(cells, len(more), 0, len(counts))
    for i in range(len(cells)):
        counts[cells[i]] += more[i]


@_kernel(f"{_CELLS}, {_INTS}, {_INTS}, int64[::1], int64[::1]")  # type: ignore[untyped-decorator]
def merge_integers(cells: Int64s, more_high: Int64s, more_low: Int64s, high: Int64s, low: Int64s) -> None:
    """Adds sums in two limbs to such sums."""
    _check(cells, min(len(more_high), len(more_low)), 0, min(len(high), len(low)))
    for i in range(len(cells)):
        cell = cells[i]
        rest = low[cell] + more_low[i]
        high[cell] += more_high[i] + (rest >> 32)
        low[cell] = rest & 0xFFFFFFFF


@_kernel(f"{_CELLS}, {_INTS}, {_FLOATS}, {_FLOATS}, int64[::1], float64[::1], float64[::1]")  # type: ignore[untyped-decorator]
def merge_moments(
    cells: Int64s,
    more: Int64s,
    more_means: Float64s,
    more_squares: Float64s,
    counts: Int64s,
    means: Float64s,
    squares: Float64s,
) -> None:
    """Adds moments to moments (Chan, Golub and LeVeque 1979)."""
    _check(cells, min(len(more), len(more_means), len(more_squares)), 0, min(len(counts), len(means), len(squares)))
    for i in range(len(cells)):
        if not more[i]:
            continue
        cell = cells[i]
        before, after = counts[cell], counts[cell] + more[i]
        away = more_means[i] - means[cell]
        means[cell] += away * more[i] / after
        squares[cell] += more_squares[i] + away * away * before * more[i] / after
        counts[cell] = after

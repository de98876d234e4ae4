"""Key groups: which of 128 groups a key's state belongs to. Stable for ever: durable state is laid out by it.

The group of a key is `(murmur2(bytes) & 0x7fffffff) % 128`, with Kafka's murmur2 (seed 0x9747b28c) over the key's
canonical bytes:

========================== ==========================================================================
String, Categorical, Enum   UTF-8
Binary                      as is
Int*, UInt*, Boolean        8 bytes, big endian, two's complement
Float*                      an integral value within 2**53 as that integer; else IEEE 754 bits, big
                            endian, with one NaN; so a column that turns from integers to floats
                            keeps its groups
Date                        days since 1970, as an integer
Datetime, Duration          microseconds, as an integer
Time                        nanoseconds, as an integer
Decimal                     its text without trailing zeros
null                        no bytes
several columns             each one's length (4 bytes, big endian) before its bytes
========================== ==========================================================================

Two keys may share canonical bytes (null and ""): a group is a place, not an identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.errors import ConfigurationError

KEY_GROUPS = 128

_INTEGERS = (
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32),
    *(pl.Boolean, pl.Date, pl.Time),
)

Bytes = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]
"""Row i is `data[offsets[i]:offsets[i + 1]]`."""


def key_groups(frame: pl.DataFrame, columns: Sequence[str], n: int = KEY_GROUPS) -> pl.Series:
    """The key group of every row: a UInt16 series named `__kg`, of the frame's height.

    Without key columns everything is in group 0.

    Raises:
        ConfigurationError: a column's type can't be a key (lists, structs, objects).

    >>> key_groups(pl.DataFrame({"user": ["ada", "bob", None]}), ["user"]).to_list()
    [13, 78, 89]
    """
    if not columns or not frame.height:
        return pl.Series("__kg", np.zeros(frame.height, dtype=np.uint16))
    return pl.Series("__kg", _kernels()[0](*canonical_bytes(frame, columns), np.uint32(n)))


def canonical_bytes(frame: pl.DataFrame, columns: Sequence[str]) -> Bytes:
    """The canonical bytes of every row's key: equal for equal keys, whatever the integer or float type.

    Raises:
        ConfigurationError: a column's type can't be a key.
    """
    parts = [_canonical(frame[name]) for name in columns]
    return parts[0] if len(parts) == 1 else _join(parts)


def warm_up() -> None:
    """Compiles (or loads from the cache) the kernels, so that the first snapshot doesn't wait for it."""
    key_groups(pl.DataFrame({"a": ["x"], "b": [1]}), ["a", "b"])


def _canonical(series: pl.Series) -> Bytes:
    dtype = series.dtype
    if isinstance(dtype, pl.Decimal):
        # 1.50 and 1.5 are one key, whatever scale the column has.
        series = series.cast(pl.String).str.replace(r"(\.\d*?)0+$", "${1}").str.strip_suffix(".")
    elif isinstance(dtype, pl.Categorical | pl.Enum):
        series = series.cast(pl.String)
    if series.dtype == pl.String or series.dtype == pl.Binary:
        return _variable(series)
    if dtype.is_float():
        return _fixed(_float_bits(series), series.is_null())
    if dtype == pl.UInt64:
        numbers = series.fill_null(0).to_numpy().view(np.int64)
    elif dtype in _INTEGERS:
        numbers = series.to_physical().cast(pl.Int64).fill_null(0).to_numpy()
    elif isinstance(dtype, pl.Datetime | pl.Duration):
        numbers = series.dt.cast_time_unit("us").to_physical().fill_null(0).to_numpy()
    else:
        raise ConfigurationError(f"key column {series.name!r} is {dtype}; keys are text, bytes, numbers or times")
    return _fixed(numbers, series.is_null())


def _variable(series: pl.Series) -> Bytes:
    array = series.cast(pl.Binary).to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, data = array.buffers()
    start, stop = array.offset, array.offset + len(array) + 1
    body = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.zeros(0, dtype=np.uint8)
    return np.frombuffer(offsets, dtype=np.int64)[start:stop], body


def _float_bits(series: pl.Series) -> npt.NDArray[np.int64]:
    values = series.cast(pl.Float64).fill_null(0.0).to_numpy()
    bits = np.where(np.isnan(values), np.float64("nan"), values).view(np.int64)
    with np.errstate(invalid="ignore"):
        integral = (np.abs(values) <= 2.0**53) & (np.trunc(values) == values)
        return np.where(integral, np.where(integral, values, 0.0).astype(np.int64), bits)


def _fixed(numbers: npt.NDArray[np.int64], nulls: pl.Series) -> Bytes:
    data = np.ascontiguousarray(numbers).astype(">i8").view(np.uint8)
    lengths = np.full(len(numbers), 8, dtype=np.int64)
    if nulls.any():
        absent = nulls.to_numpy()
        lengths[absent] = 0
        data = data.reshape(-1, 8)[~absent].reshape(-1)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)]), data


def _join(parts: Sequence[Bytes]) -> Bytes:
    rows = len(parts[0][0]) - 1
    lengths = np.zeros(rows, dtype=np.int64)
    for offsets, _ in parts:
        lengths += np.diff(offsets) + 4
    out_offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    out = np.empty(int(out_offsets[-1]), dtype=np.uint8)
    place = out_offsets[:-1].copy()
    for offsets, data in parts:
        _kernels()[1](np.ascontiguousarray(offsets), data, place, out)
    return out_offsets, out


@lru_cache(maxsize=1)
def _kernels() -> tuple[Any, Any]:
    from thalweg.streams.state import _murmur

    return _murmur.groups, _murmur.append_prefixed

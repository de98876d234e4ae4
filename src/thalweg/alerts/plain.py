"""Events as JSON has them: one by one, and as a column of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import polars as pl

from thalweg.streams.batch import RESERVED

_AS_THEY_ARE = (
    *(pl.String, pl.Boolean, pl.Float64),
    *(pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64),
)
"""Types that Polars writes as `plain` would have them."""


def plain(value: Any) -> Any:
    """A value of an event as JSON has it."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)  # beyond what JSON readers and the store can hold
    if isinstance(value, float) and not -1.7976931348623157e308 <= value <= 1.7976931348623157e308:
        return None  # JSON has neither NaN nor infinities
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def event_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's own columns, as JSON has them."""
    return {name: plain(value) for name, value in row.items() if name not in RESERVED}


def event_texts(frame: pl.DataFrame) -> pl.Series:
    """The rows' own columns as JSON texts, a column of them."""
    own = frame.select(name for name in frame.columns if name not in RESERVED)
    if own.width and all(dtype in _AS_THEY_ARE for dtype in own.dtypes):
        return own.select(pl.struct(pl.all()).struct.json_encode().alias("event")).to_series()
    texts = [msgspec.json.encode(event_of(row)).decode() for row in own.iter_rows(named=True)]
    return pl.Series("event", texts, dtype=pl.String)

"""Event time from whatever form it comes in: numbers of a unit, dates, ISO 8601 strings."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

UNITS = {"s": 1_000, "ms": 1, "us": -1_000, "ns": -1_000_000}
"""Milliseconds per unit; negative: units per millisecond."""
LIMIT = 2**53
"""Timestamps beyond ±285,000 years are not timestamps."""


def to_milliseconds(values: pl.Series, unit: str = "ms") -> pl.Series:
    """Converts a column to Int64 ms UTC; what can't be read is null.

    Numbers are counts of `unit` since 1970 (fractions of a millisecond are cut off, towards minus infinity); strings
    are ISO 8601, in UTC where they name no offset; dates are their midnight UTC.

    >>> to_milliseconds(pl.Series(["1970-01-01T00:00:01Z", "1970-01-01 01:00:02+01:00", "soon"])).to_list()
    [1000, 2000, None]
    >>> to_milliseconds(pl.Series([1.5]), "s").to_list()
    [1500]
    """
    dtype = values.dtype
    if isinstance(dtype, pl.Datetime) or dtype == pl.Date:
        return values.cast(pl.Datetime("us") if dtype == pl.Date else dtype).dt.timestamp("ms")
    if dtype.is_numeric():
        return _from_numbers(values, unit)
    if dtype == pl.String:
        return _from_text(values)
    return pl.Series(values.name, [None], dtype=pl.Int64).new_from_index(0, values.len())


def _from_numbers(values: pl.Series, unit: str) -> pl.Series:
    factor = UNITS[unit]
    bound = LIMIT // factor if factor > 0 else min(LIMIT * -factor, 2**62)
    frame = values.to_frame("v")
    inside: pl.Expr = pl.when(pl.col("v").is_between(-bound, bound)).then(pl.col("v"))
    if values.dtype.is_integer():
        inside = inside.cast(pl.Int64)
        scaled = inside * factor if factor > 0 else inside // -factor
    else:
        inside = inside.cast(pl.Float64).fill_nan(None)
        scaled = (inside * factor if factor > 0 else inside / -factor).floor()
    return frame.select(scaled.cast(pl.Int64, strict=False)).to_series()


def _from_text(values: pl.Series) -> pl.Series:
    read = values.str.to_datetime("%+", time_unit="ms", time_zone="UTC", strict=False, ambiguous="null")
    result = read.dt.timestamp("ms")
    missed = (result.is_null() & values.is_not_null()).arg_true()
    if missed.len() == 0:
        return result
    return result.scatter(missed, [_iso(text) for text in values.gather(missed)])


def _iso(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000 // 1)

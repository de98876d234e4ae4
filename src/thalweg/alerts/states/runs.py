"""Events of a rule as runs: neighbouring events of one fingerprint among which the rule's conditions do not change.

So a state that lasts costs Python work when it changes, not for every event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.streams.batch import TIMESTAMP, WATERMARK

_ROW, _HOLDS, _ENDS, _RUN, _WM = "__row", "__holds", "__ends", "__run", "__before"
MIN = -(2**62)


@dataclass(frozen=True)
class Run:
    """A run of events: `holds` and `ends` say what the conditions are for all of them."""

    fingerprint: str
    group: int
    holds: bool
    ends: bool
    first: int
    """Event time of the first, ms."""
    last: int
    count: int
    watermark: int
    """The partition's watermark before the first event."""
    row: int
    event: Mapping[str, Any]
    """The first event."""
    latest: Mapping[str, Any]


def runs(
    frame: pl.DataFrame,
    by: Sequence[str],
    holds: pl.Series,
    ends: pl.Series,
    groups: pl.Series,
    known: Mapping[str, int],
    fingerprint: Callable[[Mapping[str, Any]], str],
    event_of: Callable[[int], Mapping[str, Any]],
    gap: int | None = None,
) -> Iterator[Run]:
    """The runs of a batch, in the order of their first rows.

    Args:
        by: the columns that make the fingerprint.
        holds, ends: the rule's conditions, row by row.
        groups: the key group of each row.
        known: fingerprints with a state under way, and the time of their last event.
        fingerprint: of the values of `by`.
        event_of: a row as an event.
        gap: for rules of absence: only events for which the condition holds count, and a pause of `gap` ends a run.
    """
    if not known and not holds.any():
        return
    watermark = pl.col(WATERMARK) if WATERMARK in frame.columns else pl.lit(MIN, dtype=pl.Int64)
    rows = frame.select(*by, pl.col(TIMESTAMP), watermark.alias(_WM)).with_columns(
        pl.Series(_HOLDS, holds), pl.Series(_ENDS, ends), pl.Series("__kg", groups)
    )
    rows = rows.with_row_index(_ROW)
    keys = list(by)
    one = pl.lit(0).alias("__all") if not keys else None
    if one is not None:
        rows, keys = rows.with_columns(one), ["__all"]
    distinct = rows.select(keys).unique(maintain_order=True)
    names = [fingerprint({name: value for name, value in row.items() if name in by}) for row in distinct.to_dicts()]
    distinct = distinct.with_columns(
        pl.Series("__fp", names, dtype=pl.String), pl.Series("__last", [known.get(n) for n in names], dtype=pl.Int64)
    )
    rows = rows.join(distinct, on=keys, how="left", nulls_equal=True, maintain_order="left")
    interesting = rows.filter(pl.col("__last").is_not_null() | pl.col(_HOLDS).any().over("__fp"))
    if gap is not None:
        interesting = interesting.filter(_HOLDS)
    # An event older than one before it of the same fingerprint is passed over.
    newest = pl.max_horizontal(pl.col(TIMESTAMP).cum_max().shift(1).over("__fp"), "__last")
    kept = interesting.filter(newest.is_null() | (pl.col(TIMESTAMP) >= newest))
    changed = (
        ((pl.col(_HOLDS) != pl.col(_HOLDS).shift(1)) | (pl.col(_ENDS) != pl.col(_ENDS).shift(1)))
        .fill_null(True)
        .over("__fp")
    )
    if gap is not None:
        changed |= (pl.col(TIMESTAMP) - pl.col(TIMESTAMP).shift(1).over("__fp")).fill_null(0) >= gap
    numbered = kept.with_columns(changed.cast(pl.Int64).cum_sum().over("__fp").alias(_RUN))
    table = (
        numbered.group_by("__fp", _RUN, maintain_order=True)
        .agg(
            pl.col("__kg").first(),
            pl.col(_HOLDS).first(),
            pl.col(_ENDS).first(),
            pl.col(TIMESTAMP).first().alias("first"),
            pl.col(TIMESTAMP).last().alias("last"),
            pl.len().alias("count"),
            pl.col(_WM).first(),
            pl.col(_ROW).first(),
            pl.col(_ROW).last().alias("latest"),
        )
        .sort(_ROW)
    )
    for fp, _, group, held, ended, first, last, count, before, row, latest in table.iter_rows():
        yield Run(
            fp, group, held, ended, first, last, count, MIN if before is None else before, row, event_of(row),
            event_of(latest),
        )  # fmt: skip

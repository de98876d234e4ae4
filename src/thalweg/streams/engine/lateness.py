"""Who is late: by which watermark a row is judged, and what a late row says of it. Windows and joins share it.

A row is judged by its own partition's watermark, or by the operator's where an idle input let that run ahead: so who is
late depends neither on batches nor on how the inputs mix (decision 0001).
"""

from __future__ import annotations

import polars as pl

from thalweg.streams.batch import LATE_WINDOW_END, LATENESS, WATERMARK


def judged_by(frame: pl.DataFrame, closed: int) -> pl.Expr:
    """The watermark that each row is judged by.

    Args:
        closed: how far the operator itself has closed.
    """
    own = pl.lit(closed, dtype=pl.Int64)
    return pl.max_horizontal(WATERMARK, own) if WATERMARK in frame.columns else own


def late_facts(end: pl.Expr, judge: pl.Expr) -> list[pl.Expr]:
    """What a late row says: when it would have had to come at the latest, and how long after that it came."""
    return [end.alias(LATE_WINDOW_END), (judge - end).alias(LATENESS)]

"""Runs patterns over recorded events, without handlers, jobs or state that stays."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from thalweg.cep.explained import DryRun
from thalweg.cep.pattern import Pattern, flatten, takes_match
from thalweg.cep.sequence.conditions import Conditions, with_masks
from thalweg.cep.sequence.engine import Limits, PatternEngine
from thalweg.cep.sequence.matches import match_schema
from thalweg.streams.batch import TIMESTAMP, WATERMARK

END = 2**61
"""After every event: what waits for time to pass is decided."""


def dry_run(patterns: Sequence[Pattern], keys: Sequence[str], events: pl.DataFrame, timestamp: str) -> DryRun:
    """What the patterns find in these events.

    Args:
        events: in any order; they are taken in the order of their time.
        timestamp: the column of their times, ms UTC.
    """
    rows = events.with_columns(pl.col(timestamp).cast(pl.Int64).alias(TIMESTAMP)).sort(TIMESTAMP, maintain_order=True)
    conditions = Conditions(patterns, events.schema)
    engine = PatternEngine(patterns, conditions, keys, Limits(timeouts=True))
    engine.keeps_changes = False
    masks, failed = conditions.masks(rows)
    if failed:
        raise next(iter(failed.values()))
    met: dict[str, dict[str, int | None]] = {}
    for pattern in patterns:
        bits = conditions.of_pattern(pattern)
        own = met[pattern.id] = {}
        for step in flatten(pattern.steps):
            if step.condition is None:
                own[step.name] = rows.height
            elif takes_match(step.condition):
                own[step.name] = None
            else:
                bit = int(bits.bits[bits.bit_of(step.condition)])
                own[step.name] = int((masks[:, bit // 64] >> bit % 64 & 1).sum())
    last = rows.get_column(TIMESTAMP)[-1] if rows.height else 0
    first = engine.advance(with_masks(rows, masks), last)
    alive = engine.alive
    rest = engine.advance(None, END)
    empty = pl.DataFrame(schema=match_schema(patterns, keys, events.schema))
    matches = _together(empty, first.matches, rest.matches)
    timed_out = _together(empty, first.timed_out, rest.timed_out)
    reached = {p.id: {name: _reached(p, name, matches, timed_out) for name in p.step_names} for p in patterns}
    return DryRun(rows.height, matches, timed_out, met, reached, alive)


def _together(empty: pl.DataFrame, *found: pl.DataFrame | None) -> pl.DataFrame:
    frames = [frame.drop(TIMESTAMP, WATERMARK) for frame in found if frame is not None]
    return pl.concat([empty, *frames], how="vertical_relaxed")


def _reached(pattern: Pattern, step: str, *found: pl.DataFrame) -> int:
    of_step = pl.col("events").struct.field(step).list.len() > 0
    return sum(frame.filter((pl.col("pattern") == pattern.id) & of_step).height for frame in found)

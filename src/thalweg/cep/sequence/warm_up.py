"""Loads all kernels of patterns (or compiles them), so that the first event does not wait for it."""

from __future__ import annotations

import polars as pl

from thalweg.cep.builder import PatternBuilder
from thalweg.cep.pattern import AfterMatch
from thalweg.cep.sequence.conditions import Conditions, with_masks
from thalweg.cep.sequence.engine import PatternEngine
from thalweg.streams.batch import TIMESTAMP


def warm_up() -> None:
    """Runs a few events through a pattern of each kind, and back from the state."""
    ab = [pl.col("n") == number for number in (0, 1)]
    line = PatternBuilder.create("line").where("a", ab[0]).where("b", ab[1]).within(2).build()
    loop = PatternBuilder.create("loop").where("b", ab[1]).one_or_more().where("a", ab[0]).within(2)
    patterns = [line, loop.skip(AfterMatch.NO_SKIP).build()]
    conditions = Conditions(patterns, None)
    engine = PatternEngine(patterns, conditions, ["key"])
    count = 2_000  # enough for the table of keys to grow
    rows = pl.DataFrame({"n": [0, 1] * count, "key": [number for number in range(count) for _ in "ab"]})
    rows = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(TIMESTAMP))
    engine.advance(with_masks(rows, conditions.masks(rows)[0]), count)
    saved = engine.changes(full=True)
    again = PatternEngine(patterns, conditions, ["key"])
    again.restore([saved] if saved is not None else [])
    again.advance(None, 3 * count)

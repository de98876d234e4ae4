"""Matches as rows: pattern, key, times, and the events of each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.events import ID, EventStore
from thalweg.cep.sequence.slots import linear_steps
from thalweg.streams.batch import RESERVED, TIMESTAMP, WATERMARK

HIDDEN = frozenset({*RESERVED, ID, "__mask", "__code"})


def match_schema(patterns: Sequence[Pattern], keys: Sequence[str], events: pl.Schema) -> pl.Schema:
    """The columns of matches over events with these columns."""
    event = pl.Struct({name: dtype for name, dtype in events.items() if name not in HIDDEN})
    steps = {step.name: pl.List(event) for pattern in patterns for step in linear_steps(pattern)}
    return pl.Schema(
        {
            "pattern": pl.String(),
            **{key: events[key] for key in keys},
            "match_start": pl.Int64(),
            "match_end": pl.Int64(),
            "events": pl.Struct(steps),
        }
    )


def match_rows(
    pattern: Pattern, patterns: Sequence[Pattern], ids: npt.NDArray[np.int64], store: EventStore, keys: Sequence[str]
) -> pl.DataFrame:
    """One row per match: `pattern`, key columns, `match_start`, `match_end` (ms UTC), `events` (a struct of step → list of
    events), and the reserved times. `ids` has a row of event ids per match.
    """
    found, slots = ids.shape
    events = store.get(ids.ravel())
    public = [name for name in events.columns if name not in HIDDEN]
    structs = events.select(pl.struct(public).alias("event")).to_series()
    times = events.get_column(TIMESTAMP).to_numpy().reshape(found, slots)
    last = np.arange(found) * slots + slots - 1
    schema = match_schema(patterns, keys, events.schema)
    steps = _by_step(pattern, structs, found, slots)
    everything = [
        steps[name] if name in steps else pl.Series(name, [None] * found, dtype=dtype)
        for name, dtype in ((f.name, f.dtype) for f in schema["events"].fields)  # type: ignore[attr-defined]
    ]
    return pl.DataFrame(
        [
            pl.Series("pattern", [pattern.id], dtype=pl.String).new_from_index(0, found),
            *(events.get_column(key)[last.tolist()] for key in keys),
            pl.Series("match_start", times[:, 0]),
            pl.Series("match_end", times[:, -1]),
            pl.DataFrame(everything).to_struct("events"),
            pl.Series(TIMESTAMP, times[:, -1]),
            pl.Series(WATERMARK, times[:, -1]),
        ]
    )


def _by_step(pattern: Pattern, structs: pl.Series, found: int, slots: int) -> dict[str, pl.Series]:
    """For each step one list of its events per match."""
    lists: dict[str, pl.Series] = {}
    first = 0
    for step in linear_steps(pattern):
        count = step.quantifier.minimum
        places = (np.arange(found)[:, None] * slots + np.arange(first, first + count)).ravel()
        rows = pl.DataFrame({"match": np.repeat(np.arange(found), count), "event": structs[places.tolist()]})
        grouped = rows.group_by("match", maintain_order=True).agg("event")
        lists[step.name] = grouped.get_column("event").alias(step.name)
        first += count
    return lists

"""Matches as rows: pattern, key, times, and the events of each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from thalweg.cep.found import MatchTable
from thalweg.cep.measures import measures_of
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.events import ID, EventStore
from thalweg.errors import ConfigurationError
from thalweg.streams.batch import RESERVED, TIMESTAMP, WATERMARK
from thalweg.streams.plan.functions import check_types

HIDDEN = frozenset({*RESERVED, ID, "__mask", "__code"})
TRIGGER = "__trigger"
"""The id of the event that made a match certain; -1: the passing of time did."""


def match_schema(patterns: Sequence[Pattern], keys: Sequence[str], events: pl.Schema) -> pl.Schema:
    """The columns of matches over events with these columns."""
    event = pl.Struct({name: dtype for name, dtype in events.items() if name not in HIDDEN})
    steps = {name: pl.List(event) for pattern in patterns for name in pattern.step_names}
    plain = pl.Schema(
        {
            "pattern": pl.String(),
            **{key: events[key] for key in keys},
            "match_start": pl.Int64(),
            "match_end": pl.Int64(),
            "events": pl.Struct(steps),
        }
    )
    return pl.Schema({**plain, **_measure_types(patterns, keys, plain)})


def _measure_types(patterns: Sequence[Pattern], keys: Sequence[str], plain: pl.Schema) -> dict[str, pl.DataType]:
    """The columns of all patterns' measures.

    Raises:
        ConfigurationError: one is called like a key column, or has another type in another pattern.
        PlanError: one does not fit the events.
    """
    types: dict[str, pl.DataType] = {}
    for pattern in patterns:
        expressions = measures_of(pattern)
        if not expressions:
            continue
        where = f"pattern {pattern.id!r}: measures"
        found = check_types([e.alias(name) for name, e in expressions.items()], plain, where)
        for name, dtype in found.items():
            if name in keys:
                raise ConfigurationError(f"{where}: {name!r} is a key column; call it something else")
            if types.setdefault(name, dtype) != dtype:
                raise ConfigurationError(f"{where}: {name!r} is {dtype} here and {types[name]} in another pattern")
    return types


class MatchSchemas:
    """`match_schema`, worked out once for each schema of events."""

    def __init__(self, patterns: Sequence[Pattern], keys: Sequence[str]) -> None:
        self._patterns, self._keys = list(patterns), list(keys)
        self._known: tuple[pl.Schema, pl.Schema] | None = None

    def of(self, events: pl.Schema) -> pl.Schema:
        """The columns of matches over events with these columns."""
        if self._known is None or self._known[0] != events:
            self._known = events, match_schema(self._patterns, self._keys, events)
        return self._known[1]


def match_rows(
    pattern: Pattern, schemas: MatchSchemas, table: MatchTable, store: EventStore, keys: Sequence[str]
) -> pl.DataFrame:
    """One row per match: `pattern`, key columns, `match_start`, `match_end` (ms UTC), `events`, measures, the reserved
    times, and `__trigger`.

    `events` is a struct of step → list of events: empty for a step that was left out, null for steps of other patterns.
    """
    found = len(table)
    events = store.get(table.ids)
    ends = np.cumsum(table.sizes)
    first, last = ends - table.sizes, ends - 1
    stamps = events.get_column(TIMESTAMP).to_numpy()
    times = stamps[last] if table.times is None else table.times
    schema = schemas.of(events.schema)
    own = _by_step(pattern, events, table)
    steps = [
        own[name] if name in own else pl.Series(name, [None], dtype=dtype).new_from_index(0, found)
        for name, dtype in ((f.name, f.dtype) for f in schema["events"].fields)  # type: ignore[attr-defined]
    ]
    rows = pl.DataFrame(
        [
            pl.Series("pattern", [pattern.id], dtype=pl.String).new_from_index(0, found),
            *(events.get_column(key).gather(last) for key in keys),
            pl.Series("match_start", stamps[first]),
            pl.Series("match_end", stamps[last]),
            pl.DataFrame(steps).to_struct("events"),
            pl.Series(TIMESTAMP, times),
            pl.Series(WATERMARK, times),
            pl.Series(TRIGGER, table.triggers),
        ]
    )
    measured = measures_of(pattern)
    others = [name for name in schema if name not in rows.columns and name not in measured]
    empty = [pl.lit(None, schema[name]).alias(name) for name in others]
    rows = rows.with_columns(*(e.alias(name) for name, e in measured.items()), *empty)
    return rows.select(*schema, TIMESTAMP, WATERMARK, TRIGGER)


def _by_step(pattern: Pattern, events: pl.DataFrame, table: MatchTable) -> dict[str, pl.Series]:
    """For each step of the pattern one list of its events per match."""
    public = [name for name in events.columns if name not in HIDDEN]
    structs = events.select(pl.struct(public).alias("event")).to_series()
    match = np.repeat(np.arange(len(table)), table.sizes)
    everyone = pl.DataFrame({"match": np.arange(len(table))})
    lists: dict[str, pl.Series] = {}
    for number, name in enumerate(pattern.step_names):
        places = np.flatnonzero(table.steps == number)
        rows = pl.DataFrame({"match": match[places], "event": structs.gather(places)})
        grouped = rows.group_by("match", maintain_order=True).agg("event")
        if grouped.height < len(table):
            grouped = everyone.join(grouped, on="match", how="left", maintain_order="left")
            grouped = grouped.with_columns(pl.col("event").fill_null(pl.lit([], dtype=pl.List(structs.dtype))))
        lists[name] = grouped.get_column("event").alias(name)
    return lists

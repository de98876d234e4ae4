"""Matches as rows: pattern, key, times, and the events of each step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.cep.found import Match
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.events import ID, EventStore
from thalweg.records import Int64s
from thalweg.streams.batch import RESERVED, TIMESTAMP, WATERMARK

HIDDEN = frozenset({*RESERVED, ID, "__mask", "__code"})
TRIGGER = "__trigger"
"""The id of the event that made a match certain; -1: the passing of time did."""


@dataclass(slots=True)
class MatchTable:
    """Matches as columns: per match its size, trigger and time, per event its step and id, match after match."""

    sizes: Int64s
    triggers: Int64s
    times: Int64s | None
    """None: the time of each match's last event."""
    steps: Int64s
    ids: Int64s

    def __len__(self) -> int:
        return len(self.sizes)

    @staticmethod
    def of_slots(ids: npt.NDArray[np.int64], steps: Int64s) -> MatchTable:
        """From a row of event ids per match; `steps` has the step of each place in the row."""
        found, slots = ids.shape
        sizes = np.full(found, slots, np.int64)
        return MatchTable(sizes, ids[:, -1], None, np.tile(steps, found), np.ascontiguousarray(ids).ravel())

    @staticmethod
    def of(matches: Sequence[Match]) -> MatchTable:
        """From single matches."""
        return MatchTable(
            _column(len(match.ids) for match in matches),
            _column(match.trigger for match in matches),
            _column(match.time for match in matches),
            _column(chain.from_iterable(match.steps for match in matches)),
            _column(chain.from_iterable(match.ids for match in matches)),
        )


def _column(values: Iterable[int]) -> Int64s:
    return np.fromiter(values, np.int64)


def match_schema(patterns: Sequence[Pattern], keys: Sequence[str], events: pl.Schema) -> pl.Schema:
    """The columns of matches over events with these columns."""
    event = pl.Struct({name: dtype for name, dtype in events.items() if name not in HIDDEN})
    steps = {name: pl.List(event) for pattern in patterns for name in pattern.step_names}
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
    pattern: Pattern, patterns: Sequence[Pattern], table: MatchTable, store: EventStore, keys: Sequence[str]
) -> pl.DataFrame:
    """One row per match: `pattern`, key columns, `match_start`, `match_end` (ms UTC), `events`, the reserved times, and
    `__trigger`.

    `events` is a struct of step → list of events: empty for a step that was left out, null for steps of other patterns.
    """
    found = len(table)
    events = store.get(table.ids)
    ends = np.cumsum(table.sizes)
    first, last = ends - table.sizes, ends - 1
    stamps = events.get_column(TIMESTAMP).to_numpy()
    times = stamps[last] if table.times is None else table.times
    schema = match_schema(patterns, keys, events.schema)
    own = _by_step(pattern, events, table)
    steps = [
        own[name] if name in own else pl.Series(name, [None], dtype=dtype).new_from_index(0, found)
        for name, dtype in ((f.name, f.dtype) for f in schema["events"].fields)  # type: ignore[attr-defined]
    ]
    return pl.DataFrame(
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

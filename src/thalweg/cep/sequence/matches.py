"""Matches as rows: pattern, key, times, and the events of each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.cep.found import MatchTable
from thalweg.cep.measures import measures_of
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.events import ID, EventStore
from thalweg.errors import ConfigurationError
from thalweg.records import Int64s
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
    found: Sequence[tuple[Pattern, MatchTable]], schemas: MatchSchemas, store: EventStore, keys: Sequence[str]
) -> pl.DataFrame:
    """One row per match: `pattern`, key columns, `match_start`, `match_end` (ms UTC), `events`, measures, the reserved
    times, and `__trigger`.

    `events` is a struct of step → list of events: empty for a step that was left out, null for steps of other patterns.
    Patterns go together, so that many of them cost few columns' work.
    """
    patterns = [pattern for pattern, _ in found]
    table = MatchTable.together([table for _, table in found])
    events = store.get(table.ids)
    schema = schemas.of(events.schema)
    ends = np.cumsum(table.sizes)
    first, last = ends - table.sizes, ends - 1
    stamps = events.get_column(TIMESTAMP).to_numpy()
    times = stamps[last] if table.times is None else table.times
    owners = np.repeat(np.arange(len(found)), [len(own) for _, own in found])
    ids = pl.Series("pattern", [pattern.id for pattern in patterns], dtype=pl.String)
    rows = pl.DataFrame(
        [
            ids.gather(owners),
            *(events.get_column(key).gather(last) for key in keys),
            pl.Series("match_start", stamps[first]),
            pl.Series("match_end", stamps[last]),
            pl.DataFrame(_steps(patterns, owners, table, events, schema)).to_struct("events"),
            pl.Series(TIMESTAMP, times),
            pl.Series(WATERMARK, times),
            pl.Series(TRIGGER, table.triggers),
        ]
    )
    measured = _measured(patterns, [name for name in schema if name not in rows.columns], schema)
    return (rows.with_columns(measured) if measured else rows).select(*schema, TIMESTAMP, WATERMARK, TRIGGER)


def _steps(
    patterns: Sequence[Pattern], owners: Int64s, table: MatchTable, events: pl.DataFrame, schema: pl.Schema
) -> list[pl.Series]:
    """For each step of all patterns a list of its events per match; null for the matches of other patterns."""
    fields = {f.name: (n, f.dtype) for n, f in enumerate(schema["events"].fields)}  # type: ignore[attr-defined]
    most = max(len(pattern.step_names) for pattern in patterns)
    numbers = np.full((len(patterns), most), -1, np.int64)
    for row, pattern in enumerate(patterns):
        numbers[row, : len(pattern.step_names)] = [fields[name][0] for name in pattern.step_names]
    match = np.repeat(np.arange(len(table)), table.sizes)
    taken = numbers[owners[match], table.steps]
    structs = events.select(pl.struct([n for n in events.columns if n not in HIDDEN]).alias("event")).to_series()
    columns = []
    for name, (number, dtype) in fields.items():
        absent = ~(numbers == number).any(axis=1)[owners]
        if absent.all():
            columns.append(pl.Series(name, [None], dtype=dtype).new_from_index(0, len(table)))
        else:
            places = np.flatnonzero(taken == number)
            counts = np.bincount(match[places], minlength=len(table))
            columns.append(_lists(structs.gather(places), counts, absent).alias(name))
    return columns


def _lists(values: pl.Series, counts: Int64s, absent: npt.NDArray[np.bool_]) -> pl.Series:
    """The values cut into lists of these lengths; null where `absent`."""
    import pyarrow as pa

    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    mask = pa.array(absent) if absent.any() else None
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow(), mask=mask)
    made = pl.from_arrow(lists)
    assert isinstance(made, pl.Series)
    return made.cast(pl.List(values.dtype))


def _measured(patterns: Sequence[Pattern], names: Sequence[str], schema: pl.Schema) -> list[pl.Expr]:
    """The measures of each match's own pattern; null where that has none of the name."""
    parts: dict[str, list[pl.Expr]] = {name: [] for name in names}
    for pattern in patterns:
        for name, expression in measures_of(pattern).items():
            parts[name].append(pl.when(pl.col("pattern") == pattern.id).then(expression))
    return [
        (pl.coalesce(some) if some else pl.lit(None, schema[name])).cast(schema[name]).alias(name)
        for name, some in parts.items()
    ]

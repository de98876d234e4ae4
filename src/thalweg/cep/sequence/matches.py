"""Matches as rows: pattern, key, times, and the events of each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from thalweg.cep.found import MatchTable
from thalweg.cep.measures import measures_of
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.events import EventStore
from thalweg.errors import ConfigurationError
from thalweg.records import Int64s
from thalweg.streams.batch import RESERVED, TIMESTAMP, WATERMARK, gathered
from thalweg.streams.plan.functions import check_types

HIDDEN = frozenset({*RESERVED, "__mask", "__code"})


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
    times; in the order of the time at which each became certain, those that time alone completed first.

    `events` is a struct of step → list of events: empty for a step that was left out, null for steps of other patterns.
    Patterns go together, so that many of them cost few columns' work, and a batch with a match about as much as one
    with many.
    """
    patterns = [pattern for pattern, _ in found]
    table = MatchTable.together([table for _, table in found])
    events = store.get(table.ids)
    schema = schemas.of(events.schema)
    ends = np.cumsum(table.sizes)
    first, last = ends - table.sizes, ends - 1
    stamps = events.get_column(TIMESTAMP).to_numpy()
    owners = np.repeat(np.arange(len(found)), [len(own) for _, own in found])
    ids = pl.Series("pattern", [pattern.id for pattern in patterns], dtype=pl.String)
    columns = [
        ids[owners],
        *(events.get_column(key)[last] for key in keys),
        pl.Series("match_start", stamps[first]),
        pl.Series("match_end", stamps[last]),
        _steps(patterns, owners, table, events, schema),
    ]
    rows = pl.DataFrame(columns)
    if len(columns) < len(schema):
        rows = rows.with_columns(_measured(patterns, schema.names()[len(columns) :], schema))
    rows = rows.hstack([pl.Series(TIMESTAMP, table.times), pl.Series(WATERMARK, table.times)])
    order = np.lexsort((table.triggers, table.times))
    return rows if (order[1:] > order[:-1]).all() else gathered(rows, order)


def _steps(
    patterns: Sequence[Pattern], owners: Int64s, table: MatchTable, events: pl.DataFrame, schema: pl.Schema
) -> pl.Series:
    """For each step of all patterns a list of its events per match; null for the matches of other patterns."""
    import pyarrow as pa

    fields = {field.name: number for number, field in enumerate(schema["events"].fields)}  # type: ignore[attr-defined]
    most = max(len(pattern.step_names) for pattern in patterns)
    numbers = np.full((len(patterns), most), -1, np.int64)
    for row, pattern in enumerate(patterns):
        numbers[row, : len(pattern.step_names)] = [fields[name] for name in pattern.step_names]
    match = np.repeat(np.arange(len(table)), table.sizes)
    taken = numbers[owners[match], table.steps]
    # All events side by side, step after step, once: each step's lists are cut out of that.
    shown = pl.DataFrame([column for column in events.get_columns() if column.name not in HIDDEN])
    order = np.argsort(taken, kind="stable")
    ordered = shown if (order[1:] > order[:-1]).all() else gathered(shown, order)
    values = ordered.to_struct("events").to_arrow()
    counts = np.bincount(taken * len(table) + match, minlength=len(fields) * len(table)).reshape(len(fields), -1)
    offsets = np.append(0, np.cumsum(counts.ravel()))
    lists = []
    for number in fields.values():
        absent = ~(numbers == number).any(axis=1)[owners]
        mask = pa.array(absent) if absent.any() else None
        own = pa.array(offsets[number * len(table) : (number + 1) * len(table) + 1])
        lists.append(pa.LargeListArray.from_arrays(own, values, mask=mask))
    made = pl.from_arrow(pa.StructArray.from_arrays(lists, list(fields)))
    assert isinstance(made, pl.Series)
    return (made if made.dtype == schema["events"] else made.cast(schema["events"])).alias("events")


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

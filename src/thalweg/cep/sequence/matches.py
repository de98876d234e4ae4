"""Matches as rows: pattern, key, times, and the events of each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
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
        self._come_as_declared: bool | None = None
        self.step_names = list(dict.fromkeys(name for pattern in patterns for name in pattern.step_names))
        """Of all patterns, in the order of the fields of `events`."""
        numbers = {name: number for number, name in enumerate(self.step_names)}
        self._row = {pattern.id: row for row, pattern in enumerate(patterns)}
        self._names = pl.Series("pattern", list(self._row), dtype=pl.String)
        self._numbers = np.full((len(self._row), max((len(p.step_names) for p in patterns), default=0)), -1, np.int64)
        for pattern in patterns:
            self._numbers[self._row[pattern.id], : len(pattern.step_names)] = [numbers[n] for n in pattern.step_names]

    def numbers_of(self, patterns: Sequence[Pattern]) -> Int64s:
        """For each of these patterns the numbers of its steps among `step_names`; -1 beyond its last one."""
        numbers: Int64s = self._numbers[[self._row[pattern.id] for pattern in patterns]]
        return numbers

    def pattern_names(self, patterns: Sequence[Pattern], owners: npt.NDArray[np.uint32]) -> pl.Series:
        """The name of the pattern of each match, by its number among these."""
        rows = np.array([self._row[pattern.id] for pattern in patterns], np.uint32)
        if len(rows) == 1:
            return self._names.new_from_index(int(rows[0]), len(owners))
        return self._names[pl.Series(rows[owners])]

    def of(self, events: pl.Schema) -> pl.Schema:
        """The columns of matches over events with these columns."""
        if self._known is None or (self._known[0] is not events and self._known[0] != events):
            self._known = events, match_schema(self._patterns, self._keys, events)
            self._come_as_declared = None
        return self._known[1]

    def as_declared(self, lists: pl.Series) -> pl.Series:
        """Lists of events that come out of Arrow as the schema has them: some types are others there."""
        assert self._known is not None
        wanted = self._known[1]["events"]
        if self._come_as_declared is None:  # comparing types of many fields takes as long as to make the lists
            self._come_as_declared = lists.dtype == wanted
        return lists if self._come_as_declared else lists.cast(wanted)


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
    owners = np.repeat(np.arange(len(found), dtype=np.uint32), [len(own) for _, own in found])
    schema = schemas.of(store.schema)
    steps = _Steps(patterns, owners, table, schemas)
    events = store.get(table.ids[steps.order])  # step after step
    ends = np.cumsum(table.sizes)
    first, last = (steps.places_of(event) for event in (ends - table.sizes, ends - 1))
    stamps = events.get_column(TIMESTAMP).to_numpy()
    columns = [
        schemas.pattern_names(patterns, owners),
        *(_picked(events.get_column(key), last) for key in keys),
        pl.Series("match_start", stamps[first]),
        pl.Series("match_end", stamps[last]),
        steps.lists(events),
    ]
    times = pl.Series(TIMESTAMP, table.times)
    if len(columns) < len(schema):
        rows = pl.DataFrame(columns).with_columns(_measured(patterns, schema.names()[len(columns) :], schema))
        rows = rows.hstack([times, times.alias(WATERMARK)])
    else:
        rows = pl.DataFrame([*columns, times, times.alias(WATERMARK)])
    order = np.lexsort((table.triggers, table.times))
    return rows if (order[1:] > order[:-1]).all() else gathered(rows, order)


def _picked(values: pl.Series, places: npt.NDArray[np.uint32]) -> pl.Series:
    """The values at these places, often one after the other: the last steps' events, where each match has one."""
    first, count = int(places[0]), len(places)
    if int(places[-1]) == first + count - 1 and (np.diff(places) == 1).all():
        return values.slice(first, count)
    return values[pl.Series(places)]


class _Steps:
    """Which step of which pattern took each event of some matches.

    Args:
        owners: the number of each match's pattern.
    """

    def __init__(
        self, patterns: Sequence[Pattern], owners: npt.NDArray[np.uint32], table: MatchTable, schemas: MatchSchemas
    ) -> None:
        self._schemas, self._owners = schemas, owners
        self._names = schemas.step_names
        self._numbers = schemas.numbers_of(patterns)
        match = np.repeat(np.arange(len(table)), table.sizes)
        taken = self._numbers[owners[match], table.steps]
        self.order = np.argsort(taken, kind="stable")
        """The events side by side, step after step: each step's lists are cut out of that."""
        counts = np.bincount(taken * len(table) + match, minlength=len(self._names) * len(table))
        self._counts = counts
        """How many events each step of each match has: matches of the first step, of the second, and so on."""
        self._back = np.empty(len(self.order), np.uint32)
        self._back[self.order] = np.arange(len(self.order), dtype=np.uint32)

    def places_of(self, events: Int64s) -> npt.NDArray[np.uint32]:
        """Where events of the table lie, step after step."""
        places: npt.NDArray[np.uint32] = self._back[events]
        return places

    def lists(self, events: pl.DataFrame) -> pl.Series:
        """For each step of all patterns a list of its events per match; null for the matches of other patterns.

        Args:
            events: in `order`.
        """
        shown = pl.DataFrame([column for column in events.get_columns() if column.name not in HIDDEN])
        values = shown.to_struct("events")
        return self._singles(values) if (self._counts == 1).all() else self._slices(values)

    def _singles(self, values: pl.Series) -> pl.Series:
        """Where each step has one event in each match: half the cost of a batch with a match."""
        matches = len(self._owners)
        lists = values.reshape((len(values), 1)).cast(pl.List(values.dtype))
        steps = [lists.slice(n * matches, matches).alias(name) for n, name in enumerate(self._names)]
        return pl.DataFrame(steps).to_struct("events")

    def _slices(self, values: pl.Series) -> pl.Series:
        import pyarrow as pa

        events = values.to_arrow()
        offsets = pa.array(np.append(0, np.cumsum(self._counts)))
        matches = len(self._owners)
        lists = []
        for number in range(len(self._names)):
            mask = self._absent(number)
            own = offsets.slice(number * matches, matches + 1)
            if mask is not None:
                own = pa.array(own.to_numpy())  # a mask goes with offsets of their own
            lists.append(pa.LargeListArray.from_arrays(own, events, mask=mask))
        return self._schemas.as_declared(pl.Series("events", pa.StructArray.from_arrays(lists, self._names)))

    def _absent(self, number: int) -> Any:
        """Which matches are of patterns without the step; None: no match is."""
        import pyarrow as pa

        without_it = ~(self._numbers == number).any(axis=1)
        return pa.array(without_it[self._owners]) if without_it.any() else None


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

"""Partial matches in the state: frames out, partial matches back.

One row per event that a partial match holds:

=============  ===============================================================================
key columns    the partial match's key
`__pattern`    the pattern's id and fingerprint
`__order`      which partial match of this frame
`__place`      which of its events; -1 in the only row of a key that has no partial match left
`__state`      the state it is in
`__step`       the number of the step that took the event
`__start`      the time of its first event, ms UTC
`__event`      the event's id within the frame
`__data`       whether the row has the event's own columns: an event that several partial matches hold is saved once
=============  ===============================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.cep.found import Held, HeldTable
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.events import EventStore
from thalweg.records import Int64s
from thalweg.streams.batch import TIMESTAMP, with_column

PATTERN, ORDER, PLACE, STATE = "__pattern", "__order", "__place", "__state"
STEP, START, EVENT, DATA = "__step", "__start", "__event", "__data"
_OWN = (PATTERN, ORDER, PLACE, STATE, STEP, START, EVENT, DATA)
_FRAME, ID = "__frame", "__id"

logger = logging.getLogger(__name__)


def name_of(pattern: Pattern) -> str:
    """By which a pattern's partial matches are found again: those of another structure can't be continued."""
    return f"{pattern.id}@{pattern.fingerprint()}"


def rows_of(held: Sequence[tuple[Pattern, HeldTable]], store: EventStore, keys: Sequence[str]) -> pl.DataFrame:
    """The rows of some partial matches of each pattern."""
    names = pl.Series([name_of(pattern) for pattern, _ in held], dtype=pl.String)
    numbers = np.repeat(np.arange(len(held)), [len(table) for _, table in held])
    table = HeldTable.together([table for _, table in held])
    order = np.repeat(np.arange(len(table)), table.sizes)
    firsts = np.zeros(len(table.ids), np.bool_)
    firsts[np.unique(table.ids, return_index=True)[1]] = True
    events = store.get(table.ids)
    if not firsts.all():
        once = pl.Series(firsts)
        own = [name for name in events.columns if name not in keys]
        events = events.with_columns(pl.when(once).then(pl.col(name)).alias(name) for name in own)
    facts: dict[str, pl.Series | Int64s | npt.NDArray[np.bool_]] = {
        PATTERN: names.gather(numbers[order]),
        ORDER: order,
        PLACE: np.arange(len(order)) - np.repeat(np.cumsum(table.sizes) - table.sizes, table.sizes),
        STATE: table.states[order],
        STEP: table.steps,
        START: table.starts[order],
        EVENT: table.ids,
        DATA: firsts,
    }
    return events.hstack([pl.Series(name, values) for name, values in facts.items()])


def gone(keys: pl.DataFrame, count: int, others: pl.DataFrame | None) -> pl.DataFrame:
    """The rows of keys that have no partial match left, with the columns of those that have some."""
    places = pl.Series(PLACE, [-1], dtype=pl.Int64).new_from_index(0, count)
    if others is None:
        return with_column(keys, places)
    known = {PLACE: places, **{name: keys.get_column(name) for name in keys.columns}}
    nulls = {name: pl.Series(name, [None], dtype).new_from_index(0, count) for name, dtype in others.schema.items()}
    return pl.DataFrame([known.get(name, null) for name, null in nulls.items()])


@dataclass(slots=True)
class Restored:
    """What the state gave back."""

    rows: pl.DataFrame
    """With the key columns; partial matches name a row of it as their `code`."""
    partials: list[tuple[int, Held, int]]
    """(number of the pattern, partial match, time of its last event), oldest first."""


def read(
    frames: Sequence[pl.DataFrame], patterns: Sequence[Pattern], store: EventStore, keys: Sequence[str]
) -> Restored | None:
    """Reads frames of rows, oldest first, and puts their events into the store; None: nothing is held.

    Partial matches of patterns that the program no longer has, or has in another structure, are left out with a
    warning.
    """
    numbered = [frame.with_columns(pl.lit(n, pl.Int64).alias(_FRAME)) for n, frame in enumerate(frames)]
    rows = pl.concat(numbered, how="diagonal_relaxed")
    newest = pl.col(_FRAME).max().over(list(keys)) if keys else pl.col(_FRAME).max()
    rows = rows.filter((pl.col(_FRAME) == newest) & (pl.col(PLACE) >= 0))
    if not rows.height:
        return None
    rows = _with_ids(rows, store).sort(_FRAME, ORDER, PLACE)
    numbers = {name_of(pattern): number for number, pattern in enumerate(patterns)}
    unknown = rows.filter(~pl.col(PATTERN).is_in(list(numbers)))
    if unknown.height:
        count = unknown.select(_FRAME, ORDER).n_unique()
        names = ", ".join(sorted({name.split("@")[0] for name in unknown.get_column(PATTERN).unique().to_list()}))
        logger.warning("%d partial matches of patterns that changed are left out (%s)", count, names)
    facts = rows.select(_FRAME, ORDER, PATTERN, STATE, STEP, START, ID, TIMESTAMP)
    partials: dict[tuple[int, int], tuple[int, Held, int]] = {}
    for place, (frame, order, name, state, step, start, event, time) in enumerate(facts.iter_rows()):
        if name not in numbers:
            continue
        _, item, _ = partials.get((frame, order)) or (0, Held(place, state, start, [], []), 0)
        item.steps.append(step)
        item.ids.append(event)
        partials[frame, order] = (numbers[name], item, time)
    in_order = sorted(partials.values(), key=lambda partial: (partial[1].start, partial[1].ids[0]))
    return Restored(rows, in_order)


def _with_ids(rows: pl.DataFrame, store: EventStore) -> pl.DataFrame:
    """The rows with their events' new ids (`__id`), in the order of the old ones, and times."""
    events = rows.filter(DATA).sort(_FRAME, EVENT)
    ids = store.add(events.drop(*_OWN, _FRAME))
    table = events.select(_FRAME, EVENT, TIMESTAMP).with_columns(pl.Series(ID, ids))
    return rows.drop(TIMESTAMP).join(table, on=[_FRAME, EVENT], how="left")

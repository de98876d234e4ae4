"""Changes of state, and invalid triggers, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from thalweg.cep.machine.compiled import BITS, NAMED, CompiledMachine
from thalweg.cep.machine.instances import Moved, path_lists
from thalweg.records import Int64s
from thalweg.streams.batch import RESERVED, TIMESTAMP, WATERMARK

if TYPE_CHECKING:
    from thalweg.cep.machine.definition import StateMachine

RESULT = frozenset({"machine", "from_state", "to_state", "status", "trigger", "since", "at", "step", "path", "event"})
INVALID = frozenset({"state", "reason"})
"""What invalid triggers have besides their own columns."""
TIMEOUT = "timeout"

_HIDDEN = frozenset({*RESERVED, NAMED, BITS})
_REASONS = ["no transition", "guard refused", "ended", "guard raised"]


def result_schema(machine: StateMachine, keys: Sequence[str], events: pl.Schema) -> pl.Schema:
    """The columns of changes over events with these columns."""
    event = pl.Struct({name: dtype for name, dtype in events.items() if name not in _HIDDEN})
    return pl.Schema(
        {
            "machine": pl.String(),
            **{key: events[key] for key in keys},
            "from_state": pl.String(),
            "to_state": pl.String(),
            "status": pl.String(),
            "trigger": pl.String(),
            "since": pl.Int64(),
            "at": pl.Int64(),
            "step": pl.Int64(),
            **({"path": pl.List(pl.String())} if machine.history else {}),
            "event": event,
        }
    )


def result_names(machine: StateMachine, keys: Sequence[str]) -> list[str]:
    """The columns of changes, in order."""
    path = ["path"] if machine.history else []
    return ["machine", *keys, "from_state", "to_state", "status", "trigger", "since", "at", "step", *path, "event"]


def change_rows(
    compiled: CompiledMachine, keys: Sequence[str], moved: Moved, rows: pl.DataFrame | None, events: pl.Schema
) -> pl.DataFrame:
    """One row per change, in order of time; at one time timeouts first, by key, then events in their order.

    Args:
        rows: the events; None: there were only timeouts.
        events: the columns that events are known to have.
    """
    time, _, row, before, after, number, since, step = moved.changes.T
    names = result_names(compiled.machine, keys)
    event = pl.Struct({name: dtype for name, dtype in events.items() if name not in _HIDDEN})
    made = moved.keys.with_columns(
        pl.lit(compiled.machine.id).alias("machine"),
        _named(compiled.states, before).alias("from_state"),
        _named(compiled.states, after).alias("to_state"),
        _named([compiled.machine.status_of(name) for name in compiled.states], after).alias("status"),
        _named([*(t.label for t in compiled.machine.transitions), TIMEOUT], number).alias("trigger"),
        pl.Series("since", since),
        pl.Series("at", time),
        pl.Series("step", step),
        *([path_lists(compiled.states, moved.paths).alias("path")] if compiled.machine.history else []),
        _events(rows, row, event),
        pl.Series(TIMESTAMP, time),
        pl.Series(WATERMARK, time),
        pl.Series(_ROW, row),
        pl.Series(_NUMBER, number),
    )
    order = [TIMESTAMP, _ROW, *keys]
    return made.select(*names, TIMESTAMP, WATERMARK, _ROW, _NUMBER).sort(order, maintain_order=True)


_ROW, _NUMBER = "__row", "__number"
NUMBER = _NUMBER
"""The number of the transition, -1 for a timeout: for calling actions."""
ROW = _ROW


def _named(names: Sequence[str], numbers: Int64s) -> pl.Series:
    """Names by number; -1 is the last."""
    return pl.Series(names, dtype=pl.String).gather(np.where(numbers < 0, len(names) - 1, numbers))


def _events(rows: pl.DataFrame | None, places: Int64s, dtype: pl.DataType) -> pl.Series:
    """The event of each change; null for timeouts."""
    if rows is None:
        return pl.Series("event", [None], dtype=dtype).new_from_index(0, len(places))
    structs = rows.select(pl.struct([n for n in rows.columns if n not in _HIDDEN]).alias("event")).to_series()
    return structs.gather(pl.Series(places).replace(-1, None))


def invalid_rows(compiled: CompiledMachine, moved: Moved, rows: pl.DataFrame) -> pl.DataFrame:
    """The events whose trigger no transition took: as they came, with `state` and `reason`."""
    row, state, reason = moved.invalid.T
    names = _named(_REASONS, reason).to_list()
    for place, number in enumerate(row.tolist()):
        if number in moved.errors:
            error = moved.errors[number]
            names[place] = f"guard raised {type(error).__name__}: {error}"
    found: pl.DataFrame = rows[row]
    return found.drop(NAMED, BITS).with_columns(
        _named(compiled.states, state).alias("state"),
        pl.Series("reason", names, dtype=pl.String),
        pl.col(TIMESTAMP).alias(WATERMARK),
    )

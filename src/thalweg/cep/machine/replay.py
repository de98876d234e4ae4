"""A dry run of a state machine over recorded events: no stream, no actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from thalweg.cep.machine.compiled import CompiledMachine
from thalweg.cep.machine.instances import Instances
from thalweg.cep.machine.results import NUMBER, ROW, change_rows, invalid_rows
from thalweg.errors import ConfigurationError
from thalweg.streams.batch import TIMESTAMP, WATERMARK

if TYPE_CHECKING:
    from thalweg.cep.machine.definition import StateMachine

Events = Iterable[Mapping[str, Any]] | pl.DataFrame


@dataclass(frozen=True, slots=True)
class Replay:
    """What recorded events did, in the columns that a stream would give.

    `open` has the instances that are left: the key columns, `state`, `since`, `step`.
    """

    changes: pl.DataFrame
    invalid: pl.DataFrame
    open: pl.DataFrame


def replay(machine: StateMachine, events: Events, *, timestamp: str, until: int | None) -> Replay:
    """Takes events in the order of their time; timeouts come up to `until` (default: the last event's time).

    Raises:
        ConfigurationError: no key, no events, or events without times.
    """
    frame = events if isinstance(events, pl.DataFrame) else pl.DataFrame(list(events), infer_schema_length=None)
    if not machine.keys:
        raise ConfigurationError(f"state machine {machine.id!r} has no key")
    if not frame.height or timestamp not in frame.columns or frame.get_column(timestamp).null_count():
        raise ConfigurationError(f"replay() needs events that all have a time in the column {timestamp!r}")
    compiled = CompiledMachine(machine, frame.schema)
    rows = frame.with_columns(pl.col(timestamp).cast(pl.Int64).alias(TIMESTAMP)).sort(TIMESTAMP, maintain_order=True)
    last = rows.get_column(TIMESTAMP)[-1]
    prepared, failed = compiled.prepare(rows)
    if failed:
        raise next(iter(failed.values()))
    instances = Instances(compiled, machine.keys)
    moved = instances.advance(prepared, last if until is None else max(until, last))
    changes = pl.DataFrame(schema=machine.result_schema(frame.schema))
    if len(moved.changes):
        changes = change_rows(compiled, machine.keys, moved, prepared, frame.schema).drop(
            ROW, NUMBER, TIMESTAMP, WATERMARK
        )
    invalid = invalid_rows(compiled, moved, prepared).drop(TIMESTAMP, WATERMARK)
    return Replay(changes, invalid, instances.open())

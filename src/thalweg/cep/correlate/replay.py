"""A dry run of a correlation over recorded events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from thalweg.cep.correlate.arrivals import arrivals_of
from thalweg.cep.correlate.held import Held
from thalweg.cep.correlate.operator import key_names, terms_of
from thalweg.cep.correlate.results import correlation_rows
from thalweg.errors import ConfigurationError
from thalweg.streams.batch import TIMESTAMP, WATERMARK
from thalweg.streams.plan.functions import check_columns, compile_for

if TYPE_CHECKING:
    from thalweg.cep.correlate.correlator import EventCorrelator

Rows = pl.DataFrame | Iterable[Mapping[str, Any]]


def replay(correlator: EventCorrelator, events: Mapping[str, Rows] | Rows, timestamp: str) -> pl.DataFrame:
    """Takes the events of all streams together, in the order of their times.

    Raises:
        ConfigurationError: a stream that the correlator does not have, or events without times.
    """
    frames = _by_stream(correlator, events)
    for name, frame in frames.items():
        if name not in correlator.streams:
            raise ConfigurationError(f"replay(): the correlator has no stream {name!r}")
        if timestamp not in frame.columns or frame.get_column(timestamp).null_count():
            raise ConfigurationError(f"replay(): the events of {name!r} need times in the column {timestamp!r}")
    keyed = {name: _keyed(correlator, name, frame, timestamp) for name, frame in frames.items()}
    columns = [keyed[name][1] if name in keyed else [] for name in correlator.streams]
    names = next((key_names([own]) for own in columns if own), [])
    held = Held(terms_of(correlator), names)
    inputs = [keyed[name][0] if name in keyed else None for name in correlator.streams]
    arrivals = arrivals_of(correlator, inputs, columns, held.stores, names, 0)
    if arrivals is None:
        return pl.DataFrame()
    found = held.advance(arrivals, int(arrivals.times[-1]))
    if not len(found.sizes):
        return pl.DataFrame()
    schemas = [frames[name].schema if name in frames else {} for name in correlator.streams]
    rows = correlation_rows(correlator, found, held.stores, (), schemas)
    return rows.drop(TIMESTAMP, WATERMARK)


def _by_stream(correlator: EventCorrelator, events: Mapping[str, Rows] | Rows) -> dict[str, pl.DataFrame]:
    if isinstance(events, Mapping):
        frames = {name: _frame(rows) for name, rows in events.items()}
        return {name: frame for name, frame in frames.items() if frame.width}
    if correlator.conditions is None:
        raise ConfigurationError("replay(): give the events by the names of their streams")
    frame = _frame(events)
    return {
        name: frame.filter(_evaluated(frame, condition, "predicate", name))
        for name, condition in correlator.conditions.items()
        if frame.width
    }


def _frame(rows: Rows) -> pl.DataFrame:
    return rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(list(rows), infer_schema_length=None)


def _keyed(
    correlator: EventCorrelator, name: str, frame: pl.DataFrame, timestamp: str
) -> tuple[pl.DataFrame, list[str]]:
    """The events of a stream that have a key, with it and their times as columns."""
    columns: list[str] = []
    for number, key in enumerate(correlator._keys_of(name)):
        if isinstance(key, str):
            check_columns([key], frame.schema, f"correlation {correlator.id!r}, key of {name!r}")
            columns.append(key)
        else:
            values = _evaluated(frame, key, "value", name)
            default = "key" if len(correlator._keys_of(name)) == 1 else f"key_{number + 1}"
            columns.append(_name_of(key, frame, default))
            frame = frame.with_columns(values.alias(columns[-1]))
    rows = frame.with_columns(pl.col(timestamp).cast(pl.Int64).alias(TIMESTAMP))
    return (rows.drop_nulls(columns) if columns else rows), columns


def _name_of(key: Any, frame: pl.DataFrame, default: str) -> str:
    """What `key_by` would call it: a plain column, and what has an alias, keeps its name."""
    exprs = compile_for(key, "value", frame.schema, "key").exprs
    if not isinstance(exprs, pl.Expr):
        return default
    named = exprs.meta.is_column() or not exprs.meta.undo_aliases().meta.eq(exprs)
    return exprs.meta.output_name() if named else default


def _evaluated(frame: pl.DataFrame, function: Any, purpose: Literal["predicate", "value"], name: str) -> pl.Series:
    compiled = compile_for(function, purpose, frame.schema, f"stream {name!r}")
    if isinstance(compiled.exprs, pl.Expr):
        return frame.with_columns(__result=compiled.exprs).get_column("__result")
    results = compiled.evaluate_rows(frame)
    for _, error in results.errors:
        raise error
    return pl.Series("__result", results.values)

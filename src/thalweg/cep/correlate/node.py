"""The plan node of `app.correlate(…)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import polars as pl

from thalweg.cep.correlate.correlator import EventCorrelator
from thalweg.cep.correlate.operator import Correlate, key_names
from thalweg.cep.correlate.results import RESULT, result_schema
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.functions import check_columns
from thalweg.streams.plan.node import Mode, Node


@dataclass(frozen=True, eq=False)
class CorrelateNode(Node):
    """Events of several append streams that share a key within a time.

    Output: `correlation` (its id), the key columns, `window_start`, `window_end` (first and last event, Int64, ms UTC),
    `count` (events), `streams` (names of those that have one), `events` (struct of stream → list of events),
    `provenance` (per event: stream, topic, partition, offset, time).
    """

    correlator: EventCorrelator
    keys: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        taken = sorted(RESULT & set(key_names(self.keys)))
        if taken:
            raise ConfigurationError(
                f"correlate(): the key column {taken[0]!r} has the name of a result column; rename it"
            )

    def describe(self) -> str:
        it = self.correlator
        key = f" by {', '.join(key_names(self.keys))}" if key_names(self.keys) else ""
        order = " in order" if it.ordered else ""
        what = f"{it.minimum} {it.count}" + (f" of {it.field}" if it.field else "")
        return f"correlate {it.id}: {what}{order} of {', '.join(it.streams)}{key} within {it.window} ms"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        known: list[pl.Schema] = []
        for name, schema in zip(self.correlator.streams, inputs, strict=True):
            field = self.correlator.field_of(name)
            if field is not None:
                check_columns([field], schema, f"correlation {self.correlator.id!r}, field of {name!r}")
            if schema is not None:
                known.append(schema)
        if len(known) < len(inputs):
            return None
        return result_schema(self.correlator, self._key_types(known), known)

    def _key_types(self, schemas: list[pl.Schema]) -> dict[str, pl.DataType]:
        names = key_names(self.keys)
        types: dict[str, pl.DataType] = {}
        for columns, schema, stream in zip(self.keys, schemas, self.correlator.streams, strict=True):
            for name, column in zip(names, columns, strict=True):
                if types.setdefault(name, schema[column]) != schema[column]:
                    raise PlanError(
                        f"correlation {self.correlator.id!r}: the key {name!r} is {types[name]} in "
                        f"{self.correlator.streams[0]!r} and {schema[column]} in {stream!r}; cast it first"
                    )
        return types

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if Mode.CHANGELOG in inputs:
            raise PlanError("correlate: one of its inputs is a changelog; correlations take appends only")
        return Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None  # correlations carry whole events

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return tuple(key_names(self.keys))

    @property
    def kind(self) -> str:
        return "correlate"

    @property
    def stateful(self) -> bool:
        return True

    def placed_by(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        return self.keys

    def build(self, context: OperatorContext) -> Operator:
        topics = cast("tuple[str, ...]", context.options.get("topics", ()))
        operator = Correlate(context.operator_id, self.correlator, self.keys, topics, context.input_schemas)
        self.correlator.built(operator)
        return operator

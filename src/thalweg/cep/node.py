"""The plan node of `stream.detect(…)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import polars as pl

from thalweg.cep.measures import RESULT_COLUMNS
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.conditions import Conditions
from thalweg.cep.sequence.engine import Limits
from thalweg.cep.sequence.matches import match_schema
from thalweg.cep.sequence.operator import TIMEOUT, Detect, LivePatterns, Ways
from thalweg.errors import ConfigurationError
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.node import Mode, Node, input_schema
from thalweg.streams.windows import TimeSemantics


@dataclass(frozen=True, eq=False)
class PatternNode(Node):
    """Patterns over an append stream, per key.

    Output: `pattern`, the key columns, `match_start`, `match_end` (Int64, ms UTC), `events` (struct of step → list of
    events), and the patterns' measures. Late events leave by port `LATE`, partial matches whose time has run out by
    port "timeout", where that is read.
    """

    patterns: tuple[Pattern, ...]
    keys: tuple[str, ...] = ()
    on_match: Callable[[pl.DataFrame], None] | None = None
    on_timeout: Callable[[pl.DataFrame], None] | None = None
    time_semantics: TimeSemantics = TimeSemantics.EVENT_TIME
    most: int | None = None
    """How many partial matches a key may have, by pattern; None: no bound."""
    live: LivePatterns | None = None
    """What changes the patterns of the running job; None: nothing does."""
    built: Callable[[Detect], None] | None = None
    """Told of the operator that a job runs."""

    def __post_init__(self) -> None:
        if not self.patterns:
            raise ConfigurationError("detect() needs at least one pattern")
        ids = [pattern.id for pattern in self.patterns]
        if len(set(ids)) != len(ids):
            raise ConfigurationError(f"detect(): patterns share an id: {', '.join(ids)}")
        taken = sorted(set(RESULT_COLUMNS) & set(self.keys))
        if taken:
            raise ConfigurationError(
                f"detect(): the key column {taken[0]!r} has the name of a result column; rename it"
            )

    @property
    def kind(self) -> str:
        return "detect"

    def describe(self) -> str:
        by = f" by {', '.join(self.keys)}" if self.keys else ""
        shown = "; ".join(pattern.describe() for pattern in self.patterns)
        time = "" if self.time_semantics is TimeSemantics.EVENT_TIME else f" in {self.time_semantics.value}"
        return f"detect{by}{time} {shown} — {Conditions(self.patterns, input_schema(self)).describe()}"

    def output_schema(self, inputs: tuple[pl.Schema | None, ...]) -> pl.Schema | None:
        if not inputs or inputs[0] is None:
            return None
        Conditions(self.patterns, inputs[0])  # an unknown field is refused here, before anything runs
        return match_schema(self.patterns, self.keys, inputs[0])

    def mode(self, inputs: tuple[Mode, ...]) -> Mode:
        if inputs and inputs[0] is Mode.CHANGELOG:
            raise ConfigurationError("detect: its input is a changelog; patterns take appends only")
        return Mode.APPEND

    def required_columns(self, wanted: frozenset[str] | None) -> frozenset[str] | None:
        return None  # matches carry whole events

    def key_columns(self, inputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
        return self.keys

    @property
    def stateful(self) -> bool:
        return True

    def build(self, context: OperatorContext) -> Operator:
        schema = context.input_schemas[0] if context.input_schemas else None
        wanted = TIMEOUT in cast("frozenset[str]", context.options.get("ports_read", frozenset()))
        patterns = self.patterns if self.live is None else self.live.current()[1]
        ways = Ways(
            Limits(wanted or self.on_timeout is not None, self.most),
            self.time_semantics,
            cast("tuple[str, ...]", context.options.get("topics", ())),
            schema,
            self.live,
            self.on_match,
            self.on_timeout,
        )
        operator = Detect(context.operator_id, patterns, self.keys, Conditions(patterns, schema), ways)
        if self.built is not None:
            self.built(operator)
        return operator

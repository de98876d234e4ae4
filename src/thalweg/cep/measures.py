"""Measures: result columns that are computed from a match, as columns over all matches at once."""

from __future__ import annotations

from typing import Any

import polars as pl

from thalweg.cep.pattern import Pattern
from thalweg.errors import ConfigurationError

RESULT_COLUMNS = ("pattern", "match_start", "match_end", "events")


class EventTerms:
    """One event of a match, by whose fields a measure is made: `m.first("failed").ip`, or `m.first("failed")["ip"]`."""

    def __init__(self, event: pl.Expr) -> None:
        self._event = event

    def __getitem__(self, field: str) -> pl.Expr:
        return self._event.struct.field(field)

    def __getattr__(self, field: str) -> pl.Expr:
        if field.startswith("__"):
            raise AttributeError(field)
        return self[field]


class MatchTerms:
    """What a measure is made of. Its methods give Polars expressions, which may be combined freely.

    A step that was left out has no events: `first` and `last` are null then, `count` and `sum` 0, the others null.
    """

    def __init__(self, steps: tuple[str, ...]) -> None:
        self._steps = steps

    @property
    def start(self) -> pl.Expr:
        """The time of the match's first event, ms UTC."""
        return pl.col("match_start")

    @property
    def end(self) -> pl.Expr:
        """The time of its last event, ms UTC."""
        return pl.col("match_end")

    @property
    def duration(self) -> pl.Expr:
        """ms from the first event to the last."""
        return self.end - self.start

    def first(self, step: str) -> EventTerms:
        """The first event of a step."""
        return EventTerms(self._events(step).list.first())

    def last(self, step: str) -> EventTerms:
        """The last event of a step."""
        return EventTerms(self._events(step).list.last())

    def count(self, step: str) -> pl.Expr:
        """How many events the step has."""
        return self._events(step).list.len().cast(pl.Int64)

    def values(self, step: str, field: str) -> pl.Expr:
        """The list of a field's values over a step's events."""
        return self._events(step).list.eval(pl.element().struct.field(field))

    def sum(self, step: str, field: str) -> pl.Expr:
        """The sum of a field over a step's events. Nulls are left out, here and below."""
        return self.values(step, field).list.sum()

    def avg(self, step: str, field: str) -> pl.Expr:
        """The average of a field over a step's events."""
        return self.values(step, field).list.mean()

    def min(self, step: str, field: str) -> pl.Expr:
        """The least value of a field over a step's events."""
        return self.values(step, field).list.min()

    def max(self, step: str, field: str) -> pl.Expr:
        """The largest value of a field over a step's events."""
        return self.values(step, field).list.max()

    def _events(self, step: str) -> pl.Expr:
        if step not in self._steps:
            raise ConfigurationError(f"there is no step {step!r}; there are {', '.join(self._steps)}")
        return pl.col("events").struct.field(step)


def check_measures(pattern: Pattern) -> None:
    """Refuses measures that are no expressions, or have the name of a result column.

    Raises:
        ConfigurationError: with the reason.
    """
    for name, expression in measures_of(pattern).items():
        if name in RESULT_COLUMNS or name.startswith("__"):
            raise ConfigurationError(f"{pattern.id}: a measure can't be called {name!r}, which is a result column")
        if not isinstance(expression, pl.Expr):
            raise ConfigurationError(
                f"{pattern.id}: the measure {name!r} is a {type(expression).__name__}, not an expression over the"
                " match, such as lambda m: m.last('exit').ts - m.first('entry').ts"
            )


def measures_of(pattern: Pattern) -> dict[str, pl.Expr]:
    """The pattern's measures as expressions over its result columns.

    Raises:
        ConfigurationError: a measure asks for an unknown step, or decides by a value that is known later only.
    """
    terms = MatchTerms(pattern.step_names)
    expressions: dict[str, Any] = {}
    for name, function in pattern.measures:
        if not callable(function):
            expressions[name] = function
            continue
        try:
            expressions[name] = function(terms)
        except (TypeError, ConfigurationError) as error:
            raise ConfigurationError(f"{pattern.id}: the measure {name!r}: {error}") from error
    return expressions

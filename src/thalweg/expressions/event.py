"""The event as tracing sees it: a name for each column, with its type where it is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any

import polars as pl

from thalweg.errors import PlanError
from thalweg.expressions.reserved import is_reserved
from thalweg.expressions.rows import Row
from thalweg.expressions.values import NeedsTypes, Untraceable, Value, column


class _Event(Enum):
    EVENT = "event"


EVENT = _Event.EVENT
"""Stands for the event as a whole."""

_OWN = frozenset(name for name in dir(Row) if not name.startswith("_")) | {"key", "timestamp"}
"""What a row has besides its columns."""


@dataclass(frozen=True, slots=True)
class Event:
    """The columns of a stream, or None where they are known only when data comes."""

    schema: pl.Schema | None

    def attribute(self, name: str) -> Value:
        """`event.name`."""
        if name.startswith("__"):
            raise Untraceable(f"{name} is left to Python")
        if name in _OWN and (self.schema is None or name not in self.schema):
            raise Untraceable(f".{name} is left to Python, unless the schema has a column of that name")
        return self.item(name)

    def item(self, name: str) -> Value:
        """`event["name"]`."""
        if is_reserved(name):
            raise Untraceable(f"{name} is the engine's own")
        if self.schema is None:
            return column(name, None)
        if name not in self.schema:
            hint = _hint(name, self.schema)
            raise PlanError(f"the function reads the column {name!r}, which the events do not have{hint}")
        return column(name, self.schema[name])

    def call(self, name: str, arguments: tuple[Any, ...]) -> Value:
        """`event.get("name")`, where there is such a column."""
        if name == "get" and len(arguments) == 1 and isinstance(arguments[0], str):
            if self.schema is None:
                raise NeedsTypes(".get()")
            if arguments[0] in self.schema and "get" not in self.schema:
                return self.item(arguments[0])
        raise Untraceable(f".{name}() of the event is left to Python")

    def all_fields(self) -> dict[str, Any]:
        """`**event`."""
        if self.schema is None:
            raise NeedsTypes("**event")
        return {name: column(name, dtype) for name, dtype in self.schema.items() if not is_reserved(name)}


def _hint(name: str, names: Iterable[str]) -> str:
    known = list(names)
    close = get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else f"; there are: {', '.join(known[:20])}"

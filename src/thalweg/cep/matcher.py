"""`PatternMatcher`: several patterns together, in a stream or by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from thalweg.cep.node import PatternNode
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.conditions import Conditions
from thalweg.cep.sequence.operator import Detect
from thalweg.errors import ConfigurationError
from thalweg.expressions import Row, iter_rows
from thalweg.streams.batch import OFFSET, TIMESTAMP

Handler = Callable[[Row], Any]


class PatternMatcher:
    """Registers patterns, and calls handlers with their matches.

    Args:
        key: the column(s) within which events belong together; none: all events are one sequence. In a stream that is keyed
            already it may be left out.

    >>> from thalweg.cep import PatternBuilder
    >>> matcher = PatternMatcher(key="user")
    >>> matcher.register_pattern(PatternBuilder.create("twice").where("a", lambda e: e.ok == False).times(2).build())
    >>> matcher.on("match", lambda match: print(match.pattern, match.user, match.match_end))
    >>> matches = matcher.process([{"ts": 1, "user": "x", "ok": False}, {"ts": 2, "user": "x", "ok": False}])
    twice x 2
    """

    def __init__(self, key: str | Sequence[str] | None = None) -> None:
        self.keys: tuple[str, ...] = (key,) if isinstance(key, str) else tuple(key or ())
        self._patterns: dict[str, Pattern] = {}
        self._handlers: list[Handler] = []
        self._alone: Detect | None = None
        self._seen = 0

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        return tuple(self._patterns.values())

    def register_pattern(self, pattern: Pattern) -> None:
        """Adds a pattern; its id must be new."""
        if pattern.id in self._patterns:
            raise ConfigurationError(f"a pattern {pattern.id!r} is registered already")
        if self._alone is not None:
            raise ConfigurationError("register all patterns before the first event")
        self._patterns[pattern.id] = pattern

    def on(self, event: str, handler: Handler) -> None:
        """Calls `handler` with each match, as a row. `event` is "match"."""
        if event != "match":
            raise ConfigurationError(f"on({event!r}): a matcher has the event 'match'")
        self._handlers.append(handler)

    def to_node(self, upstream: Any, key_columns: tuple[str, ...]) -> PatternNode:
        """The plan node of `stream.detect(matcher)`."""
        keys = self.keys or key_columns
        return PatternNode(self.patterns, keys, self._tell, inputs=(upstream,))

    def process(self, events: Iterable[Mapping[str, Any]] | pl.DataFrame, *, timestamp: str = "ts") -> pl.DataFrame:
        """Takes events by themselves, without a stream, in the order of their time; returns the matches found in them.

        Args:
            events: mappings or a frame; times (ms UTC) in the column `timestamp` never go back, within and between calls.

        Raises:
            ConfigurationError: no pattern, no timestamps, or times that go back.
        """
        frame = events if isinstance(events, pl.DataFrame) else pl.DataFrame(list(events), infer_schema_length=None)
        if not frame.height:
            return pl.DataFrame()
        if timestamp not in frame.columns:
            raise ConfigurationError(f"the events have no column {timestamp!r}; name it with timestamp=…")
        operator = self._operator(frame.schema)
        times = frame.get_column(timestamp).cast(pl.Int64)
        first = times.min()
        if times.null_count() or not times.is_sorted() or (isinstance(first, int) and first < operator.released - 1):
            raise ConfigurationError(
                "event times are missing or go back; sort the events, or use a stream, which waits"
            )
        arrival = pl.int_range(self._seen, self._seen + frame.height, dtype=pl.Int64, eager=True).alias(OFFSET)
        self._seen += frame.height
        rows = frame.with_columns(times.alias(TIMESTAMP), arrival)
        return self._advance(operator, rows)

    def _advance(self, operator: Detect, rows: pl.DataFrame) -> pl.DataFrame:
        """No watermark is needed: the order is the caller's."""
        masks, failed = operator.conditions.masks(rows)
        if failed:
            raise next(iter(failed.values()))
        matters = rows.with_columns(pl.Series("__mask", masks))
        if not operator.engine.every_event:
            matters = matters.filter(pl.col("__mask") != 0)
        operator.engine.remember_types(rows.schema)
        found = list(operator.engine.process(matters)) if matters.height else []
        last = rows.get_column(TIMESTAMP)[-1]
        operator.released = last + 1
        operator.engine.expire(last)
        if not found:
            return pl.DataFrame(schema=operator.match_schema(rows.schema))
        matches = pl.concat(found, how="diagonal_relaxed").sort(TIMESTAMP, maintain_order=True)
        self._tell(matches)
        return matches.drop(TIMESTAMP, "__wm")

    def _operator(self, schema: pl.Schema) -> Detect:
        if not self._patterns:
            raise ConfigurationError("the matcher has no pattern; add one with register_pattern(…)")
        if self._alone is None:
            self._alone = Detect("matcher", self.patterns, self.keys, Conditions(self.patterns, schema))
        return self._alone

    def _tell(self, matches: pl.DataFrame) -> None:
        if self._handlers:
            for row in iter_rows(matches, self.keys):
                for handler in self._handlers:
                    handler(row)

"""`PatternMatcher`: several patterns together, in a stream or by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl

from thalweg.cep.node import PatternNode
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.conditions import MASK, Conditions
from thalweg.cep.sequence.operator import Detect
from thalweg.errors import ConfigurationError
from thalweg.expressions import Row, iter_rows
from thalweg.streams.batch import OFFSET, TIMESTAMP, WATERMARK
from thalweg.streams.plan.routing import KeyByNode

Handler = Callable[[Row], Any]


class PatternMatcher:
    """Registers patterns, and calls handlers with their matches.

    Args:
        key: the column(s) within which events belong together; none: all events are one sequence. In a stream that is
            keyed already it may be left out.

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
        self._handlers: dict[str, list[Handler]] = {"match": [], "timeout": []}
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
        """Calls `handler` with each match, or with each partial match whose time has run out, as a row.

        Args:
            event: "match" or "timeout". Timed-out partial matches are followed by the general engine, which is slower.
            handler: runs on the engine's thread; in a stream, before the epoch is committed: at least once.
        """
        if event not in self._handlers:
            raise ConfigurationError(f"on({event!r}): a matcher has the events 'match' and 'timeout'")
        if self._alone is not None:
            raise ConfigurationError("set all handlers before the first event")
        self._handlers[event].append(handler)

    def to_node(self, upstream: Any, key_columns: tuple[str, ...]) -> PatternNode:
        """The plan node of `stream.detect(matcher)`."""
        keys = self.keys or key_columns
        if key_columns and keys != key_columns:
            raise ConfigurationError(
                f"the matcher's key is {', '.join(keys)}, the stream is keyed by {', '.join(key_columns)}"
            )
        if keys and not key_columns:
            upstream = KeyByNode(keys, {}, inputs=(upstream,))
        return PatternNode(self.patterns, keys, self._handler("match"), self._handler("timeout"), inputs=(upstream,))

    def process(self, events: Iterable[Mapping[str, Any]] | pl.DataFrame, *, timestamp: str = "ts") -> pl.DataFrame:
        """Takes events by themselves, without a stream, in the order of their time; returns the matches found in them.

        Args:
            events: mappings or a frame; times (ms UTC) in the column `timestamp` never go back, within and between
                calls. An absence at a pattern's end, and timeouts, are known when an event after their time has come.

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
        if times.null_count() or not times.is_sorted() or (isinstance(first, int) and first < operator.released):
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
        matters = rows.with_columns(pl.Series(MASK, masks))
        if not operator.engine.every_event:
            matters = matters.filter(pl.col(MASK) != 0)
        last = int(rows.get_column(TIMESTAMP)[-1])
        found = operator.engine.advance(matters, last)
        operator.released = last
        if found.timed_out is not None:
            self._tell("timeout", found.timed_out)
        if found.matches is None:
            return pl.DataFrame(schema=operator.match_schema(rows.schema))
        self._tell("match", found.matches)
        return found.matches.drop(TIMESTAMP, WATERMARK)

    def _operator(self, schema: pl.Schema) -> Detect:
        if not self._patterns:
            raise ConfigurationError("the matcher has no pattern; add one with register_pattern(…)")
        if self._alone is None:
            self._alone = Detect(
                "matcher",
                self.patterns,
                self.keys,
                Conditions(self.patterns, schema),
                timeouts=bool(self._handlers["timeout"]),
            )
            self._alone.engine.keeps_changes = False
        return self._alone

    def _handler(self, event: str) -> Callable[[pl.DataFrame], None] | None:
        return partial(self._tell, event) if self._handlers[event] else None

    def _tell(self, event: str, found: pl.DataFrame) -> None:
        for row in iter_rows(found, self.keys) if self._handlers[event] else ():
            for handler in self._handlers[event]:
                handler(row)

"""`PatternMatcher`: several patterns together, in a stream or by themselves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import polars as pl

from thalweg.cep.changes import Change, changes_between, recovered, text_of
from thalweg.cep.dry_run import dry_run
from thalweg.cep.explained import DryRun, MatchRow, explain_match
from thalweg.cep.node import PatternNode
from thalweg.cep.pattern import Pattern
from thalweg.cep.sequence.conditions import Conditions, any_bit, with_masks
from thalweg.cep.sequence.engine import Limits
from thalweg.cep.sequence.matches import match_schema
from thalweg.cep.sequence.operator import Detect, Ways
from thalweg.errors import ConfigurationError, MissingExtraError, PlanError
from thalweg.expressions import Row, iter_rows
from thalweg.streams.batch import OFFSET, TIMESTAMP, WATERMARK
from thalweg.streams.plan.node import input_schema
from thalweg.streams.plan.routing import KeyByNode
from thalweg.streams.windows import TimeSemantics

logger = logging.getLogger(__name__)

Handler = Callable[[Row], Any]


class PatternMatcher:
    """Registers patterns, and calls handlers with their matches.

    Args:
        key: the column(s) within which events belong together; none: all events are one sequence. In a stream that is
            keyed already it may be left out.
        time_semantics: event time; or processing or ingestion time, by which events are taken as they come and nothing
            is late.
        max_partial_matches: how many partial matches a key may have, by pattern: beyond, the oldest are ended, and
            `stats()` counts them. Without, `within` alone bounds them.

    >>> from thalweg.cep import PatternBuilder
    >>> matcher = PatternMatcher(key="user")
    >>> matcher.register_pattern(PatternBuilder.create("twice").where("a", lambda e: e.ok == False).times(2).build())
    >>> matcher.on("match", lambda match: print(match.pattern, match.user, match.match_end))
    >>> matches = matcher.process([{"ts": 1, "user": "x", "ok": False}, {"ts": 2, "user": "x", "ok": False}])
    twice x 2
    """

    def __init__(
        self,
        key: str | Sequence[str] | None = None,
        *,
        time_semantics: TimeSemantics = TimeSemantics.EVENT_TIME,
        max_partial_matches: int | None = None,
    ) -> None:
        if max_partial_matches is not None and max_partial_matches < 1:
            raise ConfigurationError(f"max_partial_matches is {max_partial_matches}; it must be at least 1")
        self.keys: tuple[str, ...] = (key,) if isinstance(key, str) else tuple(key or ())
        self._time = TimeSemantics(time_semantics)
        self._most = max_partial_matches
        self._patterns: dict[str, Pattern] = {}
        self._version = 0
        self._program: dict[str, Pattern] | None = None
        """The patterns with which the first job began; None: none has."""
        self._changed: dict[str, int] = {}
        """By id of patterns that were changed since: the version that the change made."""
        self._texts: dict[str, str] = {}
        """By id of patterns that were put in since: how the state keeps them."""
        self._lock = threading.Lock()
        self._handlers: dict[str, list[Handler]] = {"match": [], "timeout": []}
        self._schemas: list[pl.Schema] = []
        """The events of the streams that it is part of, where known: a pattern that does not fit is refused at once."""
        self._operators: list[Detect] = []
        self._alone: Detect | None = None
        self._seen = 0

    # -- patterns, also while a job runs

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        return self.current()[1]

    def current(self) -> tuple[int, tuple[Pattern, ...]]:
        """A number that grows with every change, and the patterns."""
        with self._lock:
            return self._version, tuple(self._patterns.values())

    def register_pattern(self, pattern: Pattern) -> None:
        """Adds a pattern; its id must be new. A running job goes on with it from its next batch.

        Raises:
            ConfigurationError: the id is taken.
            PlanError: a condition does not fit the events of a stream that the matcher is part of.
        """
        if pattern.id in self._patterns:
            raise ConfigurationError(f"a pattern {pattern.id!r} is registered already; replace_pattern changes it")
        self._put(pattern)

    def replace_pattern(self, pattern: Pattern) -> None:
        """Changes the pattern of that id.

        Its partial matches go on where steps, quantifiers and bounds are the same (conditions may differ); else they
        are dropped. Other patterns lose nothing.

        Raises:
            ConfigurationError: there is none of that id.
            PlanError: see `register_pattern`.
        """
        self._known(pattern.id)
        self._put(pattern)

    def remove_pattern(self, pattern_id: str) -> None:
        """Takes a pattern away, with its partial matches.

        Raises:
            ConfigurationError: there is none of that id, or no other.
        """
        self._known(pattern_id)
        with self._lock:
            if len(self._patterns) == 1 and (self._operators or self._alone is not None):
                raise ConfigurationError(f"{pattern_id!r} is the only pattern; register another one first")
            del self._patterns[pattern_id]
            self._note(pattern_id, None)

    def _known(self, pattern_id: str) -> None:
        if pattern_id not in self._patterns:
            raise ConfigurationError(f"there is no pattern {pattern_id!r}; there are {', '.join(self._patterns)}")

    def _check(self, pattern: Pattern) -> None:
        for schema in self._schemas:
            Conditions([pattern], schema).of_pattern(pattern)
            match_schema([*self.patterns, pattern], self.keys, schema)

    def _put(self, pattern: Pattern) -> None:
        self._check(pattern)
        text = text_of(pattern) if self._program is not None else None
        with self._lock:
            self._patterns[pattern.id] = pattern
            self._note(pattern.id, text)

    def _note(self, pattern_id: str, text: str | None) -> None:
        """Counts a change; that of a running job is to be kept."""
        self._version += 1
        self._texts.pop(pattern_id, None)
        if self._program is not None:
            self._changed[pattern_id] = self._version
            if text is not None:
                self._texts[pattern_id] = text

    def begin(self) -> None:
        """A job begins: what is registered from now on is a change, and kept with its state."""
        with self._lock:
            if self._program is None:
                self._program = dict(self._patterns)

    def changes(self) -> list[Change]:
        """How the patterns differ from those with which the job began."""
        with self._lock:
            return changes_between(self._program or {}, self._patterns, self._changed, self._texts)

    def recover(self, changes: Sequence[Change]) -> None:
        """Makes the changes that an earlier run made, but for those that this one has made anew.

        One that no longer fits (the program has changed there, the events have other columns) is left out, with an
        error in the log.
        """
        for change in changes:
            if self._changed.get(change.id, -1) >= change.version:
                continue
            if change.text is None and change.id not in self._patterns:
                continue  # the program has done without it by itself
            try:
                pattern = recovered(change, (self._program or {}).get(change.id))
                if pattern is not None:
                    self._check(pattern)
            except (ConfigurationError, MissingExtraError, PlanError) as error:
                logger.error("pattern %r stays as the program has it: %s", change.id, error)
                continue
            with self._lock:
                if pattern is not None:
                    self._patterns[change.id] = pattern
                    self._texts[change.id] = cast(str, change.text)
                elif len(self._patterns) > 1:
                    self._patterns.pop(change.id, None)
                self._changed[change.id] = change.version
                self._version = max(self._version, change.version) + 1

    def stats(self) -> dict[str, int]:
        """What the matcher holds now, over all jobs of this process that it is part of.

        `partial_matches`, `partial_matches_dropped` (ended because of `max_partial_matches`), `events` (held for
        partial matches), `keys`.
        """
        operators = [*self._operators, *([self._alone] if self._alone is not None else [])]
        engines = [operator.engine for operator in operators]
        return {
            "partial_matches": sum(engine.alive for engine in engines),
            "partial_matches_dropped": sum(engine.dropped for engine in engines),
            "events": sum(engine.store.rows for engine in engines),
            "keys": sum(len(engine.codes) for engine in engines),
        }

    def on(self, event: str, handler: Handler) -> None:
        """Calls `handler` with each match, or with each partial match whose time has run out.

        It is a row of the result columns; `match.explain()` says which event met which condition.

        Args:
            event: "match" or "timeout".
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
        node = PatternNode(
            self.patterns,
            keys,
            self._handler("match"),
            self._handler("timeout"),
            self._time,
            self._most,
            live=self,
            built=self._built,
            inputs=(upstream,),
        )
        schema = input_schema(node)
        if schema is not None:
            self._schemas.append(schema)
        return node

    def _built(self, operator: Detect) -> None:
        self.begin()
        self._operators.append(operator)

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

    def dry_run(self, events: Iterable[Mapping[str, Any]] | pl.DataFrame, *, timestamp: str = "ts") -> DryRun:
        """What the patterns find in recorded events: no handler is called, nothing of it stays.

        Args:
            events: all of them; they are taken in the order of the column `timestamp` (ms UTC), to the end of time:
                what waits for it to pass is decided.

        >>> from thalweg.cep import PatternBuilder
        >>> matcher = PatternMatcher(key="user")
        >>> pattern = PatternBuilder.create("p").where("a", "n > 1").where("b", "n < 1").within(5)
        >>> matcher.register_pattern(pattern.build())
        >>> print(matcher.dry_run([{"ts": 1, "user": "x", "n": 2}, {"ts": 9, "user": "x", "n": 3}]).report())
        2 events, 0 matches, 2 timed out
        p: 0 matches
          a: 2 events, reached 2 times
          b: 0 events, reached 0 times
        """
        frame = events if isinstance(events, pl.DataFrame) else pl.DataFrame(list(events), infer_schema_length=None)
        if timestamp not in frame.columns:
            raise ConfigurationError(f"the events have no column {timestamp!r}; name it with timestamp=…")
        return dry_run(self.patterns, self.keys, frame, timestamp)

    def explain(self, match: Mapping[str, Any]) -> str:
        """Which event of a match met which condition; `match` is a row of `stream.detect(…)` or `process(…)`."""
        return explain_match(self.patterns, match)

    def _advance(self, operator: Detect, rows: pl.DataFrame) -> pl.DataFrame:
        """No watermark is needed: the order is the caller's."""
        operator.keep_up()
        masks, failed = operator.conditions.masks(rows)
        if failed:
            raise next(iter(failed.values()))
        matters = with_masks(rows, masks)
        if not operator.engine.every_event:
            matters = matters.filter(any_bit(masks))
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
            patterns = self.patterns
            ways = Ways(Limits(bool(self._handlers["timeout"]), self._most), schema=schema, live=self)
            self._alone = Detect("matcher", patterns, self.keys, Conditions(patterns, schema), ways)
            self._alone.engine.keeps_changes = False
        return self._alone

    def _handler(self, event: str) -> Callable[[pl.DataFrame], None] | None:
        return partial(self._tell, event) if self._handlers[event] else None

    def _tell(self, event: str, found: pl.DataFrame) -> None:
        patterns = self.patterns
        for row in iter_rows(found, self.keys) if self._handlers[event] else ():
            match = MatchRow.of(row, self.keys, patterns)
            for handler in self._handlers[event]:
                handler(match)

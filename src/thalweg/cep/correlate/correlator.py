"""What a correlation is: which streams, by which key, within which time, how many of what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import polars as pl

from thalweg.cep.pattern import AfterMatch
from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.plan.functions import close_names

if TYPE_CHECKING:
    from thalweg.cep.correlate.operator import Correlate
    from thalweg.streams.stream import DataStream


class Count(StrEnum):
    """What has to reach `minimum_matches`."""

    STREAMS = "streams"
    """How many of the streams have an event."""
    EVENTS = "events"
    """How many events there are."""
    VALUES = "values"
    """How many different values a field has; null is none."""


class EventCorrelator:
    """Finds events of several streams that share a key within a time. `app.correlate(correlator)`, or over streams of
    your own `app.correlate(correlator, {"a": stream, …})`, or of one stream `stream.correlate(correlator)`.

    A correlation comes out with the event that completes it. It has all events of the key within `time_window` (an
    event that lies as far back as the window is long is out of it) and, by default, consumes them.

    Args:
        streams: the names of streams; or name → condition, for streams that are parts of one.
        correlation_key: the column (or columns) that events share; where streams call it differently, name of the
            stream → column; or an expression or function. None: all events belong together. An event whose key is null
            belongs to nothing.
        time_window: how far apart the events of a correlation lie at most (less than this).
        minimum_matches: how many of what is counted; for streams by default all of them, else 2.
        count: streams, events, or values of `field`.
        field: what is counted with `Count.VALUES`; name of the stream → column where they differ.
        ordered: the streams have to come in the order in which they are named.
        after_match: `AfterMatch.PAST_LAST` consumes a match's events; `NO_SKIP` keeps them, so that each further event
            within the window makes another match.
        max_events: the most events that a key holds; beyond that its oldest go.
        id: names the correlation in results.

    Raises:
        ConfigurationError: settings that can't work together.

    >>> correlator = EventCorrelator(streams=["logins", "payments"], correlation_key="user", time_window="5m")
    >>> found = correlator.replay({"logins": [{"ts": 1, "user": "x"}], "payments": [{"ts": 9, "user": "x"}]})
    >>> found.select("user", "window_start", "window_end", "count").rows()
    [('x', 1, 9, 2)]
    """

    def __init__(
        self,
        streams: Sequence[str] | Mapping[str, Any],
        correlation_key: Any,
        time_window: Duration,
        minimum_matches: int | None = None,
        *,
        count: Count | str = Count.STREAMS,
        field: str | Mapping[str, str] | None = None,
        ordered: bool = False,
        after_match: AfterMatch = AfterMatch.PAST_LAST,
        max_events: int = 1_000,
        id: str = "correlation",
    ) -> None:
        self.id = id
        self.streams = tuple(streams)
        self.conditions = dict(streams) if isinstance(streams, Mapping) else None
        self.correlation_key = correlation_key
        self.window = milliseconds(time_window, name="time_window", minimum=1)
        self.count = _count(count)
        default = len(self.streams) if self.count is Count.STREAMS else 2
        self.minimum = default if minimum_matches is None else minimum_matches
        self.field = field
        self.ordered = ordered
        self.after_match = after_match
        self.max_events = max_events
        self._operators: list[Correlate] = []
        for problem in self._problems():
            raise ConfigurationError(f"correlation {id!r}: {problem}")

    def _problems(self) -> Iterable[str]:
        if not self.streams:
            yield "it needs streams"
        for name in self.streams:
            if not name or not isinstance(name, str):
                yield f"{name!r} is not the name of a stream"
        if len(set(self.streams)) < len(self.streams):
            yield "a stream is named twice"
        if self.minimum < 1:
            yield f"minimum_matches is {self.minimum}; it must be at least 1"
        if self.count is Count.STREAMS and self.minimum > len(self.streams):
            yield f"minimum_matches is {self.minimum}, but there are {len(self.streams)} streams"
        if self.max_events < self.minimum:
            yield f"max_events is {self.max_events}, less than minimum_matches"
        if (self.count is Count.VALUES) != (self.field is not None):
            yield "count='values' and field=… go together"
        if self.ordered and self.count is not Count.STREAMS:
            yield "only streams have an order"
        if self.after_match not in (AfterMatch.PAST_LAST, AfterMatch.NO_SKIP):
            yield "after_match is AfterMatch.PAST_LAST or NO_SKIP"
        for what, mapping in (("correlation_key", self.correlation_key), ("field", self.field)):
            missing = [n for n in self.streams if n not in mapping] if isinstance(mapping, Mapping) else []
            if missing:
                yield f"{what} does not say what it is in {missing[0]!r}"

    def field_of(self, stream: str) -> str | None:
        """The column whose values are counted in a stream."""
        return self.field[stream] if isinstance(self.field, Mapping) else self.field

    def _keys_of(self, stream: str) -> tuple[Any, ...]:
        key = self.correlation_key
        if isinstance(key, Mapping):
            key = key[stream]
        if key is None:
            return ()
        return tuple(key) if isinstance(key, list | tuple) else (key,)

    # -- streams

    def over(self, streams: Mapping[str, DataStream]) -> DataStream:
        """The correlations of these streams, each under the name that the correlator has for it."""
        from thalweg.cep.correlate.node import CorrelateNode

        inputs = [self._keyed(name, streams) for name in self.streams]
        keys = [stream.key_columns if self._keys_of(n) else () for n, stream in zip(self.streams, inputs, strict=True)]
        if len({len(columns) for columns in keys}) > 1:
            raise PlanError(f"correlation {self.id!r}: the keys have different numbers of columns")
        node = CorrelateNode(
            self,
            tuple(keys),
            inputs=tuple(stream.node for stream in inputs),
            input_ports=tuple(stream._port for stream in inputs),
        )
        return inputs[0]._add(node, tuple(inputs))

    def _keyed(self, name: str, streams: Mapping[str, DataStream]) -> DataStream:
        if name not in streams:
            raise PlanError(f"correlation {self.id!r}: there is no stream {name!r}{close_names(name, streams)}")
        stream, keys = streams[name], self._keys_of(name)
        return stream.key_by(*keys) if keys and keys != stream.key_columns else stream

    def of_one(self, stream: DataStream) -> DataStream:
        """The correlations of the parts of one stream, as the conditions make them."""
        if self.conditions is None:
            raise PlanError(
                f"correlation {self.id!r} is of {len(self.streams)} streams: use app.correlate(correlator, {{…}}), or "
                "name conditions: streams={'failed': lambda e: …}"
            )
        return self.over({name: stream.filter(condition) for name, condition in self.conditions.items()})

    def built(self, operator: Correlate) -> None:
        """Told of each operator that a job of this process runs for it."""
        self._operators.append(operator)

    def stats(self) -> dict[str, int]:
        """What it holds now, over all jobs of this process that it is part of.

        `events`, `keys`, `waiting` (events that the watermark has not passed), and `events_dropped`: because their key
        had more than `max_events`, since the start.
        """
        return {
            "events": sum(len(operator.held) for operator in self._operators),
            "events_dropped": sum(operator.held.dropped for operator in self._operators),
            "keys": sum(operator.held.keys for operator in self._operators),
            "waiting": sum(len(operator.order) for operator in self._operators),
        }

    # -- without a stream

    def replay(
        self,
        events: Mapping[str, pl.DataFrame | Iterable[Mapping[str, Any]]] | pl.DataFrame | Iterable[Mapping[str, Any]],
        *,
        timestamp: str = "ts",
    ) -> pl.DataFrame:
        """What recorded events would have given: a dry run.

        Args:
            events: by name of the stream (with conditions: those of the one stream); times (ms UTC) in the column
                `timestamp`.
        """
        from thalweg.cep.correlate.replay import replay

        return replay(self, events, timestamp)


def _count(value: Count | str) -> Count:
    try:
        return Count(value)
    except ValueError:
        raise ConfigurationError(f"count is {value!r}; use 'streams', 'events' or 'values'") from None

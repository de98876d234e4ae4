"""`.window(…)` and what follows it: how a stream is cut into pieces, and when each gives its results."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from thalweg.durations import Duration
from thalweg.errors import ConfigurationError
from thalweg.streams.plan.node import Node
from thalweg.streams.plan.panes import PANE_COLUMNS, Accumulation, OnLate, Panes, accumulates, lateness_of
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.triggers import DefaultTrigger, Trigger
from thalweg.streams.windows import GlobalWindow, TimeSemantics, Window

if TYPE_CHECKING:
    from thalweg.streams.stream import DataStream


class Windowing:
    """The window methods of `DataStream`."""

    def window(
        self,
        window: Window,
        *,
        time_semantics: TimeSemantics = TimeSemantics.EVENT_TIME,
        trigger: Trigger | None = None,
        allowed_lateness: Duration = 0,
        accumulation: Accumulation = "accumulating",
        pane_time: str = "end_of_window",
        trigger_on: str = "event",
        on_late: OnLate | None = None,
    ) -> WindowedStream:
        """Cuts the stream into windows, per key where it is keyed; `.aggregate(…)` says what to compute.

        With neither a trigger nor an allowed lateness each window gives one row, when the watermark passes its end.
        Otherwise it gives a pane each time the trigger fires, and says which (see `PANE_COLUMNS`).

        Args:
            window: tumbling, sliding, session, calendar or global.
            time_semantics: which time places events in windows and closes these.
            trigger: when panes are given; without one, when the watermark passes and then for each late event.
            allowed_lateness: how long after the watermark has passed a window's end its events still count; or
                "forever".
            accumulation: a pane holds all events of its window so far ("accumulating": later panes take the place of
                earlier ones, a changelog) or only the new ones ("discarding": all panes add up).
            pane_time: the event time of a pane: "end_of_window", "earliest" or "latest" (of its events).
            trigger_on: the trigger is asked after each "event", or once for each "batch": fewer panes, but which ones
                depends on how the events were batched.
            on_late: what becomes of events too late for their windows: "dead-letter" (they go to `.late` as well),
                "side" (only to `.late`), "drop" (counted, no more); as the app says where it is not given.

        Raises:
            ConfigurationError: an argument is none of these.

        >>> from thalweg.streams import App, AfterCount, AfterWatermark, TumblingWindow
        >>> from thalweg.streams.testing import TestDriver
        >>> from thalweg.analytics import count
        >>> events = App("early").stream("events", timestamp="t")
        >>> early = events.window(TumblingWindow(10), trigger=AfterWatermark(early=AfterCount(2)))
        >>> driver = TestDriver(early.aggregate(n=count()))
        >>> driver.send([{"t": 1}, {"t": 2}, {"t": 3}, {"t": 12}])
        >>> driver.output().select("window_end", "n", "pane_timing", "__op").rows()
        [(10, 2, 'early', 'insert'), (10, 3, 'on_time', 'update')]
        """
        lateness = lateness_of(allowed_lateness)
        if trigger_on not in ("event", "batch"):
            raise ConfigurationError(f"trigger_on={trigger_on!r}; use 'event' or 'batch'")
        panes = Panes(
            trigger=DefaultTrigger() if trigger is None else trigger,
            lateness=lateness,
            accumulating=accumulates(accumulation),
            time="latest" if isinstance(window, GlobalWindow) else pane_time,
            each=trigger_on == "event",
            bounded=not isinstance(window, GlobalWindow),
        )
        plain = trigger is None and not lateness
        return WindowedStream(
            cast("DataStream", self), window, TimeSemantics(time_semantics), None if plain else panes, on_late
        )

    def aggregate(self, **aggregates: Any) -> DataStream:
        """Aggregates over all time: a changelog of the current values, updated at each commit.

        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> from thalweg.analytics import sum_
        >>> totals = App("totals").stream("orders", timestamp="t").key_by("user").aggregate(total=sum_("amount"))
        >>> driver = TestDriver(totals)
        >>> driver.send([{"t": 1, "user": "ada", "amount": 5}, {"t": 2, "user": "ada", "amount": 7}])
        >>> driver.output().to_dicts()
        [{'user': 'ada', 'total': 12, '__op': 'insert'}]
        """
        return self.window(GlobalWindow()).aggregate(**aggregates)

    def reduce(self, function: Callable[[Any, Any], Any], *columns: str) -> DataStream:
        """Reduces the events of each key over all time: a changelog, as `aggregate` (see `WindowedStream.reduce`).

        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> trades = App("prices").stream("trades", timestamp="t").key_by("symbol")
        >>> driver = TestDriver(trades.reduce(lambda a, b: a if a.price > b.price else b, "price", "n"))
        >>> driver.send([{"t": 1, "symbol": "X", "price": 5, "n": 1}, {"t": 2, "symbol": "X", "price": 3, "n": 2}])
        >>> driver.output().to_dicts()
        [{'symbol': 'X', 'price': 5, 'n': 1, '__op': 'insert'}]
        """
        return self.window(GlobalWindow()).reduce(function, *columns)


class WindowedStream:
    """A stream cut into windows; `.aggregate(…)` makes it a stream of results."""

    def __init__(
        self,
        stream: DataStream,
        window: Window,
        time_semantics: TimeSemantics,
        panes: Panes | None = None,
        on_late: OnLate | None = None,
    ) -> None:
        self._stream = stream
        self._window = window
        self._time_semantics = time_semantics
        self._panes = panes
        self._on_late = on_late

    def aggregate(self, **aggregates: Any) -> DataStream:
        """Computes one row per key and window (and pane).

        Args:
            aggregates: result column → aggregate, `average("value")` or `col("value").mean()`.

        Returns:
            A stream of the key columns, `window_start`, `window_end` (Int64, ms UTC) and the aggregates; what came too
            late is its `.late`.
        """
        from thalweg.streams.aggregate import computed_inputs, to_aggregates
        from thalweg.streams.plan.window import WindowAggregateNode

        ready = to_aggregates(aggregates)
        functions = computed_inputs(ready)
        stream = self._stream.with_columns(**functions) if functions else self._stream
        node = WindowAggregateNode(
            window=self._window,
            time_semantics=self._time_semantics,
            aggregates=ready,
            keys=stream.key_columns,
            idle_flag=_closed_by_clock(stream._node),
            panes=self._panes,
            on_late=self._on_late,
            inputs=(stream._node,),
            input_ports=(stream._port,),
        )
        return stream._add(node, (stream,))

    def reduce(self, function: Callable[[Any, Any], Any], *columns: str) -> DataStream:
        """Reduces the events of each key and window to one of the same kind.

        Args:
            function: makes one record (a dict or a Row) of two; in plain Python, once per event. It has to be
                associative and commutative: which two it gets depends on how the events came.
            columns: what its records have.

        Returns:
            A stream of the key columns, the window's bounds and these columns.
        """
        from thalweg.streams.aggregate import reducer

        results = self.aggregate(**{_REDUCED: reducer(function, columns, self._stream.schema)})
        bounds = () if isinstance(self._window, GlobalWindow) else ("window_start", "window_end")
        panes = PANE_COLUMNS if self._panes else ()
        flag = ("idle_closed",) if bounds and _closed_by_clock(self._stream._node) else ()
        fields = [pl.col(_REDUCED).struct.field(name).alias(name) for name in columns]
        return results.select(*self._stream.key_columns, *bounds, *fields, *panes, *flag)


_REDUCED = "reduced"


def _closed_by_clock(node: Node) -> bool:
    """Whether a source upstream may be closed by the clock, which results then say."""
    if isinstance(node, SourceNode):
        return node.close_idle_after is not None
    return any(_closed_by_clock(upstream) for upstream in node.inputs)

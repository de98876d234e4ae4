"""The joins of a stream with streams, tables, frames and functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import polars as pl

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.schema import to_schema
from thalweg.streams.grouping import laid_out_by
from thalweg.streams.plan.functions import compile_for
from thalweg.streams.plan.in_order import InOrderNode
from thalweg.streams.plan.join import AsOfJoinNode, Interval, IntervalJoinNode, JoinNode, WindowJoinNode
from thalweg.streams.plan.join_columns import How, On, how_of, key_pairs
from thalweg.streams.plan.join_updating import UpdatingJoinNode, whole_rows
from thalweg.streams.plan.lookup import LookupJoinNode
from thalweg.streams.plan.node import Mode
from thalweg.streams.tables import Table
from thalweg.streams.windows import AlignedWindow, SessionWindow, Window

if TYPE_CHECKING:
    from thalweg.streams.stream import DataStream

Function = Callable[[pl.DataFrame], Any]
"""Takes a frame of distinct keys; returns the rows that there are of them."""


class Joining:
    """What `DataStream` can be joined with."""

    def join(
        self,
        other: DataStream | Table | pl.DataFrame | Function,
        *,
        on: On = (),
        how: str = "inner",
        window: Window | None = None,
        within: Interval | None = None,
        as_of: bool = False,
        tolerance: Duration | None = None,
        where: Any = None,
        ttl: Duration | None = None,
        allowed_lateness: Duration | None = None,
        suffix: str = "_right",
    ) -> DataStream:
        """Joins this stream (the left side) with another, a table, a frame or a function (the right side).

        | given | pairs are rows of equal key | results |
        |---|---|---|
        | `window` | in the same window | when the window closes |
        | `within` | whose times are so far apart | as soon as both are there |
        | `as_of` | the right row being the newest that is not after the left one | when the watermark has passed |
        | none of them | whenever they came ("updating") | at once, and taken back when a row changes |

        An updating join appends where both streams do and it is inner or semi; else its result is a changelog of
        inserts and deletes of whole rows.

        A table is joined as of each event's time; a frame or a function is looked up at once: see `lookup`.

        Null equals nothing: a row with a null in its key has no partner.

        Args:
            other: the right side.
            on: the key columns: a name, several, or left name → right name; none: every row has the same key (of a
                table: its own).
            how: "inner", "left", "right", "full", "semi" or "anti".
            window: tumbling, sliding, calendar or session (of the rows of both sides).
            within: the bounds of left time - right time.
            as_of: the right side says what holds from its time on ("versions").
            tolerance: for `as_of`: how old the right row may be.
            where: for inner updating joins: what pairs must fulfil besides, an expression over the joined columns.
            ttl: for updating joins: how long rows are kept, by event time; without it for ever.
            allowed_lateness: how far a row may be behind its watermark (results of windows and as-of joins wait as
                long); without it: a window's end, the end of the interval, nothing.
            suffix: appended to the name of a right column that the left side has too.

        Returns:
            The left columns, then the right ones but for its keys (and `window_start`, `window_end`). What came too
            late is its `.late`.

        >>> from thalweg.streams import App, Interval
        >>> from thalweg.streams.testing import TestDriver
        >>> app = App("shop")
        >>> orders, payments = app.stream("orders", timestamp="t"), app.stream("payments", timestamp="t")
        >>> paid = orders.join(payments, on={"id": "order"}, within=Interval("-1h", 0))
        >>> driver = TestDriver(paid)
        >>> driver.send([{"id": 1, "t": 0}], source="orders")
        >>> driver.send([{"order": 1, "t": 60_000, "cents": 999}], source="payments")
        >>> driver.output().to_dicts()
        [{'id': 1, 't': 0, 't_right': 60000, 'cents': 999}]
        """
        left = cast("DataStream", self)
        if isinstance(other, pl.DataFrame) or (callable(other) and not isinstance(other, Table)):
            if window is not None or within is not None or as_of or tolerance is not None or where is not None:
                raise ConfigurationError("join: a frame or a function has no times: give on, how and ttl")
            return self.lookup(other, on=on, how=how, ttl=ttl or 0, suffix=suffix)
        if isinstance(other, Table):
            if window is not None or within is not None:
                raise ConfigurationError("join: a table is joined as of each event's time; leave window and within out")
            on, as_of, other = on or other.key_columns, True, other.changes
        left._same_app((other,), "join")
        kinds = [name for name, given in (("window", window), ("within", within), ("as_of", as_of)) if given]
        if len(kinds) > 1:
            raise ConfigurationError(f"join: give one of window, within and as_of, not {' and '.join(kinds)}")
        if kinds and (where is not None or ttl is not None):
            raise ConfigurationError(f"join: where and ttl belong to joins without {kinds[0]}; filter the result")
        if tolerance is not None and not as_of:
            raise ConfigurationError("join: tolerance belongs to as_of")
        lateness = None if allowed_lateness is None else milliseconds(allowed_lateness, name="allowed_lateness")
        fields: dict[str, Any] = {"suffix": suffix}
        fields["left_on"], fields["right_on"] = key_pairs(on, "join")
        if window is not None:
            if not isinstance(window, AlignedWindow | SessionWindow):
                raise ConfigurationError(f"join: {window!r}; rows share aligned or session windows only")
            if isinstance(window, SessionWindow) and window.max_length is not None and lateness:
                raise ConfigurationError(
                    "join: with a max_length rows wait for the watermark, in order of time; leave allowed_lateness out"
                )
            return _joined(
                left, other, WindowJoinNode, how=how_of(how, "join"), window=window, lateness=lateness or 0, **fields
            )
        if within is not None:
            return _joined(
                left, other, IntervalJoinNode, how=how_of(how, "join"), within=within, lateness=lateness, **fields
            )
        if as_of:
            kind = how_of(how, "as-of join", (How.INNER, How.LEFT, How.SEMI, How.ANTI))
            age = None if tolerance is None else milliseconds(tolerance, name="tolerance")
            return _joined(left, other, AsOfJoinNode, how=kind, tolerance=age, lateness=lateness or 0, **fields)
        if lateness is not None:
            raise ConfigurationError("join: without window, within or as_of no row is late; leave allowed_lateness out")
        life = None if ttl is None else milliseconds(ttl, name="ttl", minimum=1)
        return _updating(left, other, how_of(how, "join"), where, ttl=life, **fields)

    def lookup(
        self,
        source: pl.DataFrame | Function,
        *,
        on: On,
        how: str = "left",
        ttl: Duration = 0,
        cache_size: int = 100_000,
        schema: Any = None,
        on_error: str = "stop",
        suffix: str = "_right",
    ) -> DataStream:
        """Adds what a frame or a function has for each row's key.

        Args:
            source: a Polars frame; or a function that takes a frame of distinct keys and returns the rows that there
                are of them, as a frame (or a list of dicts) with the key columns. It is called once for each batch
                that has keys without an answer, on the engine's thread: for slow services see `map_async`.
            on: the key columns: a name, several, or name here → name there.
            how: "left", "inner", "semi" or "anti".
            ttl: how long a function's answer holds (that there was none, too), by the job's clock; 0: for the batch.
            cache_size: how many rows of answers are kept.
            schema: what a function returns, where it is to be known before it runs.
            on_error: when a function raises: "stop" the job, or make "dead-letter"s of the batch's rows.
            suffix: appended to the name of a found column that the stream has too.

        >>> import polars as pl
        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> rooms = pl.DataFrame({"sensor": ["a", "b"], "room": ["kitchen", "attic"]})
        >>> driver = TestDriver(App("rooms").stream("readings", timestamp="t").lookup(rooms, on="sensor"))
        >>> driver.send([{"sensor": "b", "t": 1}, {"sensor": "c", "t": 2}])
        >>> driver.output().to_dicts()
        [{'sensor': 'b', 't': 1, 'room': 'attic'}, {'sensor': 'c', 't': 2, 'room': None}]
        """
        stream = cast("DataStream", self)
        if not isinstance(source, pl.DataFrame) and not callable(source):
            raise ConfigurationError(f"lookup takes a frame or a function, not a {type(source).__name__}")
        if on_error not in {"stop", "dead-letter"}:
            raise ConfigurationError(f"on_error is {on_error!r}; use 'stop' or 'dead-letter'")
        if cache_size < 1:
            raise ConfigurationError(f"cache_size is {cache_size}; it must be at least 1")
        left_on, right_on = key_pairs(on, "lookup")
        if not left_on:
            raise ConfigurationError("lookup needs key columns: on=…")
        found = source.schema if isinstance(source, pl.DataFrame) else None
        if schema is not None:
            found = to_schema(schema).schema
        return stream._append(
            LookupJoinNode,
            source=source,
            schema=found,
            left_on=left_on,
            right_on=right_on,
            how=how_of(how, "lookup", (How.LEFT, How.INNER, How.SEMI, How.ANTI)),
            suffix=suffix,
            ttl=milliseconds(ttl, name="ttl"),
            cache_size=cache_size,
            to_dead_letters=on_error == "dead-letter",
        )

    def in_order(self) -> DataStream:
        """Brings events into the order of their times: each is passed on once the watermark is past its time.

        What comes later than that is its `.late`.

        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> driver = TestDriver(App("sorted").stream("events", timestamp="t", watermark=10).in_order())
        >>> driver.send([{"t": 20}, {"t": 15}, {"t": 40}])
        >>> driver.output()["t"].to_list()
        [15, 20]
        """
        stream = cast("DataStream", self)
        return stream._append(InOrderNode, keys=stream.key_columns)


def _joined(left: DataStream, right: DataStream, node_type: type[JoinNode], **fields: Any) -> DataStream:
    inputs, ports = (left._node, right._node), (left._port, right._port)
    return left._add(node_type(inputs=inputs, input_ports=ports, **fields), (left, right))


def _updating(left: DataStream, right: DataStream, how: How, where: Any, **fields: Any) -> DataStream:
    """A join without bounds in time; `where` is compiled over the columns of the join without it."""
    left, right = laid_out_by(left, fields["left_on"]), laid_out_by(right, fields["right_on"])
    sides = (left, right)
    kinds: dict[str, Any] = {
        "left_keys": None if left.mode is Mode.APPEND else left.key_columns,
        "right_keys": None if right.mode is Mode.APPEND else right.key_columns,
        "whole": tuple(side.mode is Mode.CHANGELOG and whole_rows(side._node) for side in sides),
    }
    if where is None:
        return _joined(left, right, UpdatingJoinNode, how=how, **kinds, **fields)
    if how is not How.INNER:
        raise ConfigurationError(f"join: where goes with how='inner' only, not {how.value!r}")
    plain = UpdatingJoinNode(how=how, inputs=tuple(side._node for side in sides), **kinds, **fields)
    schema = plain.output_schema((left.schema, right.schema))
    compiled = compile_for(where, "predicate", schema, "join, where")
    if not compiled.vectorised:
        raise ConfigurationError(f"join: where must be an expression: {compiled.reason}")
    return _joined(left, right, UpdatingJoinNode, how=how, where=compiled, **kinds, **fields)

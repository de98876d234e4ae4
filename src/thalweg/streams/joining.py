"""The joins of a stream with streams, tables, frames and functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.streams.plan.functions import compile_for
from thalweg.streams.plan.in_order import InOrderNode
from thalweg.streams.plan.join import AsOfJoinNode, Interval, IntervalJoinNode, JoinNode, WindowJoinNode
from thalweg.streams.plan.join_columns import How, On, how_of, key_pairs
from thalweg.streams.plan.join_updating import UpdatingJoinNode, whole_rows
from thalweg.streams.plan.node import Mode
from thalweg.streams.windows import AlignedWindow, Window

if TYPE_CHECKING:
    from thalweg.streams.stream import DataStream


class Joining:
    """What `DataStream` can be joined with."""

    def join(
        self,
        other: DataStream,
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
        """Joins this stream (the left side) with another (the right side).

        | given | pairs are rows of equal key | results |
        |---|---|---|
        | `window` | in the same window | when the window closes |
        | `within` | whose times are so far apart | as soon as both are there |
        | `as_of` | the right row being the newest that is not after the left one | when the watermark has passed |
        | none of them | whenever they came ("updating") | at once, and taken back when a row changes |

        An updating join appends where both streams do and it is inner or semi; else its result is a changelog of
        inserts and deletes of whole rows.

        Null equals nothing: a row with a null in its key has no partner.

        Args:
            other: the right side.
            on: the key columns: a name, several, or left name → right name; none: every row has the same key.
            how: "inner", "left", "right", "full", "semi" or "anti".
            window: tumbling or sliding.
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
            if not isinstance(window, AlignedWindow):
                raise ConfigurationError(f"join: {window!r}; rows share tumbling or sliding windows only")
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

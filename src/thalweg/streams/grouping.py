"""Groups of rows that may change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from thalweg.streams.plan.grouping import ChangingAggregateNode
from thalweg.streams.plan.join_updating import whole_rows
from thalweg.streams.plan.node import Mode

if TYPE_CHECKING:
    from thalweg.streams.stream import DataStream


class Grouping:
    """What `DataStream` has for groups."""

    def group_by(self, *columns: str) -> Grouped:
        """Groups rows as they are now, whatever the stream is keyed by; `.aggregate(…)` says what to compute.

        Where rows are updated or deleted (a changelog), what they had added is taken out again.

        >>> from thalweg.analytics import count, max_, sum_
        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> bids = App("bids").stream("bids", timestamp="t").key_by("auction", "category")
        >>> highest = bids.aggregate(price=max_("price"))
        >>> driver = TestDriver(highest.group_by("category").aggregate(total=sum_("price"), auctions=count()))
        >>> driver.send([{"auction": 1, "category": 7, "price": 10, "t": 0}])
        >>> driver.send([{"auction": 1, "category": 7, "price": 15, "t": 1}])
        >>> driver.output().to_dicts()[-1]
        {'category': 7, 'total': 15, 'auctions': 1, '__op': 'update'}
        """
        return Grouped(cast("DataStream", self), columns)


class Grouped:
    """A stream in groups; `.aggregate(…)` makes it a changelog of one row per group."""

    def __init__(self, stream: DataStream, columns: tuple[str, ...]) -> None:
        self._stream = stream
        self._columns = columns

    def aggregate(self, **aggregates: Any) -> DataStream:
        """Computes one row per group, kept up to date.

        Args:
            aggregates: result column → aggregate, `average("value")` or `col("value").mean()`.
        """
        from thalweg.streams.aggregate import computed_inputs, to_aggregates

        stream = self._stream
        if stream.mode is Mode.APPEND:
            return (stream.key_by(*self._columns) if self._columns else stream).aggregate(**aggregates)
        ready = to_aggregates(aggregates)
        functions = computed_inputs(ready)
        if functions:
            stream = stream.with_columns(**functions)
        whole = whole_rows(stream._node)
        return stream._append(
            ChangingAggregateNode,
            keys=self._columns,
            aggregates=ready,
            row_keys=() if whole else stream.key_columns,
            whole=whole,
        )

"""Groups of rows that may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.plan.grouping import ChangingAggregateNode, ChangingFilterNode, TopNNode, WholeRowFilterNode
from thalweg.streams.plan.join_updating import whole_rows
from thalweg.streams.plan.node import Mode
from thalweg.streams.plan.take_back import TakeBackNode

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction
    from thalweg.streams.stream import DataStream


def laid_out_by(stream: DataStream, columns: Sequence[str]) -> DataStream:
    """The stream, for a step that lays its rows out by these columns: a changelog says what leaves its place."""
    if stream.mode is Mode.APPEND or whole_rows(stream._node) or set(columns) <= set(stream.key_columns):
        return stream
    return stream._append(TakeBackNode, keys=stream.key_columns, columns=tuple(columns))


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

    def top_n(
        self, n: int, *, by: str | Sequence[str], descending: bool | Sequence[bool] = True, rank: str | None = None
    ) -> DataStream:
        """The first `n` rows of each key (of all rows, where the stream has no key) by an order, kept up to date.

        Args:
            n: how many rows.
            by: the columns to order by. Nulls come last; of equal rows the one that came first is first.
            descending: whether the largest comes first; for each column, or for all.
            rank: adds a column of this name that counts from 1.

        Returns:
            A changelog of whole rows that are inserted and deleted.

        >>> from thalweg.streams import App
        >>> from thalweg.streams.testing import TestDriver
        >>> bids = App("top").stream("bids", timestamp="t").key_by("auction")
        >>> driver = TestDriver(bids.top_n(1, by="price"))
        >>> driver.send([{"auction": 1, "price": 10, "t": 0}])
        >>> driver.send([{"auction": 1, "price": 15, "t": 1}])
        >>> driver.output().select("price", "__op").rows()
        [(10, 'insert'), (10, 'delete'), (15, 'insert')]
        """
        return self.group_by(*cast("DataStream", self).key_columns).top_n(n, by=by, descending=descending, rank=rank)

    def _filter_changes(self, predicate: CompiledFunction) -> DataStream:
        """`filter` on a changelog: rows that turn from true to false are taken back."""
        stream = cast("DataStream", self)
        if whole_rows(stream._node):
            return stream._append(WholeRowFilterNode, predicate)
        if not predicate.vectorised:
            raise PlanError(f"filter on a changelog takes an expression: {predicate.reason}")
        return stream._append(ChangingFilterNode, predicate=predicate)


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
        stream = laid_out_by(stream, self._columns)
        return stream._append(
            ChangingAggregateNode,
            keys=self._columns,
            aggregates=ready,
            row_keys=() if whole else stream.key_columns,
            whole=whole,
        )

    def top_n(
        self, n: int, *, by: str | Sequence[str], descending: bool | Sequence[bool] = True, rank: str | None = None
    ) -> DataStream:
        """The first `n` rows of each group: see `DataStream.top_n`."""
        if n < 1:
            raise ConfigurationError(f"top_n: n is {n}; it must be at least 1")
        columns = [by] if isinstance(by, str) else list(by)
        falling = [descending] * len(columns) if isinstance(descending, bool) else list(descending)
        if not columns or len(columns) != len(falling):
            raise ConfigurationError(f"top_n: by is {by!r} and descending {descending!r}; give one for each column")
        stream = self._stream
        changes, whole = stream.mode is not Mode.APPEND, whole_rows(stream._node)
        stream = laid_out_by(stream, self._columns)
        return stream._append(
            TopNNode,
            keys=self._columns,
            n=n,
            order=tuple(zip(columns, falling, strict=True)),
            rank=rank,
            row_keys=None if not changes else () if whole else stream.key_columns,
            whole=changes and whole,
        )

"""All aggregates of one window, compiled into few queries: prepare a batch, merge partial rows, finish a window."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from thalweg.streams.aggregate.basic import Total
from thalweg.streams.aggregate.monoid import Aggregate, Itemised, ItemRows, Part, Scalar, unique_inputs
from thalweg.streams.aggregate.parts import Rows

logger = logging.getLogger(__name__)

ITEM = "__item"
"""The item column of an itemised table."""
_ALL = "__all"


class Table:
    """Partial rows of one shape: one row per group, or per group and item."""

    def __init__(self, name: str, parts: Iterable[Part], items: Sequence[tuple[str, Itemised]] = ()) -> None:
        self.name = name
        self.parts = tuple(dict.fromkeys(parts))
        self.items = tuple(items)

    def group(self, group: Sequence[str]) -> list[str]:
        """The columns by which its rows are distinct."""
        return [*group, ITEM] if self.items else [*group]


class AggregatePlan:
    """Prepares, merges and finishes a set of aggregates together; equal parts are computed and kept once.

    Tables are frames of partial rows: the group columns, for itemised aggregates `__item`, and the parts' columns.
    The first table has one row per group, whatever the aggregates.
    """

    def __init__(self, aggregates: Mapping[str, Aggregate]) -> None:
        self.aggregates = dict(aggregates)
        self.inputs = unique_inputs(list(self.aggregates.values()))
        self._computed = [one for one in self.inputs if not one.plain]
        scalars = [one for one in self.aggregates.values() if isinstance(one, Scalar)]
        shared: dict[str, list[tuple[str, Itemised]]] = {}
        for name, aggregate in self.aggregates.items():
            if isinstance(aggregate, Itemised):
                shared.setdefault(aggregate.table, []).append((name, aggregate))
        # Without a scalar aggregate the row count stands for the group: partial rows need a column.
        parts = [part for one in scalars for part in one.parts] or [Rows()]
        self.tables = [Table("groups", parts)]
        self._warned: set[str] = set()
        self._converting = [(n, one) for n, one in self.aggregates.items() if isinstance(one, Scalar) and one.converts]
        self.tables += [Table(name, items[0][1].parts, items) for name, items in shared.items()]

    @property
    def columns(self) -> frozenset[str]:
        """The event columns that the aggregates read."""
        return frozenset(column for one in self.inputs for column in one.columns)

    def with_inputs(self, events: pl.DataFrame) -> pl.DataFrame:
        """Events with the columns that the aggregates read and that have to be computed."""
        return events.with_columns([one.expr.alias(one.column) for one in self._computed]) if self._computed else events

    def prepare(self, events: pl.DataFrame, group: Sequence[str]) -> list[pl.DataFrame]:
        """Partial rows of a batch, per table."""
        events = self.with_inputs(events)
        return [self.prepare_table(table, events, group) for table in self.tables]

    def prepare_table(self, table: Table, events: pl.DataFrame, group: Sequence[str]) -> pl.DataFrame:
        """Partial rows of a batch that has its inputs, for one of the tables."""
        if table.items:
            aggregate = table.items[0][1]
            values = events[aggregate.item.column]
            item = aggregate.bucket(values).alias(ITEM)
            events = events.select(*group, item, *aggregate.measures(values)).filter(pl.col(ITEM).is_not_null())
            inputs: list[pl.Series | None] = [None for _ in table.parts]
        else:
            inputs = [None if part.input is None else events[part.input.column] for part in table.parts]
        pairs = list(zip(table.parts, inputs, strict=True))
        before = {expr.meta.output_name(): expr for part, values in pairs for expr in part.before(values)}
        if before:
            events = events.with_columns(list(before.values()))
        rows = events.group_by(table.group(group)).agg(
            [expr for part, values in pairs for expr in part.prepare(values)]
        )
        return _settle(rows, table.parts)

    def merge(self, table: Table, frames: Sequence[pl.DataFrame], group: Sequence[str]) -> pl.DataFrame:
        """Reduces partial rows of equal group (and item) to one. Order does not matter."""
        rows = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
        present = frozenset(rows.columns)
        by = table.group(group)
        reductions = [expr for part in table.parts for expr in part.merge(present)]
        if by:
            return _settle(rows.group_by(by).agg(reductions), table.parts)
        merged = rows.group_by(pl.lit(0).alias(_ALL)).agg(reductions).drop(_ALL)
        return _settle(merged, table.parts)

    def _warn_of_overflow(self, groups: pl.DataFrame) -> None:
        for name, aggregate in self.aggregates.items():
            beyond = aggregate.sum.beyond(groups) if isinstance(aggregate, Total) and name not in self._warned else 0
            if beyond:
                self._warned.add(name)
                logger.warning(
                    "%s=%r is beyond 64 bits in %d of %d groups: null there (sum a cast to Float64 instead); said once",
                    *(name, aggregate, beyond, groups.height),
                )

    def finish(self, merged: Sequence[pl.DataFrame | None], group: Sequence[str]) -> pl.DataFrame:
        """The results: the group columns and one column per aggregate, in the order in which they were given.

        Args:
            merged: for each table its partial rows, one per group (and item); None for an itemised one without any.
        """
        groups = merged[0]
        assert groups is not None
        self._warn_of_overflow(groups)
        present = frozenset(groups.columns)
        result = groups.select(
            *group,
            *(one.finish(present).alias(name) for name, one in self.aggregates.items() if isinstance(one, Scalar)),
        )
        result = result.with_columns([one.convert(result[name]).alias(name) for name, one in self._converting])
        for table, rows in zip(self.tables[1:], merged[1:], strict=True):
            if rows is None or not rows.height:
                nothing = [pl.lit(one.empty, dtype=one.dtype).alias(name) for name, one in table.items]
                result = result.with_columns(nothing)
            else:
                result = _join_items(result, table, rows, group)
        return result.select(*group, *self.aggregates)


def _settle(rows: pl.DataFrame, parts: Sequence[Part]) -> pl.DataFrame:
    for part in parts:
        rows = part.settle(rows)
    return rows


def _join_items(result: pl.DataFrame, table: Table, rows: pl.DataFrame, group: Sequence[str]) -> pl.DataFrame:
    names = [name for part in table.parts for name in rows.columns if name == part.name]
    keys = rows.sort(ITEM).group_by(group).agg(pl.col(ITEM, *names))
    grouped = ItemRows(
        items=_flat(keys[ITEM]),
        parts={name: _flat(keys[name]) for name in names},
        lengths=keys[ITEM].list.len().cast(pl.Int64).to_numpy(),
    )
    found = keys.select(*group).with_columns([one.finish(grouped).alias(name) for name, one in table.items])
    joined = result.join(found, on=list(group), how="left", nulls_equal=True)
    filled = [pl.col(name).fill_null(one.empty) for name, one in table.items if one.empty is not None]
    return joined.with_columns(filled) if filled else joined


def _flat(lists: pl.Series) -> pl.Series:
    return lists.explode(empty_as_null=False)

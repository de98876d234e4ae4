"""Partial rows that are updated in place until the next commit, so that a batch costs kernels and no queries.

A frame log takes frames: a group-by per batch, and merges of these. Where batches are small and commits are rarer, the
queries cost more than the rows. Here a batch finds the *cell* of each event (its key, slice and first window end, by a
hash table) and adds to it; what has come together goes to the frame log as one frame per slice: at a commit, when a
window closes, when someone asks, or when there are many cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.aggregate.accumulators import Accumulators
from thalweg.streams.aggregate.monoid import Part
from thalweg.streams.batch import MAX_TIME, gathered, only, rechunked, stacked
from thalweg.streams.operator import Memory
from thalweg.streams.state.slot_table import SlotTable, identities

MOST = 65_536
"""Cells at which they go to the frame log."""


class HotGroups:
    """Cells of one table of partial rows.

    Args:
        parts: what is kept of each group.
        keys: the key columns.
        first: the column that takes the first window end at which a partial row counts; None: it is not kept.
    """

    def __init__(self, parts: Sequence[Part], keys: Sequence[str], first: str | None) -> None:
        self._parts, self._keys, self._first = list(parts), list(keys), first
        self._types: dict[str, pl.DataType] | None = None
        self._accumulators: Accumulators | None = None
        self._table = SlotTable()
        self._names: list[pl.DataFrame] = []
        self._slices: list[Int64s] = []
        self._firsts: list[Int64s] = []
        self._cells = 0
        self.lowest = MAX_TIME
        """The earliest slice's end."""

    def __len__(self) -> int:
        return self._cells

    def takes(self, events: pl.DataFrame) -> bool:
        """Whether events of such types can be added; what is held must be taken first where types have changed."""
        return self._fits(events) or not self._cells

    def _fits(self, events: pl.DataFrame) -> bool:
        types, schema = self._types, events.schema
        return types is not None and all(schema.get(name) == dtype for name, dtype in types.items())

    def add(self, events: pl.DataFrame, slices: Int64s, firsts: Int64s) -> bool:
        """Adds events, by the ends of their slices and their first windows: a number for each, or one for all.

        False, and nothing is done, where a part of such a type is none that can be updated in place.
        """
        if not self._fits(events):
            self._begin(events)
        if self._accumulators is None:
            return False
        rows = events.height
        keys = only(events, self._keys)
        cells, created = np.empty(rows, np.int64), np.empty(rows, np.int64)
        given = (*identities(keys, rows), slices, firsts)
        done = 0
        while done < rows:
            new, done = _kernels().assign(self._table.rows, *given, done, self._cells, cells, created)
            if new:
                self._remember(keys, created[:new], slices, firsts)
            if done < rows:
                self._table.make_room(2 * self._cells)
        self._accumulators.reserve(self._cells)
        self._accumulators.add(cells, events)
        return True

    def _begin(self, events: pl.DataFrame) -> None:
        assert not self._cells
        inputs = [part.input.column for part in self._parts if part.input is not None]
        self._types = {name: events.schema[name] for name in (*self._keys, *inputs)}
        self._accumulators = Accumulators.of(self._parts, events)

    def _remember(self, keys: pl.DataFrame, rows: Int64s, slices: Int64s, firsts: Int64s) -> None:
        if self._keys:
            self._names.append(gathered(keys, rows))
        each = (
            (slices[rows], firsts[rows]) if len(slices) > 1 else (np.repeat(of, len(rows)) for of in (slices, firsts))
        )
        for kept, values in zip((self._slices, self._firsts), each, strict=True):
            kept.append(values)
        self.lowest = min(self.lowest, int(self._slices[-1].min()))
        self._cells += len(rows)

    def take(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """What has come together: a slice's end and its partial rows, for each slice; nothing is held afterwards."""
        if not self._cells:
            return
        assert self._accumulators is not None
        slices, firsts = np.concatenate(self._slices), np.concatenate(self._firsts)
        columns = rechunked(stacked(self._names)).get_columns() if self._names else []
        if self._first is not None:
            columns.append(pl.Series(self._first, firsts))
        rows = pl.DataFrame([*columns, *self._accumulators.columns(slice(0, self._cells))])
        self._accumulators.clear(slice(0, self._cells))
        self._forget()
        lowest, highest = int(slices.min()), int(slices.max())
        if lowest == highest:
            yield lowest, rows
            return
        order = np.argsort(slices, kind="stable")
        slices, rows = slices[order], rows[order]
        starts = np.flatnonzero(np.append(True, slices[1:] != slices[:-1]))
        for start, stop in zip(starts, np.append(starts[1:], len(slices)), strict=True):
            yield int(slices[start]), rows[start:stop]

    def _forget(self) -> None:
        self._table.clear(self._cells)
        if self._cells > 2 * MOST:  # a batch of very many groups: what it took is given back
            self._types = self._accumulators = None
        self._names, self._slices, self._firsts = [], [], []
        self._cells, self.lowest = 0, MAX_TIME

    def memory(self) -> Memory:
        """Cells, and what they take."""
        own = self._table.bytes + (0 if self._accumulators is None else self._accumulators.bytes)
        return Memory(self._cells, own if self._cells else 0)


def warm_up() -> None:
    """Compiles (or loads from the cache) the kernels, so that the first event doesn't wait for it."""
    import_module("thalweg.streams.aggregate._accumulate")  # compiled as they are imported
    _kernels()
    SlotTable().make_room(2_000)


def _kernels() -> Any:
    from thalweg.streams.engine import _hot_groups

    return _hot_groups

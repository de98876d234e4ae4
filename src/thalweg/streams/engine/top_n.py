"""The first rows of each group, by an order, kept up to date.

State: of an input that only appends, the rows that are among the first now (the others never can be again); of a
changelog all rows, as any may move up. In a keyed columnar index; a batch reads the groups that it touches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.batch import CHANGE, TIMESTAMP, WATERMARK, Batch
from thalweg.streams.engine.changing_rows import DELETE, INSERT, Changes, Changing
from thalweg.streams.engine.keyed_changes import KeyedChanges
from thalweg.streams.state.row_lists import Keys

_GROUP, _SERIAL, _SLOT, _RANK = "__group", "__serial", "__at", "__rank"


class TopN(KeyedChanges):
    """Inserts and deletes whole rows, so that what is left are the first `n` of each group.

    Args:
        group: the columns that make a group; none: one group.
        n: how many rows of each are kept.
        order: the columns to sort by, and which of them fall; of equal rows the earlier one comes first.
        rank: the name of a column that counts from 1; None: there is none.
        kind: what the input's changes mean.
    """

    def __init__(
        self,
        operator_id: str,
        group: Sequence[str],
        n: int,
        order: Sequence[tuple[str, bool]],
        rank: str | None,
        kind: Changing,
    ) -> None:
        super().__init__(operator_id, group, kind)
        self.n = n
        self.order = list(order)
        self.rank = rank

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.book(batch)
        if not frame.height:
            return
        held = self.rows.rows
        changes = self._changes(frame)
        touched = _groups(held.keys(changes.old), held.keys(changes.new))
        before = self._first(touched)
        self.rows.apply(changes)
        after = self._first(touched, trim=self.rows.kind.keys is None and not self.rows.kind.whole)
        yield from self._difference(before, after)

    def _changes(self, frame: pl.DataFrame) -> Changes:
        """What a batch changes; of appended rows only those that can be among the first of their group."""
        changes = self.rows.changes(frame)
        if self.rows.kind.keys is not None or self.rows.kind.whole or changes.new.height <= self.n:
            return changes
        keys = self.rows.rows.keys(changes.new)
        new = changes.new.with_columns(
            pl.Series(_GROUP, keys.first ^ keys.second), pl.int_range(pl.len()).alias(_SERIAL)
        )
        return Changes(
            changes.slots,
            changes.old,
            self._ranked(new).filter(pl.col(_RANK) <= self.n).sort(_SERIAL).drop(_GROUP, _SERIAL, _RANK),
        )

    def _ranked(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of groups in their order, with their place in it."""
        names, falling = (
            [_GROUP, *(name for name, _ in self.order), _SERIAL],
            [False, *(f for _, f in self.order), False],
        )
        ordered = rows.sort(names, descending=falling, nulls_last=True, maintain_order=True)
        return ordered.with_columns((pl.int_range(pl.len()).over(_GROUP) + 1).cast(pl.Int64).alias(_RANK))

    def _first(self, touched: Keys, *, trim: bool = False) -> pl.DataFrame | None:
        """The first rows of these groups, ranked; `trim` forgets the others."""
        held = self.rows.rows
        found = list(held.find(touched))
        if not found:
            return None
        probes, slots = (np.concatenate([pair[i] for pair in found]) for i in (0, 1))
        labels = {_GROUP: probes, _SERIAL: held.serial[slots], _SLOT: slots}
        rows = held.read(slots).with_columns([pl.Series(name, values) for name, values in labels.items()])
        ranked = self._ranked(rows)
        if trim:
            held.remove(ranked.filter(pl.col(_RANK) > self.n)[_SLOT].to_numpy())
        return ranked.filter(pl.col(_RANK) <= self.n)

    def _difference(self, before: pl.DataFrame | None, after: pl.DataFrame | None) -> Iterator[Batch]:
        same = [_SERIAL] if self.rank is None else [_SERIAL, _RANK]
        gone, come = before, after
        if before is not None and after is not None:
            gone, come = before.join(after, on=same, how="anti"), after.join(before, on=same, how="anti")
        for rows, op in ((gone, DELETE), (come, INSERT)):
            if rows is not None and rows.height:
                yield self.result(self._told(rows, op))

    def _told(self, rows: pl.DataFrame, op: str) -> pl.DataFrame:
        if self.rank is not None:
            rows = rows.with_columns(pl.col(_RANK).alias(self.rank))
        times = [pl.lit(op).alias(CHANGE), pl.col(TIMESTAMP).alias(WATERMARK)]
        return rows.drop(_GROUP, _SERIAL, _SLOT, _RANK).with_columns(times)


def _groups(one: Keys, other: Keys) -> Keys:
    """The groups of both, each once."""
    pairs = np.stack([np.concatenate([one.first, other.first]), np.concatenate([one.second, other.second])])
    first, second = np.unique(pairs, axis=1)
    return Keys(np.ascontiguousarray(first), np.ascontiguousarray(second), None)

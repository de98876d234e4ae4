"""Updates that change a row's place: a delete goes where it was, the update where it will be.

State: the current rows, in a keyed columnar index. Cost: a search per change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from thalweg.streams.batch import CHANGE, Batch
from thalweg.streams.engine.changing_rows import DELETE, Changes, Changing
from thalweg.streams.engine.keyed_changes import KeyedChanges, told

_ALL = "__all"
"""The same for all rows: they are matched by it where the changelog has no key columns."""


class TakeBack(KeyedChanges):
    """Passes changes on; before an update of one of `columns` a delete of the row as it was."""

    def __init__(self, operator_id: str, keys: Sequence[str], columns: Sequence[str]) -> None:
        super().__init__(operator_id, keys, Changing(tuple(keys)))
        self.keys, self.columns = list(keys), list(columns)

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.book(batch)
        if not frame.height:
            return
        changes = self.rows.changes(frame)
        self.rows.apply(changes)
        moved = self._moved(changes)
        if moved.height:
            yield self.result(moved.with_columns(pl.lit(DELETE).alias(CHANGE)))
        found = told(self.rows, changes)
        if found.height:
            yield self.result(found)

    def _moved(self, changes: Changes) -> pl.DataFrame:
        """The old rows of keys that stay, elsewhere."""
        old, new = (frame.with_columns(pl.lit(0).alias(_ALL)) for frame in (changes.old, changes.new))
        key = [*self.keys, _ALL]
        stays = old.join(new, on=key, how="semi", nulls_equal=True)
        return stays.join(new, on=[*key, *self.columns], how="anti", nulls_equal=True).drop(_ALL)

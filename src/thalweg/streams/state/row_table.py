"""One row per key, found by a hash of the key: the current state of a changelog.

A batch reads and writes the rows of the keys that it names. Saved as "<name>": rows that have changed, with `__gone`
for those that were removed; what is saved of a key supersedes what was saved of it before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.state.key_index import KeyIndex
from thalweg.streams.state.row_store import SLOT, RowStore

Int64s = npt.NDArray[np.int64]

GONE = "__gone"
_TURN = "__turn"


class RowTable:
    """Rows by key.

    Args:
        name: of its saved frames.
        keys: the columns that tell rows apart; none: there is one row.
        by: of these the columns that the operator's state is laid out by.
    """

    def __init__(self, name: str, keys: Sequence[str], by: Sequence[str]) -> None:
        self.name = name
        self.keys, self._by = list(keys), list(by)
        self.index = KeyIndex()
        self._rows = RowStore()
        self._changed: list[Int64s] = []
        self._durable = np.zeros(0, dtype=bool)
        self._gone: list[pl.DataFrame] = []

    def __len__(self) -> int:
        return len(self.index)

    def memory(self) -> Memory:
        """Rows held and their bytes."""
        return self._rows.memory()

    def has(self, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
        """For each row whether there is one of its key."""
        return self.index.find(rows.select(self.keys), rows.height) >= 0

    def get(self, rows: pl.DataFrame) -> pl.DataFrame | None:
        """What is held under the keys of these rows, in no particular order; None: nothing."""
        slots = np.unique(self.index.find(rows.select(self.keys), rows.height))
        found = self._rows.read(slots[slots >= 0])
        return None if found is None else found.drop(SLOT)

    def put(self, rows: pl.DataFrame) -> None:
        """Sets the rows of their keys, each of which occurs once."""
        if not rows.height:
            return
        slots, _ = self.index.assign(rows.select(self.keys), rows.height)
        self._reserve()
        self._rows.write(rows.with_columns(pl.Series(SLOT, slots)))
        self._changed.append(slots)

    def remove(self, rows: pl.DataFrame) -> None:
        """Forgets the rows of these keys; keys without one are passed over."""
        if not rows.height:
            return
        slots = np.unique(self.index.find(rows.select(self.keys), rows.height))
        slots = slots[slots >= 0]
        saved = self._rows.read(slots[self._durable[slots]])
        if saved is not None:
            self._gone.append(saved.drop(SLOT))
        self._durable[slots] = False
        self._rows.free(slots)
        self.index.remove(slots)

    def everything(self) -> pl.DataFrame | None:
        """All rows: a scan."""
        found = self._rows.read(self.index.alive())
        return None if found is None else found.drop(SLOT)

    def _reserve(self) -> None:
        capacity = self.index.capacity
        self._rows.reserve(capacity)
        if len(self._durable) < capacity:
            self._durable = np.append(self._durable, np.zeros(capacity - len(self._durable), dtype=bool))

    def snapshot(self, *, full: bool) -> StateDelta:
        """What has changed since the last one, or all rows."""
        puts = [] if full else [(self.name, self._labelled(rows, gone=True)) for rows in self._gone]
        changed = np.unique(np.concatenate(self._changed)) if self._changed else np.zeros(0, dtype=np.int64)
        slots = self.index.alive() if full else self.index.alive(changed)
        rows = self._rows.read(slots)
        if rows is not None:
            puts.append((self.name, self._labelled(rows.drop(SLOT), gone=False)))
            self._durable[slots] = True
        self._changed, self._gone = [], []
        return StateDelta(puts=puts, full=full)

    def _labelled(self, rows: pl.DataFrame, *, gone: bool) -> pl.DataFrame:
        return rows.with_columns(pl.lit(gone).alias(GONE), key_groups(rows, self._by))

    def restore(self, state: State) -> None:
        """Takes back what was saved."""
        frames = state.get(self.name, ())
        if not frames:
            return
        numbered = [frame.drop(KEY_GROUP).with_columns(pl.lit(i).alias(_TURN)) for i, frame in enumerate(frames)]
        rows = pl.concat(numbered, how="diagonal_relaxed").sort(_TURN, maintain_order=True)
        last = rows.unique(self.keys, keep="last", maintain_order=True) if self.keys else rows.tail(1)
        self.put(last.filter(~pl.col(GONE)).drop(GONE, _TURN))
        self._durable[np.concatenate([np.zeros(0, dtype=np.int64), *self._changed])] = True
        self._changed = []

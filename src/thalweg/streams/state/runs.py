"""Frames of partial rows, merged geometrically, with bounded work for each frame that is added.

A new frame merges with the newest ones once four of like size have come together, as in a binary counter: each row is
merged O(log(state / batch)) times over its life. What exceeds `SPLIT` rows goes down to 16 shards by hash of the key,
which work in the same way; their merges are done a few at a time, with later frames. So no single frame waits for a
merge of the whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

import polars as pl

from thalweg.streams.operator import Memory
from thalweg.streams.state.pool import Cell, StatePool, current_pool

Merge = Callable[[Sequence[pl.DataFrame]], pl.DataFrame]
"""Reduces partial rows to one per group; associative and commutative."""

SPLIT = 65_536
"""Rows that one list of frames holds before they go down to its shards."""
_FAN_IN = 4
"""Merging four at a time costs half of merging two, for at most three more frames at the close."""
_SHARDS = 16
_SHARD = "__shard"


class Runs:
    """Frames of one pane.

    Args:
        merge: the reduction.
        keys: columns whose hash chooses the shard; without any there are no shards.
        depth: how many shardings are above this one.
        pool: holds the frames; by default that of the job whose operators are being built.
    """

    __slots__ = ("_depth", "_keys", "_merge", "_owing", "_own", "_pool", "_shards", "cells")

    def __init__(self, merge: Merge, keys: Sequence[str] = (), depth: int = 0, pool: StatePool | None = None) -> None:
        self._merge = merge
        self._keys = tuple(keys)
        self._depth = depth
        self._pool = pool or current_pool()
        self.cells: list[Cell] = []
        """In falling order of size."""
        self._own = 0
        self._shards: list[Runs] = []
        self._owing: deque[Runs] = deque()
        """Shards that have frames to merge."""

    def append(self, frame: pl.DataFrame | Cell) -> None:
        """Adds partial rows."""
        self._push(frame if isinstance(frame, Cell) else self._pool.hold(frame))
        self._settle_own()
        self._pay(4 * frame.height + SPLIT // 4)

    @property
    def rows(self) -> int:
        """Rows held, groups that repeat between frames counted each time."""
        return self._own + sum(shard.rows for shard in self._shards)

    def all_frames(self) -> list[pl.DataFrame]:
        """All frames, those of the shards too."""
        own = (cell.load() for cell in self.cells)
        return [*own, *(frame for shard in self._shards for frame in shard.all_frames())]

    def memory(self) -> Memory:
        """Rows held, and bytes of those in memory."""
        own = Memory(self._own, sum(cell.bytes for cell in self.cells if cell.resident))
        return sum((shard.memory() for shard in self._shards), own)

    def _push(self, cell: Cell) -> None:
        self.cells.append(cell)
        self._own += cell.height

    def _settle_own(self) -> int:
        """Merges frames of like size; hands down what has grown too large. Returns the rows that it touched."""
        cells = self.cells
        start, tail = len(cells) - 1, cells[-1].height
        while start and cells[start - 1].height < 2 * tail:
            start -= 1
            tail += cells[start].height
        touched = 0
        if len(cells) - start >= _FAN_IN:
            merged = self._pool.hold(compact_strings(self._merge([cell.load() for cell in cells[start:]])))
            cells[start:] = [merged]
            self._own += merged.height - tail
            touched = tail
        if self._own > SPLIT and self._keys and self._depth < _DEEPEST:
            touched += self._own
            self._hand_down()
        return touched

    def _hand_down(self) -> None:
        frames = [cell.load() for cell in self.cells]
        rows = self._merge(frames) if len(frames) > 1 else frames[0]
        self.cells, self._own = [], 0
        if not self._shards:
            self._shards = [Runs(self._merge, self._keys, self._depth + 1, self._pool) for _ in range(_SHARDS)]
        shard = (rows.select(self._keys).hash_rows(seed=7) // _SHARDS**self._depth % _SHARDS).alias(_SHARD)
        for (number,), part in rows.with_columns(shard).partition_by(_SHARD, as_dict=True, include_key=False).items():
            self._shards[int(number)]._push(self._pool.hold(compact_strings(part)))
        self._owing.extend(shard for shard in self._shards if shard.cells and shard not in self._owing)

    def _pay(self, budget: int) -> int:
        """Does merges that are due in the shards, about `budget` rows of them. Returns the rows that it touched."""
        paid = 0
        while self._owing and paid < budget:
            shard = self._owing.popleft()
            paid += shard._settle_own() if shard.cells else 0
            paid += shard._pay(budget - paid)
            if shard._owing:
                self._owing.append(shard)
        return paid


_VIEWS = (pl.String, pl.Binary)
_DEEPEST = 12
"""A pane has at most 65,536 * 16**12 rows to be cut by its keys' hash."""


def compact_strings(frame: pl.DataFrame) -> pl.DataFrame:
    """Copies text and bytes out of the batch they came from: a view keeps the whole batch's buffers alive."""
    columns = frame.get_columns()
    if not any(column.dtype in _VIEWS for column in columns):
        return frame
    return pl.DataFrame([_owned(column) if column.dtype in _VIEWS else column for column in columns])


def _owned(series: pl.Series) -> pl.Series:
    array = series.to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.Series(series.name, array, dtype=series.dtype)

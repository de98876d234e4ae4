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
    """

    __slots__ = ("_depth", "_keys", "_merge", "_owing", "_own", "_shards", "frames")

    def __init__(self, merge: Merge, keys: Sequence[str] = (), depth: int = 0) -> None:
        self._merge = merge
        self._keys = tuple(keys)
        self._depth = depth
        self.frames: list[pl.DataFrame] = []
        """In falling order of size."""
        self._own = 0
        self._shards: list[Runs] = []
        self._owing: deque[Runs] = deque()
        """Shards that have frames to merge."""

    def append(self, frame: pl.DataFrame) -> None:
        """Adds partial rows."""
        self._push(frame)
        self._settle_own()
        self._pay(4 * frame.height + SPLIT // 4)

    @property
    def rows(self) -> int:
        """Rows held, groups that repeat between frames counted each time."""
        return self._own + sum(shard.rows for shard in self._shards)

    def all_frames(self) -> list[pl.DataFrame]:
        """All frames, those of the shards too."""
        return [*self.frames, *(frame for shard in self._shards for frame in shard.all_frames())]

    def _push(self, frame: pl.DataFrame) -> None:
        self.frames.append(frame)
        self._own += frame.height

    def _settle_own(self) -> int:
        """Merges frames of like size; hands down what has grown too large. Returns the rows that it touched."""
        frames = self.frames
        start, tail = len(frames) - 1, frames[-1].height
        while start and frames[start - 1].height < 2 * tail:
            start -= 1
            tail += frames[start].height
        touched = 0
        if len(frames) - start >= _FAN_IN:
            merged = compact_strings(self._merge(frames[start:]))
            frames[start:] = [merged]
            self._own += merged.height - tail
            touched = tail
        if self._own > SPLIT and self._keys and self._depth < _DEEPEST:
            touched += self._own
            self._hand_down()
        return touched

    def _hand_down(self) -> None:
        rows = self._merge(self.frames) if len(self.frames) > 1 else self.frames[0]
        self.frames, self._own = [], 0
        if not self._shards:
            self._shards = [Runs(self._merge, self._keys, self._depth + 1) for _ in range(_SHARDS)]
        shard = (rows.select(self._keys).hash_rows(seed=7) // _SHARDS**self._depth % _SHARDS).alias(_SHARD)
        for (number,), part in rows.with_columns(shard).partition_by(_SHARD, as_dict=True, include_key=False).items():
            self._shards[int(number)]._push(compact_strings(part))
        self._owing.extend(shard for shard in self._shards if shard.frames and shard not in self._owing)

    def _pay(self, budget: int) -> int:
        """Does merges that are due in the shards, about `budget` rows of them. Returns the rows that it touched."""
        paid = 0
        while self._owing and paid < budget:
            shard = self._owing.popleft()
            paid += shard._settle_own() if shard.frames else 0
            paid += shard._pay(budget - paid)
            if shard._owing:
                self._owing.append(shard)
        return paid


_DEEPEST = 12
"""A pane has at most 65,536 * 16**12 rows to be cut by its keys' hash."""


def compact_strings(frame: pl.DataFrame) -> pl.DataFrame:
    """Copies text and bytes out of the batch they came from: a view keeps the whole batch's buffers alive."""
    views = [name for name, dtype in frame.schema.items() if dtype == pl.String or dtype == pl.Binary]
    return frame.with_columns([_owned(frame[name]) for name in views]) if views else frame


def _owned(series: pl.Series) -> pl.Series:
    array = series.to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.Series(series.name, array, dtype=series.dtype)

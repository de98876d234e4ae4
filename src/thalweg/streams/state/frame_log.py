"""State as a log of frames: partial rows owned by a pane, compacted geometrically, dropped when the pane closes.

Cost: an append is O(1) plus its share of compaction, O(log(state / batch)) merges of each row over its life; a close
is one merge by the operator. A snapshot is the frames added since the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.operator import State, StateDelta

Merge = Callable[[Sequence[pl.DataFrame]], pl.DataFrame]
"""Reduces partial rows to one per group; associative and commutative."""
Groups = Callable[[pl.DataFrame], pl.Series]
"""The key group of every row, named `__kg`."""


class FrameLog:
    """Frames of partial rows, by pane.

    Args:
        prefix: what the names of its state begin with: "<prefix>@<pane>".
        merge: the reduction.
        key_groups: used for snapshots only.
    """

    def __init__(self, prefix: str, merge: Merge, key_groups: Groups) -> None:
        self.prefix = prefix
        self._merge = merge
        self._key_groups = key_groups
        self._panes: dict[int, Runs] = {}
        self._changes: dict[int, Runs] = {}
        self._durable: set[int] = set()
        self._drops: list[int] = []

    def append(self, pane: int, frame: pl.DataFrame) -> None:
        """Adds partial rows to a pane."""
        if frame.height:
            self._add(pane, compact_strings(frame))

    def append_split(self, column: str, frame: pl.DataFrame) -> None:
        """Adds partial rows, each to the pane that `column` names; the column itself is not kept."""
        if not frame.height:
            return
        frame = compact_strings(frame)
        low, high = frame[column].min(), frame[column].max()
        if low == high:
            self._add(int(low), frame.drop(column))  # type: ignore[arg-type]
            return
        for (pane,), rows in frame.partition_by(column, as_dict=True, include_key=False).items():
            self._add(int(pane), rows)

    def _add(self, pane: int, frame: pl.DataFrame) -> None:
        self._panes.setdefault(pane, Runs(self._merge)).append(frame)
        self._changes.setdefault(pane, Runs(self._merge)).append(frame)

    def panes(self) -> Iterable[int]:
        """The panes that hold rows."""
        return self._panes.keys()

    def frames(self, pane: int) -> list[pl.DataFrame]:
        """The pane's frames: groups may repeat between them."""
        runs = self._panes.get(pane)
        return [] if runs is None else runs.frames

    def drop(self, pane: int) -> None:
        """Forgets a pane."""
        self._panes.pop(pane, None)
        self._changes.pop(pane, None)
        if pane in self._durable:
            self._durable.discard(pane)
            self._drops.append(pane)

    @property
    def rows(self) -> int:
        """Partial rows held, groups that repeat between frames counted each time."""
        return sum(runs.rows for runs in self._panes.values())

    def snapshot(self, *, full: bool) -> StateDelta:
        """What was dropped and added since the last snapshot, or all panes, each as one frame."""
        source = self._panes if full else self._changes
        puts = [(self._name(pane), self._grouped(runs.merged())) for pane, runs in source.items()]
        drops = () if full else tuple(self._name(pane) for pane in self._drops)
        self._durable.update(source)
        self._changes, self._drops = {}, []
        return StateDelta(drops=drops, puts=puts, full=full)

    def restore(self, state: State) -> None:
        """Takes the frames whose names begin with its prefix."""
        for name, frames in state.items():
            prefix, _, pane = name.rpartition("@")
            if prefix != self.prefix:
                continue
            self._durable.add(int(pane))
            for frame in frames:
                if frame.height:
                    self._panes.setdefault(int(pane), Runs(self._merge)).append(frame.drop(KEY_GROUP))

    def _name(self, pane: int) -> str:
        return f"{self.prefix}@{pane}"

    def _grouped(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(self._key_groups(frame))


class Runs:
    """Frames in falling order of size: two neighbours of like size are merged, as in a binary counter."""

    __slots__ = ("_merge", "frames", "rows")

    def __init__(self, merge: Merge) -> None:
        self._merge = merge
        self.frames: list[pl.DataFrame] = []
        self.rows = 0

    def append(self, frame: pl.DataFrame) -> None:
        frames = self.frames
        frames.append(frame)
        self.rows += frame.height
        start = len(frames) - 1
        tail = frame.height
        # Merging all that is not clearly larger at once touches each row O(log n) times over its life.
        while start and frames[start - 1].height < 2 * tail:
            start -= 1
            tail += frames[start].height
        if len(frames) - start >= _FAN_IN:
            merged = compact_strings(self._merge(frames[start:]))
            frames[start:] = [merged]
            self.rows += merged.height - tail

    def merged(self) -> pl.DataFrame:
        """All rows, one per group; keeps the merged frame."""
        if len(self.frames) > 1:
            self.frames = [compact_strings(self._merge(self.frames))]
            self.rows = self.frames[0].height
        return self.frames[0]


_FAN_IN = 4
"""Merging four at a time costs half of merging two, for at most three more frames at the close."""


def compact_strings(frame: pl.DataFrame) -> pl.DataFrame:
    """Copies text and bytes out of the batch they came from: a view keeps the whole batch's buffers alive."""
    views = [name for name, dtype in frame.schema.items() if dtype == pl.String or dtype == pl.Binary]
    return frame.with_columns([_owned(frame[name]) for name in views]) if views else frame


def _owned(series: pl.Series) -> pl.Series:
    array = series.to_arrow(compat_level=pl.CompatLevel.oldest())
    return pl.Series(series.name, array, dtype=series.dtype)

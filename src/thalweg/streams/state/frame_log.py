"""State as a log of frames: partial rows owned by a pane, compacted geometrically, dropped when the pane closes.

Cost: an append is O(1) plus its share of compaction (see `runs`); a close is one merge by the operator. A snapshot is
the frames added since the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from thalweg.streams.batch import KEY_GROUP
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.state.pool import current_pool
from thalweg.streams.state.runs import Merge, Runs, compact_strings

Groups = Callable[[pl.DataFrame], pl.Series]
"""The key group of every row, named `__kg`."""


class FrameLog:
    """Frames of partial rows, by pane.

    Args:
        prefix: what the names of its state begin with: "<prefix>@<pane>".
        merge: the reduction.
        key_groups: used for snapshots only.
        keys: the columns by which a large pane may be cut into shards.
    """

    def __init__(self, prefix: str, merge: Merge, key_groups: Groups, keys: Sequence[str] = ()) -> None:
        self.prefix = prefix
        self._merge = merge
        self._keys = tuple(keys)
        self._key_groups = key_groups
        self._pool = current_pool()
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
        cell = self._pool.hold(frame)
        self._panes.setdefault(pane, self._runs()).append(cell)
        self._changes.setdefault(pane, self._runs()).append(cell)

    def _runs(self) -> Runs:
        return Runs(self._merge, self._keys, pool=self._pool)

    def panes(self) -> Iterable[int]:
        """The panes that hold rows."""
        return self._panes.keys()

    def frames(self, pane: int) -> list[pl.DataFrame]:
        """The pane's frames: groups may repeat between them."""
        runs = self._panes.get(pane)
        return [] if runs is None else runs.all_frames()

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

    def memory(self) -> Memory:
        """Partial rows held, and bytes of those in memory; what waits for the next commit counts once."""
        return sum((runs.memory() for runs in self._panes.values()), Memory())

    def snapshot(self, *, full: bool) -> StateDelta:
        """What was dropped and added since the last snapshot, or all panes."""
        source = self._panes if full else self._changes
        puts = [(self._name(pane), self._grouped(rows)) for pane, runs in source.items() for rows in runs.all_frames()]
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
                    self._panes.setdefault(int(pane), self._runs()).append(frame.drop(KEY_GROUP))

    def _name(self, pane: int) -> str:
        return f"{self.prefix}@{pane}"

    def _grouped(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(self._key_groups(frame))

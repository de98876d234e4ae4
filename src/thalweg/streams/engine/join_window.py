"""Window joins: rows of both sides that share a key and a window.

State: the rows of each side in a frame log, by slice of time (see `AlignedWindow`). A batch is appended; a window that
closes is one join of what its slices hold. Cost per event: an append, and its share of one hash join per window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from thalweg.streams.batch import TIMESTAMP, WATERMARK, Batch, Watermark, stacked
from thalweg.streams.engine.join_base import LEFT, RIGHT, JoinOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.plan.join_columns import JoinColumns
from thalweg.streams.state.frame_log import FrameLog
from thalweg.streams.state.key_groups import key_groups
from thalweg.streams.windows import AlignedWindow

WINDOW_START, WINDOW_END = "window_start", "window_end"
_SLICE = "__slice"
_FIRST = "__first"
"""The first window end at which a row counts: later than its slice's own where it is late for some windows."""


class WindowJoin(JoinOperator):
    """Joins what both sides have in a window when that closes: watermark >= end + lateness.

    Results have the joined columns, `window_start` and `window_end`; their time is `window_end - 1`.
    """

    def __init__(self, operator_id: str, columns: JoinColumns, window: AlignedWindow, lateness: int) -> None:
        super().__init__(operator_id, columns, lateness)
        self.window = window
        self.lateness = lateness
        self.logs = [self._log("left", columns.left_on), self._log("right", columns.right_on)]

    @staticmethod
    def _log(name: str, keys: Sequence[str]) -> FrameLog:
        return FrameLog(name, stacked, lambda frame: key_groups(frame, keys))

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.received(batch, port)
        if not frame.height:
            return
        rows, late = self._assign(frame)
        if rows.height:
            self.account.absorbed += rows.height
            self.logs[port].append_split(_SLICE, self.kept(rows))
        if late is not None:
            yield late

    def _assign(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Batch | None]:
        """Gives rows their slice; splits off those that are late for all their windows."""
        time, window = pl.col(TIMESTAMP), self.window
        if window.gaps:
            height = frame.height
            frame = frame.filter(time < window.last_end_of(time))
            self.account.filtered += height - frame.height
        rows, late = self.split_late(frame, window.last_end_of(time) + self.lateness)
        columns = [window.slice_end_of(time).alias(_SLICE)]
        if window.overlapping:
            open_since = window.first_end_of(self.judge(rows) - self.lateness)
            columns.append(pl.max_horizontal(window.first_end_of(time), open_since).alias(_FIRST))
        return rows.with_columns(columns), late

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        before = self.closed - self.lateness
        if not self.advance(watermark):
            return
        until = self.closed - self.lateness
        for end in self._closing(before, until):
            joined = self._joined(end)
            if joined.height:
                yield self.result(joined)
        for log in self.logs:
            for pane in [pane for pane in log.panes() if self.window.last_end(pane - 1) <= until]:
                log.drop(pane)

    def _closing(self, before: int, until: int) -> list[int]:
        """The ends in (before, until] of windows that hold rows."""
        panes = {pane for log in self.logs for pane in log.panes()}
        return sorted({end for pane in panes for end in self.window.ends_of_slice(pane, before, until)})

    def _joined(self, end: int) -> pl.DataFrame:
        left, right = (self._rows(log, end) for log in self.logs)
        columns = self.columns
        frame = join_frames(left, right, columns)
        start = int(self.window.starts_of(np.array([end]))[0])
        bounds = {WINDOW_START: start, WINDOW_END: end, TIMESTAMP: end - 1, WATERMARK: end - 1}
        return frame.with_columns([pl.lit(value, dtype=pl.Int64).alias(name) for name, value in bounds.items()])

    def _rows(self, log: FrameLog, end: int) -> pl.DataFrame | None:
        """What one side has in the window with this end."""
        parts = []
        for pane in sorted(log.panes()):
            if self.window.holds(pane, end):
                parts += log.frames(pane)
        if not parts:
            return None
        rows = stacked(parts)
        return rows.filter(pl.col(_FIRST) <= end).drop(_FIRST) if self.window.overlapping else rows

    def memory(self) -> Memory:
        return self.logs[LEFT].memory() + self.logs[RIGHT].memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        deltas = [log.snapshot(full=full) for log in self.logs]
        puts = [put for delta in deltas for put in delta.puts]
        drops = [name for delta in deltas for name in delta.drops]
        return self.combine(puts, drops=drops, forgotten=False, full=full)

    def restore(self, state: State) -> None:
        for port, log in ((LEFT, self.logs[LEFT]), (RIGHT, self.logs[RIGHT])):
            log.restore(state)
            for pane in log.panes():
                for frame in log.frames(pane):
                    self.columns.see(frame.drop(_FIRST, strict=False), right=port == RIGHT)
        self.restore_progress(state)


def join_frames(left: pl.DataFrame | None, right: pl.DataFrame | None, columns: JoinColumns) -> pl.DataFrame:
    """Joins all rows of two frames (None: no rows) on the keys; the result has no reserved columns."""
    one, other = _same_key_types(
        _typed(left, columns.left, columns.left_on), _typed(right, columns.right, columns.right_on), columns
    )
    how = columns.how
    if how.left_only:
        if not columns.left_on:
            none = (other.height == 0) == (how == "semi")
            return one.clear() if none else one
        return one.join(other, left_on=columns.left_on, right_on=columns.right_on, how=how.value)
    other = other.rename({name: to for name, to in columns.right_names().items() if name in other.columns})
    keys = [f"__key_{number}" for number in range(len(columns.left_on))] or ["__key"]
    one = one.with_columns(_key_columns(keys, columns.left_on))
    other = other.with_columns(_key_columns(keys, columns.right_on)).drop(columns.right_on)
    joined = one.join(other, on=keys, how=how.value, coalesce=True)
    given = zip(columns.left_on, keys, strict=False)
    joined = joined.with_columns([pl.coalesce(name, key).alias(name) for name, key in given])
    return joined.select([name for name in columns.names() if name in joined.columns])


def _key_columns(keys: Sequence[str], names: Sequence[str]) -> list[pl.Expr]:
    if not names:
        return [pl.lit(True).alias(keys[0])]
    return [pl.col(name).alias(key) for key, name in zip(keys, names, strict=True)]


def _typed(frame: pl.DataFrame | None, known: dict[str, pl.DataType], keys: Sequence[str]) -> pl.DataFrame:
    """The user's columns of one side; all that are known of it where it has no rows."""
    if frame is None:
        missing = {name: pl.Null() for name in keys if name not in known}
        return pl.DataFrame(schema={**known, **missing})
    return frame.select([name for name in known if name in frame.columns])


def _same_key_types(left: pl.DataFrame, right: pl.DataFrame, columns: JoinColumns) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Casts the keys of one side where the other's have a wider type; texts and numbers are never equal."""
    for one, other in zip(columns.left_on, columns.right_on, strict=True):
        first, second = left.schema[one], right.schema[other]
        if first == second:
            continue
        both = pl.concat(
            [left.select(pl.col(one).alias("k")).clear(), right.select(pl.col(other).alias("k")).clear()],
            how="vertical_relaxed",
        ).schema["k"]
        left = left.with_columns(pl.col(one).cast(both))
        right = right.with_columns(pl.col(other).cast(both))
    return left, right

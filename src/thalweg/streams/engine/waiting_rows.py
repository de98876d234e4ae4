"""Rows that wait until the watermark has passed them: for operators that must take them in order of time."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from thalweg.streams.batch import TIMESTAMP, stacked
from thalweg.streams.state.frame_log import FrameLog
from thalweg.streams.state.key_groups import key_groups

_PANE = "__pane"


class WaitingRows:
    """A frame log of rows, in panes of time. Cost: an append for each batch; a pane is read when its time comes.

    Args:
        name: what the names of its state begin with.
        keys: the columns by which its state is laid out.
        width: of a pane, ms.
    """

    def __init__(self, name: str, keys: Sequence[str], width: int) -> None:
        self._width = width
        self.log = FrameLog(name, stacked, lambda frame: key_groups(frame, keys))

    def hold(self, rows: pl.DataFrame) -> None:
        """Takes rows with `__ts`."""
        self.log.append_split(_PANE, rows.with_columns((pl.col(TIMESTAMP) // self._width).alias(_PANE)))

    def release(self, now: int) -> pl.DataFrame | None:
        """The rows from before `now`, in order of time; those of the same time as they came."""
        ready = []
        for pane in [pane for pane in self.log.panes() if pane * self._width < now]:
            rows = stacked(self.log.frames(pane))
            due = rows.filter(pl.col(TIMESTAMP) < now)
            if due.height:
                self.log.drop(pane)
                self.log.append(pane, rows.filter(pl.col(TIMESTAMP) >= now))
                ready.append(due)
        return stacked(ready).sort(TIMESTAMP, maintain_order=True) if ready else None

    def frames(self) -> list[pl.DataFrame]:
        """All that wait."""
        return [frame for pane in self.log.panes() for frame in self.log.frames(pane)]

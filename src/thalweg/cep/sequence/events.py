"""The events that partial matches hold, until they match or expire."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s

ID = "__id"


class EventStore:
    """Events by id; ids grow, so frames are in their order.

    Nothing says goodbye to single events: when the store has doubled since it was last looked through, or partial
    matches have run out of time, events that no partial match holds are dropped. That costs each event a constant
    share.
    """

    def __init__(self) -> None:
        self._frames: list[pl.DataFrame] = []
        self._rows = 0
        self._limit = _LEAST
        self.next_id = 0

    @property
    def rows(self) -> int:
        """Events held."""
        return self._rows

    @property
    def bytes(self) -> int:
        """Their size, about."""
        return sum(int(frame.estimated_size()) for frame in self._frames)

    def add(self, events: pl.DataFrame) -> Int64s:
        """Takes events; returns their ids."""
        ids = np.arange(self.next_id, self.next_id + events.height, dtype=np.int64)
        self.next_id += events.height
        if events.height:
            self._frames.append(events.with_columns(pl.Series(ID, ids)))
            self._rows += events.height
        return ids

    def get(self, ids: Int64s) -> pl.DataFrame:
        """The events of these ids, in their order, with `__id`."""
        frame = self._all()
        places = np.searchsorted(frame.get_column(ID).to_numpy(), ids)
        return frame[places]

    def trim(self, referenced: Callable[[], Int64s], *, now: bool = False) -> None:
        """Drops what nothing refers to, if it is worth the look; `now`: the caller says that it is."""
        if self._rows <= (_LEAST if now else self._limit):
            return
        frame = self._all()
        kept = frame.filter(pl.Series(_among(frame.get_column(ID).to_numpy(), referenced())))
        # A filter of few rows may still point into the old buffers; a copy lets them go.
        self._frames = [kept.select(pl.all().gather(pl.int_range(pl.len()))).rechunk()] if kept.height else []
        self._rows = kept.height
        self._limit = max(_LEAST, 2 * kept.height)

    def _all(self) -> pl.DataFrame:
        if len(self._frames) != 1:
            self._frames = [pl.concat(self._frames, how="diagonal_relaxed")]
        return self._frames[0]


def _among(ids: Int64s, wanted: Int64s) -> npt.NDArray[np.bool_]:
    """Which of the ids, which are in order, are wanted."""
    first, span = int(ids[0]), int(ids[-1] - ids[0]) + 1
    if span > 16 * len(ids):
        return np.isin(ids, wanted)
    marks = np.zeros(span, np.bool_)
    marks[wanted - first] = True
    return marks[ids - first]


_LEAST = 4_096

"""The events that partial matches hold, until they match or expire."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.batch import gathered, rechunked, stacked
from thalweg.streams.state.chunks import Chunks
from thalweg.streams.state.slot_table import roomier

ID = "__id"


class EventStore:
    """Events by id; ids grow, so parts are in their order.

    Nothing says goodbye to single events: when the store has doubled since it was last looked through, or partial
    matches have run out of time, events that no partial match holds are dropped. That costs each event a constant
    share. A look-up costs what it finds, not what is held: parts are put together only when there are many, small ones
    first.
    """

    def __init__(self) -> None:
        self._parts: list[pl.DataFrame] = []
        self._chunks: Chunks | None = None
        """All parts as one frame of many chunks, while they are as they are."""
        self._together: pl.DataFrame | None = None
        """The same with columns that chunks do not take."""
        self._ids = np.zeros(0, np.int64)
        """Of the events held, and room for more."""
        self._schema: pl.Schema | None = None
        self._rows = 0
        self._least = self._limit = _LEAST
        self.next_id = 0

    @property
    def rows(self) -> int:
        """Events held."""
        return self._rows

    @property
    def bytes(self) -> int:
        """Their size, about."""
        return sum(int(part.estimated_size()) for part in self._parts)

    @property
    def schema(self) -> pl.Schema:
        """The columns of what `get` gives; the same object for as long as they are the same."""
        if self._schema is None:
            alike = len(self._parts) == 1 or self._as_chunks() is not None
            self._schema = self._parts[0].schema if alike else self._all().schema
        return self._schema

    def add(self, events: pl.DataFrame) -> Int64s:
        """Takes events; returns their ids."""
        ids = np.arange(self.next_id, self.next_id + events.height, dtype=np.int64)
        self.next_id += events.height
        if not events.height:
            return ids
        held = self._rows + events.height
        if held > len(self._ids):
            self._ids = roomier(self._ids, 2 * held)
        self._ids[self._rows : held] = ids
        self._rows = held
        self._parts.append(events)
        self._together = None
        if len(self._parts) > _MOST_PARTS:
            self._merge()
        elif self._chunks is not None:
            self._chunks.add(len(self._parts) - 1, events)
        if self._chunks is None or not self._chunks.fit:
            self._schema = None  # it may have changed
        return ids

    def get(self, ids: Int64s) -> pl.DataFrame:
        """The events of these ids, in their order."""
        places = np.searchsorted(self._ids[: self._rows], ids)
        if len(self._parts) == 1:
            return gathered(self._parts[0], places)
        chunks = self._as_chunks()
        return self._of_parts(places) if chunks is None else chunks.gather(places)

    def _as_chunks(self) -> Chunks | None:
        if self._chunks is None and self._parts:
            self._chunks = Chunks(enumerate(self._parts))
        return self._chunks if self._chunks is not None and self._chunks.fit else None

    def _of_parts(self, places: Int64s) -> pl.DataFrame:
        """The events at these places, with columns that differ from part to part or are nested."""
        starts = np.cumsum([0, *(part.height for part in self._parts)])
        which = np.searchsorted(starts, places, side="right") - 1
        numbers = np.unique(which).tolist()
        if not numbers or len(numbers) > _FEW_PARTS or self._together is not None:
            return gathered(self._all(), places)
        found = stacked([_some(self._parts[n], places[which == n] - starts[n]) for n in numbers])
        # They come part by part; back into the order asked for.
        return (
            found if (which[1:] >= which[:-1]).all() else gathered(found, np.argsort(np.argsort(which, kind="stable")))
        )

    def trim(self, referenced: Callable[[], Int64s], *, now: bool = False) -> None:
        """Drops what nothing refers to, if it is worth the look; `now`: the caller says that it is."""
        if self._rows <= (self._least if now else self._limit):
            return
        ids = self._ids[: self._rows]
        wanted = referenced()
        kept = np.flatnonzero(_among(ids, wanted))
        # Gathered, not cut out: what is dropped lets its buffers go.
        self._parts = [self._all()[kept].rechunk()] if len(kept) else []
        self._together = self._chunks = self._schema = None
        self._ids = ids[kept]
        self._rows = len(kept)
        self._least = max(_LEAST, len(wanted) // 16)  # the look itself costs what it is told
        self._limit = max(self._least, 2 * len(kept))

    def _all(self) -> pl.DataFrame:
        if self._together is None:
            self._together = stacked(self._parts)
        return self._together

    def _merge(self) -> None:
        """Puts the last parts together, as far back as they are not larger than all that come after."""
        first, rows = len(self._parts), 0
        while first and self._parts[first - 1].height <= max(rows, self._parts[-1].height):
            first -= 1
            rows += self._parts[first].height
        first = min(first, len(self._parts) - 2)
        self._parts[first:] = [rechunked(stacked(self._parts[first:]))]
        self._chunks = None


def _some(frame: pl.DataFrame, places: Int64s) -> pl.DataFrame:
    """Some rows, to be looked at: what is kept of one row alone would keep all of the frame."""
    return frame.slice(int(places[0]), 1) if len(places) == 1 else gathered(frame, places)


def _among(ids: Int64s, wanted: Int64s) -> npt.NDArray[np.bool_]:
    """Which of the ids, which are in order, are wanted."""
    first, span = int(ids[0]), int(ids[-1] - ids[0]) + 1
    if span > 16 * len(ids):
        return np.isin(ids, wanted)
    marks = np.zeros(span, np.bool_)
    marks[wanted - first] = True
    return marks[ids - first]


_LEAST = 4_096
_MOST_PARTS = 64
_FEW_PARTS = 8
"""Up to so many parts are looked into one by one; beyond, it is cheaper to put all together."""

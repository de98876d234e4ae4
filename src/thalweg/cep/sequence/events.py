"""The events that partial matches hold, until they match or expire."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.batch import gathered, rechunked, stacked

ID = "__id"


class _Part(NamedTuple):
    """Some events, and their ids."""

    frame: pl.DataFrame
    ids: Int64s


class EventStore:
    """Events by id; ids grow, so parts are in their order.

    Nothing says goodbye to single events: when the store has doubled since it was last looked through, or partial
    matches have run out of time, events that no partial match holds are dropped. That costs each event a constant
    share. A look-up costs what it finds, not what is held: parts are put together only when there are many, small ones
    first.
    """

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._together: pl.DataFrame | None = None
        """All parts as one frame, while they are as they are."""
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
        return sum(int(part.frame.estimated_size()) for part in self._parts)

    def add(self, events: pl.DataFrame) -> Int64s:
        """Takes events; returns their ids."""
        ids = np.arange(self.next_id, self.next_id + events.height, dtype=np.int64)
        self.next_id += events.height
        if events.height:
            self._parts.append(_Part(events, ids))
            self._together = None
            self._rows += events.height
            if len(self._parts) > _MOST_PARTS:
                self._merge()
        return ids

    def get(self, ids: Int64s) -> pl.DataFrame:
        """The events of these ids, in their order."""
        which = self._parts_of(ids)
        numbers = np.unique(which).tolist()
        if not numbers or len(numbers) > _FEW_PARTS or self._together is not None:
            frame = self._all()
            starts = np.cumsum([0, *(len(part.ids) for part in self._parts)])
            return gathered(frame, starts[which] + self._places(ids, which, numbers))
        places = self._places(ids, which, numbers)
        found = stacked([_some(self._parts[number].frame, places[which == number]) for number in numbers])
        # They come part by part; back into the order asked for.
        return (
            found if (which[1:] >= which[:-1]).all() else gathered(found, np.argsort(np.argsort(which, kind="stable")))
        )

    def _parts_of(self, ids: Int64s) -> Int64s:
        firsts = np.array([part.ids[0] for part in self._parts], dtype=np.int64)
        return np.searchsorted(firsts, ids, side="right") - 1

    def _places(self, ids: Int64s, which: Int64s, numbers: list[int]) -> Int64s:
        """Where the events are within their parts."""
        places = np.empty(len(ids), np.int64)
        for number in numbers:
            here = which == number
            places[here] = np.searchsorted(self._parts[number].ids, ids[here])
        return places

    def trim(self, referenced: Callable[[], Int64s], *, now: bool = False) -> None:
        """Drops what nothing refers to, if it is worth the look; `now`: the caller says that it is."""
        if self._rows <= (self._least if now else self._limit):
            return
        ids = np.concatenate([part.ids for part in self._parts])
        wanted = referenced()
        kept = np.flatnonzero(_among(ids, wanted))
        # Gathered, not cut out: what is dropped lets its buffers go.
        self._parts = [_Part(self._all()[kept].rechunk(), ids[kept])] if len(kept) else []
        self._together = None
        self._rows = len(kept)
        self._least = max(_LEAST, len(wanted) // 16)  # the look itself costs what it is told
        self._limit = max(self._least, 2 * len(kept))

    def _all(self) -> pl.DataFrame:
        if self._together is None:
            self._together = stacked([part.frame for part in self._parts])
        return self._together

    def _merge(self) -> None:
        """Puts the last parts together, as far back as they are not larger than all that come after."""
        first, rows = len(self._parts), 0
        while first and self._parts[first - 1].frame.height <= max(rows, self._parts[-1].frame.height):
            first -= 1
            rows += self._parts[first].frame.height
        first = min(first, len(self._parts) - 2)
        last = self._parts[first:]
        frame = rechunked(stacked([part.frame for part in last]))
        merged = _Part(frame, np.concatenate([part.ids for part in last]))
        self._parts[first:] = [merged]


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

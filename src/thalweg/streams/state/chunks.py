"""Frames read as one frame of many chunks: a few rows out of each of many frames cost one gather, not one per frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl
from polars.exceptions import SchemaError, ShapeError

from thalweg.records import Int64s
from thalweg.streams.batch import gathered_at


class Chunks:
    """Numbered frames, one after another. Nothing is copied.

    Args:
        frames: by rising number, all with the same flat columns.
    """

    def __init__(self, frames: Iterable[tuple[int, pl.DataFrame]]) -> None:
        numbered = iter(frames)
        number, first = next(numbered)
        self._rows = first.clone()
        self._numbers, self._starts = [number], [0]
        self.fit = is_flat(first)
        """Whether rows can be read. Polars copies all chunks of lists and structs to gather from them."""
        for number, frame in numbered:
            self.add(number, frame)

    def add(self, number: int, frame: pl.DataFrame) -> None:
        """Adds a frame with a higher number than those before."""
        if not self.fit:
            return
        self._numbers.append(number)
        self._starts.append(self._rows.height)
        try:
            self._rows.vstack(frame, in_place=True)
        except (SchemaError, ShapeError):  # other columns
            self.fit = False

    def starts(self, numbers: Int64s) -> Int64s:
        """Where the frames of these numbers begin."""
        starts: Int64s = np.array(self._starts)[np.searchsorted(self._numbers, numbers)]
        return starts

    def gather(self, places: Int64s) -> pl.DataFrame:
        """The rows at these places."""
        return gathered_at(self._rows, pl.Series(places.astype(np.uint32)))


def is_flat(frame: pl.DataFrame) -> bool:
    """Whether no column is nested."""
    return not any(dtype.is_nested() or dtype == pl.Object for dtype in frame.dtypes)

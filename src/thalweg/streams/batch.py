"""The unit of work: one Polars frame of events with a few reserved columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from thalweg.records import Int64s

TIMESTAMP = "__ts"
"""Event time of the row, Int64, ms UTC."""
WATERMARK = "__wm"
"""The watermark of the row's own partition just before the row, Int64, ms UTC (see docs: watermarks run per row)."""
INGESTED = "__ingested"
"""When the source read the row, Int64, ms UTC by the job's clock."""
PARTITION = "__partition"
"""Partition of the source record, Int32."""
OFFSET = "__offset"
"""Offset of the source record, Int64."""
SOURCE = "__source"
"""Which source of the job the row came from, Int16; only where several sources flow together."""
KEY_GROUP = "__kg"
"""Key group of the row, UInt16; state frames carry it, events do not."""
CHANGE = "__op"
"""What a row of a changelog stream does: "insert", "update" or "delete"; append streams do not have it."""

LATE_WINDOW_END = "__late_window_end"
"""On the late port: the end of the last window that the row would have been in, Int64, ms UTC."""
LATENESS = "__lateness"
"""On the late port: how far the watermark was past that end, Int64, ms (0 or more)."""

RESERVED = frozenset(
    {TIMESTAMP, WATERMARK, INGESTED, PARTITION, OFFSET, SOURCE, KEY_GROUP, CHANGE, LATE_WINDOW_END, LATENESS}
)

FEW_ROWS = 16_384
"""Up to so many rows one thread is through with them sooner than Polars' threads wake up."""

MAIN = "main"
LATE = "late"
DEAD = "dead"

MIN_TIME = -(2**62)
"""Before every event: the watermark of an input that has seen nothing."""
MAX_TIME = 2**62
"""After every event: the watermark of an input that has ended."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows on their way between two operators.

    `frame` holds the user's columns and, of the reserved ones, those that the plan needs. `port` says which output of
    the operator the rows leave by: `MAIN`, `LATE`, `DEAD` (then `frame` has `DEAD_LETTER_SCHEMA`), or a name of the
    operator's own ("timeout").
    """

    frame: pl.DataFrame
    port: str = MAIN

    def __len__(self) -> int:
        return self.frame.height

    def __bool__(self) -> bool:
        return self.frame.height > 0

    def filter(self, predicate: pl.Expr) -> Batch:
        """Keeps the rows for which `predicate` is true; null counts as false."""
        return Batch(self.frame.filter(predicate), self.port)

    def user_frame(self) -> pl.DataFrame:
        """The rows without the reserved columns (`CHANGE` stays: sinks need it)."""
        return self.frame.drop([c for c in self.frame.columns if c in RESERVED and c != CHANGE])


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far an operator's input has come: no row with a timestamp below `event_time` is to be expected in time.

    `clock` is the job's wall clock (virtual in the test driver), ms UTC; processing- and ingestion-time windows close
    by it. Both never go back. `idle_closed` marks an advance made by the opt-in wall-clock close of a quiet stream.
    """

    event_time: int
    clock: int
    idle_closed: bool = False


def gathered(frame: pl.DataFrame, rows: Int64s) -> pl.DataFrame:
    """The rows of these numbers. Column by column where there are few: `frame[rows]` is handed to Polars' threads."""
    if len(rows) > FEW_ROWS or not frame.width:
        return frame[rows]
    return gathered_at(frame, pl.Series(rows.astype(np.uint32)))


def gathered_at(frame: pl.DataFrame, rows: pl.Series) -> pl.DataFrame:
    """As `gathered`, by row numbers of the type that Polars takes: UInt32."""
    if len(rows) > FEW_ROWS or not frame.width:
        return frame[rows]
    return pl.DataFrame([column[rows] for column in frame.get_columns()])


def stacked(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The rows of some frames together; columns that one of them lacks are null there, and types widen."""
    if len(frames) == 1:
        return frames[0]
    names, types = frames[0].columns, frames[0].dtypes  # comparing schemas costs ten times as much
    if not all(frame.columns == names and frame.dtypes == types for frame in frames):
        return pl.concat(frames, how="diagonal_relaxed")
    rows = frames[0].clone()
    for frame in frames[1:]:
        rows.vstack(frame, in_place=True)  # no copy; `pl.concat` is handed to Polars' threads
    return rows


def rechunked(frame: pl.DataFrame) -> pl.DataFrame:
    """As `DataFrame.rechunk`; column by column where there are few rows."""
    if frame.height > FEW_ROWS or not frame.width:
        return frame.rechunk()
    return pl.DataFrame([column.rechunk() for column in frame.get_columns()])


def only(frame: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Some columns, or none, but as many rows: `DataFrame.select` without the query plan that it makes."""
    return pl.DataFrame([frame.get_column(name) for name in names]) if names else frame.drop(frame.columns)


def without(frame: pl.DataFrame, *names: str) -> pl.DataFrame:
    """`DataFrame.drop`, without the query plan that it makes: a tenth of the cost where a frame is small."""
    return only(frame, [name for name in frame.columns if name not in names])


def with_column(frame: pl.DataFrame, column: pl.Series) -> pl.DataFrame:
    """The frame with one more column, or another in the place of one; as cheap as `without`."""
    return pl.DataFrame([*(each for each in frame.get_columns() if each.name != column.name), column])

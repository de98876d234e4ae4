"""How a stream is cut into pieces: tumbling, sliding, session and global windows, and by which clock.

All times are Int64 milliseconds UTC. Windows are half-open, `[start, end)`; one closes when the watermark reaches its
end. Times before 1970 floor downwards like all others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError

_ANY = -(2**62)


class TimeSemantics(StrEnum):
    """Which time places an event in a window and closes the window."""

    EVENT_TIME = "event_time"
    """The event's own timestamp, against the watermark: the same result on every replay."""
    PROCESSING_TIME = "processing_time"
    """The wall clock when the operator sees the event; never late."""
    INGESTION_TIME = "ingestion_time"
    """The wall clock when the source read the event; never late."""


class Window:
    """The base of all window kinds."""

    def describe(self) -> str:
        """Kind and durations in a few words, for `explain()`."""
        raise NotImplementedError


class AlignedWindow(Window):
    """Windows of one `size` that start at `offset + k * slide` for every integer k; milliseconds.

    Assignment cuts time at every window start and end: at most two slices per slide, whether or not the slide divides
    the size ("paired windows", Krishnamurthy, Wu, Franklin: On-the-fly sharing for streamed aggregation, SIGMOD 2006).
    An event goes to one slice; a window is the merge of its slices.
    """

    size: int
    slide: int
    offset: int

    @property
    def remainder(self) -> int:
        """Where in a slide the windows end: 0 where the slide divides the size."""
        return self.size % self.slide

    def slice_end(self, time: int) -> int:
        """The end of the slice that holds `time`: the next window edge after it.

        >>> SlidingWindow(5, 3).slice_end(4), SlidingWindow(5, 3).slice_end(-1), TumblingWindow(10).slice_end(10)
        (5, 0, 20)
        """
        past = (time - self.offset) % self.slide
        return time - past + (self.remainder if past < self.remainder else self.slide)

    def first_end(self, time: int) -> int:
        """The smallest window end after `time`.

        >>> SlidingWindow(10, 5).first_end(7), SlidingWindow(10, 5).first_end(-3)
        (10, 0)
        """
        return time - (time - self.offset - self.size) % self.slide + self.slide

    def last_end(self, time: int) -> int:
        """The end of the last window that starts at or before `time`.

        >>> SlidingWindow(10, 5).last_end(7), TumblingWindow(10).last_end(-1)
        (15, 0)
        """
        return time - (time - self.offset) % self.slide + self.size

    @property
    def overlapping(self) -> bool:
        """Whether an event may be in several windows."""
        return self.slide < self.size

    @property
    def gaps(self) -> bool:
        """Whether an event may be in none."""
        return self.slide > self.size

    def ends_of_slice(self, end: int, after: int, until: int) -> Iterable[int]:
        """The ends in (after, until] of the windows that a slice is part of, given the slice's end.

        >>> list(SlidingWindow(10, 5).ends_of_slice(5, 0, 100))
        [5, 10]
        """
        return range(self.first_end(max(end - 1, after)), min(self.last_end(end - 1), until) + 1, self.slide)

    def holds(self, slice_end: int, end: int) -> bool:
        """Whether the slice is part of the window that ends then."""
        return end - self.size < slice_end <= end

    # The same for columns

    def slice_end_of(self, time: pl.Expr) -> pl.Expr:
        """As `slice_end`."""
        start = (time - self.offset) // self.slide * self.slide + self.offset
        if not self.remainder:
            return start + self.slide
        return start + pl.when(time - start < self.remainder).then(self.remainder).otherwise(self.slide)

    def first_end_of(self, time: pl.Expr) -> pl.Expr:
        """As `first_end`."""
        shift = self.offset + self.size
        return (time - shift) // self.slide * self.slide + (shift + self.slide)

    def last_end_of(self, time: pl.Expr) -> pl.Expr:
        """As `last_end`."""
        return (time - self.offset) // self.slide * self.slide + (self.offset + self.size)

    def starts_of(self, ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """When the windows begin that end then."""
        starts: npt.NDArray[np.int64] = ends - self.size
        return starts

    def in_windows(self, rows: pl.DataFrame, time: str, end: str) -> pl.DataFrame:
        """Each row once for every window that holds its `time`, the window's end in column `end`.

        >>> SlidingWindow(10, 5).in_windows(pl.DataFrame({"t": [7]}), "t", "end")["end"].to_list()
        [10, 15]
        """
        first, last = self.first_end_of(pl.col(time)), self.last_end_of(pl.col(time))
        if self.slide == self.size:
            return rows.with_columns(first.alias(end))
        ends = pl.int_ranges(first, last + 1, self.slide, dtype=pl.Int64).alias(end)
        return rows.with_columns(ends).explode(end).filter(pl.col(end).is_not_null())


@dataclass(frozen=True, init=False)
class TumblingWindow(AlignedWindow):
    """Windows of `size`, one after the other, aligned to the Unix epoch plus `offset`.

    >>> TumblingWindow("1m")
    TumblingWindow(size=60000, offset=0)
    """

    size: int
    offset: int

    def __init__(self, size: Duration, offset: Duration = 0) -> None:
        length = milliseconds(size, name="window size", minimum=1)
        object.__setattr__(self, "size", length)
        object.__setattr__(self, "offset", milliseconds(offset, name="window offset", minimum=_ANY) % length)

    @property
    def slide(self) -> int:  # type: ignore[override]
        """The windows follow each other without overlap."""
        return self.size

    def describe(self) -> str:
        return f"tumbling {self.size} ms" + (f" offset {self.offset} ms" if self.offset else "")


@dataclass(frozen=True, init=False)
class SlidingWindow(AlignedWindow):
    """Windows of `size` that start every `slide`; the slide need not divide the size.

    A slide above the size leaves gaps: events in a gap belong to no window and count as filtered.

    >>> SlidingWindow("1h", "40m")
    SlidingWindow(size=3600000, slide=2400000, offset=0)
    """

    size: int
    slide: int
    offset: int

    def __init__(self, size: Duration, slide: Duration, offset: Duration = 0) -> None:
        step = milliseconds(slide, name="window slide", minimum=1)
        object.__setattr__(self, "size", milliseconds(size, name="window size", minimum=1))
        object.__setattr__(self, "slide", step)
        object.__setattr__(self, "offset", milliseconds(offset, name="window offset", minimum=_ANY) % step)

    def describe(self) -> str:
        offset = f" offset {self.offset} ms" if self.offset else ""
        return f"sliding {self.size} ms every {self.slide} ms{offset}"


@dataclass(frozen=True, init=False)
class SessionWindow(Window):
    """Events of one key with pauses shorter than `gap`; a pause of exactly the gap starts a new session.

    A session is `[first event, last event + gap)`. With `max_length` an event at least that long after the session's
    start begins a new one, and the end is at most start + max_length.

    >>> SessionWindow("30m")
    SessionWindow(gap=1800000, max_length=None)
    """

    gap: int
    max_length: int | None

    def __init__(self, gap: Duration, max_length: Duration | None = None) -> None:
        pause = milliseconds(gap, name="session gap", minimum=1)
        longest = None if max_length is None else milliseconds(max_length, name="session max_length", minimum=1)
        if longest is not None and longest < pause:
            raise ConfigurationError(f"session max_length is {longest} ms; it must be at least the gap of {pause} ms")
        object.__setattr__(self, "gap", pause)
        object.__setattr__(self, "max_length", longest)

    def describe(self) -> str:
        longest = "" if self.max_length is None else f", at most {self.max_length} ms"
        return f"session gap {self.gap} ms{longest}"


@dataclass(frozen=True)
class GlobalWindow(Window):
    """One window for all time. Without a trigger its aggregate is a changelog, updated at each commit."""

    def describe(self) -> str:
        return "global"

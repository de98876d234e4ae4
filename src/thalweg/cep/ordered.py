"""Events that wait until the watermark has passed them, and then come in one order: time, source, partition, offset.

What depends on the order of events (state machines, correlations) reads them from here, so that it does not depend on
how they were batched. A row behind its own partition's watermark is late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.batch import (
    INGESTED,
    KEY_GROUP,
    LATE,
    LATENESS,
    MIN_TIME,
    OFFSET,
    PARTITION,
    SOURCE,
    TIMESTAMP,
    WATERMARK,
    Batch,
)
from thalweg.streams.operator import State, StateDelta
from thalweg.streams.state.key_groups import KEY_GROUPS, key_groups

Prepare = Callable[[pl.DataFrame], pl.DataFrame]

_CLOCK, _WAITING = "clock", "waiting"


@dataclass(slots=True)
class _Held:
    """A frame of waiting events, and the first and last of their times."""

    rows: pl.DataFrame
    first: int
    last: int


def _held(rows: pl.DataFrame) -> _Held:
    times = rows.get_column(TIMESTAMP)
    return _Held(rows, cast(int, times.min()), cast(int, times.max()))


class EventOrder:
    """The waiting events of one or several inputs, and how far events were let go.

    State: a frame per batch and input, as long as one of its events waits; the time for each key group. Cost: each
    event is looked at once when it comes and once when it goes.

    Args:
        keys: the key columns of each input (equal in number).
        derived: columns that are computed anew after a restart, and so not saved.
    """

    def __init__(self, keys: Sequence[Sequence[str]], derived: Sequence[str] = ()) -> None:
        self.released = MIN_TIME
        self._keys = [list(names) for names in keys]
        self._derived = list(derived)
        self._waiting: dict[tuple[int, int], _Held] = {}
        self._new: set[tuple[int, int]] = set()
        self._durable: set[tuple[int, int]] = set()
        self._drops: list[tuple[int, int]] = []
        self._saved = MIN_TIME
        self._batches = 0

    def __len__(self) -> int:
        return sum(held.rows.height for held in self._waiting.values())

    def in_time(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, Batch | None]:
        """The rows that are not late, and the late ones as they leave by the late port."""
        boundary: Int64s | int = self.released
        if WATERMARK in frame.columns:
            boundary = np.maximum(frame.get_column(WATERMARK).to_numpy(), self.released)
        behind: Int64s = boundary - frame.get_column(TIMESTAMP).to_numpy()
        late = behind > 0
        if not late.any():
            return frame, None
        rows = frame.filter(late).with_columns(pl.Series(LATENESS, behind[late]))
        return frame.filter(~late), Batch(rows, LATE)

    def add(self, rows: pl.DataFrame, number: int = 0) -> None:
        """Takes events of input `number`."""
        if rows.height:
            self._batches += 1
            place = number, self._batches
            self._waiting[place] = _held(rows.drop(WATERMARK, INGESTED, strict=False))
            self._new.add(place)

    def release(self, watermark: int) -> list[pl.DataFrame | None]:
        """Lets go what is before the watermark: for each input its events in order, None where there are none."""
        self.released = max(self.released, watermark)
        ready: list[list[pl.DataFrame]] = [[] for _ in self._keys]
        for place, held in list(self._waiting.items()):
            if held.first >= self.released:
                continue
            if held.last < self.released:
                ready[place[0]].append(held.rows)
                self._forget(place)
                continue
            due = (held.rows.get_column(TIMESTAMP) < self.released).to_numpy()
            ready[place[0]].append(held.rows.filter(due))
            self._waiting[place] = _held(held.rows.filter(~due))
        return [in_order(frames) for frames in ready]

    def _forget(self, place: tuple[int, int]) -> None:
        del self._waiting[place]
        self._new.discard(place)
        if place in self._durable:
            self._durable.discard(place)
            self._drops.append(place)

    def columns(self) -> list[pl.Schema]:
        """The columns of the waiting frames."""
        return [held.rows.schema for held in self._waiting.values()]

    # -- state

    def snapshot(self, *, full: bool) -> StateDelta:
        """What changed since the last snapshot, or everything."""
        places = list(self._waiting) if full else sorted(self._new)
        puts = [(_name(place), self._grouped(place)) for place in places]
        drops = [] if full else [_name(place) for place in self._drops]
        self._durable.update(places)
        self._new, self._drops = set(), []
        if full or puts or drops or self.released != self._saved:
            self._saved = self.released
            drops += [] if full else [_CLOCK]
            groups = pl.int_range(KEY_GROUPS, dtype=pl.UInt16, eager=True).alias(KEY_GROUP).to_frame()
            puts.append((_CLOCK, groups.with_columns(released=pl.lit(self.released), batches=pl.lit(self._batches))))
        return StateDelta(drops=drops, puts=puts, full=full)

    def _grouped(self, place: tuple[int, int]) -> pl.DataFrame:
        rows = self._waiting[place].rows.drop(self._derived, strict=False)
        return grouped(rows, self._keys[place[0]])

    def restore(self, state: State, prepare: Prepare | None = None) -> None:
        """Takes back the events that were not let go.

        Args:
            prepare: adds the derived columns.
        """
        clocks = [frame.select(KEY_GROUP, "released", "batches") for frame in state.get(_CLOCK, ())]
        if not clocks:
            return
        # Key groups that come from several workers may have been let go to different times.
        clock = pl.concat(clocks).group_by(KEY_GROUP).max()
        self.released = self._saved = cast(int, clock.get_column("released").min())
        self._batches = cast(int, clock.get_column("batches").max())
        for name, frames in state.items():
            if name.startswith(f"{_WAITING}@"):
                place = _place(name)
                self._durable.add(place)
                self._wait_again(place, pl.concat(frames, how="diagonal_relaxed"), clock, prepare)

    def _wait_again(
        self, place: tuple[int, int], rows: pl.DataFrame, clock: pl.DataFrame, prepare: Prepare | None
    ) -> None:
        rows = rows.join(clock, on=KEY_GROUP, how="left", maintain_order="left")
        rows = rows.filter(pl.col(TIMESTAMP) >= pl.col("released")).drop(KEY_GROUP, "released", "batches")
        if rows.height:
            self._waiting[place] = _held(rows if prepare is None else prepare(rows))
        else:
            self._durable.discard(place)
            self._drops.append(place)


def in_order(frames: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
    """The rows of some frames together, in order; None where there are none."""
    if not frames:
        return None
    rows = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
    order = [name for name in (TIMESTAMP, SOURCE, PARTITION, OFFSET) if name in rows.columns]
    return rows.sort(order, maintain_order=True)


def grouped(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The rows with their key group; without keys everything is in group 0."""
    return rows.with_columns(key_groups(rows, keys))


def _name(place: tuple[int, int]) -> str:
    return f"{_WAITING}@{place[0]}@{place[1]}"


def _place(name: str) -> tuple[int, int]:
    _, number, batch = name.split("@")
    return int(number), int(batch)

"""Events that wait until the watermark has passed them, and then come in one order: time, source, partition, offset.

What depends on the order of events (state machines, correlations) reads them from here, so that it does not depend on
how they were batched. A row behind its own partition's watermark is late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import polars as pl

from thalweg.cep.waiting import WaitingEvents, clock_of, still_waiting
from thalweg.records import Int64s
from thalweg.streams.batch import (
    INGESTED,
    KEY_GROUP,
    LATE,
    LATENESS,
    MIN_TIME,
    TIMESTAMP,
    WATERMARK,
    Batch,
)
from thalweg.streams.operator import State, StateDelta
from thalweg.streams.state.key_groups import key_groups

Prepare = Callable[[pl.DataFrame], pl.DataFrame]

_CLOCK, _WAITING = "clock", "waiting"


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
        self._waiting = [WaitingEvents() for _ in keys]
        self._saved = MIN_TIME

    def __len__(self) -> int:
        return sum(waiting.rows for waiting in self._waiting)

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
            self._waiting[number].add(rows.drop(WATERMARK, INGESTED, strict=False))

    def release(self, watermark: int) -> list[pl.DataFrame | None]:
        """Lets go what is before the watermark: for each input its events in order, None where there are none."""
        self.released = max(self.released, watermark)
        return [waiting.release(self.released) for waiting in self._waiting]

    def columns(self) -> list[pl.Schema]:
        """The columns of the waiting frames."""
        return [schema for waiting in self._waiting for schema in waiting.schemas()]

    # -- state

    def snapshot(self, *, full: bool) -> StateDelta:
        """What changed since the last snapshot, or everything."""
        drops: list[str] = []
        puts: list[tuple[str, pl.DataFrame]] = []
        for number, waiting in enumerate(self._waiting):
            gone, new = waiting.changes(full=full)
            drops += [_name(number, batch) for batch in gone]
            puts += [(_name(number, batch), self._grouped(number, rows)) for batch, rows in new]
        if full or puts or drops or self.released != self._saved:
            self._saved = self.released
            drops += [] if full else [_CLOCK]
            batches = max((waiting.batches for waiting in self._waiting), default=0)
            puts.append((_CLOCK, clock_of(self.released, batches)))
        return StateDelta(drops=drops, puts=puts, full=full)

    def _grouped(self, number: int, rows: pl.DataFrame) -> pl.DataFrame:
        return grouped(rows.drop(self._derived, strict=False), self._keys[number])

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
        for waiting in self._waiting:
            waiting.batches = cast(int, clock.get_column("batches").max())
        for name, frames in state.items():
            if name.startswith(f"{_WAITING}@"):
                number, batch = _place(name)
                rows = still_waiting(pl.concat(frames, how="diagonal_relaxed"), clock)
                self._waiting[number].put(batch, rows if prepare is None or not rows.height else prepare(rows))


def grouped(rows: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The rows with their key group; without keys everything is in group 0."""
    return rows.with_columns(key_groups(rows, keys))


def _name(number: int, batch: int) -> str:
    return f"{_WAITING}@{number}@{batch}"


def _place(name: str) -> tuple[int, int]:
    _, number, batch = name.split("@")
    return int(number), int(batch)

"""Events that wait for the watermark, in the order in which batches came, and what the state must know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import polars as pl

from thalweg.streams.batch import KEY_GROUP, OFFSET, PARTITION, SOURCE, TIMESTAMP, gathered, stacked
from thalweg.streams.state.key_groups import KEY_GROUPS


class WaitingEvents:
    """Frames of events, each with the span of its times: a batch costs only itself.

    Names in the state are numbers; a frame is written once, and voided once all of it has gone.
    """

    def __init__(self) -> None:
        self.batches = 0
        self._frames: dict[int, pl.DataFrame] = {}
        self._spans: dict[int, tuple[int, int]] = {}
        """The first and last event time of each frame."""
        self._new: dict[int, pl.DataFrame] = {}
        self._durable: set[int] = set()
        self._drops: list[int] = []

    @property
    def rows(self) -> int:
        """How many events wait."""
        return sum(frame.height for frame in self._frames.values())

    @property
    def bytes(self) -> int:
        """Their size, about."""
        return sum(int(frame.estimated_size()) for frame in self._frames.values())

    def schemas(self) -> list[pl.Schema]:
        """The columns of each frame."""
        return [frame.schema for frame in self._frames.values()]

    def add(self, rows: pl.DataFrame) -> None:
        """Takes a batch."""
        self.batches += 1
        self._new[self.batches] = rows
        self._keep(self.batches, rows)

    def _keep(self, number: int, rows: pl.DataFrame) -> None:
        times = rows.get_column(TIMESTAMP)
        self._frames[number] = rows
        self._spans[number] = cast(int, times.min()), cast(int, times.max())

    def release(self, before: int) -> pl.DataFrame | None:
        """The events before a time, in the order of time, source, partition, offset; None: there are none."""
        ready = []
        for number, (first, last) in list(self._spans.items()):
            if first >= before:
                continue
            rows = self._frames[number]
            if last < before:
                ready.append(rows)
                self._forget(number)
                continue
            due = rows.get_column(TIMESTAMP).to_numpy() < before
            ready.append(gathered(rows, np.flatnonzero(due)))
            rest = gathered(rows, np.flatnonzero(~due))
            self._keep(number, rest)
            if number in self._new:
                self._new[number] = rest
        return in_order(ready)

    def _forget(self, number: int) -> None:
        del self._frames[number], self._spans[number]
        self._new.pop(number, None)
        if number in self._durable:
            self._durable.discard(number)
            self._drops.append(number)

    def change(self, renewed: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Puts something else in the place of each frame; not what, only what is known about it, may differ."""
        self._frames = {number: renewed(rows) for number, rows in self._frames.items()}
        self._new = {number: self._frames[number] for number in self._new}

    # -- state

    def changes(self, *, full: bool) -> tuple[list[int], Iterator[tuple[int, pl.DataFrame]]]:
        """The frames that are gone and those that are new since the last call (or all)."""
        frames = self._frames if full else self._new
        drops = [] if full else self._drops
        self._durable.update(frames)
        self._new, self._drops = {}, []
        return drops, iter(list(frames.items()))

    def put(self, number: int, rows: pl.DataFrame) -> None:
        """Takes back what still waits of a frame that the state has."""
        self._durable.add(number)
        if rows.height:
            self._keep(number, rows)
        else:
            self._durable.discard(number)
            self._drops.append(number)


def clock_of(released: int, batches: int) -> pl.DataFrame:
    """What the state says of time, for every key group: up to when events were let go, and the number of batches."""
    columns = {KEY_GROUP: np.arange(KEY_GROUPS, dtype=np.uint16)}
    facts = {"released": released, "batches": batches}
    columns |= {name: np.full(KEY_GROUPS, value) for name, value in facts.items()}
    return pl.DataFrame([pl.Series(name, values) for name, values in columns.items()])


def still_waiting(rows: pl.DataFrame, clock: pl.DataFrame) -> pl.DataFrame:
    """Those of the saved rows that were not let go, by the time (`released`) of each one's key group."""
    rows = rows.join(clock, on=KEY_GROUP, how="left", maintain_order="left")
    return rows.filter(pl.col(TIMESTAMP) >= pl.col("released")).drop(KEY_GROUP, "released", "batches")


def in_order(frames: Sequence[pl.DataFrame]) -> pl.DataFrame | None:
    """The rows of some frames together, in order; None where there are none."""
    if not frames:
        return None
    rows = stacked(frames)
    order = [name for name in (TIMESTAMP, SOURCE, PARTITION, OFFSET) if name in rows.columns]
    if rows.height > _FEW or any(rows.get_column(name).null_count() for name in order):
        return rows.sort(order, maintain_order=True)
    places = np.lexsort([rows.get_column(name).to_numpy() for name in reversed(order)])
    return rows if (places[1:] > places[:-1]).all() else gathered(rows, places)


_FEW = 4_096
"""Up to so many rows the query plan of Polars' sort costs more than a sort on one core."""

"""What has been told of windows whose panes are changes: whether a pane still stands, and for which bounds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.state.slot_table import grown
from thalweg.streams.triggers import _facts as facts

Booleans = npt.NDArray[np.bool_]


class Before(NamedTuple):
    """What had been told of the window of each pane of a log."""

    sent: Booleans
    """Whether something."""
    moved: Booleans
    """Whether for other bounds than the pane's."""
    start: Int64s
    end: Int64s
    """The bounds, where they are others."""


class Told:
    """Of each window, by slot.

    Args:
        moving: whether a window's bounds can change, as those of a session that grows; only then are they kept.
    """

    def __init__(self, *, moving: bool) -> None:
        self._sent = np.zeros(0, dtype=np.bool_)
        self._bounds = [np.zeros(0, dtype=np.int64)] * (2 if moving else 0)

    @property
    def bytes(self) -> int:
        """What its arrays take."""
        return int(self._sent.nbytes) + sum(int(bound.nbytes) for bound in self._bounds)

    def reserve(self, capacity: int) -> None:
        """Makes room for slots below `capacity`."""
        more = capacity - len(self._sent)
        if more > 0:
            self._sent = np.append(self._sent, np.zeros(more, dtype=np.bool_))
            self._bounds = [grown(bound, capacity) for bound in self._bounds]

    def forget(self, slots: Int64s) -> None:
        """Nothing has been told of these."""
        self._sent[slots] = False

    def tell(self, log: Int64s) -> Before:
        """Takes the panes of a log as told; returns what had been told before each of them.

        A window's pane before it may be in the same log.
        """
        slots = log[:, facts.SLOT]
        sent = self._sent[slots]
        start, end = (bound[slots] for bound in self._bounds) if self._bounds else log[:, [facts.START, facts.STOP]].T
        last = np.arange(len(log))
        if log[:, facts.ROUND].any():
            order = np.argsort(slots, kind="stable")
            again = slots[order[1:]] == slots[order[:-1]]
            here, before = order[1:][again], order[:-1][again]
            start[here], end[here], sent[here] = log[before, facts.START], log[before, facts.STOP], True
            last = order[np.append(~again, True)]
        told = slots[last]
        self._sent[told] = True
        for bound, column in zip(self._bounds, (facts.START, facts.STOP), strict=False):
            bound[told] = log[last, column]
        return Before(sent, sent & ((start != log[:, facts.START]) | (end != log[:, facts.STOP])), start, end)

    def standing(self, slots: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """Those of these windows of which something has been told, and for which bounds; only where they can move."""
        told = slots[self._sent[slots]]
        start, end = self._bounds
        return told, start[told], end[told]

    def saved(self, slots: Int64s) -> list[Int64s]:
        """What is saved of these windows: whether something has been told, and for which bounds where they can move."""
        return [self._sent[slots].astype(np.int64), *(bound[slots] for bound in self._bounds)]

    def restore(self, slots: Int64s, windows: pl.DataFrame, names: list[str]) -> None:
        """Takes back what was saved under these names; what was saved without says nothing."""
        arrays = [self._sent, *self._bounds]
        if set(names[: len(arrays)]) <= set(windows.columns):
            for array, name in zip(arrays, names, strict=False):
                array[slots] = windows[name].to_numpy()

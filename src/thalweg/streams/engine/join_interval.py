"""Interval joins: pairs of equal key whose times differ by an amount within bounds.

State: the rows of each side in a keyed columnar index (`KeyedRows`), until no row in time can meet them any more. Cost
per event: one insert, one search, and a step for each pair; nothing depends on how many rows are held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.streams.batch import MAX_TIME, TIMESTAMP, Batch, Watermark
from thalweg.streams.engine.join_base import LEFT, RIGHT, JoinOperator
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.plan.join_columns import How, JoinColumns
from thalweg.streams.state.keyed_rows import LABELS, KeyedRows, warm_up
from thalweg.streams.state.row_lists import EARLIEST, LATEST, Int64s, Keys


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the rows of both sides reach, ms: left time - right time is within [lower, upper]; None: any.

    A row counts as late when even the last partner that it could have had lies `late[side]` ms behind its watermark;
    so a partner waits `held[side]` ms for it (None: for ever).
    """

    lower: int | None
    upper: int | None
    late: tuple[int, int]
    held: tuple[int | None, int | None]

    @classmethod
    def of(cls, lower: int | None, upper: int | None, lateness: int | None = None) -> Reach:
        """By the rule: a row is in time while the watermark has not passed the end of its interval, nor its own time.

        Args:
            lateness: instead, how far any row may be behind the watermark.
        """
        left_late = max(-lower, 0) if lower is not None else 0
        right_late = max(upper, 0) if upper is not None else 0
        if lateness is not None:
            left_late = right_late = lateness
        left_held = None if lower is None else right_late - lower
        right_held = None if upper is None else left_late + upper
        # What meets partners of long ago only is still held while it may itself come in time.
        held = tuple(None if ms is None else max(ms, 0) for ms in (left_held, right_held))
        return cls(lower, upper, (left_late, right_late), (held[0], held[1]))

    def of_partners(self, times: Int64s, port: int) -> tuple[Int64s | int, Int64s | int]:
        """The first and the last time of partners on the other side."""
        lower, upper = self.lower, self.upper
        if port == RIGHT:
            low = EARLIEST if lower is None else times + lower
            return low, (LATEST if upper is None else times + upper)
        low = EARLIEST if upper is None else times - upper
        return low, (LATEST if lower is None else times - lower)


class IntervalJoin(JoinOperator):
    """Gives a pair as soon as both rows are there, and a row without partner when none can come any more."""

    def __init__(self, operator_id: str, columns: JoinColumns, reach: Reach) -> None:
        super().__init__(operator_id, columns, _behind(columns.how, reach))
        self.reach = reach
        self.how = columns.how
        self.sides = [
            KeyedRows(name, keys, bucket=None if held is None else max(held // 8, 100))
            for name, keys, held in zip(("left", "right"), (columns.left_on, columns.right_on), reach.held, strict=True)
        ]

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.received(batch, port)
        if not frame.height:
            return
        rows, late = self.split_late(frame, pl.col(TIMESTAMP) + (self.reach.late[port] + 1))
        if late is not None:
            yield late
        if not rows.height:
            return
        self.account.absorbed += rows.height
        rows = self.kept(rows)
        mine, other = self.sides[port], self.sides[1 - port]
        keys, times = mine.keys(rows), np.ascontiguousarray(rows[TIMESTAMP].to_numpy())
        met = np.zeros(rows.height, dtype=bool)
        answered: list[Int64s] = []
        for probes, slots in other.find(keys, *self.reach.of_partners(times, port)):
            met[probes] = True
            if self.how.left_only:
                answered.append(slots)
            else:
                yield self._pairs(rows[probes], slots, port)
        if answered:
            yield from self._answer(rows, met, np.unique(np.concatenate(answered)), port)
        self._hold(rows, keys, times, met, port)

    def _pairs(self, mine: pl.DataFrame, slots: Int64s, port: int) -> Batch:
        other = self.sides[1 - port]
        if self._keeps(1 - port):
            other.mark(slots)
        theirs = other.read(slots)
        left, right = (mine, theirs) if port == LEFT else (theirs, mine)
        return self.result(self.columns.pairs(left, right, self.behind))

    def _answer(self, rows: pl.DataFrame, met: Any, slots: Int64s, port: int) -> Iterator[Batch]:
        """For a semi or anti join: left rows that have met a partner are results, or never will be."""
        left = self.sides[LEFT]
        if self.how is How.SEMI:
            found = rows.filter(pl.Series(met)) if port == LEFT else left.read(slots)
            yield self.result(self.columns.alone(found, self.behind))
        if port == RIGHT:
            left.remove(slots)

    def _hold(self, rows: pl.DataFrame, keys: Keys, times: Int64s, met: Any, port: int) -> None:
        """Takes rows into state; a left row of a semi or anti join only while its answer is open."""
        mine = self.sides[port]
        if self.how.left_only and port == LEFT and met.any():
            open_rows = ~met
            rows, keys, times = rows.filter(pl.Series(open_rows)), keys.take(open_rows), times[open_rows]
            met = met[open_rows]
        if not rows.height:
            return
        slots = mine.add(rows, keys, times)
        if self._keeps(port):
            mine.matched[slots] = met

    def _keeps(self, port: int) -> bool:
        return self.how.keeps_left if port == LEFT else self.how.keeps_right

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if not self.advance(watermark):
            return
        for port in (LEFT, RIGHT):
            held, side = self.reach.held[port], self.sides[port]
            if held is None:
                # An end of time that is past all waiting: what has no partner by now never will have.
                slots = side.alive() if self.closed >= _END else _NONE
            else:
                slots = side.due(self.closed - held - 1)
            if not len(slots):
                continue
            if self._keeps(port):
                alone = slots[~side.matched[slots]]
                if len(alone):
                    yield self.result(self.columns.alone(side.read(alone), self.behind, right=port == RIGHT))
            side.remove(slots, due=True)

    def memory(self) -> Memory:
        return self.sides[LEFT].memory() + self.sides[RIGHT].memory()

    def snapshot(self, *, full: bool = False) -> StateDelta:
        forgotten = any(side.forgotten for side in self.sides)
        puts = [put for side in self.sides for put in side.snapshot(full=full)]
        return self.combine(puts, forgotten=forgotten, full=full)

    def restore(self, state: State) -> None:
        self.restore_progress(state)
        for port, side in enumerate(self.sides):
            held = self.reach.held[port]
            side.restore(state, after=EARLIEST - 1 if held is None else self.closed - held - 1)
            for frame in state.get(side.name, ())[:1]:
                self.columns.see(frame.drop(LABELS, strict=False), right=port == RIGHT)


_NONE = np.zeros(0, dtype=np.int64)
_END = MAX_TIME - 2**61
"""Watermarks from here on mean that an input has ended."""


def _behind(how: How, reach: Reach) -> int:
    """How far a result may lie behind the watermark: a late row's pair, or a row that waited in vain."""
    waits = [ms for keeps, ms in ((how.keeps_left, reach.held[0]), (how.keeps_right, reach.held[1])) if keeps]
    if how is How.SEMI:
        waits.append(reach.held[0])
    return max([*reach.late, *(ms for ms in waits if ms is not None)])

"""Session joins with a longest length: rows go into sessions in order of time, whatever order they came in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from thalweg.streams.batch import MIN_TIME, TIMESTAMP, Batch, Watermark
from thalweg.streams.engine.join_base import LEFT, RIGHT
from thalweg.streams.engine.join_session import ARRIVAL, JUDGED, SessionJoin
from thalweg.streams.engine.waiting_rows import WaitingRows
from thalweg.streams.operator import Memory, State, StateDelta
from thalweg.streams.plan.join_columns import JoinColumns


class LimitedSessionJoin(SessionJoin):
    """Rows wait until the watermark has passed them. A row behind the watermark that it is judged by is late."""

    def __init__(self, operator_id: str, columns: JoinColumns, gap: int, longest: int) -> None:
        super().__init__(operator_id, columns, gap, 0, longest)
        sides = (("waiting_left", columns.left_on), ("waiting_right", columns.right_on))
        self.waiting = [WaitingRows(name, keys, gap) for name, keys in sides]

    def on_batch(self, batch: Batch, port: int = 0) -> Iterator[Batch]:
        frame = self.received(batch, port)
        if not frame.height:
            return
        rows, late = self.split_late(frame, pl.col(TIMESTAMP) + 1)
        if rows.height:
            self.account.absorbed += rows.height
            self.waiting[port].hold(self.kept(rows))
        if late is not None:
            yield late

    def on_watermark(self, watermark: Watermark) -> Iterator[Batch]:
        if watermark.event_time > self.closed:
            self._release(watermark.event_time)
        yield from super().on_watermark(watermark)

    def _release(self, now: int) -> None:
        """Takes the waiting rows that the watermark has passed, those of both sides in one order of time."""
        ready = [(port, rows) for port in (LEFT, RIGHT) if (rows := self.waiting[port].release(now)) is not None]
        if not ready:
            return
        times = np.concatenate([rows[TIMESTAMP].to_numpy() for _, rows in ready])
        arrivals = np.empty(len(times), dtype=np.int64)
        arrivals[np.argsort(times, kind="stable")] = np.arange(self.arrived, self.arrived + len(times))
        parts = []
        for port, rows in ready:
            own, arrivals = np.split(arrivals, [rows.height])
            rows = rows.with_columns(pl.Series(ARRIVAL, own), pl.lit(MIN_TIME, dtype=pl.Int64).alias(JUDGED))
            side = self.sides[port]
            keys = side.keys(rows)
            slots = side.add(rows, keys, np.ascontiguousarray(rows[TIMESTAMP].to_numpy()))
            parts.append(self.placed(port, rows, keys, slots))
        self.go_on(pl.concat(parts).sort(ARRIVAL))

    def memory(self) -> Memory:
        return super().memory() + self.waiting[LEFT].log.memory() + self.waiting[RIGHT].log.memory()

    def other_state(self, *, full: bool) -> list[StateDelta]:
        return [waiting.log.snapshot(full=full) for waiting in self.waiting]

    def restore(self, state: State) -> None:
        super().restore(state)
        for port, waiting in enumerate(self.waiting):
            waiting.log.restore(state)
            for frame in waiting.frames():
                self.columns.see(frame, right=port == RIGHT)

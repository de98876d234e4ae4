"""The receiving end of an exchange edge, in one partition of the exchange topic."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import polars as pl

from thalweg.streams.batch import KEY_GROUP, MIN_TIME, PARTITION, SOURCE, WATERMARK, Batch
from thalweg.streams.engine.exchange.edges import ExchangeEdge
from thalweg.streams.engine.exchange.record import BEHIND_EXCHANGE, ExchangeRecord, Reached, Upstream
from thalweg.streams.operator import Operator, State, StateDelta

_SAVED = "upstreams"
_SCHEMA = {
    "origin": pl.String,
    "partition": pl.Int32,
    "watermark": pl.Int64,
    "idle": pl.Boolean,
    "by_clock": pl.Boolean,
    "lifted": pl.Boolean,
    "event_time": pl.Int64,
}


class UpstreamWatermarks:
    """How far the upstream partitions of an edge have come, and their minimum: the edge's watermark.

    An idle upstream partition is left out of the minimum. Its rows must not count as in time for what has closed
    without it, so while it is idle its watermark is *lifted* to the edge's, and rows that come later are judged by
    that (`floors`). All of it follows from the partition's own records, in their order: whoever reads them again comes
    to the same.

    Args:
        expected: everyone who may send; until each has said how far it is there is no watermark.
    """

    def __init__(self, expected: Iterable[Upstream]) -> None:
        self.event_time = MIN_TIME
        self.closed_by_clock = False
        self._state = {upstream: Reached(MIN_TIME) for upstream in expected}
        self._lifted: set[Upstream] = set()

    @property
    def all_idle(self) -> bool:
        return bool(self._state) and all(state.idle for state in self._state.values())

    @property
    def at_end(self) -> bool:
        """Whether everything that the broker had has come."""
        return all(state.at_end for state in self._state.values())

    def waited_for(self) -> dict[str, int]:
        """The lowest watermark of each origin, of its partitions that have something left to read."""
        lowest: dict[str, int] = {}
        for (origin, _), state in self._state.items():
            if not state.at_end:
                lowest[origin] = min(lowest.get(origin, state.watermark), state.watermark)
        return lowest

    def reached(self, news: Mapping[Upstream, Reached]) -> None:
        """Takes what a record says of its senders."""
        for upstream, state in news.items():
            before = self._state.get(upstream)
            if before is None:
                continue  # of a source that the program no longer has
            if state.watermark >= before.watermark:
                self._lifted.discard(upstream)
            else:
                state = state._replace(watermark=before.watermark)
            self._state[upstream] = state
        # Closed by the clock means quiet, but going on: its watermark counts.
        going = [state for state in self._state.values() if not state.idle or state.by_clock]
        if going:
            self.event_time = max(self.event_time, min(state.watermark for state in going))
            self.closed_by_clock = any(state.by_clock for state in going)
        self._lift(self.event_time, [upstream for upstream, state in self._state.items() if state.idle])

    def lift(self, event_time: int) -> None:
        """Brings all to at least `event_time`: the others that flow together with this edge have gone so far."""
        self._lift(event_time, list(self._state))

    def _lift(self, event_time: int, upstreams: Iterable[Upstream]) -> None:
        for upstream in upstreams:
            if self._state[upstream].watermark < event_time:
                self._state[upstream] = self._state[upstream]._replace(watermark=event_time)
                self._lifted.add(upstream)

    def floors(self) -> dict[Upstream, int]:
        """The watermark below which no row of a lifted upstream partition is judged."""
        return {upstream: self._state[upstream].watermark for upstream in self._lifted}

    def rows(self) -> list[tuple[str, int, int, bool, bool, bool, int]]:
        """Everything that a restart needs; see `_SCHEMA`."""
        return [
            (*upstream, state.watermark, state.idle, state.by_clock, upstream in self._lifted, self.event_time)
            for upstream, state in sorted(self._state.items())
        ]

    def restore(self, rows: Iterable[tuple[str, int, int, bool, bool, bool, int]]) -> None:
        """Takes back what `rows` gave."""
        for origin, partition, watermark, idle, by_clock, lifted, event_time in rows:
            self.event_time = max(self.event_time, event_time)
            if (origin, partition) in self._state:
                self._state[origin, partition] = Reached(watermark, idle, by_clock)
                if lifted:
                    self._lifted.add((origin, partition))


class ExchangeReader(Operator):
    """Gives the rows of an edge to the operators behind it.

    Args:
        topics: the job's source topics by index, for rows that carry the index (`__source`) or come from the only one.
        prefix: of the operator's id.
    """

    def __init__(
        self, edge: ExchangeEdge, expected: Iterable[Upstream], topics: tuple[str, ...], *, prefix: str = "exchange"
    ) -> None:
        super().__init__(f"{prefix}:{edge.id}")
        self.edge = edge
        self.watermarks = UpstreamWatermarks(expected)
        self._topics = topics
        self._saved: list[tuple[str, int, int, bool, bool, bool, int]] = []

    def accept(self, record: ExchangeRecord) -> pl.DataFrame | None:
        """The rows of a record, judged as they must be; then takes how far the senders are."""
        rows = record.rows
        if rows is not None and (floors := self.watermarks.floors()):
            rows = self._lifted(rows, floors)
        self.watermarks.reached(record.reached)
        return rows

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        self.account.received += len(batch)
        self.account.passed += len(batch)
        yield batch

    def _lifted(self, rows: pl.DataFrame, floors: Mapping[Upstream, int]) -> pl.DataFrame:
        if WATERMARK not in rows.columns:
            return rows
        own = pl.col(WATERMARK)
        floor = pl.lit(MIN_TIME, pl.Int64)
        for (origin, partition), watermark in floors.items():
            if (place := self._from(rows, origin, partition)) is not None:
                floor = pl.when(place).then(pl.lit(watermark, pl.Int64)).otherwise(floor)
        return rows.with_columns(pl.max_horizontal(own, floor).alias(WATERMARK))

    def _from(self, rows: pl.DataFrame, origin: str, partition: int) -> pl.Expr | None:
        """Which rows come from this upstream partition; None: rows that came out of state don't say."""
        if origin == BEHIND_EXCHANGE or PARTITION not in rows.columns:
            return None
        place = pl.col(PARTITION) == partition
        if SOURCE in rows.columns:
            return place & (pl.col(SOURCE) == self._topics.index(origin))
        return place

    def snapshot(self, *, full: bool = False) -> StateDelta:
        rows = self.watermarks.rows()
        if rows == self._saved and not full:
            return StateDelta()
        self._saved = rows
        frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
        # Placed by the task, not by key: the column is there because every state frame has one.
        frame = frame.with_columns(pl.lit(0, pl.UInt16).alias(KEY_GROUP))
        return StateDelta(drops=() if full else (_SAVED,), puts=((_SAVED, frame),), full=full)

    def restore(self, state: State) -> None:
        for frame in state.get(_SAVED, ()):
            self.watermarks.restore(frame.select(*_SCHEMA).iter_rows())
        self._saved = self.watermarks.rows()

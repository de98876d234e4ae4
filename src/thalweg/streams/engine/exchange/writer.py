"""The sending end of an exchange edge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from thalweg.streams.batch import PARTITION, Batch
from thalweg.streams.engine.exchange.edges import ExchangeEdge
from thalweg.streams.engine.exchange.record import Reached, Upstream, pack, runs_of_equal_columns
from thalweg.streams.operator import Operator
from thalweg.streams.state.key_groups import key_groups, warm_up

CHUNK = 800_000
"""Bytes of rows that one record aims at: below the 1 MB that a broker takes by default."""
_TARGET = "__target"


class ExchangeWriter(Operator):
    """Keeps rows until they are flushed: at each commit, or at once where the job is at-least-once.

    Args:
        edge: which rows these are, and by what they are placed.
        partitions: of the exchange topic.
        groups: how many key groups there are.
    """

    def __init__(self, edge: ExchangeEdge, partitions: int, groups: int) -> None:
        super().__init__(f"exchange-out:{edge.id}")
        self.edge = edge
        self.partitions = partitions
        self.pending_rows = 0
        self.pending_bytes = 0
        self._groups = groups
        self._pending: list[pl.DataFrame] = []
        self._told: dict[Upstream, Reached] = {}

    def warm_up(self) -> None:
        warm_up()

    def on_batch(self, batch: Batch, port: int = 0) -> Iterable[Batch]:
        self.account.received += len(batch)
        self.account.passed += len(batch)
        if batch:
            self._pending.append(batch.frame)
            self.pending_rows += len(batch)
            self.pending_bytes += int(batch.frame.estimated_size())
        return ()

    def has_news(self, reached: Mapping[Upstream, Reached]) -> bool:
        """Whether a flush would send anything."""
        return bool(self._pending) or bool(self.changed(reached))

    def changed(self, reached: Mapping[Upstream, Reached]) -> list[Upstream]:
        """The upstream partitions of which something else was told last."""
        return [upstream for upstream, state in reached.items() if self._told.get(upstream) != state]

    def flush(self, reached: Mapping[Upstream, Reached]) -> Iterator[tuple[int, bytes]]:
        """The records (target partition, payload) of all pending rows.

        How far the upstream partitions are goes to every target, with its last rows or without any: a reader's
        watermark is the minimum over all who could send to it.
        """
        rows = self._by_target()
        if not rows and not self.changed(reached):
            return
        self._told.update(reached)
        for target in range(self.partitions):
            pieces: list[pl.DataFrame | None] = [*rows.get(target, ())]
            for piece in pieces[:-1]:
                yield target, pack(self.edge.id, {}, piece)
            yield target, pack(self.edge.id, dict(reached), pieces[-1] if pieces else None)

    def take(self) -> list[pl.DataFrame]:
        """All pending rows as they are, for whoever hands them over without a topic."""
        frames, self._pending = self._pending, []
        self.pending_rows = self.pending_bytes = 0
        return list(runs_of_equal_columns(frames))

    def _by_target(self) -> dict[int, list[pl.DataFrame]]:
        rows: dict[int, list[pl.DataFrame]] = {}
        for frame in self.take():
            placed = frame.with_columns(self._targets(frame).alias(_TARGET))
            for part in placed.partition_by(_TARGET, maintain_order=True, include_key=True):
                rows.setdefault(int(part.item(0, _TARGET)), []).extend(_cut(part.drop(_TARGET)))
        return rows

    def _targets(self, frame: pl.DataFrame) -> pl.Series:
        if self.edge.keys is not None:
            return key_groups(frame, self.edge.keys, self._groups).cast(pl.Int64) * self.partitions // self._groups
        if PARTITION in frame.columns:
            return frame.get_column(PARTITION).cast(pl.Int64) % self.partitions
        return pl.Series([0], dtype=pl.Int64).new_from_index(0, frame.height)


def _cut(frame: pl.DataFrame) -> list[pl.DataFrame]:
    size = int(frame.estimated_size())
    if size <= CHUNK:
        return [frame]
    rows = max(1, frame.height * CHUNK // size)
    return [frame[start : start + rows] for start in range(0, frame.height, rows)]

"""How far a consumer has come in each partition, and whether that is the end by the broker's own evidence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from thalweg.records import RawRecords

TopicPartition = tuple[str, int]


class ReadingProgress:
    """Positions of what was handed out, and the ends that the broker reported."""

    def __init__(self) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}
        self._last = np.full(64, -1, dtype=np.int64)

    def restart(self, positions: Mapping[TopicPartition, int]) -> None:
        """Reading goes on from here; what was known of these partitions no longer holds."""
        for tp, position in positions.items():
            self._ends.pop(tp, None)
            self._positions.pop(tp, None)
            if position >= 0:  # else a logical offset: known with the first record or end
                self._positions[tp] = position

    def keep_only(self, partitions: frozenset[TopicPartition]) -> None:
        """Forgets all others."""
        self._positions = {tp: p for tp, p in self._positions.items() if tp in partitions}
        self._ends = {tp: end for tp, end in self._ends.items() if tp in partitions}

    def reached_end(self, tp: TopicPartition, offset: int) -> None:
        """The broker says that there is nothing at `offset` yet."""
        self._ends[tp] = offset
        self._positions.setdefault(tp, offset)

    def handed_out(self, raw: RawRecords) -> dict[int, int]:
        """Takes note of these records; returns the next offset of each of their partitions."""
        moved = self._moved(raw)
        self._positions |= {(raw.topic, partition): position for partition, position in moved.items()}
        return moved

    def positions(self) -> dict[TopicPartition, int]:
        return dict(self._positions)

    def ends(self) -> dict[TopicPartition, int]:
        return dict(self._ends)

    def reached_ends(self) -> dict[TopicPartition, int]:
        """The ends of the partitions that are caught up: behind them lie only transaction markers, if anything."""
        ends = self.ends()
        return {tp: ends[tp] for tp in self.caught_up() if tp in ends}

    def caught_up(self) -> frozenset[TopicPartition]:
        """Partitions in which nothing was handed out since the broker said "the end"."""
        positions = self._positions
        return frozenset(tp for tp, end in list(self._ends.items()) if positions.get(tp, -1) <= end)

    def _moved(self, raw: RawRecords) -> dict[int, int]:
        from thalweg.kafka._consume_kernels import last_rows

        while not last_rows(raw.partition, self._last):
            self._last = np.full(4 * len(self._last), -1, dtype=np.int64)
        found = np.flatnonzero(self._last >= 0)
        return dict(zip(found.tolist(), (raw.offset[self._last[found]] + 1).tolist(), strict=True))

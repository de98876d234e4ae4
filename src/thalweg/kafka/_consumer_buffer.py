"""Rows that were fetched and not yet given to the reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import polars as pl

from thalweg.kafka._held import HeldRecords
from thalweg.kafka.rows import OFFSET, PARTITION, TOPIC, KafkaRecord, RecordReader

TopicPartition = tuple[str, int]


class Buffer:
    """The rest of one fetched batch, and the position behind it (records that could not be read included)."""

    def __init__(self) -> None:
        self.held = HeldRecords()
        """Records behind it that can't be decoded yet."""
        self.clear()

    def clear(self) -> None:
        self.end: dict[TopicPartition, int] | None = None
        """The positions behind the batch, until somebody has been given all of it."""
        self._frame = pl.DataFrame()
        self._at = 0
        self._rows: Iterator[KafkaRecord] | None = None

    def put(self, frame: pl.DataFrame, end: Mapping[TopicPartition, int]) -> None:
        """The next batch, of one topic."""
        self.clear()
        self._frame, self.end = frame, dict(end)

    def __len__(self) -> int:
        return self._frame.height - self._at

    def take(self, most: int) -> tuple[pl.DataFrame, dict[TopicPartition, int]]:
        """Up to so many rows, and the positions behind them."""
        taken = self._frame.slice(self._at, most)
        if self._at + taken.height == self._frame.height:
            end = self.end or {}
            self.clear()
            return taken, end
        self._at += taken.height
        self._rows = None
        last = taken.group_by(TOPIC, PARTITION).agg(pl.col(OFFSET).max() + 1)
        return taken, {(topic, partition): offset for topic, partition, offset in last.iter_rows()}

    def next_row(self, reader: RecordReader) -> KafkaRecord | None:
        if not self:
            return None
        if self._rows is None:
            self._rows = reader.records(self._frame.slice(self._at))
        self._at += 1
        return next(self._rows)

    def drop(self, partitions: Iterable[TopicPartition]) -> None:
        """These are read from elsewhere, or by others: what was fetched of them is void."""
        partitions = list(partitions)
        self.held.drop(partitions)
        if self.end is None:
            return
        for tp in partitions:
            self.end.pop(tp, None)
        gone = pl.DataFrame(partitions, schema={TOPIC: pl.String, PARTITION: pl.Int32}, orient="row")
        self._frame = self._frame.slice(self._at).join(gone, on=[TOPIC, PARTITION], how="anti", maintain_order="left")
        self._at, self._rows = 0, None

"""The exchange of a running worker: what comes out of the topic, and what goes into it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from thalweg.formats import open_format
from thalweg.streams.batch import OFFSET, PARTITION
from thalweg.streams.connector import SinkWrite, SourceBatch, TopicPartition
from thalweg.streams.engine.exchange.record import unpack
from thalweg.streams.engine.exchange.tasks import ScaledDataflow, Send
from thalweg.streams.engine.job_outputs import JobOutputs
from thalweg.streams.engine.prefetch import Prefetcher

RECORDS_PER_POLL = 64
"""A record holds up to 800 KB of rows: so many are one batch's worth of work."""
QUEUED_RECORDS = 512
_VALUE = "value"


def sender(topic: str, outputs: JobOutputs) -> Send:
    """What the writers send their records by: they leave with the job's other output."""
    encoder = open_format("raw").encoder()

    def send(records: Sequence[tuple[int, bytes]]) -> None:
        frame = pl.DataFrame({_VALUE: [payload for _, payload in records]}, schema={_VALUE: pl.Binary})
        targets = pl.Series([partition for partition, _ in records], dtype=pl.Int32)
        outputs.exchange(SinkWrite(topic, frame, encoder, partitions=targets))

    return send


class ExchangeTraffic:
    """Feeds the tasks from the topic, and flushes the writers into it.

    Args:
        prefetcher: reads the exchange topic.
        sources: read the job's source topics.
    """

    def __init__(
        self, topic: str, dataflow: ScaledDataflow, prefetcher: Prefetcher, sources: Mapping[str, Prefetcher]
    ) -> None:
        self.topic = topic
        self.dataflow = dataflow
        self.prefetcher = prefetcher
        self._sources = sources

    def process(self) -> list[SourceBatch]:
        """Gives the tasks what has come; returns what that was."""
        batches = self.prefetcher.take(RECORDS_PER_POLL)
        for batch in batches:
            for records in batch.frame.partition_by(PARTITION, maintain_order=True):
                partition = int(records.item(0, PARTITION))
                where = f"topic {self.topic!r} [{partition}]"
                rows = records.select(_VALUE, OFFSET).iter_rows()
                self.dataflow.receive(
                    partition, [unpack(payload, f"{where}, offset {offset}") for payload, offset in rows]
                )
        return batches

    @property
    def has_news(self) -> bool:
        """Whether a flush would send anything."""
        return self.dataflow.news(self._at_end())

    def flush(self) -> set[TopicPartition]:
        """Sends what waits in the writers; returns the source partitions of which something was told."""
        return self.dataflow.flush(self._at_end())

    @property
    def done(self) -> bool:
        """Whether everything that the broker had has come through, and out of, this worker's tasks."""
        partitions = self.dataflow.tasks.keys()
        return self.dataflow.at_end and self.prefetcher.caught_up().issuperset(partitions) and not self.has_news

    def _at_end(self) -> dict[str, frozenset[int]]:
        return {topic: prefetcher.caught_up() for topic, prefetcher in self._sources.items()}

"""The exchange of a running worker: what comes out of the topic, and what goes into it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

import polars as pl

from thalweg.formats import open_format
from thalweg.streams.batch import MIN_TIME, OFFSET, PARTITION
from thalweg.streams.connector import SinkWrite, SourceBatch, TopicPartition
from thalweg.streams.engine.exchange.record import BARRIER, ExchangeRecord, Reached, pack, unpack
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
        send: puts records into the topic.
    """

    def __init__(
        self,
        topic: str,
        dataflow: ScaledDataflow,
        prefetcher: Prefetcher,
        sources: Mapping[str, Prefetcher],
        send: Send,
    ) -> None:
        self.topic = topic
        self.dataflow = dataflow
        self.prefetcher = prefetcher
        self._sources = sources
        self._send = send
        self._token = uuid.uuid4().hex
        self._barriers: set[int] | None = None
        """The partitions from which the barrier that was sent last is yet to come back; None: none was sent."""
        self._sent_since = False

    def process(self) -> list[SourceBatch]:
        """Gives the tasks what has come; returns what that was."""
        batches = self.prefetcher.take(RECORDS_PER_POLL)
        for batch in batches:
            for records in batch.frame.partition_by(PARTITION, maintain_order=True):
                partition = int(records.item(0, PARTITION))
                where = f"topic {self.topic!r} [{partition}]"
                rows = records.select(_VALUE, OFFSET).iter_rows()
                unpacked = [unpack(payload, f"{where}, offset {offset}") for payload, offset in rows]
                self.dataflow.receive(partition, [r for r in unpacked if not self._came_back(r, partition)])
        return batches

    def _came_back(self, record: ExchangeRecord, partition: int) -> bool:
        """Whether a record is a barrier (of whomever); takes note of our own."""
        if record.edge != BARRIER:
            return False
        if self._barriers is not None and (self._token, partition) in record.reached:
            self._barriers.discard(partition)
        return True

    @property
    def awaits_barrier(self) -> bool:
        """Whether a barrier is on its way."""
        return bool(self._barriers)

    def at_rest(self) -> bool:
        """Whether nothing is under way in the topic; asked at a commit, after its flush, by a worker who is alone.

        Records keep their order within a partition, and none is read before the transaction that wrote it is over. So
        where a barrier has come back from all partitions and nothing was sent since, all that was sent was taken in.
        Where that is not known yet, the commit takes a barrier along.
        """
        if self._barriers is not None and not self._barriers and not self._sent_since:
            return True
        if not self._barriers:
            partitions = sorted(self.dataflow.tasks)
            self._send([(p, pack(BARRIER, {(self._token, p): Reached(MIN_TIME)}, None)) for p in partitions])
            self._barriers, self._sent_since = set(partitions), False
        return False

    @property
    def has_news(self) -> bool:
        """Whether a flush would send anything."""
        return self.dataflow.news(self._at_end())

    def flush(self) -> set[TopicPartition]:
        """Sends what waits in the writers; returns the source partitions of which something was told."""
        if self._barriers is not None:
            self._sent_since = self._sent_since or self.has_news
        return self.dataflow.flush(self._at_end())

    @property
    def done(self) -> bool:
        """Whether everything that the broker had has come through, and out of, this worker's tasks."""
        partitions = self.dataflow.tasks.keys()
        return self.dataflow.at_end and self.prefetcher.caught_up().issuperset(partitions) and not self.has_news

    def _at_end(self) -> dict[str, frozenset[int]]:
        return {topic: prefetcher.caught_up() for topic, prefetcher in self._sources.items()}

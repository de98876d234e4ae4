"""Backpressure: how much waits in a job's queues, and when processing has to wait for them."""

from __future__ import annotations

import time
from collections.abc import Sequence

from thalweg.streams.engine.commits import CommitPipeline
from thalweg.streams.engine.exchange.tasks import ScaledDataflow
from thalweg.streams.engine.job_outputs import JobOutputs
from thalweg.streams.engine.prefetch import Prefetcher
from thalweg.streams.engine.status import PressureStatus

PENDING_BATCHES = 8
"""How many full batches of output may wait for the commit before processing pauses."""
PENDING_BYTES = 256 * 1024 * 1024
"""How large that output may grow."""


class Pressure:
    """Watches the queues of one attempt: what was read ahead, and what waits for the next commit.

    Args:
        exchange: whose writers hold rows on their way to other workers.
    """

    def __init__(
        self,
        outputs: JobOutputs,
        pipeline: CommitPipeline,
        readers: Sequence[Prefetcher],
        exchange: ScaledDataflow | None,
        max_batch_rows: int,
    ) -> None:
        self.limit = PENDING_BATCHES * max_batch_rows
        self._outputs = outputs
        self._pipeline = pipeline
        self._readers = readers
        self._exchange = exchange
        self._since: float | None = None
        self._stalled_ms = 0.0

    @property
    def rows(self) -> int:
        """Rows that wait for the next commit: output, and rows on their way to other workers."""
        return self._outputs.pending_rows + (self._exchange.pending_rows if self._exchange is not None else 0)

    @property
    def bytes(self) -> int:
        """How large they are in memory."""
        return self._outputs.pending_bytes + (self._exchange.pending_bytes if self._exchange is not None else 0)

    @property
    def full(self) -> bool:
        """Whether no more may be put out before the next commit."""
        return self.rows > self.limit or self.bytes > PENDING_BYTES

    @property
    def stalled(self) -> bool:
        """Whether processing waits for the commit under way: nothing more fits behind it."""
        return self._pipeline.busy and self.full

    def watch(self) -> None:
        """Counts how long it has been so; called once a round."""
        now = time.monotonic()
        if self._since is not None:
            self._stalled_ms += (now - self._since) * 1000
        self._since = now if self.stalled else None

    def status(self) -> PressureStatus:
        """All of it, for the job's status."""
        return PressureStatus(
            self.stalled,
            self._stalled_ms,
            self.rows,
            self.bytes,
            self.limit,
            sum(reader.queued for reader in self._readers),
            sum(reader.queued_bytes for reader in self._readers),
            sum(reader.capacity for reader in self._readers),
        )

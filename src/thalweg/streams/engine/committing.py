"""The part of a session that commits: when, what, and what becomes of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from thalweg.errors import ConnectorError
from thalweg.faults import fault_point
from thalweg.streams.batch import MIN_TIME
from thalweg.streams.connector import TopicPartition
from thalweg.streams.engine.commits import Epoch
from thalweg.streams.engine.exchange.tasks import ScaledDataflow
from thalweg.streams.engine.prefetch import FEW
from thalweg.streams.engine.requests import Boundary
from thalweg.streams.engine.snapshots import Upload
from thalweg.streams.engine.state_codec import PlacedDelta, touched_places

if TYPE_CHECKING:
    from thalweg.streams.engine.checkpointing import Checkpointing
    from thalweg.streams.engine.commits import CommitPipeline
    from thalweg.streams.engine.dataflow import Dataflow
    from thalweg.streams.engine.exchange.traffic import ExchangeTraffic
    from thalweg.streams.engine.job_outputs import JobOutputs
    from thalweg.streams.engine.prefetch import Prefetcher
    from thalweg.streams.engine.pressure import Pressure
    from thalweg.streams.engine.progress import Progress
    from thalweg.streams.engine.recovery import Recovery
    from thalweg.streams.engine.settings import SessionSettings
    from thalweg.streams.engine.status import Latencies

EARLY_PAUSE = 0.25
"""Commit intervals from one commit that came early to the next, at least."""


class Committing:
    """Mixin of `Session`."""

    if TYPE_CHECKING:
        settings: SessionSettings
        clock: Callable[[], int]
        pipeline: CommitPipeline
        checkpointing: Checkpointing
        dataflow: Dataflow | ScaledDataflow
        exchange: ExchangeTraffic | None
        outputs: JobOutputs
        pressure: Pressure
        progress: Progress
        recovery: Recovery
        latencies: Latencies
        prefetchers: dict[str, Prefetcher]
        alone: bool
        _readers: list[Prefetcher]
        _changed: bool
        _emitted: int
        _fulls: deque[tuple[int, float]]
        _last_commit: float
        _last_early: float
        _number: int
        _oldest_ingested: int | None
        _told: set[TopicPartition]

    def commit_if_due(self) -> None:
        """Starts a commit when it is time and something changed, or as much output as may has piled up."""
        self._watch_timeout()
        self.pressure.watch()
        if self.pipeline.busy:
            return
        asked = self.settings.requests.waiting and not self._awaits_rest and (self.pipeline.idle or not self.draining)
        if self.pressure.full or self.commit_in() <= 0 or asked:
            self._start_commit()

    @property
    def draining(self) -> bool:
        """Whether all state is asked for and rows may be under way between workers: nothing new is read meanwhile."""
        return self.exchange is not None and self.alone and self.settings.requests.wants_all

    @property
    def _awaits_rest(self) -> bool:
        """Whether it is yet to be seen that nothing is under way."""
        return self.draining and self.exchange is not None and self.exchange.awaits_barrier

    def commit_in(self) -> float:
        """Seconds until the next commit may start.

        Output does not wait for the end of the interval where little is left to process: what a batch has put out is
        complete then. One such early commit makes the next wait, so that a steady trickle of output costs a bounded
        number of commits.
        """
        now, interval = time.monotonic(), self.settings.commit_interval / 1000
        due = self._last_commit + interval
        if self.outputs.pending_rows and sum(reader.queued for reader in self._readers) < FEW:
            pause = max(interval * EARLY_PAUSE, 2 * self.pipeline.figures.last_ms / 1000)
            due = min(due, self._last_early + pause)
        return due - now

    def _watch_timeout(self) -> None:
        since = self.pipeline.busy_since
        limit = self.settings.checkpoint.timeout
        if since is not None and (time.monotonic() - since) * 1000 > limit:
            raise ConnectorError(f"a commit is not durable after {limit} ms (CheckpointConfig.timeout)")

    def _start_commit(self) -> None:
        now = time.monotonic()
        if now < self._last_commit + self.settings.commit_interval / 1000:
            self._last_early = now
        self._last_commit = now
        requests = self.settings.requests
        # A barrier goes out when all that was sent is committed: two producers may send at a time.
        wants_all = requests.wants_all and not self._awaits_rest and (self.pipeline.idle or not self.draining)
        if not self.progress.positions or not (self.uncommitted or wants_all):
            state = self.dataflow.placed_snapshot(full=True) if wants_all else ()
            requests.answer(self._boundary(state), self.pipeline.submitted, whole=wants_all)
            requests.confirm(self.pipeline.durable)
            return
        if self.exchange is not None:
            self._told |= self.exchange.flush()
            wants_all = wants_all and (not self.alone or self.exchange.at_rest())
        largest = self._largest()
        due, beside = self.checkpointing.due(now, self.pipeline.figures), self.pipeline.snapshots is not None
        full = wants_all or self.checkpointing.forced or (due and not beside)
        deltas = self.dataflow.placed_snapshot(full=full)
        upload = self._upload(now) if due and not full else None
        if full:
            self.checkpointing.started(now)
            self._fulls.append((self.pipeline.submitted + 1, now))
            places = self.dataflow.tasks if isinstance(self.dataflow, ScaledDataflow) else (None,)
            deltas = self.recovery.void(deltas, places)
        writes = self.outputs.take()
        fault_point("engine.captured")
        partitions = touched_places(deltas, self.settings.job.state_partitions, self.settings.key_groups)
        epochs = self.progress.epochs(largest, partitions, bool(writes), self._told)
        self._changed, self._emitted, self._told = False, self._all_emitted(), set()
        self._number += 1
        self.pipeline.submit(Epoch(epochs, writes, deltas, full, self._number, self._take_oldest(), upload))
        self.progress.confirm(epochs)
        requests.answer(self._boundary(deltas), self.pipeline.submitted, whole=wants_all)

    def _upload(self, now: float) -> Upload:
        """All state as of this boundary, once more, to be written beside the commits: deltas stand without it."""
        self.checkpointing.started(now)
        return Upload(self.dataflow.placed_snapshot(full=True), now)

    def _boundary(self, deltas: Sequence[PlacedDelta]) -> Boundary:
        partitions, groups = self.settings.job.state_partitions, self.settings.key_groups
        exchange = None if self.exchange is None else self.exchange.topic
        committed = dict(self.progress.committed)
        return Boundary(self.dataflow, committed, deltas, partitions, groups, self.alone, exchange)

    @property
    def uncommitted(self) -> bool:
        """Whether there is anything to commit: rows taken in or put out. A watermark that time alone has moved is not:
        it is committed with what it lets go."""
        if self._changed or self.outputs.pending_rows > 0 or self._all_emitted() != self._emitted:
            return True
        return bool(self._told) or (self.exchange is not None and self.exchange.has_news)

    def _all_emitted(self) -> int:
        return sum(stage.emitted for stage in self.dataflow.stages)

    def _take_oldest(self) -> int | None:
        oldest, self._oldest_ingested = self._oldest_ingested, None
        return oldest

    def _largest(self) -> dict[TopicPartition, int]:
        largest = {
            (topic, p): value
            for topic in self.prefetchers
            for p, value in self.dataflow.source(topic).watermarks.committed().items()
        }
        if self.exchange is not None:  # its partitions have no time of their own: readers keep that in their state
            largest |= {(self.exchange.topic, p): MIN_TIME for p in self.exchange.dataflow.tasks}
        return largest

    def _book_commits(self) -> None:
        while self._fulls and self.pipeline.durable >= self._fulls[0][0]:
            self.checkpointing.ended(time.monotonic(), self._fulls.popleft()[1])
        for upload, durable in self.pipeline.ended_snapshots():
            (self.checkpointing.ended if durable else self.checkpointing.abandoned)(time.monotonic(), upload.since)
        finished, self.pipeline.figures.finished = self.pipeline.figures.finished, []
        for ended, oldest in finished:
            if oldest is not None:
                since = (time.monotonic() - ended) * 1000
                self.latencies.add(self.clock() - since - oldest)
        self.settings.requests.confirm(self.pipeline.durable)

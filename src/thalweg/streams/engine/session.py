"""One attempt of a job: opens everything, goes on from the last commit, processes until told to end or it fails."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature

import polars as pl

from thalweg.errors import ConnectorError
from thalweg.records import Decoder
from thalweg.streams.batch import INGESTED
from thalweg.streams.checkpoints import CheckpointConfig
from thalweg.streams.connector import Broker, Committer, JobSettings, Recovered, Source, SourceBatch, TopicPartition
from thalweg.streams.engine.checkpointing import Checkpointing
from thalweg.streams.engine.commits import CommitPipeline, Epoch
from thalweg.streams.engine.dataflow import Dataflow
from thalweg.streams.engine.job_outputs import JobOutputs
from thalweg.streams.engine.lower import lower
from thalweg.streams.engine.prefetch import Prefetcher
from thalweg.streams.engine.progress import Progress
from thalweg.streams.engine.recovery import Recovery
from thalweg.streams.engine.requests import Boundary, Requests
from thalweg.streams.engine.state_codec import touched
from thalweg.streams.engine.status import Latencies, StateStatus
from thalweg.streams.operator import Memory, StateDelta
from thalweg.streams.plan.graph import Plan
from thalweg.streams.plan.sink import SinkNode
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.savepoints import Savepoint
from thalweg.streams.state.pool import using
from thalweg.streams.watermarks import PartitionWatermarks

logger = logging.getLogger(__name__)

MEASURE_EVERY = 1.0
"""Seconds between two looks at how much state the operators hold."""
TICK_MS = 50
"""How often operators learn the time while nothing comes."""
QUEUED_BATCHES = 4
"""How many full batches a source may be read ahead."""
PENDING_BATCHES = 8
"""How many full batches of output may wait for the commit before processing pauses."""
PENDING_BYTES = 256 * 1024 * 1024
"""How large that output may grow."""


@dataclass(frozen=True)
class SessionSettings:
    """What a session needs to know of its app."""

    job: JobSettings
    commit_interval: int
    checkpoint: CheckpointConfig
    max_batch_rows: int
    late_to_dead_letters: bool
    forget_state: tuple[str, ...]
    key_groups: int = 128
    requests: Requests = field(default_factory=Requests)
    """What other threads ask of the job."""
    savepoint: Savepoint | None = None
    """Where to start instead of at the last commit."""


class Session:
    """The sources, operators and commit pipeline of one attempt.

    Args:
        plan: what to run.
        broker: where its topics are.
        settings: of the app.
        clock: the job's clock, ms UTC.
        wake: set whenever there may be something to do.
    """

    def __init__(
        self, plan: Plan, broker: Broker, settings: SessionSettings, clock: Callable[[], int], wake: threading.Event
    ) -> None:
        self.plan = plan
        self.settings = settings
        self.clock = clock
        self.wake = wake
        self.latencies = Latencies()
        self.received = dict.fromkeys((source.topic for source in plan.sources), 0)
        self.memory: dict[str, Memory] = {}
        """What each stateful operator holds, as of the last second."""
        self._broker = broker
        self._next_measure = 0.0
        self._stack = ExitStack()
        self._last_commit = 0.0
        self._last_tick = 0
        self._emitted = 0
        self._oldest_ingested: int | None = None
        self._changed = False
        self._number = 0
        self._checkpoints = 0

    # -- opening

    def open(self) -> None:
        """Connects, recovers, and starts to read.

        Raises:
            ConnectorError, StateError, PlanError: what is wrong, before anything runs.
        """
        self._ensure_sinks()
        with _timed("decoders"):
            sources = {node.topic: self._open_source(node) for node in self.plan.sources}
        partitions: dict[str, Sequence[int]] = {topic: source.open() for topic, source in sources.items()}
        owned = [(topic, p) for topic, numbers in partitions.items() for p in numbers]
        job = self.settings.job
        job.state_partitions = max((len(numbers) for numbers in partitions.values()), default=1) or 1
        self.committer: Committer = self._broker.committer(job, list(sources.values()))
        self._stack.callback(self.committer.close)
        self.recovery = Recovery(self.committer.recover(owned), self.settings.savepoint)
        recovered, self._changed = self.recovery.recovered, self.recovery.resumed
        self.outputs = self._make_outputs()
        self.dataflow = self._make_dataflow(partitions, recovered)
        self.progress = Progress(owned, recovered.epochs)
        self._restore()
        for topic, source in sources.items():
            source.seek({p: e.position for (t, p), e in recovered.epochs.items() if t == topic})
        self.prefetchers = {topic: self._prefetch(source) for topic, source in sources.items()}
        self._tick()
        self._last_commit = time.monotonic()

    def _open_source(self, node: SourceNode) -> Source:
        decoder = decoder_of(node, self.plan.required[node])
        job = replace(self.settings.job, start=node.start)
        source = self._broker.source(node.topic, decoder, job, broker_timestamps=node.has_broker_time)
        self._stack.callback(source.close)
        return source

    def _ensure_sinks(self) -> None:
        for node in self.plan.nodes:
            if isinstance(node, SinkNode):
                self._broker.ensure_topic(node.topic, node.partitions)

    def _make_outputs(self) -> JobOutputs:
        from thalweg.formats import open_format

        return JobOutputs(
            self.committer,
            self.settings.job.guarantee,
            ensure_topic=self._broker.ensure_topic,
            raw_encoder=open_format("raw").encoder(),
            fallback_topic=self.settings.job.name,
            late_to_dead_letters=self.settings.late_to_dead_letters,
        )

    def _make_dataflow(self, partitions: Mapping[str, Sequence[int]], recovered: Recovered) -> Dataflow:
        job = self.settings.job
        self.pool = self.settings.checkpoint.backend.open(job.name, job.slot)
        self._stack.callback(self.pool.close)
        with using(self.pool):
            dataflow = lower(
                self.plan,
                self.outputs,
                job_name=job.name,
                key_groups=self.settings.key_groups,
                options={"wake": self.wake},
            )
        self._stack.callback(dataflow.close)
        started = time.monotonic()
        dataflow.warm_up()
        if (elapsed := time.monotonic() - started) > 1:
            logger.info("compiled the kernels in %.1f s; the next start finds them in the cache", elapsed)
        now = self.clock()
        for node in self.plan.sources:
            watermarks = PartitionWatermarks(
                partitions[node.topic],
                node.watermark.max_out_of_orderness,
                idle_timeout=node.idle_timeout,
                close_idle_after=node.close_idle_after,
                clock=now,
            )
            watermarks.restore({p: e.max_timestamp for (t, p), e in recovered.epochs.items() if t == node.topic})
            dataflow.source(node.topic).watermarks = watermarks
        return dataflow

    def _restore(self) -> None:
        recovery, job = self.recovery, self.settings.job
        known = [stage.operator.id for stage in self.dataflow.stages if stage.stateful]
        self.dataflow.set_clock(self.clock())
        self.dataflow.restore(recovery.check(known, self.settings.forget_state, job.name))
        self.pipeline = CommitPipeline(
            self.committer, job.state_partitions, recovery.partitions, self.settings.key_groups, self.wake
        )
        self._stack.callback(self._stop_pipeline)
        self.checkpointing = Checkpointing(
            self.settings.checkpoint,
            time.monotonic(),
            recovered_bytes=recovery.log.size,
            forced=recovery.forces_checkpoint(job.state_partitions),
        )

    def _prefetch(self, source: Source) -> Prefetcher:
        rows = self.settings.max_batch_rows
        prefetcher = Prefetcher(source, self.wake, max_rows=rows, capacity=rows * QUEUED_BATCHES)
        self._stack.callback(prefetcher.stop)
        prefetcher.start()
        return prefetcher

    # -- running

    def step(self) -> bool:
        """Processes what has come and commits if it is time; false if there was nothing to process."""
        self.check()
        busy = self._process()
        now = self.clock()
        if busy or now - self._last_tick >= TICK_MS:
            self._tick()
        self._book_commits()
        self.commit_if_due()
        return busy

    def check(self) -> None:
        """Raises what happened on the other threads."""
        self.pipeline.check()
        for prefetcher in self.prefetchers.values():
            if prefetcher.error is not None:
                raise prefetcher.error

    def _process(self) -> bool:
        """One batch of each source that has something, the one that is furthest behind first."""
        if self.dataflow.congested:
            return False
        behind = sorted(self.prefetchers, key=lambda topic: self.dataflow.source(topic).watermarks.event_time)
        processed = [self._process_source(topic) for topic in behind]
        return any(processed)

    def _process_source(self, topic: str) -> bool:
        batches = self.prefetchers[topic].take(self.settings.max_batch_rows)
        if not batches:
            return False
        frame, dead = joined(batches)
        self.dataflow.set_clock(self.clock())
        self.dataflow.push(topic, frame, dead)
        for batch in batches:
            self.progress.moved(topic, batch.positions)
            self.received[topic] += batch.received
        self._changed = True
        self._note_ingested(frame)
        self._advance_source(topic)
        return True

    def _note_ingested(self, frame: pl.DataFrame) -> None:
        if frame.height and INGESTED in frame.columns:
            oldest = int(frame.get_column(INGESTED).min())  # type: ignore[arg-type]
            before = self._oldest_ingested
            self._oldest_ingested = oldest if before is None else min(before, oldest)

    def _advance_source(self, topic: str) -> None:
        self.dataflow.source(topic).watermarks.advance(self.clock(), self.prefetchers[topic].caught_up())

    def _tick(self) -> None:
        """Brings the time and all watermarks to all operators."""
        self._last_tick = now = self.clock()
        for topic in self.prefetchers:
            self._advance_source(topic)
        self.dataflow.set_clock(now)
        self.dataflow.advance(now)
        if self.settings.job.guarantee == "at-least-once" and self._oldest_ingested is not None:
            self.latencies.add(self.clock() - self._oldest_ingested)
            self._oldest_ingested = None

    def _book_commits(self) -> None:
        if self.pipeline.figures.checkpoints != self._checkpoints:
            self._checkpoints = self.pipeline.figures.checkpoints
            self.checkpointing.ended(time.monotonic())
        finished, self.pipeline.figures.finished = self.pipeline.figures.finished, []
        for ended, oldest in finished:
            if oldest is not None:
                since = (time.monotonic() - ended) * 1000
                self.latencies.add(self.clock() - since - oldest)
        if not self.pipeline.busy and self.pipeline.error is None:
            self.settings.requests.confirm()

    def measure_memory(self, now: float) -> None:
        """Looks at how much state the operators hold, about once a second."""
        if now >= self._next_measure:
            self._next_measure = now + MEASURE_EVERY
            stages = self.dataflow.stages
            self.memory = {stage.operator.id: stage.operator.memory() for stage in stages if stage.stateful}

    def state_status(self) -> StateStatus:
        """Working state and its backend."""
        pool, kind = self.pool, self.settings.checkpoint.backend.kind
        return StateStatus(kind, pool.limit, pool.resident_bytes, pool.spilled_bytes, pool.loaded_bytes)

    def has_queued(self) -> bool:
        """Whether a source has something that is not processed yet."""
        return not self.dataflow.congested and any(prefetcher.queued for prefetcher in self.prefetchers.values())

    def caught_up(self) -> bool:
        """Whether everything that the broker had is processed."""
        return not self.dataflow.under_way() and all(
            prefetcher.caught_up().issuperset(self.dataflow.source(topic).watermarks.partitions)
            for topic, prefetcher in self.prefetchers.items()
        )

    # -- committing

    def commit_if_due(self) -> None:
        """Starts a commit when it is time and something changed; waits for the last one where output piles up."""
        self._watch_timeout()
        rows = PENDING_BATCHES * self.settings.max_batch_rows
        full = self.outputs.pending_rows > rows or self.outputs.pending_bytes > PENDING_BYTES
        if self.pipeline.busy and not full:
            return
        if full:
            self.pipeline.wait(self.settings.checkpoint.timeout / 1000)
        if full or self.commit_in() <= 0 or self.settings.requests.waiting:
            self._start_commit()

    def commit_in(self) -> float:
        """Seconds until the next commit may start."""
        return self._last_commit + self.settings.commit_interval / 1000 - time.monotonic()

    def _watch_timeout(self) -> None:
        since = self.pipeline.busy_since
        limit = self.settings.checkpoint.timeout
        if since is not None and (time.monotonic() - since) * 1000 > limit:
            raise ConnectorError(f"a commit is not durable after {limit} ms (CheckpointConfig.timeout)")

    def _start_commit(self) -> None:
        now = time.monotonic()
        self._last_commit = now
        requests = self.settings.requests
        if not self.progress.positions or not (self.uncommitted or requests.wants_all):
            requests.answer(self._boundary(self.dataflow.snapshot(full=True) if requests.wants_all else {}))
            requests.confirm()
            return
        largest = self._largest()
        full = self.checkpointing.due(now, self.pipeline.figures) or requests.wants_all
        deltas = self.dataflow.snapshot(full=full)
        if full:
            self.checkpointing.started(now)
            deltas = self.recovery.void(deltas)
        writes = self.outputs.take()
        partitions = touched(deltas.values(), self.settings.job.state_partitions, self.settings.key_groups)
        epochs = self.progress.epochs(largest, partitions, bool(writes))
        self._changed, self._emitted = False, self._all_emitted()
        self._number += 1
        self.pipeline.submit(Epoch(epochs, writes, deltas, full, self._number, self._take_oldest()))
        self.progress.confirm(epochs)
        requests.answer(self._boundary(deltas))

    def _boundary(self, deltas: Mapping[str, StateDelta]) -> Boundary:
        partitions, groups = self.settings.job.state_partitions, self.settings.key_groups
        return Boundary(self.dataflow, dict(self.progress.committed), deltas, partitions, groups)

    @property
    def uncommitted(self) -> bool:
        """Whether there is anything to commit: rows taken in or put out. A watermark that time alone has moved is not:
        it is committed with what it lets go."""
        return self._changed or self.outputs.pending_rows > 0 or self._all_emitted() != self._emitted

    def _all_emitted(self) -> int:
        return sum(stage.emitted for stage in self.dataflow.stages)

    def _take_oldest(self) -> int | None:
        oldest, self._oldest_ingested = self._oldest_ingested, None
        return oldest

    def _largest(self) -> dict[TopicPartition, int]:
        return {
            (topic, p): value
            for topic in self.prefetchers
            for p, value in self.dataflow.source(topic).watermarks.committed().items()
        }

    # -- ending

    def finish(self) -> None:
        """Commits everything that was processed."""
        self._next_measure = 0.0
        timeout = self.settings.checkpoint.timeout / 1000
        if not self.pipeline.wait(timeout):
            raise ConnectorError(f"the last commit is not durable after {self.settings.checkpoint.timeout} ms")
        self._tick()
        self._start_commit()
        if not self.pipeline.wait(timeout):
            raise ConnectorError(f"the final commit is not durable after {self.settings.checkpoint.timeout} ms")
        self._book_commits()

    def _stop_pipeline(self) -> None:
        if not self.pipeline.stop():
            logger.error("the commit on its way did not end; leaving it")

    def close(self) -> None:
        """Stops all threads and closes everything; commits nothing."""
        self._stack.close()


@contextmanager
def _timed(what: str) -> Iterator[None]:
    """Says so where kernels had to be compiled."""
    started = time.monotonic()
    yield
    if (elapsed := time.monotonic() - started) > 1:
        logger.info("made the %s ready in %.1f s; the next start finds compiled kernels in the cache", what, elapsed)


def decoder_of(node: SourceNode, columns: frozenset[str] | None) -> Decoder:
    """The decoder of a source, for the columns that the plan reads.

    Where the format checks required fields itself it does so with the record at hand; the source stage checks in any
    case.
    """
    from thalweg.formats import open_format

    make: Callable[..., Decoder] = open_format(node.format, node.topic).decoder
    options = {"required": node.required} if "required" in signature(make).parameters else {}
    return make(node.schema, columns, **options)


def joined(batches: Sequence[SourceBatch]) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The rows and the dead letters of several polls as one frame each."""
    frames = [batch.frame for batch in batches if batch.frame.height]
    dead = [batch.dead for batch in batches if batch.dead is not None and batch.dead.height]
    if not frames:
        frame = batches[0].frame
    elif len(frames) == 1:
        frame = frames[0]
    elif all(other.schema == frames[0].schema for other in frames):
        frame = pl.concat(frames)
    else:
        frame = pl.concat(frames, how="diagonal_relaxed")  # the schema evolved on the way
    return frame, pl.concat(dead) if dead else None

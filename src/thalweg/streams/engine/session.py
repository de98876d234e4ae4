"""One attempt of a job: opens everything, goes on from the last commit, processes until told to end or it fails."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

import polars as pl

from thalweg.errors import ConnectorError
from thalweg.faults import fault_point
from thalweg.streams.batch import INGESTED
from thalweg.streams.connector import Broker, Committer, Source, TopicPartition
from thalweg.streams.engine.checkpointing import Checkpointing
from thalweg.streams.engine.commits import CommitPipeline
from thalweg.streams.engine.committing import Committing
from thalweg.streams.engine.drift import drift_of
from thalweg.streams.engine.exchange.tasks import ScaledDataflow
from thalweg.streams.engine.exchange.traffic import QUEUED_RECORDS, RECORDS_PER_POLL, ExchangeTraffic, sender
from thalweg.streams.engine.memory import leave_out_of_collection
from thalweg.streams.engine.opening import Opened, await_alone, joined, open_sources
from thalweg.streams.engine.prefetch import Prefetcher
from thalweg.streams.engine.pressure import Pressure
from thalweg.streams.engine.progress import Progress
from thalweg.streams.engine.recovery import Recovery
from thalweg.streams.engine.settings import SessionSettings
from thalweg.streams.engine.starting import make_dataflow, make_outputs, set_watermarks
from thalweg.streams.engine.status import Latencies, StateStatus
from thalweg.streams.operator import Memory
from thalweg.streams.plan.graph import Plan
from thalweg.streams.plan.sink import SinkNode
from thalweg.streams.state.pool import using

logger = logging.getLogger(__name__)

MEASURE_EVERY = 1.0
"""Seconds between two looks at how much state the operators hold."""
TICK_MS = 50
"""How often operators learn the time while nothing comes."""
QUEUED_BATCHES = 4
"""How many full batches a source may be read ahead."""


class Session(Committing):
    """The sources, operators and commit pipeline of one attempt.

    Args:
        plan: what to run.
        broker: where its topics are.
        settings: of the app.
        clock: the job's clock, ms UTC.
        wake: set whenever there may be something to do.
        stopped: whether the job has been told to end.
    """

    def __init__(
        self,
        plan: Plan,
        broker: Broker,
        settings: SessionSettings,
        clock: Callable[[], int],
        wake: threading.Event,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.plan = plan
        self.settings = settings
        self.clock = clock
        self.wake = wake
        self._stopped = stopped
        self.latencies = Latencies()
        self.received = dict.fromkeys((source.topic for source in plan.sources), 0)
        self.memory: dict[str, Memory] = {}
        """What each stateful operator holds, as of the last second."""
        self._broker = broker
        self._next_measure = 0.0
        self._stack = ExitStack()
        self._last_commit = self._last_early = 0.0
        self._last_tick = 0
        self._emitted = 0
        self._oldest_ingested: int | None = None
        self._changed = False
        self._held: set[str] = set()
        self._number = 0
        self._fulls: deque[tuple[int, float]] = deque()
        self._told: set[TopicPartition] = set()
        """Source partitions of which the next commit speaks in any case: other workers were told of them."""
        self.alone = True

    # -- opening

    def open(self) -> None:
        """Connects, recovers, and starts to read.

        Raises:
            ConnectorError, StateError, PlanError: what is wrong, before anything runs.
        """
        self._ensure_sinks()
        job = self.settings.job
        saved = self.settings.savepoint
        scaled = saved is not None and saved.exchanged
        opened = open_sources(self.plan, self._broker, job, self._stack, self._stopped, scaled=scaled)
        if self.settings.must_be_alone:
            await_alone(opened, job.name, self._stopped)
        self.alone = opened.alone
        job.state_partitions, job.exchange = opened.state_partitions, opened.exchange
        job.owned_states = None if opened.shape is None else frozenset(opened.shape.owned)
        self.committer: Committer = self._broker.committer(job, list(opened.sources.values()))
        self._stack.callback(self.committer.close)
        ends = opened.exchange_ends() if saved is not None else {}
        self.recovery = Recovery(self.committer.recover(opened.partitions), saved, ends)
        recovered, self._changed = self.recovery.recovered, self.recovery.resumed
        self.outputs = make_outputs(self._broker, self.committer, self.settings)
        self._make_dataflow(opened)
        self.progress = Progress(opened.partitions, recovered.epochs, carrier=opened.exchange)
        self._restore(opened)
        fault_point("engine.restored")
        for topic, source in opened.sources.items():
            source.seek({p: e.position for (t, p), e in recovered.epochs.items() if t == topic})
        self.progress.begin(opened.first_positions())
        if self.recovery.resumed and opened.exchange is not None:
            self._told |= {place for place in recovered.epochs if place[0] != opened.exchange}
        self._start_reading(opened)
        self._tick()
        self._last_commit = time.monotonic()

    def _ensure_sinks(self) -> None:
        for node in self.plan.nodes:
            if isinstance(node, SinkNode):
                self._broker.ensure_topic(node.topic, node.partitions)

    def _make_dataflow(self, opened: Opened) -> None:
        job, backend = self.settings.job, self.settings.checkpoint.backend
        self.pool = backend.open(job.name, job.slot)
        self._stack.callback(self.pool.close)
        with using(self.pool):
            self.dataflow = make_dataflow(self.plan, self.outputs, opened, self.settings, self.wake)
        self.drift = drift_of(self.plan, self.dataflow, self.settings.max_drift)
        self._stack.callback(self.dataflow.close)
        started = time.monotonic()
        self.dataflow.warm_up()
        if (elapsed := time.monotonic() - started) > 1:
            logger.info("compiled the kernels in %.1f s; the next start finds them in the cache", elapsed)
        leave_out_of_collection(self._stack)
        set_watermarks(self.plan, self.dataflow, opened, self.recovery.recovered, self.clock())

    def _restore(self, opened: Opened) -> None:
        recovery, job = self.recovery, self.settings.job
        if opened.exchange is not None:
            recovery.check_layout(job)
        elif opened.shape is not None:
            recovery.check_placed(job)
        known = [stage.operator.id for stage in self.dataflow.stages if stage.stateful]
        self.dataflow.set_clock(self.clock())
        recovery.check(known, self.settings.forget_state, job.name)
        self.dataflow.restore_log(recovery.log)
        self.pipeline = CommitPipeline(
            *(self.committer, job.state_partitions, recovery.partitions, self.settings.key_groups, self.wake),
            timeout=self.settings.checkpoint.timeout / 1000,
        )
        self._stack.callback(self._stop_pipeline)
        self.checkpointing = Checkpointing(
            self.settings.checkpoint,
            time.monotonic(),
            recovered_bytes=recovery.log.size,
            forced=recovery.forces_checkpoint(job.state_partitions),
        )

    def _start_reading(self, opened: Opened) -> None:
        rows = self.settings.max_batch_rows
        self.prefetchers = {
            topic: self._prefetch(source, rows, rows * QUEUED_BATCHES)
            for topic, source in opened.sources.items()
            if topic != opened.exchange
        }
        self.exchange: ExchangeTraffic | None = None
        if opened.exchange is not None and isinstance(self.dataflow, ScaledDataflow):
            prefetcher = self._prefetch(opened.sources[opened.exchange], RECORDS_PER_POLL, QUEUED_RECORDS)
            send = sender(opened.exchange, self.outputs)
            self.exchange = ExchangeTraffic(opened.exchange, self.dataflow, prefetcher, self.prefetchers, send)
        self._readers = [*self.prefetchers.values(), *([self.exchange.prefetcher] if self.exchange is not None else [])]
        scaled = self.dataflow if isinstance(self.dataflow, ScaledDataflow) else None
        self.pressure = Pressure(self.outputs, self.pipeline, self._readers, scaled, rows)

    def _prefetch(self, source: Source, rows: int, capacity: int) -> Prefetcher:
        prefetcher = Prefetcher(source, self.wake, max_rows=rows, capacity=capacity)
        self._stack.callback(prefetcher.stop)
        prefetcher.start()
        return prefetcher

    # -- running

    def step(self) -> bool:
        """Processes what has come and commits if it is time; false if there was nothing to process."""
        self.check()
        started = time.monotonic()
        busy = self._process()
        now = self.clock()
        if busy or now - self._last_tick >= TICK_MS:
            self._tick()
        if busy:  # what waits for the watermark is done in the tick: for patterns that is most of it
            for reader in self._readers:
                reader.passed(time.monotonic() - started)
        self._book_commits()
        self.commit_if_due()
        return busy

    def check(self) -> None:
        """Raises what happened on the other threads."""
        self.pipeline.check()
        for reader in self._readers:
            if reader.error is not None:
                raise reader.error

    def _process(self) -> bool:
        """One batch of each source that has something, the one that is furthest behind first."""
        if self.dataflow.congested or self.pressure.stalled:
            return False
        if self.settings.state_only or self.draining:
            return self._process_exchange()
        behind = sorted(self.prefetchers, key=lambda topic: self.dataflow.source(topic).watermarks.event_time)
        self._held = self.drift.held(self._read_to_end)
        processed = [self._process_source(topic) for topic in behind if topic not in self._held]
        return any([self._process_exchange(), *processed])

    def _read_to_end(self, topic: str) -> bool:
        prefetcher = self.prefetchers[topic]
        partitions = self.dataflow.source(topic).watermarks.partitions
        return not prefetcher.queued and prefetcher.caught_up().issuperset(partitions)

    def _process_exchange(self) -> bool:
        if self.exchange is None:
            return False
        self.dataflow.set_clock(self.clock())
        batches = self.exchange.process()
        for batch in batches:
            self.progress.moved(self.exchange.topic, batch.positions)
        self._changed = self._changed or bool(batches)
        return bool(batches)

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
        if self.settings.job.guarantee == "at-least-once":
            self._send_at_once()

    def _send_at_once(self) -> None:
        """At-least-once: rows for other workers don't wait for the commit; what is out by now counts as done."""
        if self.exchange is not None and self.exchange.has_news:
            self._told |= self.exchange.flush()
        if self._oldest_ingested is not None:
            self.latencies.add(self.clock() - self._oldest_ingested)
            self._oldest_ingested = None

    def measure_memory(self, now: float) -> None:
        """Looks at how much state the operators hold, about once a second."""
        if now >= self._next_measure:
            self._next_measure = now + MEASURE_EVERY
            total: dict[str, Memory] = {}
            for stage in self.dataflow.stages:
                if stage.stateful:
                    before = total.get(stage.operator.id, Memory())
                    total[stage.operator.id] = before + stage.operator.memory()
            self.memory = total

    def state_status(self) -> StateStatus:
        """Working state and its backend."""
        pool, kind = self.pool, self.settings.checkpoint.backend.kind
        return StateStatus(kind, pool.limit, pool.resident_bytes, pool.spilled_bytes, pool.loaded_bytes)

    def has_queued(self) -> bool:
        """Whether a source has something that is not processed yet."""
        waits = self.dataflow.congested or self.pressure.stalled
        held = [self.prefetchers[topic] for topic in self._held]
        if self.settings.state_only or self.draining:
            held = list(self.prefetchers.values())
        return not waits and any(reader.queued for reader in self._readers if reader not in held)

    def caught_up(self) -> bool:
        """Whether everything that the broker had is processed."""
        read = not self.dataflow.under_way() and all(
            prefetcher.caught_up().issuperset(self.dataflow.source(topic).watermarks.partitions)
            for topic, prefetcher in self.prefetchers.items()
        )
        return read and (self.exchange is None or (self.exchange.done and not self.uncommitted))

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

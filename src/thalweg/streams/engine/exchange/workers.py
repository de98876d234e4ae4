"""The workers of a job in one process: what the test driver runs, so that scaling can be tested without a broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import polars as pl

from thalweg.streams.batch import PARTITION
from thalweg.streams.engine.dataflow import Dataflow, Stage
from thalweg.streams.engine.exchange.by_record import PlacedDataflow, source_by_key
from thalweg.streams.engine.exchange.edges import place
from thalweg.streams.engine.exchange.record import unpack
from thalweg.streams.engine.exchange.tasks import ScaledDataflow, Shape
from thalweg.streams.engine.lower import lower
from thalweg.streams.engine.outputs import Outputs
from thalweg.streams.engine.source_stage import SourceStage
from thalweg.streams.engine.state_codec import PlacedDelta, StateLog
from thalweg.streams.operator import Account
from thalweg.streams.plan.graph import Plan
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.watermarks import PartitionWatermarks


def share(partitions: int, worker: int, workers: int) -> range:
    """The partitions that a worker reads: contiguous, the first workers have one more."""
    each, more = divmod(partitions, workers)
    start = worker * each + min(worker, more)
    return range(start, start + each + (worker < more))


class Workers:
    """All workers of a job: each with its share of the source partitions and, behind an exchange, of the state.

    Args:
        partitions: how many each source has.
        workers: how many there are.
        exchange: how many partitions the exchange has; None: one worker that runs without.
    """

    def __init__(
        self, plan: Plan, outputs: Outputs, partitions: int, *, workers: int, exchange: int | None, job_name: str
    ) -> None:
        self._plan = plan
        self._partitions = partitions
        self._sent: list[tuple[int, bytes]] = []
        placement = place(plan)
        placed = source_by_key(plan, placement)
        self.placed = placed is not None
        """Whether state is laid out by the partitions of the topic."""
        self.members: list[Dataflow | ScaledDataflow]
        if placed is not None:
            shapes = [
                Shape(placement, partitions, share(partitions, w, workers), {placed.topic: partitions})
                for w in range(workers)
            ]
            self.members = [PlacedDataflow(plan, outputs, shape, placed, job_name=job_name) for shape in shapes]
            return
        if exchange is None or not placement.edges:
            self.members = [lower(plan, outputs, job_name=job_name)]
            return
        topics = {source.topic: partitions for source in plan.sources}
        shapes = [Shape(placement, exchange, share(exchange, w, workers), topics) for w in range(workers)]
        self.members = [ScaledDataflow(plan, outputs, s, self._sent.extend, job_name=job_name) for s in shapes]

    def begin(
        self, clock: int, watermarks: Callable[[SourceNode, range], PartitionWatermarks], *, check_ahead: bool
    ) -> None:
        """Tells all operators the time, and gives each worker's sources the watermarks of the partitions it reads."""
        for member in self.members:
            member.set_clock(clock)
        for source in self._plan.sources:
            for number, stage in enumerate(self.sources(source.topic)):
                stage.watermarks = watermarks(source, share(self._partitions, number, len(self.members)))
                if not check_ahead:
                    stage.max_ahead = None

    def sources(self, topic: str) -> list[SourceStage]:
        """The first operators of a topic, one a worker."""
        return [member.source(topic) for member in self.members]

    @property
    def stages(self) -> list[Stage]:
        """Those of all workers."""
        return [stage for member in self.members for stage in member.stages]

    def push(self, topic: str, frame: pl.DataFrame, dead: pl.DataFrame | None = None) -> None:
        """Sends rows of one partition to the worker that reads it."""
        partition = int(frame.item(0, PARTITION)) if frame.height else 0
        for number, member in enumerate(self.members):
            if partition in share(self._partitions, number, len(self.members)):
                member.push(topic, frame, dead)

    def advance(self, clock: int) -> None:
        """Brings time to all operators, and carries rows through the exchange until none are under way."""
        everything = frozenset(range(self._partitions))
        for source in self._plan.sources:
            for stage in self.sources(source.topic):
                stage.watermarks.advance(clock, everything.intersection(stage.watermarks.partitions))
        for member in self.members:
            member.set_clock(clock)
        self._settle(clock)
        scaled = [member for member in self.members if isinstance(member, ScaledDataflow)]
        while any(member.news({}) or member.under_way() for member in scaled):
            for member in scaled:
                member.flush({})
            for partition, payload in self._sent:
                for member in scaled:
                    if partition in member.tasks:
                        member.receive(partition, [unpack(payload, "exchange")])
            self._sent.clear()
            self._settle(clock)

    def _settle(self, clock: int) -> None:
        """Calls to services are waited for: their results belong to what was sent."""
        for member in self.members:
            member.advance(clock)
            while member.under_way():
                time.sleep(0.001)
                member.advance(clock)

    def lift(self, topic: str, event_time: int) -> None:
        """Moves the watermark of a topic."""
        for stage in self.sources(topic):
            stage.watermarks.lift(event_time)

    # -- state

    def placed_snapshot(self, *, full: bool = False) -> list[PlacedDelta]:
        """The state changes of all workers."""
        return [placed for member in self.members for placed in member.placed_snapshot(full=full)]

    def progress(self) -> dict[str, dict[int, int]]:
        """The largest timestamp of each partition, by topic."""
        return {
            source.topic: dict(
                chain.from_iterable(s.watermarks.committed().items() for s in self.sources(source.topic))
            )
            for source in self._plan.sources
        }

    def restore(self, log: StateLog, progress: Mapping[str, Mapping[int, int]]) -> None:
        """Gives each worker the state that is its own now, and its sources the times that they had reached."""
        for member in self.members:
            member.restore_log(log)
        for topic, largest in progress.items():
            for stage in self.sources(topic):
                own = {p: time for p, time in largest.items() if p in stage.watermarks.partitions}
                stage.watermarks.restore(own)

    def accounts(self) -> dict[str, Account]:
        """Where the rows of each operator went, all workers together."""
        total: dict[str, Account] = {}
        for name, account in self._accounts():
            total.setdefault(name, Account()).add(account)
        return total

    def _accounts(self) -> Iterator[tuple[str, Account]]:
        for member in self.members:
            yield from member.accounts().items()

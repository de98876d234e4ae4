"""A plan that is cut by exchanges, running: the front where rows are read, and a task for each exchange partition."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import polars as pl

from thalweg.streams.connector import TopicPartition
from thalweg.streams.engine.dataflow import Dataflow, Stage
from thalweg.streams.engine.exchange.edges import ExchangeEdge, Placement
from thalweg.streams.engine.exchange.reader import ExchangeReader
from thalweg.streams.engine.exchange.record import BEHIND_EXCHANGE, ExchangeRecord, Reached, Upstream
from thalweg.streams.engine.exchange.writer import ExchangeWriter
from thalweg.streams.engine.lower import Part, lower
from thalweg.streams.engine.outputs import Outputs
from thalweg.streams.engine.source_stage import SourceStage
from thalweg.streams.engine.state_codec import PlacedDelta, StateLog
from thalweg.streams.operator import Account
from thalweg.streams.plan.graph import Plan

Send = Callable[[Sequence[tuple[int, bytes]]], None]
"""Takes records for the exchange topic: (partition, payload)."""


@dataclass(frozen=True)
class Shape:
    """What a worker must know of the whole job to run its share."""

    placement: Placement
    partitions: int
    """Of the exchange topic, and of the state."""
    owned: Sequence[int]
    """The exchange partitions that this worker reads."""
    topics: Mapping[str, int]
    """How many partitions each source topic has, whoever reads them."""


class ScaledDataflow:
    """Like `Dataflow`, for one worker of several.

    The front and each task are dataflows of their own: a task's watermark, state and results depend on the records of
    its partition only. So it makes no difference which worker runs it, or what else that worker runs.
    """

    def __init__(
        self,
        plan: Plan,
        outputs: Outputs,
        shape: Shape,
        send: Send,
        *,
        job_name: str = "job",
        key_groups: int = 128,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self._plan = plan
        self._shape = shape
        self._send = send
        self._key_groups = key_groups
        self._expected = _Expected(plan, shape)

        def part(members: Iterable[int], partition: int | None = None) -> Dataflow:
            cut = Part(shape.placement, frozenset(members), self._writer, partial(self._reader, partition))
            return lower(plan, outputs, job_name=job_name, key_groups=key_groups, options=options, part=cut)

        behind = shape.placement.behind
        self.front = part(number for number in range(len(shape.placement.groups)) if number not in behind)
        self.tasks = {partition: part(behind, partition) for partition in shape.owned}

    def _writer(self, edge: ExchangeEdge) -> ExchangeWriter:
        return ExchangeWriter(edge, self._shape.partitions, self._key_groups)

    def _reader(self, partition: int | None, edge: ExchangeEdge) -> ExchangeReader:
        topics = tuple(source.topic for source in self._plan.sources)
        return ExchangeReader(edge, self._expected.of(edge), topics)

    @property
    def parts(self) -> list[Dataflow]:
        """The front, then the tasks by partition."""
        return [self.front, *(task for _, task in sorted(self.tasks.items()))]

    @property
    def stages(self) -> list[Stage]:
        return [stage for part in self.parts for stage in part.stages]

    def source(self, topic: str) -> SourceStage:
        """The first operator of a topic."""
        return self.front.source(topic)

    def warm_up(self) -> None:
        """Loads the kernels; they are the same in all tasks."""
        for part in self.parts[:2]:
            part.warm_up()

    def set_clock(self, clock: int) -> None:
        """Tells every operator the time."""
        for part in self.parts:
            part.set_clock(clock)

    def push(self, topic: str, frame: pl.DataFrame, dead: pl.DataFrame | None = None) -> None:
        """Sends rows of a source through the front."""
        self.front.push(topic, frame, dead)

    def receive(self, partition: int, records: Iterable[ExchangeRecord]) -> None:
        """Gives records of an exchange partition to its task."""
        self.tasks[partition].receive(records)

    def advance(self, clock: int) -> None:
        """Brings the watermarks of all origins to all operators."""
        for part in self.parts:
            part.advance(clock)

    # -- what goes through the exchange

    def news(self, at_end: Mapping[str, frozenset[int]]) -> bool:
        """Whether a flush would send anything. Args as in `flush`."""
        return any(
            part.writer(number).has_news(reached)
            for partition, part in self._numbered()
            for number, reached in self._reached(partition, part, at_end)
        )

    def flush(self, at_end: Mapping[str, frozenset[int]]) -> set[TopicPartition]:
        """Sends all rows on their way to other places, and how far this worker is.

        Args:
            at_end: the partitions that are read to their end, by source topic.

        Returns:
            The source partitions of which something was told.
        """
        told: set[TopicPartition] = set()
        for partition, part in self._numbered():
            for number, reached in self._reached(partition, part, at_end):
                writer = part.writer(number)
                if writer.has_news(reached):
                    told.update(writer.changed(reached))
                    self._send(list(writer.flush(reached)))
        return {(origin, p) for origin, p in told if origin != BEHIND_EXCHANGE}

    @property
    def pending_rows(self) -> int:
        """Rows that wait for a flush."""
        return sum(part.writer(number).pending_rows for part in self.parts for number in part.writers)

    @property
    def pending_bytes(self) -> int:
        """How large they are in memory."""
        return sum(part.writer(number).pending_bytes for part in self.parts for number in part.writers)

    @property
    def at_end(self) -> bool:
        """Whether everything that the broker had of all sources has come through to this worker's tasks."""
        return all(task.reader(edge).watermarks.at_end for task in self.tasks.values() for edge in task.readers)

    def slowest(self) -> dict[str, int | None]:
        """How far the slowest partition of each source has come, whoever reads it, as one task of this worker knows.

        Every task is told of all. None where all of a source has come that the broker had, or nothing is known.
        """
        found: dict[str, int | None] = dict.fromkeys(source.topic for source in self._plan.sources)
        for task in [*self.tasks.values()][:1]:
            for edge in task.readers:
                for topic, watermark in task.reader(edge).watermarks.waited_for().items():
                    if topic in found:
                        before = found[topic]
                        found[topic] = watermark if before is None else min(before, watermark)
        return found

    def _numbered(self) -> list[tuple[int | None, Dataflow]]:
        return [(None, self.front), *sorted(self.tasks.items())]

    def _reached(
        self, partition: int | None, part: Dataflow, at_end: Mapping[str, frozenset[int]]
    ) -> Iterable[tuple[int, dict[Upstream, Reached]]]:
        for number in part.writers:
            if partition is None:
                yield number, self._of_sources(part, number, at_end)
            else:
                yield number, self._of_task(part, number, partition)

    def _of_sources(self, part: Dataflow, number: int, at_end: Mapping[str, frozenset[int]]) -> dict[Upstream, Reached]:
        result: dict[Upstream, Reached] = {}
        for topic in self._expected.topics(part.writer(number).edge):
            watermarks = part.source(topic).watermarks
            done = at_end.get(topic, frozenset())
            for p, reached in watermarks.by_partition().items():
                result[topic, p] = Reached(reached, p in watermarks.idle, watermarks.closed_by_clock, p in done)
        return result

    def _of_task(self, part: Dataflow, number: int, partition: int) -> dict[Upstream, Reached]:
        upstream = part.stages[part.stages[number].inputs[0]]
        # Only of what leads here: a task may well wait for what it sends itself by another edge.
        done = all(part.reader(edge).watermarks.at_end for edge in part.readers_before(number))
        gives = upstream.gives
        return {(BEHIND_EXCHANGE, partition): Reached(gives.event_time, upstream.idle, gives.idle_closed, done)}

    # -- state

    def placed_snapshot(self, *, full: bool = False) -> list[PlacedDelta]:
        """The state changes of all tasks, each with the state partition that it belongs to."""
        return [
            PlacedDelta(name, delta, partition)
            for partition, task in sorted(self.tasks.items())
            for name, delta in task.snapshot(full=full).items()
        ]

    def restore_log(self, log: StateLog) -> None:
        """Gives each task the state of its partition."""
        for partition, task in self.tasks.items():
            task.restore(log.of_operators(partition))

    def accounts(self) -> dict[str, Account]:
        """Where the input rows of each operator went, all tasks together."""
        total: dict[str, Account] = {}
        for part in self.parts:
            for name, account in part.accounts().items():
                total.setdefault(name, Account()).add(account)
        return total

    def under_way(self) -> int:
        """Rows that operators are working on elsewhere."""
        return sum(part.under_way() for part in self.parts)

    @property
    def congested(self) -> bool:
        """Whether an operator can't take more for now."""
        return any(part.congested for part in self.parts)

    def close(self) -> None:
        """Closes all operators; the first error is raised after the last close."""
        errors: list[Exception] = []
        for part in self.parts:
            try:
                part.close()
            except Exception as error:
                errors.append(error)  # logged where it happened
        if errors:
            raise errors[0]


@dataclass
class _Expected:
    """Who sends to each edge."""

    plan: Plan
    shape: Shape
    _group: dict[object, int] = field(init=False)

    def __post_init__(self) -> None:
        groups = self.shape.placement.groups
        self._group = {node: number for number, group in enumerate(groups) for node in group.nodes}

    def of(self, edge: ExchangeEdge) -> list[Upstream]:
        """All upstream partitions of an edge."""
        if self._group[edge.upstream] in self.shape.placement.behind:
            return [(BEHIND_EXCHANGE, p) for p in range(self.shape.partitions)]
        return [(topic, p) for topic in self.topics(edge) for p in range(self.shape.topics[topic])]

    def topics(self, edge: ExchangeEdge) -> tuple[str, ...]:
        """The source topics of an edge that comes from the front."""
        return self.plan.topics[edge.upstream]

"""The running plan: operators, who feeds whom, and the order of rows and watermarks between them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import polars as pl

from thalweg.errors import ConnectorError, OperatorFailed, StateError
from thalweg.streams.batch import DEAD, LATE, MAIN, MIN_TIME, Batch, Watermark
from thalweg.streams.engine.exchange.reader import ExchangeReader
from thalweg.streams.engine.exchange.record import ExchangeRecord, runs_of_equal_columns
from thalweg.streams.engine.exchange.writer import ExchangeWriter
from thalweg.streams.engine.outputs import Outputs
from thalweg.streams.engine.signatures import checked, signed
from thalweg.streams.engine.source_stage import SourceStage
from thalweg.streams.engine.state_codec import PlacedDelta, StateLog
from thalweg.streams.operator import Account, Operator, State, StateDelta

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Stage:
    """One operator and its place in the plan."""

    operator: Operator
    topics: tuple[str, ...] = ()
    readers: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """For each output port: (stage number, input number) of those who read it."""
    inputs: list[int] = field(default_factory=list)
    """The stage numbers that it reads."""
    stateful: bool = False
    signature: Mapping[str, Any] = field(default_factory=dict)
    """What the operator's state depends on; saved with it (see `Node.signature`)."""
    seen: Watermark = field(default_factory=lambda: Watermark(MIN_TIME, 0))
    """The last watermark given to the operator."""
    gives: Watermark = field(default_factory=lambda: Watermark(MIN_TIME, 0))
    """The last watermark that its readers may see."""
    idle: bool = False
    batches: int = 0
    emitted: int = 0


class OriginWatermarks(Protocol):
    """What the first operators of a dataflow know of time: those of its sources, and the ends of exchange edges."""

    event_time: int
    closed_by_clock: bool

    @property
    def all_idle(self) -> bool: ...

    def lift(self, event_time: int) -> None: ...


class Dataflow:
    """Stages in an order in which each comes after its inputs. Single-threaded.

    Args:
        sources: the stage number of each source, by topic.
        readers: that of each exchange edge that comes in, by edge id.
        writers: those of the exchange edges that go out.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        sources: Mapping[str, int],
        outputs: Outputs,
        readers: Mapping[str, int] | None = None,
        writers: Iterable[int] = (),
    ) -> None:
        self.stages = list(stages)
        self.sources = dict(sources)
        self.readers = dict(readers or {})
        self.writers = list(writers)
        self.outputs = outputs
        for stage in self.stages:
            stage.operator.read = bool(stage.readers.get(MAIN))
        origins = [*self.sources.values(), *self.readers.values()]
        self._meetings = {number: self._meets(number) for number in origins}

    def source(self, topic: str) -> SourceStage:
        """The first operator of a topic."""
        operator = self.stages[self.sources[topic]].operator
        assert isinstance(operator, SourceStage)
        return operator

    def writer(self, number: int) -> ExchangeWriter:
        """The exchange writer of that stage."""
        operator = self.stages[number].operator
        assert isinstance(operator, ExchangeWriter)
        return operator

    def reader(self, edge: str) -> ExchangeReader:
        """The exchange reader of an edge.

        Raises:
            StateError: the program has no such edge.
        """
        if edge not in self.readers:
            raise StateError(
                f"the exchange holds rows for {edge!r}, which the program does not have (it has "
                f"{', '.join(map(repr, sorted(self.readers))) or 'none'}): finish them with the program that wrote "
                "them, then change it"
            )
        operator = self.stages[self.readers[edge]].operator
        assert isinstance(operator, ExchangeReader)
        return operator

    def readers_before(self, number: int) -> list[str]:
        """The exchange edges whose rows lead to a stage."""
        before, todo = set[int](), [number]
        while todo:
            stage = todo.pop()
            if stage not in before:
                before.add(stage)
                todo += self.stages[stage].inputs
        return [edge for edge, stage in self.readers.items() if stage in before]

    def origin(self, number: int) -> OriginWatermarks | None:
        """The watermarks that a stage brings in; None where it gets them from the stages that it reads."""
        operator = self.stages[number].operator
        return operator.watermarks if isinstance(operator, SourceStage | ExchangeReader) else None

    def warm_up(self) -> None:
        """Loads the kernels of all operators."""
        for stage in self.stages:
            stage.operator.warm_up()

    def set_clock(self, clock: int) -> None:
        """Tells every operator the time."""
        for stage in self.stages:
            stage.operator.clock = clock

    def push(self, topic: str, frame: pl.DataFrame, dead: pl.DataFrame | None = None) -> None:
        """Sends rows of a source through the plan: `frame` as in `SourceBatch`, and what it could not decode."""
        number = self.sources[topic]
        if dead is not None and dead.height:
            self._route(number, self.source(topic).on_dead(dead))
        if frame.height:
            self._run(number, Batch(frame), 0)

    def receive(self, records: Iterable[ExchangeRecord]) -> None:
        """Takes records of the exchange; rows of one edge that come together go through together."""
        for edge, neighbours in groupby(records, key=lambda record: record.edge):
            reader = self.reader(edge)
            rows = [reader.accept(record) for record in neighbours]
            for frame in runs_of_equal_columns([frame for frame in rows if frame is not None and frame.height]):
                self._run(self.readers[edge], Batch(frame), 0)

    def advance(self, clock: int) -> None:
        """Brings the watermarks of all sources to all operators, each operator after those it reads."""
        for number, stage in enumerate(self.stages):
            before = stage.seen
            event_time = self._least(stage)
            closed = any(self.stages[i].gives.idle_closed for i in stage.inputs)
            if (origin := self.origin(number)) is not None:
                event_time, closed, stage.idle = origin.event_time, origin.closed_by_clock, origin.all_idle
            else:
                stage.idle = all(self.stages[i].idle for i in stage.inputs)
            stage.seen = Watermark(max(before.event_time, event_time), max(before.clock, clock), closed)
            self._route(number, self._on_watermark(stage))
        self._lift_idle()

    def _lift_idle(self) -> None:
        """A source left out of a minimum comes back where the others have gone, so that none of its rows is too old."""
        for number, meetings in self._meetings.items():
            origin = self.origin(number)
            if origin is not None and meetings and origin.all_idle:
                origin.lift(max(self.stages[meeting].seen.event_time for meeting in meetings))

    def meetings(self, topic: str) -> list[int]:
        """The stages that read several others, downstream of a topic."""
        return self._meets(self.sources[topic])

    def _meets(self, source: int) -> list[int]:
        """The stages downstream of a source that read several others."""
        reached = {source}
        for number, stage in enumerate(self.stages):
            if reached.intersection(stage.inputs):
                reached.add(number)
        return [number for number in sorted(reached) if len(self.stages[number].inputs) > 1]

    def _least(self, stage: Stage) -> int:
        """The minimum of the inputs' watermarks; idle ones are left out unless all are."""
        inputs = [self.stages[i] for i in stage.inputs]
        active = [i.gives.event_time for i in inputs if not i.idle]
        return min(active or [i.gives.event_time for i in inputs], default=MIN_TIME)

    def _on_watermark(self, stage: Stage) -> Iterable[Batch]:
        try:
            yield from stage.operator.on_watermark(stage.seen)
            given = stage.operator.output_watermark(stage.seen)
        except (OperatorFailed, ConnectorError):
            raise
        except Exception as error:
            raise OperatorFailed(stage.operator.id, error) from error
        if given.event_time >= stage.gives.event_time:
            stage.gives = given

    def _run(self, number: int, batch: Batch, port: int) -> None:
        stage = self.stages[number]
        stage.batches += 1
        self._route(number, self._guarded(stage.operator, batch, port))

    def _guarded(self, operator: Operator, batch: Batch, port: int) -> Iterable[Batch]:
        try:
            yield from operator.on_batch(batch, port)
        except (OperatorFailed, ConnectorError):
            raise
        except Exception as error:
            raise OperatorFailed(operator.id, error) from error

    def _route(self, number: int, batches: Iterable[Batch]) -> None:
        stage = self.stages[number]
        for batch in batches:
            if not batch:
                continue
            if batch.port == DEAD:
                self.outputs.dead(batch.frame)
                continue
            stage.emitted += len(batch)
            stage.operator.account.emitted = stage.emitted
            if batch.port == LATE and stage.operator.late_letters:
                self.outputs.late(stage.operator.id, stage.topics, batch.frame)
            for reader, port in stage.readers.get(batch.port, ()):
                self._run(reader, batch, port)

    def snapshot(self, *, full: bool = False) -> dict[str, StateDelta]:
        """The state changes of all stateful operators since the last snapshot, or all of their state."""
        deltas = {stage.operator.id: stage.operator.snapshot(full=full) for stage in self.stages if stage.stateful}
        if full:
            return {s.operator.id: signed(deltas[s.operator.id], s.signature) for s in self.stages if s.stateful}
        return {name: delta for name, delta in deltas.items() if delta}

    def placed_snapshot(self, *, full: bool = False) -> list[PlacedDelta]:
        """Like `snapshot`, as the commit pipeline takes it."""
        return [PlacedDelta(name, delta) for name, delta in self.snapshot(full=full).items()]

    def restore_log(self, log: StateLog) -> None:
        """Gives operators back all state of the job."""
        self.restore(log.of_operators())

    def restore(self, states: Mapping[str, State]) -> None:
        """Gives operators back their state; called once, before the first row.

        Raises:
            StateError: state that the operator, as the program defines it now, can't take over.
        """
        for stage in self.stages:
            if stage.operator.id in states:
                stage.operator.restore(checked(states[stage.operator.id], stage.signature, stage.operator.id))

    def accounts(self) -> dict[str, Account]:
        """Where the input rows of each operator went."""
        return {stage.operator.id: stage.operator.account for stage in self.stages}

    def under_way(self) -> int:
        """Rows that operators are working on elsewhere."""
        return sum(stage.operator.under_way() for stage in self.stages)

    @property
    def congested(self) -> bool:
        """Whether an operator can't take more for now."""
        return any(stage.operator.congested() for stage in self.stages)

    def close(self) -> None:
        """Closes all operators; the first error is raised after the last close."""
        errors: list[Exception] = []
        for stage in self.stages:
            try:
                stage.operator.close()
            except Exception as error:
                logger.exception("closing operator %s failed", stage.operator.id)
                errors.append(error)
        if errors:
            raise errors[0]

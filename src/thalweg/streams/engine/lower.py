"""From the resolved plan to running operators."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.streams.batch import MAIN
from thalweg.streams.engine.dataflow import Dataflow, Stage
from thalweg.streams.engine.exchange.edges import ExchangeEdge, Placement
from thalweg.streams.engine.exchange.reader import ExchangeReader
from thalweg.streams.engine.exchange.writer import ExchangeWriter
from thalweg.streams.engine.fused import Fused
from thalweg.streams.engine.groups import Group, group_id, groups_of, is_stateful
from thalweg.streams.engine.outputs import Outputs
from thalweg.streams.engine.source_stage import SourceStage
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.graph import Plan, input_shapes
from thalweg.streams.plan.node import Node
from thalweg.streams.plan.routing import port_of
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.plan.stateless import StatelessNode


@dataclass(frozen=True)
class Part:
    """What a dataflow runs of a plan that is cut by exchanges.

    Args:
        placement: where it is cut.
        members: the numbers of the groups that this part runs.
        writer, reader: make the two ends of an edge.
    """

    placement: Placement
    members: Collection[int]
    writer: Callable[[ExchangeEdge], ExchangeWriter]
    reader: Callable[[ExchangeEdge], ExchangeReader]


def lower(
    plan: Plan,
    outputs: Outputs,
    *,
    job_name: str = "job",
    key_groups: int = 128,
    options: Mapping[str, object] | None = None,
    part: Part | None = None,
) -> Dataflow:
    """Builds the operators of a plan, or of a part of it, and connects them."""
    return _Lowering(plan, outputs, job_name, key_groups, options or {}, part).dataflow()


@dataclass
class _Lowering:
    plan: Plan
    outputs: Outputs
    job_name: str
    key_groups: int
    options: Mapping[str, object]
    part: Part | None
    stages: list[Stage] = field(default_factory=list)
    stage_of: dict[Node, int] = field(default_factory=dict)
    readers: dict[str, int] = field(default_factory=dict)
    writers: list[int] = field(default_factory=list)

    def dataflow(self) -> Dataflow:
        groups = self.part.placement.groups if self.part else groups_of(self.plan)
        for number, group in enumerate(groups):
            if self.part is None or number in self.part.members:
                inputs = [self._input(number, index, group) for index in range(len(group.first.inputs))]
                self._add_group(group, inputs)
        if self.part is not None:
            self._add_writers(self.part)
        sources = {s.topic: self.stage_of[s] for s in self.plan.sources if s in self.stage_of}
        for number in sources.values():
            operator = self.stages[number].operator
            assert isinstance(operator, SourceStage)
            operator.rows_carry_watermarks = _feeds_state(self.stages, number)
        return Dataflow(self.stages, sources, self.outputs, self.readers, self.writers)

    def _input(self, number: int, index: int, group: Group) -> tuple[int, str]:
        """The stage and port that an operator reads: what the plan says, or the end of an exchange edge."""
        edge = self.part.placement.edges.get((number, index)) if self.part else None
        if edge is None:
            return self.stage_of[group.first.inputs[index]], port_of(group.first, index)
        if edge.id not in self.readers:
            assert self.part is not None
            self.readers[edge.id] = len(self.stages)
            stage = Stage(self.part.reader(edge), self.plan.topics[edge.upstream], stateful=True)
            self.stages.append(stage)
        return self.readers[edge.id], MAIN

    def _add_group(self, group: Group, inputs: Sequence[tuple[int, str]]) -> None:
        topics = self.plan.topics[group.first]
        if len(topics) > 1:  # then rows carry the index of their source among all sources
            topics = tuple(source.topic for source in self.plan.sources)
        stage = Stage(_build(group, self._context(group, topics)), topics, stateful=is_stateful(group))
        stage.signature = group.first.signature()
        number = self._add(stage, inputs)
        self.stage_of.update(dict.fromkeys(group.nodes, number))

    def _add_writers(self, part: Part) -> None:
        for edge in part.placement.distinct:
            if edge.upstream in self.stage_of:
                self.writers.append(self._add(Stage(part.writer(edge)), [(self.stage_of[edge.upstream], edge.port)]))

    def _add(self, stage: Stage, inputs: Sequence[tuple[int, str]]) -> int:
        number = len(self.stages)
        self.stages.append(stage)
        for index, (upstream, port) in enumerate(inputs):
            stage.inputs.append(upstream)
            self.stages[upstream].readers.setdefault(port, []).append((number, index))
        return number

    def _context(self, group: Group, topics: tuple[str, ...]) -> OperatorContext:
        plan, node = self.plan, group.first
        shapes = input_shapes(plan, node)
        extra: dict[str, object] = {
            **self.options,
            "outputs": self.outputs,
            "topics": topics,
            "key_columns": shapes[0].keys if shapes else (),
            "ports_read": frozenset(edge.port for edge in plan.consumers[group.last]),
        }
        if isinstance(node, SourceNode) and len(plan.sources) > 1:
            extra["source_index"] = plan.sources.index(node)
        schemas = [shape.schema for shape in shapes]
        return OperatorContext(group_id(plan, group), schemas, self.key_groups, self.job_name, extra)


def _build(group: Group, context: OperatorContext) -> Operator:
    if len(group.nodes) > 1:
        return Fused(context.operator_id, [n.step() for n in group.nodes if isinstance(n, StatelessNode)], context)
    return group.first.build(context)


def _feeds_state(stages: Sequence[Stage], number: int) -> bool:
    """Whether anything downstream keeps state, here or behind an exchange, and so may judge lateness."""
    todo, seen = [number], set[int]()
    while todo:
        stage = todo.pop()
        if stage in seen:
            continue
        seen.add(stage)
        if stages[stage].stateful or isinstance(stages[stage].operator, ExchangeWriter):
            return True
        todo += [reader for readers in stages[stage].readers.values() for reader, _ in readers]
    return False

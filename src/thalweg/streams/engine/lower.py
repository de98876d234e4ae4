"""From the resolved plan to running operators; neighbouring stateless steps become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.streams.batch import MAIN
from thalweg.streams.engine.dataflow import Dataflow, Stage
from thalweg.streams.engine.fused import Fused
from thalweg.streams.engine.outputs import Outputs
from thalweg.streams.engine.source_stage import SourceStage
from thalweg.streams.operator import Operator, OperatorContext
from thalweg.streams.plan.graph import Plan, input_shapes
from thalweg.streams.plan.node import Node
from thalweg.streams.plan.routing import port_of
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.plan.stateless import StatelessNode


@dataclass
class Group:
    """Nodes that one operator runs: several only where they fuse."""

    nodes: list[Node] = field(default_factory=list)

    @property
    def first(self) -> Node:
        return self.nodes[0]

    @property
    def last(self) -> Node:
        return self.nodes[-1]


def groups_of(plan: Plan) -> list[Group]:
    """The plan's nodes by operator: a stateless node joins the one before it where nothing else reads that."""
    groups: list[Group] = []
    group_of: dict[Node, Group] = {}
    for node in plan.nodes:
        group = group_of[node.inputs[0]] if _fuses(plan, node) else None
        if group is None:
            group = Group()
            groups.append(group)
        group.nodes.append(node)
        group_of[node] = group
    return groups


def _fuses(plan: Plan, node: Node) -> bool:
    if not isinstance(node, StatelessNode) or node.uid is not None:
        return False
    upstream = node.inputs[0]
    alone = len(plan.consumers[upstream]) == 1 and port_of(node, 0) == MAIN
    return isinstance(upstream, StatelessNode) and alone


def group_id(plan: Plan, group: Group) -> str:
    """The operator's id: its node's, or those of the first and last node of a fused group."""
    if len(group.nodes) == 1:
        return plan.ids[group.first]
    return f"{plan.ids[group.first]}..{plan.ids[group.last]}"


def lower(
    plan: Plan,
    outputs: Outputs,
    *,
    job_name: str = "job",
    key_groups: int = 128,
    options: Mapping[str, object] | None = None,
) -> Dataflow:
    """Builds the operators of a plan and connects them."""
    groups = groups_of(plan)
    number_of = {node: number for number, group in enumerate(groups) for node in group.nodes}
    stages: list[Stage] = []
    for group in groups:
        topics = plan.topics[group.first]
        if len(topics) > 1:  # then rows carry the index of their source among all sources
            topics = tuple(source.topic for source in plan.sources)
        context = _context(plan, group, outputs, topics, job_name, key_groups, options or {})
        stage = Stage(_build(group, context), topics, stateful=_stateful(group))
        stage.signature = group.first.signature()
        stage.inputs = [number_of[upstream] for upstream in group.first.inputs]
        stages.append(stage)
    for number, group in enumerate(groups):
        for edge in plan.consumers[group.last]:
            stages[number].readers.setdefault(edge.port, []).append((number_of[edge.node], edge.index))
    sources = {source.topic: number_of[source] for source in plan.sources}
    for number in sources.values():
        operator = stages[number].operator
        assert isinstance(operator, SourceStage)
        operator.rows_carry_watermarks = _feeds_state(stages, number)
    return Dataflow(stages, sources, outputs)


def _context(
    plan: Plan,
    group: Group,
    outputs: Outputs,
    topics: tuple[str, ...],
    job_name: str,
    key_groups: int,
    options: Mapping[str, object],
) -> OperatorContext:
    node = group.first
    shapes = input_shapes(plan, node)
    extra: dict[str, object] = {
        **options,
        "outputs": outputs,
        "topics": topics,
        "key_columns": shapes[0].keys if shapes else (),
        "ports_read": frozenset(edge.port for edge in plan.consumers[group.last]),
    }
    if isinstance(node, SourceNode) and len(plan.sources) > 1:
        extra["source_index"] = plan.sources.index(node)
    schemas = [shape.schema for shape in shapes]
    return OperatorContext(group_id(plan, group), schemas, key_groups, job_name, extra)


def _build(group: Group, context: OperatorContext) -> Operator:
    if len(group.nodes) > 1:
        return Fused(context.operator_id, [n.step() for n in group.nodes if isinstance(n, StatelessNode)], context)
    return group.first.build(context)


def _stateful(group: Group) -> bool:
    return any(node.stateful for node in group.nodes)


def _feeds_state(stages: Sequence[Stage], number: int) -> bool:
    """Whether anything downstream keeps state, and so may judge lateness."""
    todo, seen = [number], set[int]()
    while todo:
        stage = todo.pop()
        if stage in seen:
            continue
        seen.add(stage)
        if stages[stage].stateful:
            return True
        todo += [reader for readers in stages[stage].readers.values() for reader, _ in readers]
    return False

"""Which nodes of a plan one operator runs: neighbouring stateless steps become one."""

from __future__ import annotations

from dataclasses import dataclass, field

from thalweg.streams.batch import MAIN
from thalweg.streams.plan.graph import Plan
from thalweg.streams.plan.node import Node
from thalweg.streams.plan.routing import port_of
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


def is_stateful(group: Group) -> bool:
    """Whether the operator keeps state."""
    return any(node.stateful for node in group.nodes)

"""The plan as a whole: nodes in order, their ids, schemas, keys and modes; refuses what can't run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.batch import LATE, MAIN, RESERVED
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.plan.routing import SplitNode, port_of
from thalweg.streams.plan.source import SourceNode
from thalweg.streams.plan.stateless import StatelessNode


@dataclass(frozen=True)
class Edge:
    """One output port of a node that is read as input number `index` of another."""

    upstream: Node
    port: str
    node: Node
    index: int


@dataclass
class Plan:
    """A resolved plan: everything that `explain`, lowering and the dashboard need to know."""

    nodes: list[Node] = field(default_factory=list)
    """In an order in which each comes after its inputs."""
    ids: dict[Node, str] = field(default_factory=dict)
    schemas: dict[Node, pl.Schema | None] = field(default_factory=dict)
    keys: dict[Node, tuple[str, ...]] = field(default_factory=dict)
    modes: dict[Node, Mode] = field(default_factory=dict)
    topics: dict[Node, tuple[str, ...]] = field(default_factory=dict)
    """The source topics upstream of each node, in source order."""
    required: dict[SourceNode, frozenset[str] | None] = field(default_factory=dict)
    """The columns that the plan reads of each source; None: all."""
    consumers: dict[Node, list[Edge]] = field(default_factory=dict)

    @property
    def sources(self) -> list[SourceNode]:
        return [node for node in self.nodes if isinstance(node, SourceNode)]

    def to_json(self) -> dict[str, Any]:
        """The plan as a graph, for the dashboard: nodes and edges as plain data."""
        return {
            "nodes": [
                {
                    "id": self.ids[node],
                    "kind": node.kind,
                    "description": node.describe(),
                    "stateful": node.stateful,
                    "mode": str(self.modes[node]),
                    "key_columns": list(self.keys[node]),
                    "schema": {n: str(t) for n, t in (self.schemas[node] or {}).items()} or None,
                }
                for node in self.nodes
            ],
            "edges": [
                {"from": self.ids[edge.upstream], "to": self.ids[edge.node], "port": edge.port}
                for edges in self.consumers.values()
                for edge in edges
            ],
        }


def resolve(effects: Sequence[Node]) -> Plan:
    """Resolves the plan that leads to these nodes.

    Raises:
        PlanError: nothing to do, an id given twice, columns that are not there, a mode that the reader can't take.
    """
    if not effects:
        raise PlanError("nothing to do: end a stream with .to(topic), .subscribe(function) or .alert(alerts)")
    plan = Plan(nodes=list(_ordered(effects)))
    plan.consumers = {node: [] for node in plan.nodes}
    for node in plan.nodes:
        for index, upstream in enumerate(node.inputs):
            plan.consumers[upstream].append(Edge(upstream, port_of(node, index), node, index))
    _name(plan)
    for node in plan.nodes:
        _resolve_node(plan, node)
    plan.required = _required(plan)
    return plan


@dataclass(frozen=True)
class Shape:
    """What is known of the rows that leave by one port."""

    schema: pl.Schema | None
    keys: tuple[str, ...]
    mode: Mode


def shape_of(node: Node, inputs: Sequence[Shape]) -> Shape:
    """What a node makes of its inputs, on its main port."""
    schema = node.output_schema(tuple(shape.schema for shape in inputs))
    keys = node.key_columns(tuple(shape.keys for shape in inputs))
    mode = node.mode(tuple(shape.mode for shape in inputs))
    if mode is Mode.CHANGELOG and isinstance(node, StatelessNode) and inputs[0].keys and not keys:
        keys = node.renamed_keys(inputs[0].keys)
    return Shape(schema, keys, mode)


def shape_of_port(node: Node, port: str, main: Shape, inputs: Sequence[Shape]) -> Shape:
    """What leaves by another port: late rows as they came in, branches of a split like its input, others unknown."""
    if port == MAIN or isinstance(node, SplitNode):
        return main
    if port == LATE and inputs:
        return Shape(inputs[0].schema, inputs[0].keys, Mode.APPEND)
    return Shape(None, main.keys, Mode.APPEND)


def input_shapes(plan: Plan, node: Node) -> list[Shape]:
    """What a node of a plan gets, input by input."""
    shapes = []
    for index, upstream in enumerate(node.inputs):
        main = Shape(plan.schemas[upstream], plan.keys[upstream], plan.modes[upstream])
        port = port_of(node, index)
        shapes.append(main if port == MAIN else shape_of_port(upstream, port, main, input_shapes(plan, upstream)))
    return shapes


def _resolve_node(plan: Plan, node: Node) -> None:
    shape = shape_of(node, input_shapes(plan, node))
    plan.schemas[node], plan.keys[node], plan.modes[node] = shape.schema, shape.keys, shape.mode
    if isinstance(node, SourceNode):
        plan.topics[node] = (node.topic,)
    else:
        plan.topics[node] = tuple(dict.fromkeys(topic for i in node.inputs for topic in plan.topics[i]))


def _ordered(effects: Iterable[Node]) -> Iterable[Node]:
    """Depth first from the effects in the order of the program, inputs before their readers; each node once."""
    seen: set[Node] = set()
    stack = [(node, False) for node in reversed(list(effects))]
    while stack:
        node, inputs_done = stack.pop()
        if inputs_done:
            yield node
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(upstream, False) for upstream in reversed(node.inputs)]


def _name(plan: Plan) -> None:
    """Ids that a restart finds again: the user's uid, else kind and place among its kind."""
    counts: Counter[str] = Counter()
    for node in plan.nodes:
        counts[node.kind] += 1
        if node.uid is not None:
            plan.ids[node] = node.uid
        elif isinstance(node, SourceNode):
            plan.ids[node] = f"source-{node.topic}"
        else:
            plan.ids[node] = f"{node.kind}-{counts[node.kind]}"
    twice = [name for name, times in Counter(plan.ids.values()).items() if times > 1]
    if twice:
        raise PlanError(f"operator id {twice[0]!r} is used twice; give each .uid(…) a name of its own")


def _required(plan: Plan) -> dict[SourceNode, frozenset[str] | None]:
    """Which columns each source has to decode, from the ends of the plan backwards.

    Late rows leave an operator as they came, so what reads them asks for columns of the operator's *input*.
    """
    wanted: dict[Node, frozenset[str] | None] = {}
    late: dict[Node, frozenset[str] | None] = {}
    for node in reversed(plan.nodes):
        wanted[node] = _needs([e for e in plan.consumers[node] if e.port != LATE], wanted, late)
        late[node] = _needs([e for e in plan.consumers[node] if e.port == LATE], wanted, late)
        if not plan.consumers[node]:
            wanted[node] = None
    required: dict[SourceNode, frozenset[str] | None] = {}
    for source in plan.sources:
        columns, stamps = wanted[source], source.timestamp_columns()
        found = _user_columns(columns, stamps, source.required)
        # A join asks both sides for all columns: each has those that are its own.
        required[source] = found if found is None or source.schema is None else found & frozenset(source.schema)
    return required


def _needs(
    edges: list[Edge], wanted: dict[Node, frozenset[str] | None], late: dict[Node, frozenset[str] | None]
) -> frozenset[str] | None:
    result: frozenset[str] = frozenset()
    for edge in edges:
        needs, late_needs = edge.node.required_columns(wanted[edge.node]), late[edge.node]
        if needs is None or late_needs is None:
            return None
        result |= needs | late_needs
    return result


def _user_columns(*needs: frozenset[str] | None) -> frozenset[str] | None:
    columns = [need for need in needs if need is not None]
    return frozenset().union(*columns) - RESERVED if len(columns) == len(needs) else None

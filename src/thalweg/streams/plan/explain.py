"""`explain()`: the plan as a tree, from sources to ends."""

from __future__ import annotations

from collections.abc import Iterator

from thalweg.streams.batch import MAIN
from thalweg.streams.plan.graph import Edge, Plan
from thalweg.streams.plan.node import Mode, Node
from thalweg.streams.plan.source import SourceNode


def explain(plan: Plan, title: str = "plan") -> str:
    """Draws the plan: one line per step, with how its functions run, what fuses, keys, and each edge's mode.

    A step that reads several streams is drawn under the first and named under the others.
    """
    from thalweg.streams.engine.groups import group_id, groups_of

    groups = groups_of(plan)
    fused = {node: group_id(plan, group) for group in groups if len(group.nodes) > 1 for node in group.nodes}
    return "\n".join([title, *_Tree(plan, fused).lines()])


class _Tree:
    def __init__(self, plan: Plan, fused: dict[Node, str]) -> None:
        self.plan = plan
        self.fused = fused
        self.drawn: set[Node] = set()

    def lines(self) -> Iterator[str]:
        sources = self.plan.sources
        for number, source in enumerate(sources):
            yield from self._node(source, "", number == len(sources) - 1, "")
        for operator in dict.fromkeys(self.fused.values()):
            yield f"fused: {operator} (one query per batch)"

    def _node(self, node: Node, indent: str, last: bool, edge: str) -> Iterator[str]:
        branch = "└─ " if last else "├─ "
        if node in self.drawn:
            yield f"{indent}{branch}{edge}→ {self.plan.ids[node]} (above)"
            return
        self.drawn.add(node)
        yield f"{indent}{branch}{edge}{self.plan.ids[node]}: {node.describe()}{self._notes(node)}"
        deeper = indent + ("   " if last else "│  ")
        edges = self.plan.consumers[node]
        for number, reader in enumerate(edges):
            yield from self._node(reader.node, deeper, number == len(edges) - 1, self._edge(reader))

    def _edge(self, edge: Edge) -> str:
        parts = [] if edge.port == MAIN else [f"port {edge.port}"]
        if self.plan.modes[edge.upstream] is Mode.CHANGELOG and edge.port == MAIN:
            parts.append("changelog")
        return f"[{', '.join(parts)}] " if parts else ""

    def _notes(self, node: Node) -> str:
        notes = []
        if isinstance(node, SourceNode):
            columns = self.plan.required[node]
            notes.append("reads all columns" if columns is None else f"reads {', '.join(sorted(columns))}")
        if node in self.fused:
            notes.append(f"fused in {self.fused[node]}")
        keys = self.plan.keys[node]
        if keys and node.kind != "key_by" and any(self.plan.keys[i] != keys for i in node.inputs):
            notes.append(f"keyed by {', '.join(keys)}")
        return "".join(f" · {note}" for note in notes)

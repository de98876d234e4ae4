"""Where rows must move between workers: the edges of a plan that go through the exchange.

Operators in front of every exchange (the *front*) run where the rows are read; those behind it once per partition. A
stateful operator needs its rows placed by its key; what follows it may stay where it is as long as the key stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from thalweg.streams.batch import MAIN
from thalweg.streams.engine.groups import Group, groups_of, is_stateful
from thalweg.streams.plan.graph import Plan, input_shapes
from thalweg.streams.plan.node import Node
from thalweg.streams.plan.routing import KeyByNode, port_of


@dataclass(frozen=True)
class ExchangeEdge:
    """Rows that leave `upstream` by `port`, placed by `keys`; several operators may read them."""

    id: str
    """Stable as long as the program is: records under way name it."""
    upstream: Node
    port: str
    keys: tuple[str, ...] | None
    """`()`: all in one place; None: anywhere, they only have to get behind the exchange."""


@dataclass
class Placement:
    """Which operators of a plan run where, by number of the group (see `groups_of`)."""

    groups: list[Group]
    behind: set[int] = field(default_factory=set)
    """Groups behind an exchange."""
    edges: dict[tuple[int, int], ExchangeEdge] = field(default_factory=dict)
    """By group and input number."""

    @property
    def distinct(self) -> list[ExchangeEdge]:
        """Each edge once, in the order of the plan."""
        return list({edge.id: edge for edge in self.edges.values()}.values())


def place(plan: Plan) -> Placement:
    """Finds the exchange edges of a plan: none where it keeps no state."""
    return _Placing(plan, groups_of(plan)).placement


class _Placing:
    def __init__(self, plan: Plan, groups: Sequence[Group]) -> None:
        self.plan = plan
        self.placement = Placement(list(groups))
        self._number = {node: number for number, group in enumerate(groups) for node in group.nodes}
        self._placed: dict[int, tuple[str, ...] | None] = {}
        """By what the rows that leave a group are placed; None: by nothing known."""
        for number, group in enumerate(groups):
            self._place(number, group)

    def _place(self, number: int, group: Group) -> None:
        upstream = [self._number[node] for node in group.first.inputs]
        behind = self.placement.behind
        if is_stateful(group):
            for index, keys in enumerate(self._needed(group)):
                if upstream[index] not in behind or self._placed_at(group, index) != keys:
                    self._exchange(number, index, keys)
            behind.add(number)
            self._placed[number] = self._after_state(group)
        elif behind.intersection(upstream):
            for index, source in enumerate(upstream):
                if source not in behind:
                    self._exchange(number, index, None)
            behind.add(number)
            self._placed[number] = self._after(group)

    def _exchange(self, number: int, index: int, keys: tuple[str, ...] | None) -> None:
        node = self.placement.groups[number].first
        upstream, port = node.inputs[index], port_of(node, index)
        placed = "*" if keys is None else ",".join(keys)
        name = f"{self.plan.ids[upstream]}.{port}>{placed}"
        self.placement.edges[number, index] = ExchangeEdge(name, upstream, port, keys)

    def _placed_at(self, group: Group, index: int) -> tuple[str, ...] | None:
        """By what the rows of an input are placed, where they come without an exchange."""
        placed = self._placed.get(self._number[group.first.inputs[index]])
        # Rows that leave by a port of their own (late ones, time-outs) need not have the key as it was.
        return placed if placed == () or port_of(group.first, index) == MAIN else None

    def _needed(self, group: Group) -> tuple[tuple[str, ...], ...]:
        """By what the rows of each input of an operator with state must be placed."""
        return group.first.placed_by(tuple(shape.keys for shape in input_shapes(self.plan, group.first)))

    def _after_state(self, group: Group) -> tuple[str, ...] | None:
        keys = self._needed(group)[0]
        return keys if not keys or self.plan.keys[group.last] == keys else None

    def _after(self, group: Group) -> tuple[str, ...] | None:
        inputs = range(len(group.first.inputs))
        exchanged = any((self._group_number(group), index) in self.placement.edges for index in inputs)
        placed = {self._placed_at(group, index) for index in inputs}
        if exchanged or len(placed) != 1:
            return None
        keys = placed.pop()
        for node in group.nodes:
            keys = _still_placed(node, keys)
        return keys

    def _group_number(self, group: Group) -> int:
        return self._number[group.first]


def _still_placed(node: Node, keys: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """By what rows are placed after a step that keeps no state."""
    if not keys:
        return keys
    if isinstance(node, KeyByNode):
        return None if set(keys) & set(node.computed) else keys
    return keys if node.key_columns((keys,) * len(node.inputs)) == keys else None

"""The automaton's states and edges, and copies of parts of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from thalweg.cep.general.edge_tests import Test, always, both, negated

Action = Literal["take", "ignore", "proceed"]
Kind = Literal["normal", "final", "stop", "pending", "end"]
"""`pending` waits for `within` to pass, `end` closes a round of a repeated group."""


@dataclass(slots=True, eq=False)
class Edge:
    """A possible move."""

    action: Action
    target: State
    test: Test


@dataclass(slots=True, eq=False)
class State:
    """A place in the automaton. `step` is the number of the step whose event it waits for; -1 for start-less ends."""

    number: int
    step: int
    kind: Kind
    name: str = ""
    edges: list[Edge] = field(default_factory=list)

    def add(self, action: Action, target: State, test: Test) -> None:
        self.edges.append(Edge(action, target, test))


@dataclass(slots=True)
class Automaton:
    """The states of one pattern; partial matches name them by number."""

    start: State
    states: list[State]
    iterative: bool
    """Whether any test asks for the partial match."""
    needs_all: bool
    """Whether events that fit no condition matter (strict contiguity, `not_next`, iterative conditions)."""

    @property
    def absences(self) -> list[int]:
        """For each state the one that waits for `within` to pass and needs no further event from here; -1: none.

        A loop before an absence at the end may be left at any time, also by time.
        """
        return [_absence(state) for state in self.states]


def _absence(state: State) -> int:
    stack, seen = [state], {state}
    while stack:
        state = stack.pop()
        if state.kind == "pending":
            return state.number
        for edge in state.edges:
            if edge.action == "proceed" and edge.target not in seen and edge.test(0, None):
                seen.add(edge.target)
                stack.append(edge.target)
    return -1


class States:
    """Makes the states of one automaton."""

    def __init__(self) -> None:
        self.all: list[State] = []
        self._stops: dict[str, State] = {}

    def new(self, kind: Kind, name: str, step: int = -1) -> State:
        """A further state."""
        self.all.append(State(len(self.all), step, kind, name))
        return self.all[-1]

    def stop(self, name: str) -> State:
        """The state in which partial matches end that met what must not come; one per name."""
        if name not in self._stops:
            self._stops[name] = self.new("stop", name)
            self._stops[name].add("take", self._stops[name], always)
        return self._stops[name]

    def fork(self, name: str, heads: list[State]) -> State:
        """Offers each event to several states."""
        state = self.new("normal", name)
        for head in heads:
            state.add("proceed", head, always)
        return state

    def copy(self, state: State) -> State:
        """The same edges once more; those to itself lead to the copy."""
        copy = self.new(state.kind, state.name, state.step)
        for edge in state.edges:
            copy.add(edge.action, copy if edge.target is state else edge.target, edge.test)
        return copy

    def without_stops(self, state: State, forbidden: set[str], done: dict[int, State] | None = None) -> State:
        """A copy of what can be reached without taking an event, less the edges to stop states of these names."""
        done = {} if done is None else done
        if id(state) in done:
            return done[id(state)]
        copy = done[id(state)] = self.new(state.kind, state.name, state.step)
        for edge in state.edges:
            target = edge.target
            if edge.action == "proceed":
                if target.kind == "stop":
                    if target.name in forbidden:
                        continue
                elif target.kind != "final":
                    target = self.without_stops(target, forbidden, done)
            elif target is state:
                target = copy
            copy.add(edge.action, target, edge.test)
        return copy


def yield_to(state: State, take: Test) -> None:
    """Makes a state leave alone what the loop before it can take."""
    for edge in state.edges:
        edge.test = both(edge.test, negated(take))


def moves(state: State, bits: int, view: Any) -> Iterator[tuple[State, Edge]]:
    """The take and ignore edges that an event can go by from a state, those behind proceed edges too."""
    stack: list[tuple[State, tuple[State, ...]]] = [(state, ())]
    while stack:
        state, rounds = stack.pop()
        for edge in state.edges:
            if edge.action != "proceed":
                if edge.test(bits, view):
                    yield state, edge
            elif edge.target not in rounds and edge.test(bits, view):
                # A group of which all may be left out could go round and round without an event.
                stack.append((edge.target, (*rounds, edge.target) if edge.target.kind == "end" else rounds))


def ends(state: State, bits: int, view: Any) -> bool:
    """Whether only steps that may be left out lie between a state and the end."""
    stack, seen = [state], {state}
    while stack:
        state = stack.pop()
        for edge in state.edges:
            if edge.action == "proceed" and edge.target not in seen and edge.test(bits, view):
                if edge.target.kind == "final":
                    return True
                seen.add(edge.target)
                stack.append(edge.target)
    return False

"""The automaton of a pattern as a picture: Mermaid, which GitHub, GitLab and many editors draw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thalweg.cep.general.automaton import build
from thalweg.cep.general.states import Edge, State
from thalweg.cep.pattern import Pattern

_ARROWS = {"take": "-->", "ignore": "-.->", "proceed": "==>"}


def mermaid(pattern: Pattern) -> str:
    """The states and edges of the automaton, as a Mermaid flowchart.

    A solid arrow takes the event, a dotted one passes it over, a thick one offers the same event to another state.
    Edges say which conditions must hold, by the names of steps.

    >>> from thalweg.cep import PatternBuilder
    >>> print(mermaid(PatternBuilder.create("p").where("a", "n > 1").where("b", "n < 1").build()))
    flowchart LR
        begin((start)) --> s2
        s2["a"] -->|a| s1["b"]
        s1["b"] -->|b| s0(["match"])
        s1["b"] -.->|¬b| s1["b"]
    """
    automaton = build(pattern, _any_bit)
    start = automaton.start
    lines = ["flowchart LR", f"    begin((start)) --> s{start.number}"]
    for state in _reached(start):
        lines += [
            f"    {_node(state)} {_edge(edge)} {_node(edge.target)}" for edge in state.edges if state.kind != "stop"
        ]
    return "\n".join(lines)


def _any_bit(condition: Any) -> int:
    return 0


def _reached(start: State) -> Iterator[State]:
    """The states in the order in which they are met."""
    seen, todo = {start}, [start]
    while todo:
        state = todo.pop(0)
        yield state
        for edge in state.edges:
            if edge.target not in seen:
                seen.add(edge.target)
                todo.append(edge.target)


def _node(state: State) -> str:
    name = state.name.replace('"', "'")
    shapes = {
        "final": f'(["{name}"])',
        "stop": f'{{{{"no: {name}"}}}}',
        "pending": f'[/"no {name}, until the time is up"/]',
        "end": f'("{name}")',
    }
    return f"s{state.number}" + shapes.get(state.kind, f'["{name}"]')


def _edge(edge: Edge) -> str:
    text = str(edge.test).replace('"', "'").replace("|", "/")
    return _ARROWS[edge.action] + ("" if text == "any" else f"|{text}|")

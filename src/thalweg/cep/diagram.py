"""The automaton of a pattern as a picture: Mermaid, which GitHub, GitLab and many editors draw, or SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

from thalweg.cep.drawing.graph import Graph, Link, Node
from thalweg.cep.drawing.svg import link_of, svg
from thalweg.cep.general.automaton import build
from thalweg.cep.general.states import Edge, State
from thalweg.cep.pattern import Pattern
from thalweg.errors import ConfigurationError

Format = Literal["mermaid", "svg"]
_STYLES = {"take": "solid", "ignore": "dotted", "proceed": "thick"}
_ARROWS = {"take": "-->", "ignore": "-.->", "proceed": "==>"}


def diagram(pattern: Pattern, format: Format) -> str:
    """The automaton in one of the formats.

    Raises:
        ConfigurationError: there is no such format.
    """
    return in_format(format, lambda: mermaid(pattern), lambda: graph_of(pattern))


def in_format(format: str, mermaid: Callable[[], str], graph: Callable[[], Graph]) -> str:
    """One of the two pictures, whichever is asked for.

    Raises:
        ConfigurationError: neither is.
    """
    if format not in ("mermaid", "svg"):
        raise ConfigurationError(f"diagram(format={format!r}): there are 'mermaid' and 'svg'")
    return mermaid() if format == "mermaid" else svg(graph())


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


def graph_of(pattern: Pattern) -> Graph:
    """The same states and edges, to be drawn."""
    start = build(pattern, _any_bit).start
    shapes = {"final": "final", "stop": "stop", "pending": "wait"}
    nodes, links = [Node("start", "", "start")], [Link("start", f"s{start.number}")]
    for state in _reached(start):
        label = {"stop": f"no: {state.name}", "pending": f"no {state.name}, until the time is up"}
        nodes.append(Node(f"s{state.number}", label.get(state.kind, state.name), shapes.get(state.kind, "state")))
        for edge in state.edges if state.kind != "stop" else ():
            text = "" if str(edge.test) == "any" else str(edge.test)
            links.append(link_of(f"s{state.number}", f"s{edge.target.number}", text, _STYLES[edge.action]))
    return Graph(pattern.describe(), nodes, links)


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

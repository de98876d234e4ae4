"""A state machine as a Mermaid state diagram, or as an SVG picture."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from thalweg.cep.diagram import Format, in_format
from thalweg.cep.drawing.graph import Graph, Link, Node
from thalweg.cep.drawing.svg import link_of

if TYPE_CHECKING:
    from thalweg.cep.machine.definition import StateMachine, Transition


def diagram(machine: StateMachine, format: Format) -> str:
    """The machine in one of the formats.

    Raises:
        ConfigurationError: there is no such format.
    """
    return in_format(format, lambda: mermaid(machine), lambda: graph_of(machine))


def graph_of(machine: StateMachine) -> Graph:
    """States, transitions with triggers and guards, and timeouts (dotted), to be drawn."""
    nodes, links = [Node("[*]", "", "start")], [Link("[*]", machine.initial)]
    for name, state in machine.states.items():
        shape = "failure" if state.error else "final" if machine.is_final(name) else "state"
        nodes.append(Node(name, name, shape))
        if state.on_timeout is not None:
            links.append(link_of(name, state.on_timeout, f"after {state.timeout}", "dotted"))
    for transition in machine.transitions:
        for source in machine.sources_of(transition):
            back = transition.target not in machine.states
            label = _label(transition) + (" (back to the state before)" if back else "")
            links.append(link_of(source, source if back else transition.target, label, "solid"))
    return Graph(f"state machine {machine.id}", nodes, links)


def mermaid(machine: StateMachine) -> str:
    """The diagram: states, transitions with triggers and guards, timeouts.

    Names that Mermaid can't take as they are get an alias.
    """
    alias = {name: _alias(name, number) for number, name in enumerate(machine.states)}
    lines = ["stateDiagram-v2"]
    lines += [f'    state "{_text(name)}" as {short}' for name, short in alias.items() if short != name]
    lines.append(f"    [*] --> {alias[machine.initial]}")
    for transition in machine.transitions:
        for source in machine.sources_of(transition):
            if transition.target in alias:
                lines.append(f"    {alias[source]} --> {alias[transition.target]}: {_label(transition)}")
            else:
                lines.append(
                    f"    {alias[source]} --> {alias[source]}: {_label(transition)} (back to the state before)"
                )
    for name, state in machine.states.items():
        if state.on_timeout is not None:
            lines.append(f"    {alias[name]} --> {alias[state.on_timeout]}: after {state.timeout}")
        if machine.is_final(name):
            lines.append(f"    {alias[name]} --> [*]")
    failures = [alias[name] for name, state in machine.states.items() if state.error]
    if failures:
        lines.append("    classDef failure fill:#f8d7da,stroke:#b02a37")
        lines.append(f"    class {','.join(failures)} failure")
    return "\n".join(lines)


def _alias(name: str, number: int) -> str:
    plain = re.fullmatch(r"[A-Za-z_]\w*", name) and name not in {"state", "end", "note", "class", "direction"}
    return name if plain else f"s{number}"


def _label(transition: Transition) -> str:
    text = _text(transition.label)
    if transition.guard is None:
        return text
    name = getattr(transition.guard, "__name__", "")
    return f"{text} [{_text(name) if name and name != '<lambda>' else 'guard'}]"


def _text(name: str) -> str:
    return name.replace('"', "'").replace(":", "∶").replace("\n", " ")

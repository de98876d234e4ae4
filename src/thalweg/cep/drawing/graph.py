"""What is drawn: nodes and links, in the order of importance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A state. `shape`: "start", "state", "final", "stop", "wait" or "failure"."""

    id: str
    label: str
    shape: str = "state"


@dataclass(frozen=True, slots=True)
class Link:
    """A move from one node to another. `style`: "solid", "dotted" or "thick"."""

    source: str
    target: str
    label: str = ""
    style: str = "solid"


@dataclass(frozen=True, slots=True)
class Graph:
    """`title` is read out where the picture can't be seen. The first node is where everything begins."""

    title: str
    nodes: Sequence[Node]
    links: Sequence[Link]


def merged(links: Sequence[Link]) -> list[Link]:
    """Links of one style between the same nodes as one, their labels line by line."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for link in links:
        labels = found.setdefault((link.source, link.target, link.style), [])
        if link.label and link.label not in labels:
            labels.append(link.label)
    return [Link(source, target, "\n".join(labels), style) for (source, target, style), labels in found.items()]

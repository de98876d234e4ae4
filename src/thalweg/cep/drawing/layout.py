"""Where things go: layers from left to right, as few crossings as some rounds of sorting leave (Sugiyama's method).

A link that spans several layers gets a bend in each that it passes. Links that lead back are turned round while places
are sought. Lengths are pixels, y grows downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from thalweg.cep.drawing.graph import Graph, Link, merged

CHARACTER, LINE, HEIGHT = 6.6, 14.0, 34.0
"""The width of a character of a label, the height of a line, and that of a node."""
GAP, ROW = 46.0, 30.0
"""The least space between two layers, and between two things of a layer."""
LOOP = 26.0
"""How far a loop stands out above its node."""
_SWEEPS, _ROUNDS = 12, 24

Point = tuple[float, float]


@dataclass(slots=True, eq=False)
class Box:
    """A node, or a bend of a link (then `id` is empty)."""

    id: str
    layer: int
    width: float
    above: float
    """How much room it needs above its middle; below it half of its height."""
    below: float
    x: float = 0.0
    y: float = 0.0
    before: list[Box] = field(default_factory=list)
    after: list[Box] = field(default_factory=list)


@dataclass(slots=True)
class Route:
    """A link and the boxes it passes, from its source to its target; `back`: against the direction of reading."""

    link: Link
    boxes: list[Box]
    back: bool


@dataclass(slots=True)
class Layout:
    """All places."""

    boxes: dict[str, Box]
    routes: list[Route]
    loops: list[Link]
    width: float
    height: float


def text_width(label: str) -> float:
    """Of the longest line."""
    return max((len(line) for line in label.split("\n")), default=0) * CHARACTER


def text_height(label: str) -> float:
    """Of all lines."""
    return (label.count("\n") + 1) * LINE if label else 0.0


def lay_out(graph: Graph) -> Layout:
    """Gives everything its place."""
    links = merged(graph.links)
    loops = [link for link in links if link.source == link.target]
    links = [link for link in links if link.source != link.target]
    names = [node.id for node in graph.nodes]
    back = _back_links(names, links)
    layers_of = _layers(names, links, back)
    boxes: dict[str, Box] = {}
    for node in graph.nodes:
        above = sum(LOOP + text_height(loop.label) for loop in loops if loop.source == node.id)
        width = 14.0 if node.shape == "start" else text_width(node.label) + 26
        boxes[node.id] = Box(node.id, layers_of[node.id], width, HEIGHT / 2 + above, HEIGHT / 2)
    routes = [_route(link, boxes, link in back) for link in links]
    layers = _ordered(boxes, routes)
    _place_across(layers)
    width = _place_along(layers, routes)
    height = max(box.y + box.below for layer in layers for box in layer)
    lowest = max((_dip(route) for route in routes if route.back), default=0.0)
    return Layout(boxes, routes, loops, width, max(height, lowest))


def _dip(route: Route) -> float:
    """How far down a link that leads back goes."""
    return max(box.y for box in route.boxes) + HEIGHT / 2 + 30 + text_height(route.link.label)


def _back_links(names: Sequence[str], links: Sequence[Link]) -> set[Link]:
    """The links that close a circle, met in depth first order."""
    following: dict[str, list[Link]] = {name: [] for name in names}
    for link in links:
        following[link.source].append(link)
    back: set[Link] = set()
    done: set[str] = set()
    for name in names:
        open_: dict[str, None] = {}
        stack: list[tuple[str, int]] = [(name, 0)] if name not in done else []
        while stack:
            at, number = stack.pop()
            open_[at] = None
            if number == len(following[at]):
                open_.pop(at)
                done.add(at)
                continue
            stack.append((at, number + 1))
            link = following[at][number]
            if link.target in open_:
                back.add(link)
            elif link.target not in done:
                stack.append((link.target, 0))
    return back


def _layers(names: Sequence[str], links: Sequence[Link], back: set[Link]) -> dict[str, int]:
    """Each node one layer behind the last of those before it."""
    ends = [(k.target, k.source) if k in back else (k.source, k.target) for k in links]
    layer = dict.fromkeys(names, 0)
    for _ in names:  # at most so many layers
        for source, target in ends:
            layer[target] = max(layer[target], layer[source] + 1)
    return layer


def _route(link: Link, boxes: dict[str, Box], back: bool) -> Route:
    first, last = boxes[link.source], boxes[link.target]
    if back:
        first, last = last, first
    passed = [first]
    for layer in range(first.layer + 1, last.layer):
        room = text_height(link.label) / 2 + 4
        passed.append(Box("", layer, 0.0, room, room))
    passed.append(last)
    for one, other in pairwise(passed):
        one.after.append(other)
        other.before.append(one)
    return Route(link, passed[::-1] if back else passed, back)


def _ordered(boxes: dict[str, Box], routes: Sequence[Route]) -> list[list[Box]]:
    """The boxes of each layer, from above: where the middle of their neighbours is, over and over."""
    everything = [*boxes.values(), *(box for route in routes for box in route.boxes[1:-1])]
    layers: list[list[Box]] = [[] for _ in range(1 + max(box.layer for box in everything))]
    for box in everything:
        layers[box.layer].append(box)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for layer in layers if down else layers[::-1]:
            places = {id(other): n for near in layers for n, other in enumerate(near)}
            middle = {
                id(box): _mean([places[id(near)] for near in (box.before if down else box.after)], places[id(box)])
                for box in layer
            }
            layer.sort(key=lambda box: middle[id(box)])
    return layers


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _place_across(layers: Sequence[Sequence[Box]]) -> None:
    """y: near the neighbours, in order, without touching."""
    for layer in layers:
        _spread(layer, [0.0] * len(layer))
    for number in range(_ROUNDS):
        down = number % 2 == 0
        for layer in layers if down else layers[::-1]:
            wanted = [
                _mean([near.y for near in (box.before if down else box.after)], box.y) if number < _ROUNDS - 2
                else _mean([near.y for near in (*box.before, *box.after)], box.y)
                for box in layer
            ]  # fmt: skip
            _spread(layer, wanted)
    top = min(box.y - box.above for layer in layers for box in layer)
    for layer in layers:
        for box in layer:
            box.y -= top


def _spread(layer: Sequence[Box], wanted: Sequence[float]) -> None:
    """Gives the boxes their wanted places, pushed apart where they would touch, and the whole back to the middle."""
    at: list[float] = []
    for number, box in enumerate(layer):
        least = at[-1] + layer[number - 1].below + box.above + ROW / 2 if at else wanted[0]
        at.append(max(wanted[number], least))
    shift = _mean([a - w for a, w in zip(at, wanted, strict=True)], 0.0)
    for box, place in zip(layer, at, strict=True):
        box.y = place - shift


def _place_along(layers: Sequence[Sequence[Box]], routes: Sequence[Route]) -> float:
    """x: behind the layer before, with room for the labels between the two; returns the width of all."""
    labels = [0.0] * len(layers)
    for route in routes:
        first = min(box.layer for box in route.boxes)
        labels[first] = max(labels[first], text_width(route.link.label))
    x = 0.0
    for number, layer in enumerate(layers):
        width = max(box.width for box in layer)
        for box in layer:
            box.x = x + width / 2
        x += width + GAP + labels[number]
    return x - GAP - labels[-1]

"""A graph as an SVG picture."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise

from thalweg.cep.drawing.graph import Graph, Link, Node
from thalweg.cep.drawing.layout import HEIGHT, LINE, LOOP, Box, Layout, Point, Route, lay_out, text_height, text_width

_MARGIN = 16.0
_FILLS = {
    "state": ("#eef4fb", "#3b6ea5"),
    "final": ("#e6f4ea", "#2e7d4f"),
    "stop": ("#fdeaea", "#b02a37"),
    "failure": ("#fdeaea", "#b02a37"),
    "wait": ("#fff7e0", "#a67c00"),
}
_STROKES = {
    "solid": 'stroke="#334155" stroke-width="1.4"',
    "dotted": 'stroke="#64748b" stroke-width="1.2" stroke-dasharray="3 3"',
    "thick": 'stroke="#334155" stroke-width="2.6"',
}


def svg(graph: Graph) -> str:
    """The picture, by itself: no font, style sheet or script from elsewhere."""
    layout = lay_out(graph)
    width, height = layout.width + 2 * _MARGIN, layout.height + 2 * _MARGIN
    body = [*_links(layout), *(line for node in graph.nodes for line in _node(node, layout.boxes[node.id]))]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
            f' viewBox="{-_MARGIN:.0f} {-_MARGIN:.0f} {width:.0f} {height:.0f}" role="img"'
            ' font-family="Helvetica, Arial, sans-serif" font-size="12">',
            f"<title>{escape(graph.title)}</title>",
            '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8"'
            ' markerUnits="userSpaceOnUse" orient="auto-start-reverse">'
            '<path d="M0,0.5 L8,4 L0,7.5 z" fill="#334155"/></marker></defs>',
            f'<rect x="{-_MARGIN:.0f}" y="{-_MARGIN:.0f}" width="{width:.0f}" height="{height:.0f}" fill="white"/>',
            *body,
            "</svg>",
        ]
    )


def _node(node: Node, box: Box) -> Iterator[str]:
    if node.shape == "start":
        yield f'<circle cx="{box.x:.1f}" cy="{box.y:.1f}" r="7" fill="#334155"/>'
        return
    fill, stroke = _FILLS[node.shape]
    radius = HEIGHT / 2 if node.shape == "final" else 5
    place = (
        f'x="{box.x - box.width / 2:.1f}" y="{box.y - HEIGHT / 2:.1f}" width="{box.width:.1f}" height="{HEIGHT:.0f}"'
    )
    yield f'<rect {place} rx="{radius:.0f}" fill="{fill}" stroke="{stroke}" stroke-width="1.4"/>'
    yield f'<text x="{box.x:.1f}" y="{box.y + 4:.1f}" text-anchor="middle" fill="#0f172a">{escape(node.label)}</text>'


def _links(layout: Layout) -> Iterator[str]:
    labels: list[str] = []
    for route in layout.routes:
        path, middle = _back(route) if route.back else _forward(route)
        yield _path(path, route.link.style)
        labels += _label(route.link.label, middle)
    above: dict[str, float] = {}
    for loop in layout.loops:
        box, start = layout.boxes[loop.source], above.get(loop.source, 0.0)
        top = box.y - HEIGHT / 2 - start
        yield _path(_loop(box, top), loop.style)
        labels += _label(loop.label, (box.x, top - LOOP - text_height(loop.label) / 2 + 4))
        above[loop.source] = start + LOOP + text_height(loop.label)
    yield from labels


def _path(path: str, style: str) -> str:
    return f'<path d="{path}" fill="none" {_STROKES[style]} marker-end="url(#arrow)"/>'


def _forward(route: Route) -> tuple[str, Point]:
    first, *bends, last = route.boxes
    points = [(first.x + first.width / 2, first.y), *((b.x, b.y) for b in bends), (last.x - last.width / 2 - 1, last.y)]
    # A little behind the middle, where links that leave one node have parted.
    (x, y), (to_x, to_y) = points[:2]
    return _curve(points), (x + 0.56 * (to_x - x), y + 0.62 * (to_y - y))


def _back(route: Route) -> tuple[str, Point]:
    """From below its source to below its target, through its bends."""
    first, *bends, last = route.boxes
    start, end = (first.x, first.y + HEIGHT / 2), (last.x, last.y + HEIGHT / 2 + 1)
    if bends:
        points = [start, *((b.x, b.y) for b in bends), end]
        low = [f"M{start[0]:.1f},{start[1]:.1f}"]
        low += [f"S{x + 30:.1f},{y:.1f} {x:.1f},{y:.1f}" for x, y in points[1:-1]]
        low.append(f"S{end[0]:.1f},{end[1] + 30:.1f} {end[0]:.1f},{end[1]:.1f}")
        return " ".join(low), points[len(points) // 2]
    depth = max(start[1], end[1]) + 34
    path = (
        f"M{start[0]:.1f},{start[1]:.1f} C{start[0]:.1f},{depth:.1f} {end[0]:.1f},{depth:.1f} {end[0]:.1f},{end[1]:.1f}"
    )
    return path, ((start[0] + end[0]) / 2, depth - 9)


def _curve(points: list[Point]) -> str:
    """Through all points, level at each."""
    path = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for (x, y), (to_x, to_y) in pairwise(points):
        half = (x + to_x) / 2
        path += f" C{half:.1f},{y:.1f} {half:.1f},{to_y:.1f} {to_x:.1f},{to_y:.1f}"
    return path


def _loop(box: Box, top: float) -> str:
    x = box.x
    high = top - LOOP
    return f"M{x - 12:.1f},{top:.1f} C{x - 26:.1f},{high:.1f} {x + 26:.1f},{high:.1f} {x + 12:.1f},{top - 1:.1f}"


def _label(label: str, middle: Point) -> list[str]:
    """On white, so that lines pass behind it."""
    if not label:
        return []
    lines = label.split("\n")
    x, y = middle
    width, height = text_width(label) + 4, text_height(label)
    box = f'<rect x="{x - width / 2:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}"'
    parts = [f'{box} fill="white" fill-opacity="0.85"/>']
    for number, line in enumerate(lines):
        at = y - height / 2 + number * LINE + 11
        parts.append(
            f'<text x="{x:.1f}" y="{at:.1f}" text-anchor="middle" fill="#475569" font-size="11">{escape(line)}</text>'
        )
    return parts


def link_of(source: str, target: str, label: str, style: str) -> Link:
    """A link whose label is no longer than fits a picture."""
    return Link(source, target, label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…", style)


_LONGEST = 48

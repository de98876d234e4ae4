"""Pictures of automata and state machines: well-formed, complete, nothing on top of anything else."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import pytest
from tests.conformance.cep_cases import case_pattern
from tests.flink_cep.random_cases import Draw

from thalweg.cep import Pattern, PatternBuilder, State, StateMachine, Transition
from thalweg.cep.diagram import graph_of
from thalweg.cep.drawing.graph import Graph, Link, Node
from thalweg.cep.drawing.layout import lay_out
from thalweg.cep.drawing.svg import svg
from thalweg.cep.machine.diagram import graph_of as graph_of_machine
from thalweg.errors import ConfigurationError

SPACE = "{http://www.w3.org/2000/svg}"


def machine() -> StateMachine:
    return StateMachine(
        id="a <b> & c",
        initial="new",
        key="order",
        states={
            "new": State(),
            "open": State(timeout="5s", on_timeout="lost"),
            "paid": State(),
            "lost": State(error=True),
            "shipped": State(final=True),
        },
        transitions=[
            Transition("new", "open", trigger="create"),
            Transition("open", "open", trigger="touch & <go>"),
            Transition("open", "paid", trigger="pay", guard=lambda e: e.amount > 0),
            Transition(["paid", "open"], "@previous", trigger="undo"),
            Transition("paid", "new", trigger="reset"),
            Transition("paid", "shipped", trigger="ship"),
            Transition(["new", "paid"], "lost", trigger="cancel"),
        ],
    )


def graphs() -> list[Graph]:
    drawn = [graph_of(case_pattern(Draw(seed).case()["pattern"])) for seed in range(60)]
    return [*drawn, graph_of_machine(machine())]


def test_nothing_lies_on_anything_else_and_all_is_inside():
    for graph in graphs():
        layout = lay_out(graph)
        boxes = list(layout.boxes.values())
        assert {box.id for box in boxes} == {node.id for node in graph.nodes}
        for one, other in itertools.combinations(boxes, 2):
            apart_along = abs(one.x - other.x) >= (one.width + other.width) / 2
            first, second = sorted((one, other), key=lambda box: box.y)
            apart_across = second.y - first.y >= first.below + second.above
            assert apart_along or apart_across, (graph.title, one.id, other.id)
        for box in boxes:
            assert box.x - box.width / 2 >= 0
            assert box.x + box.width / 2 <= layout.width + 0.01
            assert box.y - box.above >= -0.01
            assert box.y + box.below <= layout.height + 0.01


def test_links_lead_from_left_to_right_but_those_that_close_a_circle():
    for graph in graphs():
        layout = lay_out(graph)
        assert {(r.link.source, r.link.target) for r in layout.routes} | {
            (k.source, k.target) for k in layout.loops
        } == {(k.source, k.target) for k in graph.links}
        for route in layout.routes:
            xs = [box.x for box in route.boxes]
            assert xs == sorted(xs, reverse=route.back)
            layers = [box.layer for box in route.boxes]
            assert sorted(layers) == list(range(min(layers), max(layers) + 1))
        circles = {(r.link.source, r.link.target) for r in layout.routes if r.back}
        assert not circles or graph.title == "state machine a <b> & c" or len(circles) < len(layout.routes)


def test_a_picture_is_well_formed_and_says_everything():
    for graph in graphs():
        root = ElementTree.fromstring(svg(graph))
        said = {text.text for text in root.iter(f"{SPACE}text")}
        assert root.findtext(f"{SPACE}title") == graph.title
        assert {node.label for node in graph.nodes if node.shape != "start"} <= said
        assert {link.label for link in graph.links if link.label} <= said
        paths = [path for path in root.iter(f"{SPACE}path") if path.get("marker-end")]
        assert len(paths) == len({(k.source, k.target, k.style) for k in graph.links})


def test_the_same_picture_each_time_and_every_shape_is_drawn():
    pattern = Pattern.parse("p", "PATTERN (a -> b+ -> !c) WITHIN 5s DEFINE a AS n > 1, b AS n < 1, c AS n == 1")
    assert pattern.diagram("svg") == pattern.diagram(format="svg")
    assert "until the time is up" in pattern.diagram("svg")
    picture = machine().diagram("svg")
    assert "after 5s" in picture
    assert "touch &amp; &lt;go&gt;" in picture
    assert machine().diagram().startswith("stateDiagram-v2")


def test_long_labels_are_cut_and_a_graph_may_be_one_node():
    assert "…" not in svg(Graph("g", [Node("a", "x" * 200)], []))
    one = lay_out(Graph("g", [Node("a", "alone")], [Link("a", "a", "round")]))
    assert (one.width > 0, one.height > 34, len(one.loops)) == (True, True, 1)


@pytest.mark.parametrize("what", [PatternBuilder.create("p").where("a", "n > 1").build(), machine()])
def test_other_formats_are_refused(what: Pattern | StateMachine):
    with pytest.raises(ConfigurationError, match="'mermaid' and 'svg'"):
        what.diagram(format="png")  # type: ignore[arg-type]

"""Cases of our own for what the READMEs beside the data describe and no published case uses; what is not known is told.

The answers are reasoned from the descriptions in `data/*/README.md`.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import NotServed, run_cep_case, run_trigger_case, run_window_case
from tests.conformance.shapes import Part, PatternCase, TriggerCase, UnknownPart, WindowCase, known
from tests.conformance.test_cep_cases import CASES as PATTERNS
from tests.conformance.test_cep_cases import multiset
from tests.conformance.test_trigger_cases import CASES as TRIGGERS
from tests.conformance.test_trigger_cases import matches
from tests.conformance.test_window_cases import CASES as WINDOWS
from tests.conformance.test_window_cases import DATA, check

Case = dict[str, Any]
OWN = Path(__file__).parent / "own"
BATCHES: list[int | None] = [1, 7, None]


def sizes(fault: Any) -> list[int | None]:
    """All batch sizes, and few of them where something happens on the way."""
    return BATCHES if fault is None else [1, None]


def own(name: str) -> list[Any]:
    """The cases of a file, by name."""
    cases = json.loads((OWN / f"{name}.json").read_text())
    return [pytest.param(case, id=case.get("case", case.get("id"))) for case in cases]


@pytest.mark.parametrize("fault", [None, "crash", "rescale"])
@pytest.mark.parametrize("case", own("windows"))
def test_window_case(case: Case, fault: Any):
    for size in sizes(fault):
        check(run_window_case(case, DATA / "inputs", size, fault=fault), case, ordered=fault != "rescale")


@pytest.mark.parametrize("fault", [None, "crash", "rescale"])
@pytest.mark.parametrize("case", own("triggers"))
def test_trigger_case(case: Case, fault: Any):
    expected = [step["expect"] for step in case["timeline"] if "expect" in step]
    for size in sizes(fault):
        found = run_trigger_case(case, size, fault=fault)
        assert [len(panes) for panes in found] == [len(panes) for panes in expected], found
        for mine, theirs in zip(found, expected, strict=True):
            assert all(any(matches(one, pane) for one in mine) for pane in theirs), (mine, theirs)


@pytest.mark.parametrize("case", own("patterns"))
def test_pattern_case(case: Case):
    for size in BATCHES:
        if case.get("raises"):
            with pytest.raises(Exception, match=case["raises"]):
                run_cep_case(case, size)
        else:
            assert multiset(run_cep_case(case, size)) == multiset(case["expected_labels"])


def test_a_pane_that_nothing_expects_fails():
    case = next(one.values[0] for one in own("triggers") if one.id == "own_early_and_late_counts")
    case["timeline"].append({"input": [{"time": 3, "value": 3}]})
    with pytest.raises(AssertionError, match="nothing expects"):
        run_trigger_case(case, None)


RUNNERS: dict[str, tuple[dict[str, Case], Callable[[Case], Any]]] = {
    "windows": (WINDOWS, lambda case: run_window_case(case, DATA / "inputs", None)),
    "triggers": (TRIGGERS, lambda case: run_trigger_case(case, None)),
    "patterns": (PATTERNS, lambda case: run_cep_case(case, None)),
}

SHAPES: dict[str, type[Part]] = {"windows": WindowCase, "triggers": TriggerCase, "patterns": PatternCase}


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a case has an object that the format fixes: not the records and values, which are data."""
    if isinstance(value, dict):
        yield path
        for name, part in value.items():
            if name not in ("records", "rows", "expected_labels", "timeout_details", "value", "values"):
                yield from places(part, (*path, name))
    elif isinstance(value, list):
        for number, part in enumerate(value[:2]):
            yield from places(part, (*path, number))


def shape_of(path: tuple[str | int, ...]) -> str:
    return ".".join("*" if isinstance(part, int) else part for part in path)


def unknown() -> Iterator[Any]:
    """One example of each kind of place that the published cases have."""
    seen = set()
    for kind, (cases, _) in RUNNERS.items():
        for name, case in cases.items():
            for path in places(case):
                if (kind, shape_of(path)) not in seen:
                    seen.add((kind, shape_of(path)))
                    yield pytest.param(kind, name, path, id=f"{kind}-{shape_of(path) or 'case'}")


@pytest.mark.parametrize(("kind", "name", "path"), list(unknown()))
def test_an_unknown_field_is_told(kind: str, name: str, path: tuple[str | int, ...]):
    cases, run = RUNNERS[kind]
    case = copy.deepcopy(cases[name])
    part: Any = case
    for step in path:
        part = part[step]
    part["surprise"] = 1
    with pytest.warns(UnknownPart, match="surprise"), suppress(NotServed):
        run(case)


@pytest.mark.parametrize("kind", RUNNERS)
def test_nothing_in_the_published_cases_is_unknown(kind: str):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnknownPart)
        for case in RUNNERS[kind][0].values():
            known(case, SHAPES[kind])


def test_places_of_all_kinds_are_tried():
    shapes = {(param.values[0], shape_of(param.values[2])) for param in unknown()}
    assert {
        ("windows", "join"),
        ("windows", "steps.*.send"),
        ("windows", "inputs.*"),
        ("windows", "aggregates.*"),
    } <= shapes
    assert {("triggers", "trigger.of.of.*"), ("triggers", "timeline.*.expect.*"), ("triggers", "window")} <= shapes
    assert {("patterns", "pattern.steps.*.group.steps.*.condition"), ("patterns", "pattern.skip")} <= shapes


@pytest.mark.filterwarnings("ignore::tests.conformance.shapes.UnknownPart")
@pytest.mark.parametrize(
    ("name", "change", "why"),
    [
        ("proton_tumble_max_by_id", {"emission": "whenever"}, "emission"),
        ("proton_tumble_max_by_id", {"window": {"kind": "spiral", "size_ms": 1}}, "spiral"),
        ("proton_tumble_max_by_id", {"features": ["filter"], "case": "other"}, "filter"),
        ("proton_tumble_max_by_id", {"features": ["having"], "case": "other"}, "condition on results"),
        ("proton_tumble_max_by_id", {"features": ["per_key_time"], "keys": []}, "time of its own"),
        ("arroyo_most_active_driver_last_hour", {"case": "other"}, "the best of each group"),
        ("arroyo_windowed_inner_join", {"case": "other"}, "the join of 'other'"),
        ("rw_window_full_join", {"filter": "num > 1"}, "filters"),
        ("rw_window_full_join", {"join": {"kind": "full", "on": "window, num * 2"}}, "num \\* 2"),
        ("rw_join_not_before", {"join": {"kind": "inner", "on": "id", "bound": "left.ts + right.ts"}}, "bound"),
    ],
)
def test_what_is_not_explained_is_refused(name: str, change: Case, why: str):
    with pytest.raises(NotServed, match=why):
        run_window_case({**WINDOWS[name], **change}, DATA / "inputs", None)

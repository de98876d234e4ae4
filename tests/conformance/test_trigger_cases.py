"""The published trigger cases: timelines at batch sizes 1, 7, 1000 and everything at once, unit cases at their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import run_trigger_case
from tests.conformance.trial import Fault

DATA = Path(__file__).parent / "data" / "triggers"
CASES = {path.stem: json.loads(path.read_text()) for path in sorted(DATA.glob("*.json"))}
TIMELINES = [name for name, case in CASES.items() if "expected_panes" not in case]
UNITS = [(name, size) for name, case in CASES.items() if "expected_panes" in case for size in case["batch_sizes"]]


@pytest.mark.parametrize("fault", [None, "crash", "rescale"])
@pytest.mark.parametrize("batch_size", [1, 7, 1000, None])
@pytest.mark.parametrize("name", TIMELINES)
def test_timeline(name: str, batch_size: int | None, fault: Fault):
    case = CASES[name]
    found = run_trigger_case(case, batch_size, fault=fault)
    expected = [step["expect"] for step in case["timeline"] if "expect" in step]
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert len(mine) == len(theirs), mine
        for pane in theirs:
            assert any(matches(one, pane) for one in mine), f"no pane {pane} in {mine}"


def matches(pane: dict[str, Any], expected: dict[str, Any]) -> bool:
    if "timing_not" in expected and pane["timing"] == expected["timing_not"]:
        return False
    given = {name: value for name, value in expected.items() if name != "timing_not"}
    return all(
        (sorted(pane[name]) == sorted(value)) if name == "values" else pane[name] == value
        for name, value in given.items()
    )


@pytest.mark.parametrize("fault", [None, "crash", "rescale"])
@pytest.mark.parametrize(("name", "batch_size"), UNITS)
def test_unit_case(name: str, batch_size: int, fault: Fault):
    case = CASES[name]
    found = {tuple(one["window"]): one["panes"] for one in run_trigger_case(case, batch_size, fault=fault)}
    assert found == {tuple(one["window"]): [sorted(p) for p in one["panes"]] for one in case["expected_panes"]}

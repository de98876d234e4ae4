"""The published pattern cases, at batch sizes 1, 7, 1000 and everything at once."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cep_cases import drive, labels, run_cep_case
from tests.conformance.trial import Fault

LINES = (Path(__file__).parent / "data" / "cep" / "cases.jsonl").read_text().splitlines()
CASES = {case["id"]: case for case in map(json.loads, LINES)}


def multiset(found: list[dict[str, list[int]]]) -> Counter[str]:
    return Counter(json.dumps({step: sorted(at) for step, at in match.items()}, sort_keys=True) for match in found)


@pytest.mark.parametrize("batch_size", [1, 7, 1000, None])
@pytest.mark.parametrize("name", CASES)
def test_pattern_case(name: str, batch_size: int | None):
    case = CASES[name]
    if case.get("raises"):
        with pytest.raises(Exception, match="skip"):
            run_cep_case(case, batch_size)
        return
    assert multiset(run_cep_case(case, batch_size)) == multiset(case["expected_labels"])


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.get("raises")])
def test_the_general_engine_alone_and_after_a_crash(name: str):
    case = CASES[name]
    expected = multiset(case["expected_labels"])
    assert multiset(labels(drive(case, None, timeouts=True).matches)) == expected
    assert multiset(labels(drive(case, 2, timeouts=True, fault="crash").matches)) == expected
    assert multiset(labels(drive(case, 1, fault="crash").matches)) == expected


@pytest.mark.parametrize("size", [7, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 1000, None))])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.get("raises")])
def test_a_pattern_goes_on_when_workers_come_and_go(name: str, size: int | None):
    case = CASES[name]
    assert multiset(run_cep_case(case, size, fault="rescale")) == multiset(case["expected_labels"])


@pytest.mark.parametrize("fault", [None, "crash", "rescale"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "timeout_details" in case])
def test_timed_out_partial_matches(name: str, fault: Fault):
    case = CASES[name]
    found = drive(case, 1, timeouts=True, fault=fault).timed_out
    mine = zip(labels(found), found.get_column("__ts").to_list(), strict=True)
    theirs = [(detail["labels"], detail["at_ms"]) for detail in case["timeout_details"]]
    assert sorted(mine, key=repr) == sorted(theirs, key=repr)


@pytest.mark.parametrize("fault", [None, "crash", "rescale"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if "open_partials_at_end" in case])
def test_partial_matches_that_stay_open(name: str, fault: Fault):
    case: dict[str, Any] = CASES[name]
    assert drive(case, None, timeouts=True, fault=fault).open == case["open_partials_at_end"]

"""The published Nexmark results, at batch sizes 1, 7, 1000 and everything at once; and after crashes on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.nexmark.queries import QUERIES

from tests.conformance.cases import NotServed, run_nexmark
from tests.conformance.test_window_cases import assert_same_rows

DATA = Path(__file__).parent / "data"
CASES = {path.stem: json.loads(path.read_text()) for path in sorted((DATA / "nexmark").glob("*.json"))}


@pytest.mark.parametrize("batch_size", [1, 7, 1000, None])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case["rows"] is not None])
def test_published_results(name: str, batch_size: int | None):
    assert_same_rows(run_nexmark(name, DATA / "inputs", batch_size), CASES[name]["rows"], CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_batches_and_faults_change_nothing(name: str):
    case = CASES[name]
    whole = run_nexmark(name, DATA / "inputs", None)
    assert whole, "every query has results"
    assert_same_rows(run_nexmark(name, DATA / "inputs", 7), whole, case)
    assert_same_rows(run_nexmark(name, DATA / "inputs", 5, fault="crash"), whole, case)
    for size in (1, 7, None):
        assert_same_rows(run_nexmark(name, DATA / "inputs", size, fault="rescale"), whole, case)


def test_every_case_has_its_query():
    assert set(QUERIES) - set(CASES) == {"q11", "q12", "q13"}
    assert set(CASES) <= set(QUERIES)
    with pytest.raises(NotServed, match="'q23'"):
        run_nexmark("q23", DATA / "inputs", None)

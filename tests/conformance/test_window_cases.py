"""The published window cases, at batch sizes 1, 7, 1000 and everything at once; and the data is as it was published."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.cases import run_window_case
from tests.conformance.trial import Fault

DATA = Path(__file__).parent / "data"
CASES = {path.stem: json.loads(path.read_text()) for path in sorted((DATA / "windows").glob("*.json"))}
CHECKSUM = "3bb33806701ce28867178506d8f6e812b098a3d564bc58b6ff0d87685592b927"


def test_the_data_is_as_it_was_published():
    total = hashlib.sha256()
    for path in sorted(p for p in DATA.rglob("*") if p.is_file()):
        total.update(
            str(path.relative_to(DATA).as_posix()).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()
        )
    assert total.hexdigest() == CHECKSUM


def runs() -> Iterator[Any]:
    """Each case at each batch size. One record at a time of the large file takes half a minute a case."""
    for name, case in CASES.items():
        large = any(source.get("file") == "arroyo_cars.jsonl" for source in case["inputs"])
        for size in (1, 7, 1000, None):
            slow = large and (size == 1 or (size == 7 and len(case["columns"]) > 10))
            marks = [pytest.mark.slow] if slow and name != "arroyo_tight_watermark" else []
            yield pytest.param(name, size, marks=marks)


@pytest.mark.parametrize(("name", "batch_size"), list(runs()))
def test_window_case(name: str, batch_size: int | None):
    case = CASES[name]
    check(run_window_case(case, DATA / "inputs", batch_size), case)


@pytest.mark.parametrize("fault", ["crash", "rescale"])
@pytest.mark.parametrize("name", CASES)
def test_window_case_with_a_fault_on_the_way(name: str, fault: Fault):
    case = CASES[name]
    large = any(source.get("file") == "arroyo_cars.jsonl" for source in case["inputs"])
    for size in [1000] if large else [1, 7, None]:
        check(run_window_case(case, DATA / "inputs", size, fault=fault), case, ordered=fault != "rescale")


def check(found: list[Any], case: dict[str, Any], *, ordered: bool = True) -> None:
    """`ordered`: rows of different keys come in the order of the case, where that counts: one worker sees to it."""
    case = {**case, "order_sensitive": case["order_sensitive"] and ordered}
    steps = case["emission"] == "steps"
    expected = [step["expect"] for step in case["steps"] if "expect" in step] if steps else [case["rows"]]
    found = found if steps else [found]
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert_same_rows(mine, theirs, case)


def assert_same_rows(found: list[list[Any]], expected: list[list[Any]], case: dict[str, Any]) -> None:
    if not case["order_sensitive"]:
        found, expected = sorted(found, key=place), sorted(expected, key=place)
    assert len(found) == len(expected), (found[:5], expected[:5])
    tolerance = 1e-6 if "relative tolerance 1e-6" in case.get("notes", "") else 1e-9
    for mine, theirs in zip(found, expected, strict=True):
        for one, other, column in zip(mine, theirs, case["columns"], strict=True):
            if column["type"] in ("float", "decimal") and one is not None and other is not None:
                assert math.isclose(one, other, rel_tol=tolerance), (mine, theirs)
            else:
                assert one == other, (mine, theirs)
                assert column["type"] != "int" or one is None or type(one) is int, mine


def place(row: list[Any]) -> str:
    return repr([round(value, 6) + 0.0 if isinstance(value, int | float) else value for value in row])

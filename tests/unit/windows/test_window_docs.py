"""The programs of the page on windows run as they stand there, and so do the examples in docstrings."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "windows.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.S | re.M)
MODULES = [
    *("analytics.aggregates", "analytics.custom", "analytics.statistics", "streams.aggregate.monoid"),
    *("streams.calendar", "streams.changelogs", "streams.plan.panes", "streams.triggers.definitions"),
    *("streams.windowed", "streams.windows"),
]


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs_of_the_page_run(number: int):
    exec(compile(PROGRAMS[number], f"windows.md, program {number}", "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str):
    results = doctest.testmod(importlib.import_module(f"thalweg.{module}"))
    assert results.attempted
    assert not results.failed

"""The programs of the pages on state run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
PROGRAMS = [
    (page, number, code)
    for page in ("process.md", "state.md")
    for number, code in enumerate(BLOCK.findall((DOCS / page).read_text()))
]


@pytest.mark.parametrize(("page", "number", "code"), PROGRAMS, ids=[f"{page}-{n}" for page, n, _ in PROGRAMS])
def test_programs_of_the_docs_run(page, number, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, f"{page}, program {number}", "exec"), {"__name__": "docs"})

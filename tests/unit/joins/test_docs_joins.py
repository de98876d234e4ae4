"""The programs of docs/joins.md run, and print what their comments say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "joins.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_there_are_programs():
    assert len(PROGRAMS) == 6


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_prints_what_it_says(program: str, capsys: pytest.CaptureFixture[str]):
    exec(compile(program, "joins.md", "exec"), {"__name__": "program"})
    printed = capsys.readouterr().out.splitlines()
    said = [line.split("#")[-1].strip() for line in program.splitlines() if "print(" in line]
    assert printed == said

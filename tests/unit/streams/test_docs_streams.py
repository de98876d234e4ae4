"""Every stream method has an example that runs: on docs/streams.md, or in its own docstring."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest

from thalweg.streams import DataStream

PAGE = Path(__file__).parents[3] / "docs" / "streams.md"
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
NAMES = [name for name in dir(DataStream) if not name.startswith("_")]


def of_docstring(name: str) -> list[doctest.DocTest]:
    """The examples of a method's own docstring that call it."""
    member = inspect.getattr_static(DataStream, name)
    function = member.fget if isinstance(member, property) else member
    tests = doctest.DocTestFinder(recurse=False).find(function, name, globs={})
    return [test for test in tests if any(f".{name}" in example.source for example in test.examples)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_prints_what_it_says(program: str, capsys: pytest.CaptureFixture[str]):
    exec(compile(program, "streams.md", "exec"), {"__name__": "program"})
    printed = capsys.readouterr().out.splitlines()
    said = [line.split("#")[-1].strip() for line in program.splitlines() if "print(" in line]
    assert printed == said


@pytest.mark.parametrize("name", NAMES)
def test_a_method_has_an_example(name: str):
    shown = any(re.search(rf"\.{name}\b", program) for program in PROGRAMS)
    tests = of_docstring(name)
    assert shown or tests, f"DataStream.{name} stands neither on docs/streams.md nor in an example of its docstring"
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0

"""What the pages and docstrings about state machines, rules and correlation show is what happens."""

from __future__ import annotations

import doctest
import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from thalweg.cep import RuleEngine
from thalweg.cep.conditions import Condition, syntax
from thalweg.cep.correlate import load_sigma
from thalweg.cep.rules import DecisionTable
from thalweg.errors import MissingExtraError

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"```(python|text)\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("page", ["state-machines", "rules", "correlation"])
def test_pages(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page}
    shown = printed = 0
    output = ""
    for kind, text in BLOCK.findall((DOCS / f"{page}.md").read_text()):
        if kind == "python":
            exec(compile(text, f"{page}.md", "exec"), names)
            output = capsys.readouterr().out
            shown += 1
        else:
            assert sorted(output.splitlines()) == sorted(text.splitlines())
            printed += 1
    assert shown >= 4
    assert printed >= 2


@pytest.mark.parametrize(
    "module",
    [
        "conditions.condition",
        "machine.definition",
        "rules.engine",
        "rules.decisions",
        "correlate.correlator",
        "correlate.sigma",
    ],
)
def test_docstrings(module: str):
    results = doctest.testmod(importlib.import_module(f"thalweg.cep.{module}"))
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    ("module", "extra"),
    [("lark", "rules"), ("yaml", "rules"), ("zen", "decisions"), ("sigma.collection", "sigma")],
)
def test_a_missing_extra_is_named(module: str, extra: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(sys.modules, module, None)
    syntax._parser.cache_clear()
    (tmp_path / "rules.yaml").write_text("rules: []")
    uses: dict[str, Callable[[], object]] = {
        "lark": lambda: Condition("nobody_asked_this_before > 1"),
        "yaml": lambda: RuleEngine().load(tmp_path / "rules.yaml"),
        "zen": lambda: DecisionTable.of({"a": [""]}, {"b": ["1"]}),
        "sigma.collection": lambda: load_sigma("title: x\n"),
    }
    try:
        with pytest.raises(MissingExtraError, match=rf"pip install 'thalweg\[{extra}\]'"):
            uses[module]()
    finally:
        syntax._parser.cache_clear()

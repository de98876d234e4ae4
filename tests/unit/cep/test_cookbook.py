"""The pages on patterns run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


def blocks(page: str) -> list[tuple[str, str]]:
    """The Python of a page: (the heading above, the code)."""
    text = (DOCS / page).read_text(encoding="utf-8")
    heading, found = page, []
    for part in re.finditer(r"^#+ ([^\n]+)$|^```python\n(.*?)^```", text, flags=re.M | re.S):
        if part[1]:
            heading = part[1]
        else:
            found.append((heading, part[2]))
    return found


COOKBOOK = blocks("patterns-cookbook.md")


@pytest.mark.parametrize("number", range(1, len(COOKBOOK)), ids=[heading for heading, _ in COOKBOOK[1:]])
def test_recipe(number: int):
    names: dict[str, object] = {}
    exec(COOKBOOK[0][1], names)
    exec(COOKBOOK[number][1], names)


STANDALONE = [(heading, code) for heading, code in blocks("patterns.md") if "assert " in code]


@pytest.mark.parametrize("number", range(len(STANDALONE)))
def test_what_the_page_on_patterns_asserts(number: int):
    exec(STANDALONE[number][1], {})


def test_there_are_enough_recipes_from_each_field():
    text = (DOCS / "patterns-cookbook.md").read_text(encoding="utf-8")
    fields = re.findall(r"^## (.+)$", text, flags=re.M)
    assert fields == ["Fraud", "Security", "Internet of Things", "Clickstream", "Operations"]
    assert len(STANDALONE) >= 4
    assert len(re.findall(r"^### \d+\.", text, flags=re.M)) == len(COOKBOOK) - 1 >= 10

"""Writes patterns as text: what `parse_pattern` reads."""

from __future__ import annotations

from typing import Any

from thalweg.cep.conditions import Condition
from thalweg.cep.pattern import AnyOf, Contiguity, Element, Group, Pattern, Permutation, Quantifier, Skip, Step, flatten
from thalweg.cep.text.aggregates import MatchCondition, Measure
from thalweg.cep.text.expressions import condition_text
from thalweg.cep.text.parse import KEYWORDS, wraps_repetition
from thalweg.errors import ConfigurationError

_LINKS = {
    Contiguity.STRICT: " ",
    Contiguity.RELAXED: " -> ",
    Contiguity.ANY: " ->> ",
    Contiguity.NOT_NEXT: " !",
    Contiguity.NOT_FOLLOWED_BY: " -> !",
}
_ARROWS = {Contiguity.STRICT: "", Contiguity.RELAXED: "->", Contiguity.ANY: "->>"}


def pattern_text(pattern: Pattern) -> str:
    """The pattern in the textual form: parsed again it is the same pattern.

    Conditions may be text, expressions, or lambdas that are traced into expressions.

    Raises:
        ConfigurationError: a condition or a measure has no textual form, such as a Python function.
    """
    lines = []
    if pattern.measures:
        lines.append("MEASURES " + ", ".join(f"{_measure(pattern, m, name)} AS {name}" for name, m in pattern.measures))
    lines.append(f"AFTER MATCH {_skip(pattern)}")
    lines.append(f"PATTERN ({_row(pattern, pattern.steps)})")
    if pattern.within is not None:
        lines.append(f"WITHIN {pattern.within}ms")
    if pattern.max_gap is not None:
        lines.append(f"MAX GAP {pattern.max_gap}ms")
    defined = [
        f"{step.name} AS {_condition(pattern, step.condition, f'step {step.name!r}')}"
        for step in flatten(pattern.steps)
        if step.condition is not None
    ]
    if defined:
        lines.append("DEFINE " + ",\n       ".join(defined))
    return "\n".join(lines)


def _skip(pattern: Pattern) -> str:
    after = pattern.after_match
    if after.required:
        raise ConfigurationError(f"{pattern.id}: AfterMatch(…, required=True) has no textual form")
    return {
        Skip.NONE: "NO SKIP",
        Skip.TO_NEXT: "SKIP TO NEXT ROW",
        Skip.PAST_LAST: "SKIP PAST LAST ROW",
        Skip.TO_FIRST: f"SKIP TO FIRST {after.step}",
        Skip.TO_LAST: f"SKIP TO LAST {after.step}",
    }[after.strategy]


def _row(pattern: Pattern, elements: tuple[Element, ...]) -> str:
    text = ""
    for number, element in enumerate(elements):
        text += (_LINKS[element.contiguity] if number else "") + _element(pattern, element)
    return text


def _element(pattern: Pattern, element: Element) -> str:
    quantifier = element.quantifier
    # An optional repetition of an open or fixed number needs its own brackets: `(b{2})?`; so a group of one has more.
    star = quantifier.looping and quantifier.minimum == 1
    wrapped = quantifier.optional and ((quantifier.repeats and not star) or wraps_repetition(element))
    plain = Quantifier(quantifier.minimum, quantifier.maximum, False, quantifier.greedy, quantifier.inner)
    mark = _mark(plain if wrapped else quantifier, isinstance(element, Step))
    until = "" if element.until is None else f" UNTIL ({_condition(pattern, element.until, 'until')})"
    body = _atom(pattern, element) + mark + until
    return f"({body})?" if wrapped else body


def _atom(pattern: Pattern, element: Element) -> str:
    if isinstance(element, Step):
        if not element.name.isidentifier() or element.name in KEYWORDS:
            raise ConfigurationError(f"{pattern.id}: a step called {element.name!r} has no textual form: rename it")
        return element.name
    if isinstance(element, AnyOf):
        return f"({' | '.join(_row(pattern, branch.steps) for branch in element.branches)})"
    if isinstance(element, Permutation):
        inner = ", ".join(_element(pattern, part) for part in element.elements)
        return f"PERMUTE{_ARROWS[element.between]}({inner})"
    assert isinstance(element, Group)
    return f"({_row(pattern, element.steps)})"


def _mark(quantifier: Quantifier, is_step: bool) -> str:
    if not quantifier.repeats:
        return "?" if quantifier.optional else ""
    if quantifier.looping and quantifier.minimum == 1:
        mark, is_open = "*" if quantifier.optional else "+", True
    elif quantifier.looping:
        mark, is_open = f"{{{quantifier.minimum},}}", True
    elif quantifier.minimum == quantifier.maximum:
        mark, is_open = f"{{{quantifier.minimum}}}", False
    else:
        mark, is_open = f"{{{quantifier.minimum},{quantifier.maximum}}}", True
    reluctant = "?" if is_step and is_open and not quantifier.greedy else ""
    return _ARROWS[quantifier.inner] + mark + reluctant


def _condition(pattern: Pattern, condition: Any, what: str) -> str:
    if isinstance(condition, Condition | MatchCondition):
        return condition.text
    try:
        return condition_text(condition)
    except ConfigurationError as error:
        raise ConfigurationError(f"{pattern.id}: {what} can't be written as text: {error}") from error


def _measure(pattern: Pattern, measure: Any, name: str) -> str:
    if isinstance(measure, Measure):
        return measure.text
    raise ConfigurationError(f"{pattern.id}: the measure {name!r} can't be written as text: it is a Python function")

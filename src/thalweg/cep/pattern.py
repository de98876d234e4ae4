"""What a pattern is: immutable steps with conditions, quantifiers and contiguity. `PatternBuilder` makes them.

The words and their meanings are those of Apache Flink's CEP library, which are well documented and tested; only the
default after a match differs (see `AfterMatch`).
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal

from thalweg.errors import ConfigurationError


class Contiguity(StrEnum):
    """What may lie between a step's event and the one before it."""

    STRICT = "next"
    """Nothing: the very next event (of the key) has to fit."""
    RELAXED = "followed_by"
    """Events that do not fit the step."""
    ANY = "followed_by_any"
    """Any events, also ones that would fit: each that fits makes a match of its own."""
    NOT_NEXT = "not_next"
    """The very next event must not fit."""
    NOT_FOLLOWED_BY = "not_followed_by"
    """No event fits until the following step has its own."""

    @property
    def negative(self) -> bool:
        """Whether the step says what must not come."""
        return self in (Contiguity.NOT_NEXT, Contiguity.NOT_FOLLOWED_BY)


@dataclass(frozen=True, slots=True)
class Quantifier:
    """How often a step occurs."""

    minimum: int = 1
    maximum: int | None = 1
    """None: without bound."""
    optional: bool = False
    greedy: bool = False
    inner: Contiguity = Contiguity.RELAXED
    """What may lie between two repetitions."""

    @property
    def looping(self) -> bool:
        return self.maximum is None

    @property
    def repeats(self) -> bool:
        return self.maximum != 1

    def describe(self) -> str:
        """In the style of regular expressions.

        >>> Quantifier(2, 4).describe(), Quantifier(1, None, optional=True).describe()
        ('{2,4}', '*')
        """
        if not self.repeats:
            text = ""
        elif self.looping:
            text = "+" if self.minimum == 1 else f"{{{self.minimum},}}"
        else:
            text = f"{{{self.minimum}}}" if self.minimum == self.maximum else f"{{{self.minimum},{self.maximum}}}"
        if self.optional:
            text = "*" if text == "+" else f"{text}?"
        inner = {Contiguity.STRICT: " consecutive", Contiguity.ANY: " combinations"}.get(self.inner, "")
        return text + inner + (" greedy" if self.greedy else "")


@dataclass(frozen=True, slots=True)
class Step:
    """One named step of a pattern.

    `condition` is an expression, a lambda over the event, a lambda over the event and the partial match so far
    (`lambda e, m: …`, see `PartialMatch`), or None for any event. `until` ends a loop.
    """

    name: str
    condition: Any
    contiguity: Contiguity
    quantifier: Quantifier = Quantifier()
    until: Any = None

    def describe(self) -> str:
        return f"{self.name}{self.quantifier.describe()}"


@dataclass(frozen=True, slots=True)
class Group:
    """Steps that are repeated or left out together."""

    steps: tuple[Element, ...]
    contiguity: Contiguity
    quantifier: Quantifier = Quantifier()
    until: Any = None

    def describe(self) -> str:
        return f"({describe(self.steps)}){self.quantifier.describe()}"


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Alternatives, one of which occurs. An event that can begin any of them fits the alternation as a whole."""

    branches: tuple[Group, ...]
    contiguity: Contiguity
    quantifier: Quantifier = Quantifier()
    until: Any = None

    def describe(self) -> str:
        return f"({' | '.join(describe(branch.steps) for branch in self.branches)}){self.quantifier.describe()}"


@dataclass(frozen=True, slots=True)
class Permutation:
    """Elements that all occur, in any order."""

    elements: tuple[Element, ...]
    contiguity: Contiguity
    between: Contiguity = Contiguity.RELAXED
    """What may lie between one of them and the next."""
    quantifier: Quantifier = Quantifier()
    until: Any = None

    def describe(self) -> str:
        between = {Contiguity.STRICT: " & ", Contiguity.ANY: " &⇝ "}.get(self.between, " &→ ")
        return f"({between.join(element.describe() for element in self.elements)}){self.quantifier.describe()}"


Choice = AnyOf | Permutation
Element = Step | Group | AnyOf | Permutation


def inside(element: Element) -> tuple[Element, ...]:
    """The elements that an element consists of; none for a step."""
    if isinstance(element, Group):
        return element.steps
    if isinstance(element, AnyOf):
        return element.branches
    return element.elements if isinstance(element, Permutation) else ()


def flatten(elements: tuple[Element, ...]) -> Iterator[Step]:
    """All steps in order, those inside groups too."""
    for element in elements:
        if isinstance(element, Step):
            yield element
        else:
            yield from flatten(inside(element))


def asks_match(elements: tuple[Element, ...]) -> bool:
    """Whether any condition (or end of a loop) asks for the partial match."""
    return any(
        takes_match(element.until)
        or (takes_match(element.condition) if isinstance(element, Step) else asks_match(inside(element)))
        for element in elements
    )


def takes_match(condition: Any) -> bool:
    """Whether a condition is a function of two arguments: the event and the partial match.

    Raises:
        ConfigurationError: it takes more.
    """
    if not callable(condition):
        return False
    try:
        parameters = inspect.signature(condition).parameters.values()
    except (TypeError, ValueError):
        return False
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty]
    if len(places) > 2:
        raise ConfigurationError("a condition takes the event, or the event and the partial match, not more")
    return len(places) == 2


def plain_part(condition: Any) -> Any:
    """What a condition on the event and the partial match asks of the event alone, as a condition; None: nothing."""
    return getattr(condition, "plain", None)


def describe(elements: tuple[Element, ...]) -> str:
    """The steps as one line: `probe → exploit{2}`."""
    arrows = {
        Contiguity.STRICT: " ⇒ ",
        Contiguity.RELAXED: " → ",
        Contiguity.ANY: " ⇝ ",
        Contiguity.NOT_NEXT: " ⇏ ",
        Contiguity.NOT_FOLLOWED_BY: " ↛ ",
    }
    text = ""
    for number, element in enumerate(elements):
        text += (arrows[element.contiguity] if number else "") + element.describe()
    return text


class Skip(StrEnum):
    """The strategies of `AfterMatch`."""

    NONE = "no_skip"
    TO_NEXT = "skip_to_next"
    PAST_LAST = "skip_past_last"
    TO_FIRST = "skip_to_first"
    TO_LAST = "skip_to_last"


@dataclass(frozen=True, slots=True)
class AfterMatch:
    """Which partial matches a match ends.

    The default is `PAST_LAST`: a match ends all partial matches that began before its last event, so ten failures are
    three matches of three, not eight overlapping ones.
    """

    strategy: Skip
    step: str | None = None
    required: bool = False
    """Whether a match without an event for `step` is an error; otherwise it ends nothing."""

    NO_SKIP: ClassVar[AfterMatch]
    """Ends none: every possible match is found."""
    TO_NEXT: ClassVar[AfterMatch]
    """Ends those that began with the same event."""
    PAST_LAST: ClassVar[AfterMatch]
    """Ends those that began before the match's last event."""

    @staticmethod
    def to_first(step: str, *, required: bool = False) -> AfterMatch:
        """Ends those that began before the match's first event of `step`."""
        return AfterMatch(Skip.TO_FIRST, step, required)

    @staticmethod
    def to_last(step: str, *, required: bool = False) -> AfterMatch:
        """Ends those that began before the match's last event of `step`."""
        return AfterMatch(Skip.TO_LAST, step, required)

    def __post_init__(self) -> None:
        if (self.step is not None) != (self.strategy in (Skip.TO_FIRST, Skip.TO_LAST)):
            raise ConfigurationError("use AfterMatch.NO_SKIP, .TO_NEXT, .PAST_LAST, .to_first(step) or .to_last(step)")


AfterMatch.NO_SKIP = AfterMatch(Skip.NONE)
AfterMatch.TO_NEXT = AfterMatch(Skip.TO_NEXT)
AfterMatch.PAST_LAST = AfterMatch(Skip.PAST_LAST)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A complete pattern, checked by `PatternBuilder.build()`."""

    id: str
    name: str
    steps: tuple[Element, ...]
    within: int | None = None
    """ms: a match's last event comes less than this after its first."""
    max_gap: int | None = None
    """ms: each event of a match comes less than this after the one before it."""
    after_match: AfterMatch = AfterMatch.PAST_LAST
    measures: tuple[tuple[str, Any], ...] = ()
    """Result column → function of the match's terms (see `measures.MatchTerms`)."""

    @property
    def step_names(self) -> tuple[str, ...]:
        """The steps that a match can have events for, in order."""
        return tuple(step.name for step in flatten(self.steps) if not step.contiguity.negative)

    def to_node(self, upstream: Any, key_columns: tuple[str, ...]) -> Any:
        """The plan node behind `stream.detect(pattern)`."""
        from thalweg.cep.node import PatternNode

        return PatternNode((self,), key_columns, inputs=(upstream,))

    def describe(self) -> str:
        """One line: the steps and their bounds."""
        bounds = f" within {self.within} ms" if self.within is not None else ""
        gap = f" gaps below {self.max_gap} ms" if self.max_gap is not None else ""
        return f"{self.id}: {describe(self.steps)}{bounds}{gap}, {self.after_match.strategy}"

    @staticmethod
    def parse(pattern_id: str, text: str, name: str | None = None) -> Pattern:
        """The pattern that a text describes; see `thalweg.cep.text.parse_pattern`."""
        from thalweg.cep.text import parse_pattern

        return parse_pattern(pattern_id, text, name)

    def to_text(self) -> str:
        """The pattern in the textual form; see `thalweg.cep.text.pattern_text`."""
        from thalweg.cep.text import pattern_text

        return pattern_text(self)

    def diagram(self, format: Literal["mermaid", "svg"] = "mermaid") -> str:
        """The automaton as a Mermaid flowchart, or as an SVG picture.

        A solid arrow takes the event, a dotted one passes it over, a thick one offers it to another state.
        """
        from thalweg.cep.diagram import diagram

        return diagram(self, format)

    def explain(self, match: Any) -> str:
        """Which event of a match met which condition; `match` is a row of the pattern's stream."""
        from thalweg.cep.explained import explain_match

        return explain_match([self], match)

    def fingerprint(self) -> str:
        """Changes with the pattern's structure: partial matches of another structure can't be continued."""
        return hashlib.sha256(self.describe().encode()).hexdigest()[:12]

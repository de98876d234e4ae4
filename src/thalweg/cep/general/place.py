"""Where the compiler is in the pattern, and what the edges there ask of events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.cep.general.edge_tests import HasBit, Iterative, Test, always, both, either, negated
from thalweg.cep.pattern import (
    AnyOf,
    Choice,
    Contiguity,
    Element,
    Group,
    Pattern,
    Permutation,
    Step,
    inside,
    plain_part,
    takes_match,
)


@dataclass(frozen=True)
class Place:
    """Where the compiler is: an element among its neighbours."""

    sequence: Sequence[Element]
    index: int
    groups: tuple[Element, ...]
    """The groups (and alternations, permutations) around it, the innermost last."""
    following: Element | None
    """The element after this one; inside a group, the last one's is that of the group."""

    @property
    def element(self) -> Element:
        return self.sequence[self.index]

    @property
    def group(self) -> Element | None:
        return self.groups[-1] if self.groups else None

    @property
    def heads_group(self) -> bool:
        return bool(self.groups) and self.index == 0

    @property
    def heads_branch(self) -> bool:
        """Whether it is the first of an alternative itself."""
        return self.heads_group and len(self.groups) > 1 and isinstance(self.groups[-2], Choice)


class Tests:
    """The tests of the elements of one pattern; notes what they need."""

    def __init__(self, pattern: Pattern, bit_of: Callable[[Any], int]) -> None:
        self.pattern = pattern
        self.bit_of = bit_of
        self.iterative = False
        self.needs_all = False
        self.repeating: dict[int, bool] = {}
        """Per group: whether its first step is being built for a later round."""

    def between(self, place: Place, element: Permutation, left: frozenset[int]) -> Test | None:
        """Which events may be passed over before the next of the elements that are `left`."""
        if element.between is Contiguity.STRICT:
            self.needs_all = True
            return None
        fits = either([self.fits(element.elements[number]) for number in sorted(left)])
        return self.not_ended(place, always if element.between is Contiguity.ANY else negated(fits), own=True)

    def opens_optional_group(self, place: Place) -> bool:
        """Whether the step is the first of a group that may be left out, on its first round."""
        group = place.group
        return (
            place.heads_group
            and group is not None
            and group.quantifier.optional
            and not self.repeating.get(id(group), False)
        )

    def take(self, place: Place) -> Test:
        return self.not_ended(place, self.test(place.element), own=True)

    def not_ended(self, place: Place, test: Test, *, own: bool) -> Test:
        """The test, but never for an event that ends (`until`) the element's own loop or one around it."""
        ends = [self.until(element) for element in (*place.groups, *((place.element,) if own else ()))]
        for end in ends:
            if end is not None:
                test = both(negated(end), test)
        return test

    def ignore(self, place: Place, *, inner: bool) -> Test | None:
        """Which events may be passed over before (or, `inner`, between) the element's events; None: none."""
        if not inner and self._begins_alternative(place):
            return None  # the fork before it passes events over
        contiguity = self._contiguity(place, inner)
        if contiguity is Contiguity.STRICT:
            if place.index or inner or place.group is not None:
                self.needs_all = True
            return None
        test = always if contiguity is Contiguity.ANY else negated(self.test(place.element))
        return self.not_ended(place, test, own=inner)

    def _begins_alternative(self, place: Place) -> bool:
        """Whether an alternative begins with it, be it in groups; not on their later rounds."""
        inner = place.element
        for number in range(len(place.groups) - 1, 0, -1):
            group = place.groups[number]
            if self.repeating.get(id(group), False) or inside(group)[0] is not inner:
                return False
            if isinstance(place.groups[number - 1], Choice):
                return True
            inner = group
        return False

    def _contiguity(self, place: Place, inner: bool) -> Contiguity:
        """A group's first step stands for the group: for its contiguity, or on later rounds its inner one.

        As in Flink, the group's inner contiguity also is that between the step's own repetitions; an alternative's
        first step has its own.
        """
        element = place.element
        if place.heads_group and not place.heads_branch:
            assert place.group is not None
            if inner or self.repeating.get(id(place.group), False):
                return place.group.quantifier.inner
            return self._of_head(place.group)
        if inner:
            return element.quantifier.inner
        return self._of_head(element)

    def _of_head(self, element: Element) -> Contiguity:
        """The first step of all has nothing before it: it begins with the event at hand."""
        return Contiguity.STRICT if element is self.pattern.steps[0] else element.contiguity

    def round(self, element: Element, *, repeating: bool) -> None:
        if isinstance(element, Group):
            self.repeating[id(element)] = repeating

    def test(self, element: Element) -> Test:
        """Whether an event fits an element; a group's steps are asked for themselves."""
        if isinstance(element, Group):
            return always
        return self.fits(element)

    def fits(self, element: Element) -> Test:
        """Whether an event fits a step, or can begin any of the alternatives."""
        if isinstance(element, Step):
            return self._of_condition(element.condition, element.name)
        if isinstance(element, Group):
            return self.fits(element.steps[0])
        return either([self.fits(part) for part in inside(element)])

    def until(self, element: Element) -> Test | None:
        return None if element.until is None else self._of_condition(element.until, f"until {name_of(element)}")

    def _of_condition(self, condition: Any, label: str) -> Test:
        if condition is None:
            self.needs_all = True
            return always
        if takes_match(condition):
            self.iterative = True
            plain = plain_part(condition)
            if plain is not None:
                return both(HasBit(self.bit_of(plain), label), Iterative(condition.rest, label))
            self.needs_all = True
            return Iterative(condition, label)
        return HasBit(self.bit_of(condition), label)


def name_of(element: Element) -> str:
    if isinstance(element, Step):
        return element.name
    return {Group: "group", AnyOf: "any of"}.get(type(element), "all of")

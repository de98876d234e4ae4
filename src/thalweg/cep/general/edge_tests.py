"""What an edge of the automaton asks of an event: small formulas over its condition bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Test(Protocol):
    """Takes the event's condition bits and, for iterative conditions, a view of the event and the partial match."""

    def __call__(self, bits: int, view: Any) -> bool:
        """Whether the event passes."""

    def __str__(self) -> str:
        """For people: `b ∧ ¬c`, by the names of steps."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Every event passes, or none."""

    value: bool

    def __call__(self, bits: int, view: Any) -> bool:
        return self.value

    def __str__(self) -> str:
        return "any" if self.value else "none"


always = Constant(True)
never = Constant(False)


@dataclass(frozen=True, slots=True)
class HasBit:
    """The condition with this bit holds."""

    bit: int
    label: str

    def __call__(self, bits: int, view: Any) -> bool:
        return bits >> self.bit & 1 == 1

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True, slots=True)
class Iterative:
    """A function of the event and the partial match; null counts as false, and so does that there is no event."""

    function: Callable[[Any, Any], Any]
    label: str

    def __call__(self, bits: int, view: Any) -> bool:
        return view is not None and bool(self.function(view.event, view.partial))

    def __str__(self) -> str:
        return f"{self.label}(match)"


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    test: Test

    def __call__(self, bits: int, view: Any) -> bool:
        return not self.test(bits, view)

    def __str__(self) -> str:
        return f"¬{self.test}" if isinstance(self.test, HasBit | Iterative) else f"¬({self.test})"


@dataclass(frozen=True, slots=True)
class Both:
    """One after the other: the second is not asked where the first says no."""

    first: Test
    second: Test

    def __call__(self, bits: int, view: Any) -> bool:
        return self.first(bits, view) and self.second(bits, view)

    def __str__(self) -> str:
        return f"{self.first} ∧ {self.second}"


@dataclass(frozen=True, slots=True)
class Either:
    """Any of several."""

    tests: tuple[Test, ...]

    def __call__(self, bits: int, view: Any) -> bool:
        return any(test(bits, view) for test in self.tests)

    def __str__(self) -> str:
        return f"({' ∨ '.join(map(str, self.tests))})"


def negated(test: Test) -> Test:
    """The opposite, at its simplest."""
    if isinstance(test, Constant):
        return never if test.value else always
    return test.test if isinstance(test, Not) else Not(test)


def both(first: Test, second: Test) -> Test:
    """The conjunction, at its simplest."""
    if first == always:
        return second
    return first if second == always else Both(first, second)


def either(tests: Sequence[Test]) -> Test:
    """The disjunction, at its simplest."""
    return always if always in tests else Either(tuple(tests))

"""What an edge of the automaton asks of an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Test = Callable[[int, Any], bool]
"""Takes the event's condition bits and, for iterative conditions, a view of the event and the partial match."""


def always(bits: int, view: Any) -> bool:
    """Every event passes."""
    return True


def never(bits: int, view: Any) -> bool:
    """No event passes."""
    return False


def has_bit(bit: int) -> Test:
    """The condition with this bit holds."""
    mask = 1 << bit
    return lambda bits, view: bits & mask != 0


def iterative(function: Callable[[Any, Any], Any]) -> Test:
    """A function of the event and the partial match; null counts as false."""
    return lambda bits, view: bool(function(view.event, view.partial))


def negated(test: Test) -> Test:
    """The opposite."""
    if test is always:
        return never
    return lambda bits, view: not test(bits, view)


def both(first: Test, second: Test) -> Test:
    """One after the other: the second is not asked where the first says no."""
    if first is always:
        return second
    return first if second is always else lambda bits, view: first(bits, view) and second(bits, view)

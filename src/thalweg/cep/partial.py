"""What a condition may ask of the partial match that it would extend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PartialMatch:
    """The events that a partial match has taken so far, by step; the event under test is not among them.

    The second argument of an iterative condition:

    >>> from thalweg.expressions import Row
    >>> rising = lambda e, m: e.price > m.last("up").price
    >>> rising(Row({"price": 3}), PartialMatch({"up": [Row({"price": 1}), Row({"price": 2})]}))
    True
    """

    __slots__ = ("_events",)

    def __init__(self, events: dict[str, list[Any]]) -> None:
        self._events = events

    def __getitem__(self, step: str) -> Sequence[Any]:
        """The events of a step, in order; none yet: empty."""
        return self._events.get(step, ())

    def first(self, step: str) -> Any:
        """The first event of a step; None where it has none yet."""
        events = self[step]
        return events[0] if events else None

    def last(self, step: str) -> Any:
        """The last event of a step; None where it has none yet."""
        events = self[step]
        return events[-1] if events else None

    def count(self, step: str) -> int:
        """How many events the step has."""
        return len(self[step])

    def sum(self, step: str, field: str) -> Any:
        """The sum of a field over a step's events; 0 where it has none. Nulls are left out, here and below."""
        return sum(self._values(step, field))

    def avg(self, step: str, field: str) -> float | None:
        """The average of a field over a step's events; None where it has none."""
        values = self._values(step, field)
        return sum(values) / len(values) if values else None

    def min(self, step: str, field: str) -> Any:
        """The least value of a field over a step's events; None where it has none."""
        return min(self._values(step, field), default=None)

    def max(self, step: str, field: str) -> Any:
        """The largest value of a field over a step's events; None where it has none."""
        return max(self._values(step, field), default=None)

    def _values(self, step: str, field: str) -> list[Any]:
        return [event[field] for event in self[step] if event[field] is not None]

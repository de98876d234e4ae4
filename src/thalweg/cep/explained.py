"""Why a match is one: which event met which condition; and what patterns would find in recorded events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.cep.conditions import Condition
from thalweg.cep.pattern import Pattern, Step, flatten, takes_match
from thalweg.cep.text.aggregates import MatchCondition
from thalweg.errors import ConfigurationError
from thalweg.expressions import Row, compile_function


def explain_match(patterns: Sequence[Pattern], match: Mapping[str, Any]) -> str:
    """A line per event of a match: the step, the condition that it met, and the event.

    Args:
        patterns: among them the one that found it.
        match: a row of `stream.detect(…)`, of `matcher.process(…)` or of a handler.

    Raises:
        ConfigurationError: the match is of none of the patterns.
    """
    pattern = next((pattern for pattern in patterns if pattern.id == match["pattern"]), None)
    if pattern is None:
        raise ConfigurationError(f"the match is of {match['pattern']!r}, which is not among these patterns")
    taken = [
        (step, number, len(match["events"][step.name]), event)
        for step in flatten(pattern.steps)
        if not step.contiguity.negative
        for number, event in enumerate(match["events"][step.name] or (), start=1)
    ]
    lines = [f"{pattern.id}: {match['match_start']} to {match['match_end']}"]
    for step, number, count, event in taken:
        name = step.name if count == 1 else f"{step.name} {number}/{count}"
        lines.append(f"  {name}: {condition_shown(step)}  ←  {_shown(event)}")
    absent = [step for step in flatten(pattern.steps) if step.contiguity.negative]
    lines += [f"  no {step.name}: {condition_shown(step)}" for step in absent]
    if pattern.within is not None:
        lines.append(f"  within {pattern.within} ms: {match['match_end'] - match['match_start']} ms")
    return "\n".join(lines)


def condition_shown(step: Step) -> str:
    """A step's condition as its author wrote it, as far as that is known."""
    condition = step.condition
    if condition is None:
        return "any event"
    if isinstance(condition, Condition | MatchCondition):
        return condition.text
    if takes_match(condition):
        return f"{getattr(condition, '__name__', 'function')}(event, match)"
    return compile_function(condition, purpose="predicate", schema=None).name


def _shown(event: Any) -> str:
    fields = event.to_dict() if isinstance(event, Row) else dict(event)
    return ", ".join(f"{name}={value!r}" for name, value in fields.items() if value is not None)


class MatchRow(Row):
    """A match as handlers get it: a row that can say why it is one."""

    __slots__ = ("__patterns",)

    @staticmethod
    def of(row: Row, keys: tuple[str, ...], patterns: Sequence[Pattern]) -> MatchRow:
        """The row as a match of one of these patterns."""
        match = MatchRow(dict(row), keys, row.timestamp)
        object.__setattr__(match, "_MatchRow__patterns", patterns)
        return match

    def explain(self) -> str:
        """Which event met which condition."""
        return explain_match(self.__patterns, self)


@dataclass(frozen=True)
class DryRun:
    """What patterns find in recorded events, and how near they come.

    Attributes:
        events: how many there were.
        matches: one row per match.
        timed_out: one row per partial match whose time ran out.
        met: pattern → step → how many events met its condition; None for conditions on the match.
        reached: pattern → step → how many matches and timed-out partial matches have an event for it.
        open: partial matches at the end.
    """

    events: int
    matches: pl.DataFrame
    timed_out: pl.DataFrame
    met: dict[str, dict[str, int | None]]
    reached: dict[str, dict[str, int]]
    open: int

    def report(self) -> str:
        """The same for people."""
        lines = [f"{self.events} events, {self.matches.height} matches, {self.timed_out.height} timed out"]
        for pattern, steps in self.met.items():
            found = 0 if not self.matches.height else self.matches.filter(pl.col("pattern") == pattern).height
            lines.append(f"{pattern}: {found} matches")
            for step, count in steps.items():
                met = "asked of the match" if count is None else f"{count} events"
                reached = self.reached[pattern].get(step)
                lines.append(f"  {step}: {met}" + ("" if reached is None else f", reached {reached} times"))
        return "\n".join(lines)

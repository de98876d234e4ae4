"""Which patterns the sequence engine serves: those that are one line of steps, each with a fixed number of events."""

from __future__ import annotations

from thalweg.cep.pattern import AfterMatch, Contiguity, Pattern, Step, takes_match

MAX_EVENTS = 64
"""The most events that one match of the sequence engine has; longer ones go to the general engine."""
_SERVED = (Contiguity.STRICT, Contiguity.RELAXED)


def linear_steps(pattern: Pattern) -> list[Step] | None:
    """The steps of a pattern that is a line; None where it is not, and needs the general engine."""
    steps: list[Step] = []
    for step in pattern.steps:
        if not isinstance(step, Step) or not _fixed(step):
            return None
        steps.append(step)
    if pattern.max_gap is not None or pattern.after_match not in (AfterMatch.PAST_LAST, AfterMatch.NO_SKIP):
        return None
    return steps if sum(step.quantifier.minimum for step in steps) <= MAX_EVENTS else None


def _fixed(step: Step) -> bool:
    """Whether the step has a fixed number of events, each of which is known by itself."""
    quantifier = step.quantifier
    return (
        step.contiguity in _SERVED
        and quantifier.inner in _SERVED
        and quantifier.minimum == quantifier.maximum
        and not quantifier.optional
        and step.condition is not None
        and not takes_match(step.condition)
    )

"""Which patterns the sequence engine serves: those that are one line of steps, each with a fixed number of events."""

from __future__ import annotations

from thalweg.cep.pattern import AfterMatch, Contiguity, Group, Pattern, Step
from thalweg.errors import ConfigurationError

MAX_EVENTS = 64
"""The most events that one match may have."""
_SERVED = (Contiguity.STRICT, Contiguity.RELAXED)


def linear_steps(pattern: Pattern) -> list[Step]:
    """The steps of a pattern that is a line.

    Raises:
        ConfigurationError: it is not; says which part this version does not run yet.
    """
    steps: list[Step] = []
    for step in pattern.steps:
        if isinstance(step, Group):
            raise _refused(pattern, "groups")
        if step.contiguity not in _SERVED:
            raise _refused(pattern, str(step.contiguity))
        quantifier = step.quantifier
        if quantifier.optional or quantifier.minimum != quantifier.maximum or quantifier.minimum < 1:
            raise _refused(pattern, f"an open number of events ({step.describe()})")
        if quantifier.inner not in _SERVED or step.until is not None:
            raise _refused(pattern, f"the repetition of step {step.name!r}")
        if step.condition is None:
            raise ConfigurationError(f"pattern {pattern.id!r}: step {step.name!r} needs a condition")
        steps.append(step)
    if pattern.max_gap is not None:
        raise _refused(pattern, "max_gap")
    if pattern.after_match not in (AfterMatch.PAST_LAST, AfterMatch.NO_SKIP):
        raise _refused(pattern, f"the skip strategy {pattern.after_match.strategy}")
    count = sum(step.quantifier.minimum for step in steps)
    if count > MAX_EVENTS:
        raise ConfigurationError(f"pattern {pattern.id!r}: {count} events in a match; at most {MAX_EVENTS}")
    return steps


def _refused(pattern: Pattern, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"pattern {pattern.id!r} uses {what}, which can be written but is not run yet: steps with where, next, followed_by, "
        "times(n), consecutive and within are"
    )

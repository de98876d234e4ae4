"""What a pattern must be, checked before it is built."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.cep.measures import check_measures
from thalweg.cep.pattern import Contiguity, Element, Pattern, flatten
from thalweg.errors import ConfigurationError


def check_sequence(pattern_id: str, steps: Sequence[Element], *, last_may_be_negative: bool) -> None:
    """Refuses a row of steps that says nothing, or says what must not come after nothing.

    Raises:
        ConfigurationError: with the reason.
    """
    if not steps:
        raise ConfigurationError(f"{pattern_id}: it has no step; begin with where(name, condition)")
    if steps[0].contiguity.negative:
        raise ConfigurationError(f"{pattern_id}: it can't begin with {steps[0].contiguity}: after what?")
    if steps[-1].contiguity.negative and not last_may_be_negative:
        raise ConfigurationError(f"{pattern_id}: a group can't end with {steps[-1].contiguity}")


def check_pattern(pattern: Pattern) -> None:
    """Refuses a pattern as a whole.

    Raises:
        ConfigurationError: with the reason.
    """
    check_sequence(pattern.id, pattern.steps, last_may_be_negative=True)
    names = [step.name for step in flatten(pattern.steps)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{pattern.id}: step {twice[0]!r} comes twice; give each step a name of its own")
    if pattern.steps[-1].contiguity is Contiguity.NOT_FOLLOWED_BY and pattern.within is None:
        raise ConfigurationError(
            f"{pattern.id}: a pattern that ends with not_followed_by needs within(…): else it is never known"
        )
    target = pattern.after_match.step
    if target is not None and target not in pattern.step_names:
        raise ConfigurationError(
            f"{pattern.id}: skip names the step {target!r}; there are {', '.join(pattern.step_names)}"
        )
    check_measures(pattern)

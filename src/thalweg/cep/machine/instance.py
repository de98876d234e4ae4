"""An instance as guards see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Instance:
    """One key's instance, before the event that is being judged.

    The second argument of a guard: `lambda e, i: i.visits("retry") < 3`.
    """

    state: str
    since: int
    """When it entered the state, ms UTC."""
    step: int
    """How many changes it has made."""
    entered: Mapping[str, int]

    def visits(self, state: str) -> int:
        """How often it has entered the state; beginning in the initial one does not count."""
        if state not in self.entered:
            raise KeyError(f"{state!r} is not a state; there are: {', '.join(self.entered)}")
        return self.entered[state]

"""What each condition costs, measured all the time for a hundredth of the time that rules take.

All conditions that are expressions are evaluated in one query, which says nothing of single ones. So now and then, as
the share allows, one of them is evaluated once more by itself over the batch at hand; each has its turn.
"""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from thalweg.cep.rules.ruleset import RuleSet

SHARE = 0.01
_MOST = 8
"""Conditions that are measured after one batch at most."""


class CostSampler:
    """Whose turn it is, and how much time may be spent."""

    def __init__(self) -> None:
        self._allowed = 0.0
        self._needed = 0.0
        """What the dearest of the last measurements took, ns: what the next one may take."""
        self._turn = 0

    def after(self, rules: RuleSet, frame: pl.DataFrame, spent: int) -> Iterator[tuple[int, float]]:
        """Measures some conditions after a batch that took `spent` ns: (number of the rule, ns per event)."""
        self._allowed += SHARE * spent
        if not frame.height or not rules.rules:
            return
        for _ in range(min(_MOST, len(rules.rules))):
            if self._allowed < max(self._needed, 1):
                return
            self._turn = (self._turn + 1) % len(rules.rules)
            taken = rules.time_of(self._turn, frame)
            if taken is None:
                continue
            self._allowed -= taken
            self._needed = max(taken, 0.9 * self._needed)
            yield self._turn, taken / frame.height
        self._allowed = min(self._allowed, 10 * self._needed)  # quiet times are not saved up without end

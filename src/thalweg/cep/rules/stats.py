"""How often each rule was asked, matched and fired, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RuleStats:
    """The counters of one rule, since it was added; a new version goes on counting.

    Attributes:
        evaluated: events that it was asked about.
        matched: events on which its condition held.
        fired: of these, how many no earlier rule kept it from.
        errors: events on which its condition raised.
        actions: actions that succeeded.
        failures: actions that failed at every attempt.
        condition_ns: nanoseconds per event of its condition alone: a running mean (of all batches for one that is
            called per row, else of samples, see `costs`), or what `RuleEngine.profile` measured. None: not measured
            yet.
    """

    rule: str
    version: int = 1
    evaluated: int = 0
    matched: int = 0
    fired: int = 0
    errors: int = 0
    actions: int = 0
    failures: int = 0
    condition_ns: float | None = None

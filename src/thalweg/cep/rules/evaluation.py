"""What evaluating rules gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from thalweg.cep.actions import ActionFailure
from thalweg.records import Int64s

if TYPE_CHECKING:
    from thalweg.cep.rules.rule import Rule

RESULT = ("rule", "rule_name", "priority", "rule_version")
"""The columns that a match has besides the event's own."""

RESULT_SCHEMA = pl.Schema(
    {"rule": pl.String(), "rule_name": pl.String(), "priority": pl.Int64(), "rule_version": pl.Int64()}
)


@dataclass(frozen=True, slots=True)
class RuleError:
    """A condition that raised on an event."""

    rule: str
    row: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Which rules fired on which events, and what went wrong.

    Attributes:
        rows: the event of each firing, in the order of events, then of rules.
        errors: conditions that raised; the rule did not fire on that event.
        failures: actions that failed at every attempt.
    """

    frame: pl.DataFrame = field(repr=False)
    rules: Sequence[Rule] = field(repr=False)
    rows: Int64s = field(repr=False)
    numbers: Int64s = field(repr=False)
    errors: Sequence[RuleError] = ()
    failures: Sequence[ActionFailure] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fired(self) -> list[str]:
        """The ids of the rules that fired, firing by firing."""
        return [self.rules[number].id for number in self.numbers.tolist()]

    @property
    def matches(self) -> pl.DataFrame:
        """One row per firing: the event's columns, `rule`, `rule_name`, `priority`, `rule_version`."""
        return match_rows(self.frame, self.rules, self.rows, self.numbers)


def match_rows(frame: pl.DataFrame, rules: Sequence[Rule], rows: Int64s, numbers: Int64s) -> pl.DataFrame:
    """The events on which rules fired, with the rules' columns."""
    facts = pl.DataFrame(
        {
            "rule": [rule.id for rule in rules],
            "rule_name": [rule.name for rule in rules],
            "priority": [rule.priority for rule in rules],
            "rule_version": [rule.version for rule in rules],
        },
        schema=RESULT_SCHEMA,
    )
    events: pl.DataFrame = frame[rows]
    return events.hstack(facts[numbers])

"""All rules over a batch: conditions as columns; only rows that match become Python objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.alerts.masks import Masks, Rows
from thalweg.alerts.rules import AlertRule
from thalweg.expressions import CompiledFunction, compile_function


@dataclass(frozen=True)
class Hit:
    """A rule that matched a row."""

    rule: AlertRule
    row: int


@dataclass(frozen=True)
class Verdicts:
    """What the conditions of all rules say of a batch.

    Attributes:
        holds: by rule id, the rows on which its condition holds; rules that match nothing are left out.
        clears: the same of the rules' `clear` conditions.
        failed: rows on which a condition raised.
    """

    holds: dict[str, Rows]
    clears: dict[str, Rows]
    failed: dict[int, Exception]


class RuleSet:
    """Rules compiled for events of one schema."""

    def __init__(self, rules: Sequence[AlertRule], schema: pl.Schema | None) -> None:
        self.rules = [rule for rule in rules if rule.enabled]
        self._compiled: list[tuple[AlertRule, bool, CompiledFunction]] = []
        for rule in self.rules:
            self._compiled.append((rule, True, compiled_condition(rule.condition, schema)))
            if rule.clear is not None:
                self._compiled.append((rule, False, compiled_condition(rule.clear, schema)))
        fast = [(rule, own, c.exprs) for rule, own, c in self._compiled if isinstance(c.exprs, pl.Expr)]
        self._fast = [(rule, own) for rule, own, _ in fast]
        self._masks = Masks([expr for _, _, expr in fast], schema if schema is not None else pl.Schema())
        self._slow = [(rule, own, c) for rule, own, c in self._compiled if not c.vectorised]
        self._order = {rule.id: number for number, rule in enumerate(self.rules)}
        self.watching = [rule for rule in self.rules if rule.watches_state or rule.absent is not None]
        self._single = {rule.id: rule for rule in self.rules if not (rule.watches_state or rule.absent is not None)}

    def verdicts(self, frame: pl.DataFrame) -> Verdicts:
        """Evaluates all conditions; null counts as false."""
        found = Verdicts({}, {}, {})
        for number, rows in self._masks.rows(frame).items():
            rule, own = self._fast[number]
            (found.holds if own else found.clears)[rule.id] = rows
        for rule, own, compiled in self._slow:
            results = compiled.evaluate_rows(frame)
            found.failed.update(results.errors)
            rows = np.flatnonzero([bool(value) for value in results.values])
            if len(rows):
                (found.holds if own else found.clears)[rule.id] = rows
        return found

    def hits(self, verdicts: Verdicts) -> list[Hit]:
        """Rows and the single-event rules that they match, in the order of rows, then rules."""
        found = [
            Hit(self._single[id], row)
            for id, rows in verdicts.holds.items()
            if id in self._single
            for row in rows.tolist()
            if row not in verdicts.failed
        ]
        return sorted(found, key=lambda hit: (hit.row, self._order[hit.rule.id]))

    def describe(self) -> str:
        """How each rule's condition runs."""
        return "; ".join(
            f"{rule.id} ({rule.severity}): {compiled.describe()}" for rule, own, compiled in self._compiled if own
        )


def compiled_condition(condition: Any, schema: pl.Schema | None) -> CompiledFunction:
    """A condition ready to run: a text in the language of conditions, or what any step of a stream takes.

    Raises:
        ConfigurationError, PlanError: it can't be read, or does not fit the schema; it says where.
    """
    if isinstance(condition, str):
        from thalweg.cep.conditions import Condition

        return Condition(condition).compile(schema)
    return compile_function(condition, purpose="predicate", schema=schema)


def plain(value: Any) -> Any:
    """A value of an event as JSON has it."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)  # beyond what JSON readers and the store can hold
    if isinstance(value, float) and not -1.7976931348623157e308 <= value <= 1.7976931348623157e308:
        return None  # JSON has neither NaN nor infinities
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)

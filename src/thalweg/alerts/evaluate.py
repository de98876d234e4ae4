"""All rules over a batch: conditions as columns, only rows that match become Python objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.alerts.rules import AlertRule
from thalweg.expressions import CompiledFunction, compile_function


@dataclass(frozen=True)
class Hit:
    """A rule that matched a row."""

    rule: AlertRule
    row: int


class RuleSet:
    """Rules compiled for events of one schema."""

    def __init__(self, rules: Sequence[AlertRule], schema: pl.Schema | None) -> None:
        self.rules = [rule for rule in rules if rule.enabled]
        self._compiled: list[tuple[AlertRule, CompiledFunction]] = [
            (rule, compile_function(rule.condition, purpose="predicate", schema=schema)) for rule in self.rules
        ]
        self._fast = [(rule, c.exprs) for rule, c in self._compiled if isinstance(c.exprs, pl.Expr)]
        self._slow = [(rule, c) for rule, c in self._compiled if not c.vectorised]

    def hits(self, frame: pl.DataFrame) -> tuple[list[Hit], dict[int, Exception]]:
        """Rows and the rules that they match, in the order of rows, then rules; and the rows on which a per-row
        condition
        raised."""
        found = list(self._fast_hits(frame))
        failed: dict[int, Exception] = {}
        for rule, compiled in self._slow:
            results = compiled.evaluate_rows(frame)
            failed.update(results.errors)
            found += [Hit(rule, row) for row, value in enumerate(results.values) if value]
        order = {rule.id: number for number, rule in enumerate(self.rules)}
        found = [hit for hit in found if hit.row not in failed]
        return sorted(found, key=lambda hit: (hit.row, order[hit.rule.id])), failed

    def _fast_hits(self, frame: pl.DataFrame) -> Iterator[Hit]:
        if not self._fast:
            return
        masks = frame.select(expr.alias(str(number)) for number, (_, expr) in enumerate(self._fast))
        for number, (rule, _) in enumerate(self._fast):
            mask = masks.get_column(str(number)).fill_null(False)
            if mask.len() != frame.height:  # a condition without a column
                mask = mask.new_from_index(0, frame.height)
            for row in mask.arg_true():
                yield Hit(rule, row)

    def describe(self) -> str:
        """How each rule's condition runs."""
        return "; ".join(f"{rule.id} ({rule.severity}): {compiled.describe()}" for rule, compiled in self._compiled)


def plain(value: Any) -> Any:
    """A value of an event as JSON has it."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return str(value)  # beyond what JSON readers and the store can hold
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)

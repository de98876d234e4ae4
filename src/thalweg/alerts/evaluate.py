"""All rules over a batch: conditions as columns; only rows that match become Python objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.alerts.masks import Bits, Masks, Rows
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
        clears: the same of the rules' `clear` conditions, as bitmaps: those hold nearly everywhere.
        failed: rows on which a condition raised.
    """

    holds: dict[str, Rows]
    clears: dict[str, Bits]
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
        ends = [number for number, (_, own) in enumerate(self._fast) if not own]
        self._masks = Masks([expr for _, _, expr in fast], schema if schema is not None else pl.Schema(), ends)
        self._slow = [(rule, own, c) for rule, own, c in self._compiled if not c.vectorised]
        self._order = {rule.id: number for number, rule in enumerate(self.rules)}
        self.watching = [rule for rule in self.rules if rule.tracked]
        self._single = {rule.id: rule for rule in self.rules if not rule.tracked}

    def verdicts(self, frame: pl.DataFrame) -> Verdicts:
        """Evaluates all conditions; null counts as false."""
        found = Verdicts({}, {}, {})
        ends: dict[int, Bits] = {}
        for number, rows in self._masks.rows(frame, ends).items():
            found.holds[self._fast[number][0].id] = rows
        found.clears.update({self._fast[number][0].id: bits for number, bits in ends.items()})
        for rule, own, compiled in self._slow:
            results = compiled.evaluate_rows(frame)
            found.failed.update(results.errors)
            said = np.array([bool(value) for value in results.values], np.bool_)
            if own and said.any():
                found.holds[rule.id] = np.flatnonzero(said)
            elif not own:
                found.clears[rule.id] = np.packbits(said)
        return found

    def hits(self, verdicts: Verdicts) -> list[Hit]:
        """Rows and the single-event rules that they match, in the order of rows, then rules. That one rule's condition
        raises keeps no other one from alerting."""
        found = [
            Hit(self._single[id], row)
            for id, rows in verdicts.holds.items()
            if id in self._single
            for row in rows.tolist()
        ]
        return sorted(found, key=lambda hit: (hit.row, self._order[hit.rule.id]))

    def describe(self) -> str:
        """How each rule's condition runs."""
        return "; ".join(
            f"{rule.id} ({rule.severity}): {compiled.describe()}" for rule, own, compiled in self._compiled if own
        )


def fields_of(rule: AlertRule) -> frozenset[str]:
    """The columns that a rule's conditions read, as far as that is known before they run."""
    return frozenset(name for one in _conditions(rule) for name in compiled_condition(one, None).columns or ())


def check_types(rule: AlertRule, schema: pl.Schema) -> None:
    """Refuses events that a rule's conditions can't be evaluated on.

    Raises:
        ConfigurationError, PlanError, PolarsError: why.
    """
    for one in _conditions(rule):
        compiled = compiled_condition(one, schema)
        if isinstance(compiled.exprs, pl.Expr):
            pl.DataFrame(schema=schema).select(compiled.exprs)


def _conditions(rule: AlertRule) -> list[Any]:
    return [rule.condition] if rule.clear is None else [rule.condition, rule.clear]


def compiled_condition(condition: Any, schema: pl.Schema | None) -> CompiledFunction:
    """A condition ready to run: a text in the language of conditions, or what any step of a stream takes.

    Raises:
        ConfigurationError, PlanError: it can't be read, or does not fit the schema; it says where.
    """
    if isinstance(condition, str):
        from thalweg.cep.conditions import Condition

        return Condition(condition).compile(schema)
    return compile_function(condition, purpose="predicate", schema=schema)

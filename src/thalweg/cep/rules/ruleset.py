"""All rules over a batch: conditions as columns, then who fires."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.cep.conditions import Condition
from thalweg.cep.rules.evaluation import RuleError
from thalweg.cep.rules.rule import Rule
from thalweg.errors import ConfigurationError, PlanError
from thalweg.expressions import CompiledFunction
from thalweg.expressions.reserved import is_reserved
from thalweg.records import Int64s
from thalweg.streams.plan.functions import compile_for

Booleans = npt.NDArray[np.bool_]

logger = logging.getLogger(__name__)

_Shape: TypeAlias = tuple[tuple[str, pl.DataType], ...]

_SCHEMAS = 64
"""How many shapes of events are remembered: events without a schema may have many."""


@dataclass(slots=True)
class Hits:
    """Which rules fired on which rows: in the order of rows, then of rules."""

    rows: Int64s
    numbers: Int64s
    """Into the rules of the set."""
    matched: Int64s
    """Per rule: on how many rows its condition held."""
    errors: list[RuleError]
    spent: dict[int, int]
    """By number of the rule, how long a condition that is called per row took, ns."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    """The rules for one shape of events; None: a rule that can't be asked about them."""

    functions: list[CompiledFunction | None]
    fast: list[tuple[int, pl.Expr]]


class RuleSet:
    """Enabled rules in the order in which they are tried. Immutable: an engine that changes makes a new one.

    Conditions that are expressions are evaluated in one query, which shares what several of them compute; the others
    are called per row. Cost of 1,000 conditions: about 2 µs per event.
    """

    def __init__(self, rules: Sequence[Rule], version: int) -> None:
        self.version = version
        enabled = [rule for rule in rules if rule.enabled]
        self.rules = sorted(enabled, key=lambda rule: -rule.priority)  # stable: else in the order given
        self._exclusive = any(rule.stop or rule.group is not None for rule in self.rules)
        self._compiled: dict[_Shape, _Compiled] = {}
        self._checked: dict[_Shape, list[CompiledFunction]] = {}

    def check(self, schema: pl.Schema) -> list[CompiledFunction]:
        """Compiles every rule for these events.

        Raises:
            ConfigurationError, PlanError: the first rule that does not fit, and why.
        """
        shape = tuple(schema.items())
        if shape not in self._checked:
            self._checked[shape] = [_compile(rule, schema) for rule in self.rules]
        return self._checked[shape]

    def compiled(self, frame: pl.DataFrame) -> _Compiled:
        """The rules for a frame's columns. One that does not fit them (a column is missing) matches nothing."""
        schema = pl.Schema({name: dtype for name, dtype in frame.schema.items() if not is_reserved(name)})
        shape = tuple(schema.items())
        if shape not in self._compiled:
            if len(self._compiled) >= _SCHEMAS:
                self._compiled.clear()
            functions = [self._compile_or_skip(rule, schema) for rule in self.rules]
            fast = [(n, f.exprs) for n, f in enumerate(functions) if f is not None and isinstance(f.exprs, pl.Expr)]
            self._compiled[shape] = _Compiled(functions, fast)
        return self._compiled[shape]

    def _compile_or_skip(self, rule: Rule, schema: pl.Schema) -> CompiledFunction | None:
        try:
            return _compile(rule, schema)
        except (ConfigurationError, PlanError) as error:
            logger.warning("no match for events of this shape: %s", error)
            return None

    # -- a batch

    def hits(self, frame: pl.DataFrame) -> Hits:
        """Which rules fire on which rows of a frame."""
        errors: list[RuleError] = []
        spent: dict[int, int] = {}
        stopped = np.zeros(frame.height, np.bool_)
        done: dict[str, Booleans] = {}
        matched = np.zeros(len(self.rules), np.int64)
        fired: list[tuple[int, Int64s]] = []
        for number, mask in self._masks(frame, errors, spent):
            rule = self.rules[number]
            if self._exclusive:
                matched[number] = int(mask.sum())
                mask = self._allowed(rule, mask, stopped, done)
            places = np.flatnonzero(mask)
            if len(places):
                fired.append((number, places))
            if not self._exclusive:
                matched[number] = len(places)
        return Hits(*_by_row(fired, frame.height), matched, errors, spent)

    def time_of(self, number: int, frame: pl.DataFrame) -> int | None:
        """How long one expression takes by itself, ns; None: it is none, or can't be asked about these events."""
        function = self.compiled(frame).functions[number]
        if function is None or not isinstance(function.exprs, pl.Expr):
            return None
        started = time.perf_counter_ns()
        frame.lazy().select(function.exprs.alias("condition")).collect()
        return time.perf_counter_ns() - started

    @staticmethod
    def _allowed(rule: Rule, mask: Booleans, stopped: Booleans, done: dict[str, Booleans]) -> Booleans:
        """The rows on which a rule that matches may fire; notes what it keeps from the rules after it."""
        fires: Booleans = mask & ~stopped
        if rule.group is not None:
            before = done.get(rule.group)
            fires = fires if before is None else fires & ~before
            done[rule.group] = fires if before is None else before | fires
        if rule.stop:
            stopped |= fires
        return fires

    def _masks(
        self, frame: pl.DataFrame, errors: list[RuleError], spent: dict[int, int]
    ) -> Iterator[tuple[int, Booleans]]:
        """For each rule that can be asked the rows on which it holds, in the order of rules."""
        compiled = self.compiled(frame)
        columns = self._columns(compiled, frame)
        for number, function in enumerate(compiled.functions):
            if function is None:
                continue
            if number in columns:
                yield number, _booleans(columns[number], frame.height)
                continue
            started = time.perf_counter_ns()
            results = function.evaluate_rows(frame)
            spent[number] = time.perf_counter_ns() - started
            errors += [RuleError(self.rules[number].id, row, error) for row, error in results.errors]
            yield number, np.fromiter((bool(value) for value in results.values), np.bool_, frame.height)

    @staticmethod
    def _columns(compiled: _Compiled, frame: pl.DataFrame) -> dict[int, pl.Series]:
        if not compiled.fast:
            return {}
        # Lazily, so that what several conditions have in common is computed once.
        query = frame.lazy().select(expr.alias(str(number)) for number, expr in compiled.fast)
        result = query.collect()
        return {number: result.get_column(str(number)) for number, _ in compiled.fast}


def _by_row(fired: Sequence[tuple[int, Int64s]], height: int) -> tuple[Int64s, Int64s]:
    """(Number of a rule, its rows) for each rule, as rows and numbers in the order of rows, then of rules."""
    if not fired:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    counts = np.zeros(height, np.int64)
    for _, rows in fired:
        counts[rows] += 1
    following = np.cumsum(counts) - counts
    numbers = np.empty(int(counts.sum()), np.int64)
    for number, rows in fired:
        _kernel().place(rows, following, number, numbers)
    return np.repeat(np.arange(height), counts), numbers


def warm_up() -> None:
    """Compiles (or loads from the cache) the kernel."""
    _by_row([(0, np.zeros(1, np.int64))], 1)


def _kernel() -> Any:
    from thalweg.cep.rules import _kernel as kernel

    return kernel


def _booleans(column: pl.Series, height: int) -> Booleans:
    if column.null_count():
        column = column.fill_null(False)
    if column.len() != height:  # a condition without a column
        column = column.new_from_index(0, height)
    result: Booleans = column.to_numpy()
    return result


def _compile(rule: Rule, schema: pl.Schema | None) -> CompiledFunction:
    where = f"rule {rule.id!r}"
    if isinstance(rule.condition, Condition):
        try:
            return rule.condition.compile(schema)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from error
    return compile_for(rule.condition, "predicate", schema, where)

"""The parts of a fused operator: each maps at most one row to each row."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import polars as pl

from thalweg.streams.batch import RESERVED
from thalweg.streams.engine.dead_letters import RowError, row_error
from thalweg.streams.engine.row_frames import RowFrames
from thalweg.streams.plan.functions import expressions_of

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction


class Step(ABC):
    """One stateless step: part of a lazy query, or, where a function runs per row, a pass of its own."""

    vectorised: bool
    changes_nothing = False
    """The step only says something about the rows (their key)."""
    reads: frozenset[str] = frozenset()
    """The columns that its expressions read."""
    makes: frozenset[str] = frozenset()
    """The columns that it makes."""

    def lazily(self, query: pl.LazyFrame, reserved: Sequence[str]) -> pl.LazyFrame:
        """Appends the step to a query whose frame has these reserved columns."""
        raise NotImplementedError

    def per_row(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[RowError]]:
        """Runs the step row by row: what is left, and the rows that failed."""
        raise NotImplementedError


class FilterStep(Step):
    """Keeps the rows for which the predicate is true."""

    def __init__(self, predicate: CompiledFunction) -> None:
        self.predicate = predicate
        self.vectorised = predicate.vectorised
        self._expr = expressions_of(predicate)[0] if self.vectorised else None
        self.reads = _roots(expressions_of(predicate))

    def lazily(self, query: pl.LazyFrame, reserved: Sequence[str]) -> pl.LazyFrame:
        assert self._expr is not None
        return query.filter(self._expr)

    def per_row(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[RowError]]:
        results = self.predicate.evaluate_rows(frame)
        kept = [value is not None and bool(value) for value in results.values]
        for row, _ in results.errors:
            kept[row] = False
        return frame.filter(pl.Series(kept, dtype=pl.Boolean)), [row_error(row, e) for row, e in results.errors]


class ColumnsStep(Step):
    """Adds columns (`keep_others`), or keeps only the named ones."""

    def __init__(self, columns: Mapping[str, CompiledFunction], *, keep_others: bool) -> None:
        self.columns = columns
        self.keep_others = keep_others
        self.changes_nothing = keep_others and not columns
        self.vectorised = all(function.vectorised for function in columns.values())
        self._exprs = {n: expressions_of(f)[0].alias(n) for n, f in columns.items() if f.vectorised}
        self.reads = _roots(self._exprs.values())
        self.makes = frozenset(columns)
        self._frames = RowFrames(names=[name for name, f in columns.items() if not f.vectorised])

    def lazily(self, query: pl.LazyFrame, reserved: Sequence[str]) -> pl.LazyFrame:
        exprs = list(self._exprs.values())
        if self.keep_others:
            return query.with_columns(exprs) if exprs else query
        return query.select([*exprs, *reserved])

    def per_row(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[RowError]]:
        errors: list[RowError] = []
        slow = {name: function for name, function in self.columns.items() if not function.vectorised}
        values: dict[str, Sequence[object]] = {}
        for name, function in slow.items():
            results = function.evaluate_rows(frame)
            values[name] = list(results.values)
            errors += [row_error(row, e) for row, e in results.errors]
        errors = _first_per_row(errors)
        failed = {row for row, *_ in errors}
        rows = [
            None if row in failed else {name: column[row] for name, column in values.items()}
            for row in range(frame.height)
        ]
        made, kept, more = self._frames.make(rows)
        result = frame[kept]
        fast = (
            result.with_columns(list(self._exprs.values()))
            if self.keep_others
            else result.select([*self._exprs.values(), *_reserved(frame)])
        )
        fast = pl.concat([fast.drop(list(slow), strict=False), made], how="horizontal")
        if not self.keep_others:
            fast = fast.select([*self.columns, *_reserved(frame)])
        return fast, errors + more


class MapStep(Step):
    """Makes a new record of each row."""

    def __init__(self, function: CompiledFunction, schema: pl.Schema | None) -> None:
        self.function = function
        self.vectorised = function.vectorised
        exprs = function.exprs if function.vectorised else {}
        self._exprs = exprs if isinstance(exprs, Mapping) else {}
        self.reads = _roots(self._exprs.values())
        self.makes = frozenset(self._exprs)
        self._frames = RowFrames(schema)

    def lazily(self, query: pl.LazyFrame, reserved: Sequence[str]) -> pl.LazyFrame:
        return query.select([*(expr.alias(name) for name, expr in self._exprs.items()), *reserved])

    def per_row(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[RowError]]:
        results = self.function.evaluate_rows(frame)
        errors = [row_error(row, e) for row, e in results.errors]
        failed = {row for row, *_ in errors}
        rows: list[object] = [None if row in failed else value for row, value in enumerate(results.values)]
        nothing = [row for row, value in enumerate(rows) if value is None and row not in failed]
        errors += [(row, "NotARecord", "map returned None; return a dict, or filter the event", {}) for row in nothing]
        made, kept, more = self._frames.make(rows)
        reserved = frame.select(_reserved(frame))[kept]
        return pl.concat([made, reserved], how="horizontal"), errors + more


def _roots(expressions: Iterable[pl.Expr]) -> frozenset[str]:
    return frozenset(name for expression in expressions for name in expression.meta.root_names())


def _reserved(frame: pl.DataFrame) -> list[str]:
    return [column for column in frame.columns if column in RESERVED]


def _first_per_row(errors: Sequence[RowError]) -> list[RowError]:
    first: dict[int, RowError] = {}
    for error in errors:
        first.setdefault(error[0], error)
    return list(first.values())

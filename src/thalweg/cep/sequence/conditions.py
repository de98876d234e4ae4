"""All conditions of all patterns, evaluated once per batch, as bits of one column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from thalweg.cep.general.automaton import takes_match
from thalweg.cep.pattern import Element, Group, Pattern
from thalweg.errors import ConfigurationError
from thalweg.expressions import CompiledFunction
from thalweg.records import UInt64s
from thalweg.streams.plan.functions import compile_for

MASK = "__mask"
MOST = 64


class Conditions:
    """The distinct conditions of some patterns. A condition that several steps share is evaluated once.

    Raises:
        ConfigurationError: more than 64 conditions, or one that can't be compiled.
        PlanError: one reads a column that does not exist, or looks across rows.
    """

    def __init__(self, patterns: Sequence[Pattern], schema: pl.Schema | None) -> None:
        self.compiled: list[CompiledFunction] = []
        places: dict[int, int] = {}
        for pattern in patterns:
            for condition in event_conditions(pattern.steps):
                self._place(condition, places, schema, f"pattern {pattern.id!r}")
        self._places = places
        if len(self.compiled) > MOST:
            raise ConfigurationError(f"{len(self.compiled)} different conditions in one detect(); at most {MOST}")
        fast = [
            pl.when(self._expr(c)).then(pl.lit(1 << bit, pl.UInt64)).otherwise(pl.lit(0, pl.UInt64))
            for bit, c in enumerate(self.compiled)
            if c.vectorised
        ]
        self._fast = pl.sum_horizontal(fast).cast(pl.UInt64) if fast else pl.lit(0, pl.UInt64)
        self._slow = [(bit, c) for bit, c in enumerate(self.compiled) if not c.vectorised]

    def _place(self, condition: Any, places: dict[int, int], schema: pl.Schema | None, where: str) -> None:
        if id(condition) in places:
            return
        compiled = compile_for(condition, "predicate", schema, where)
        same = (place for place, other in enumerate(self.compiled) if _equal(compiled, other))
        places[id(condition)] = place = next(same, len(self.compiled))
        if place == len(self.compiled):
            self.compiled.append(compiled)

    def bit_of(self, condition: Any) -> int:
        """The bit of one of the patterns' conditions on the event alone."""
        return self._places[id(condition)]

    @staticmethod
    def _expr(compiled: CompiledFunction) -> pl.Expr:
        assert isinstance(compiled.exprs, pl.Expr)
        return compiled.exprs

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns that the conditions read; None where that can't be known."""
        read = frozenset[str]()
        for compiled in self.compiled:
            if compiled.columns is None:
                return None
            read |= compiled.columns
        return read

    def masks(self, frame: pl.DataFrame) -> tuple[UInt64s, dict[int, Exception]]:
        """The condition bits of each row, and for the rows on which a per-row condition raised, what it raised."""
        masks = frame.select(self._fast.alias(MASK)).to_series()
        if masks.len() != frame.height:  # a literal alone gives one row
            masks = masks.new_from_index(0, frame.height)
        result: UInt64s = masks.to_numpy().astype(np.uint64, copy=True)
        failed: dict[int, Exception] = {}
        for bit, compiled in self._slow:
            rows = compiled.evaluate_rows(frame)
            failed.update(rows.errors)
            true = np.fromiter((bool(value) for value in rows.values), np.bool_, frame.height)
            result |= true.astype(np.uint64) << np.uint64(bit)
        return result, failed

    def describe(self) -> str:
        """How each condition runs."""
        return "; ".join(compiled.describe() for compiled in self.compiled)


def event_conditions(elements: Sequence[Element]) -> Iterator[Any]:
    """The conditions (and ends of loops) that look at the event alone."""
    for element in elements:
        if isinstance(element, Group):
            yield from event_conditions(element.steps)
        elif element.condition is not None and not takes_match(element.condition):
            yield element.condition
        if element.until is not None and not takes_match(element.until):
            yield element.until


def _equal(one: CompiledFunction, other: CompiledFunction) -> bool:
    return isinstance(one.exprs, pl.Expr) and isinstance(other.exprs, pl.Expr) and one.exprs.meta.eq(other.exprs)

"""All conditions of all patterns, evaluated once per batch, as bits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.cep.conditions import Condition
from thalweg.cep.pattern import Element, Pattern, Step, inside, plain_part, takes_match
from thalweg.errors import ConfigurationError
from thalweg.expressions import CompiledFunction
from thalweg.records import Int64s, UInt64s
from thalweg.streams.batch import FEW_ROWS, with_column
from thalweg.streams.plan.functions import compile_for

MASK = "__mask"
WORD = 64
Masks = npt.NDArray[np.uint64]
"""A row per event, a word per 64 conditions."""
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class PatternBits:
    """Which of all conditions one pattern has; its engine knows them by their places here."""

    bits: Int64s
    wanted: UInt64s
    """The pattern's bits, in the form of a row of masks."""
    places: dict[int, int]
    """`id` of a condition → its place."""
    whole: bool
    """The places are the bits: there is nothing to be moved."""

    def bit_of(self, condition: Any) -> int:
        """The place of one of the pattern's conditions."""
        return self.places[id(condition)]

    def rows(self, masks: Masks) -> Int64s:
        """The rows of which any condition holds."""
        found = np.empty(len(masks), np.int64)
        return found[: _kernels().any_of(masks, self.wanted, found)]

    def of(self, masks: Masks, rows: Int64s) -> UInt64s:
        """The pattern's own bits of these rows."""
        out = np.empty(len(rows), np.uint64)
        if self.whole:
            np.take(masks[:, 0], rows, out=out)
        else:
            _kernels().chosen(masks, rows, self.bits, out)
        return out


class Conditions:
    """The distinct conditions of some patterns. A condition that several steps share is evaluated once.

    Raises:
        ConfigurationError: a pattern has more than 64 conditions, or one can't be compiled.
        PlanError: one reads a column that does not exist, or looks across rows.
    """

    def __init__(self, patterns: Sequence[Pattern], schema: pl.Schema | None) -> None:
        self.compiled: list[CompiledFunction] = []
        self._places: dict[int, int] = {}
        for pattern in patterns:
            for condition in event_conditions(pattern.steps):
                self._place(condition, schema, f"pattern {pattern.id!r}")
        self.words = max(1, -(-len(self.compiled) // WORD))
        self._fast = [(bit, self._expr(c)) for bit, c in enumerate(self.compiled) if c.vectorised]
        self._slow = [(bit, c) for bit, c in enumerate(self.compiled) if not c.vectorised]

    def _place(self, condition: Any, schema: pl.Schema | None, where: str) -> None:
        if id(condition) in self._places:
            return
        compiled = _compiled(condition, schema, where)
        same = (place for place, other in enumerate(self.compiled) if _equal(compiled, other))
        self._places[id(condition)] = place = next(same, len(self.compiled))
        if place == len(self.compiled):
            self.compiled.append(compiled)

    def of_pattern(self, pattern: Pattern) -> PatternBits:
        """The conditions of one of the patterns.

        Raises:
            ConfigurationError: it has more than 64.
        """
        mine = {id(condition): self._places[id(condition)] for condition in event_conditions(pattern.steps)}
        bits = list(dict.fromkeys(mine.values()))
        if len(bits) > WORD:
            raise ConfigurationError(f"pattern {pattern.id!r}: {len(bits)} different conditions; at most {WORD}")
        wanted = np.zeros(self.words, np.uint64)
        for bit in bits:
            wanted[bit // WORD] |= np.uint64(1 << bit % WORD)
        places = {condition: bits.index(bit) for condition, bit in mine.items()}
        whole = self.words == 1 and bits == list(range(len(self.compiled)))
        return PatternBits(np.array(bits, dtype=np.int64), wanted, places, whole)

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

    def masks(self, frame: pl.DataFrame) -> tuple[Masks, dict[int, Exception]]:
        """The condition bits of each row, and for the rows on which a per-row condition raised, what it raised."""
        masks: Masks = np.zeros((frame.height, self.words), np.uint64)
        failed: dict[int, Exception] = {}
        if not frame.height:
            return masks, failed
        # A few rows are through on one thread before the others have woken up.
        select = frame.select if frame.height > FEW_ROWS else frame.select_seq
        values = select(expr.fill_null(False).alias(str(bit)) for bit, expr in self._fast)
        for bit, _ in self._fast:
            value = values.get_column(str(bit))
            if value.len() != frame.height:  # literals alone give one row
                value = value.new_from_index(0, frame.height)
            _kernels().pack(np.array(value.to_numpy(), dtype=np.bool_), bit, masks)
        for bit, compiled in self._slow:
            rows = compiled.evaluate_rows(frame)
            failed.update(rows.errors)
            true = np.fromiter((bool(value) for value in rows.values), np.bool_, frame.height)
            _kernels().pack(true, bit, masks)
        return masks, failed

    def describe(self) -> str:
        """How each condition runs."""
        return "; ".join(compiled.describe() for compiled in self.compiled)


def any_bit(masks: Masks) -> Booleans:
    """The rows of which any condition holds."""
    hits: Booleans = np.zeros(len(masks), np.bool_)
    for word in range(masks.shape[1]):
        hits |= masks[:, word] != 0
    return hits


def with_masks(frame: pl.DataFrame, masks: Masks) -> pl.DataFrame:
    """The rows with their condition bits as a column."""
    return with_column(frame, pl.Series(MASK, masks[:, 0] if masks.shape[1] == 1 else masks))


def masks_of(frame: pl.DataFrame) -> Masks:
    """The condition bits out of that column."""
    column = np.ascontiguousarray(frame.get_column(MASK).to_numpy())
    masks = column.reshape(frame.height, -1) if frame.height else np.zeros((0, 1), np.uint64)
    return masks if masks.flags.writeable else masks.copy()


def event_conditions(elements: Sequence[Element]) -> Iterator[Any]:
    """The conditions (and ends of loops) that look at the event alone, and those parts of others that do."""
    for element in elements:
        if not isinstance(element, Step):
            yield from event_conditions(inside(element))
        for condition in (element.condition if isinstance(element, Step) else None, element.until):
            alone = plain_part(condition) if takes_match(condition) else condition
            if alone is not None:
                yield alone


def _compiled(condition: Any, schema: pl.Schema | None, where: str) -> CompiledFunction:
    if isinstance(condition, Condition):
        return condition.compile(schema)
    return compile_for(condition, "predicate", schema, where)


def _equal(one: CompiledFunction, other: CompiledFunction) -> bool:
    return isinstance(one.exprs, pl.Expr) and isinstance(other.exprs, pl.Expr) and one.exprs.meta.eq(other.exprs)


def _kernels() -> Any:
    from thalweg.cep.sequence import _masks

    return _masks

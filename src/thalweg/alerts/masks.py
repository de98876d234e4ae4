"""Many conditions over one batch, for much less than the sum of them.

A condition `a && b && c` is split into its parts; a part that several conditions have is evaluated once. Parts over
numbers come first, as bitmaps; what they leave of each condition decides on which rows the dearer parts (over texts,
lists, records) are evaluated at all. Texts that repeat themselves are asked once per value, not once per row. The
result is rows per condition: what matches nothing costs nothing further.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Rows = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint8]
"""One row per condition or part, eight rows of the batch to a byte."""

FEW = 4
"""Rows are picked out for the dear parts where less than one in so many is left."""
SLICE = 16_384
"""Rows that are looked at together: bitmaps of a thousand conditions stay in the cache."""
REPEATS = 8
"""A column is asked by value where it has less than one value in so many rows, and at least so many parts."""


@dataclass(frozen=True)
class _Part:
    """One part of conditions. `early`: it is cheap; `column`: all that it reads, where that may be asked by value."""

    expr: pl.Expr
    early: bool
    column: str | None


class Masks:
    """Conditions over events of one schema; null counts as false.

    Args:
        conditions: Boolean expressions.
        schema: the events' columns.
        dense: numbers of conditions that are wanted as bitmaps: that is better where they hold nearly everywhere.
    """

    def __init__(self, conditions: Sequence[pl.Expr], schema: pl.Schema, dense: Iterable[int] = ()) -> None:
        self._dense = frozenset(dense)
        self._whole = {n: c for n, c in enumerate(conditions) if not _by_row(c)}
        self._parts: list[_Part] = []
        self._places: list[int] = []
        self._early: list[list[int]] = []
        self._late: list[list[int]] = []
        numbers: dict[str, int] = {}
        for place, condition in enumerate(conditions):
            if place in self._whole:
                continue
            mine: set[int] = set()
            for name, expr in _conjuncts(condition, schema):
                if name not in numbers:
                    numbers[name] = len(self._parts)
                    self._parts.append(_part(expr, schema))
                mine.add(numbers[name])
            self._places.append(place)
            self._early.append(sorted(n for n in mine if self._parts[n].early))
            self._late.append(sorted(n for n in mine if not self._parts[n].early))
        self._first = sorted({n for parts in self._early for n in parts})

    def rows(self, frame: pl.DataFrame, dense: dict[int, Bits] | None = None) -> dict[int, Rows]:
        """For conditions that hold anywhere: on which rows, in their order.

        Args:
            dense: takes those that are wanted as bitmaps; they are not among the rows then.
        """
        found: dict[int, list[Rows]] = {}
        if self._whole and frame.height:
            masks = _booleans(list(self._whole.values()), frame)
            found = {n: [np.flatnonzero(mask)] for n, mask in zip(self._whole, masks, strict=True) if mask.any()}
        if self._places:
            for start in range(0, frame.height, SLICE):
                for number, rows in self._slice(frame[start : start + SLICE], dense, start, frame.height).items():
                    found.setdefault(self._places[number], []).append(rows + start)
        joined = {n: pieces[0] if len(pieces) == 1 else np.concatenate(pieces) for n, pieces in found.items()}
        if dense is not None:
            for number in self._dense & joined.keys():
                flags = np.zeros(frame.height, np.bool_)
                flags[joined.pop(number)] = True
                dense[number] = np.packbits(flags)
        return joined

    def _slice(self, frame: pl.DataFrame, dense: dict[int, Bits] | None, start: int, total: int) -> dict[int, Rows]:
        """The cheap parts of all conditions over all rows, then the others over what these leave."""
        held = _all_of(self._early, self._first, self._bits(self._first, frame), frame.height)
        alive = np.flatnonzero(held.any(axis=1)).tolist()
        done = [n for n in alive if not self._late[n]]
        if dense is not None:
            for n in done:
                if (place := self._places[n]) in self._dense:
                    whole = dense.setdefault(place, np.zeros(-(-total // 8), np.uint8))
                    whole[start >> 3 : (start >> 3) + held.shape[1]] = held[n]
            done = [n for n in done if self._places[n] not in self._dense]
        found = dict(zip(done, _set_each(held[done], frame.height), strict=True))
        counts = np.bitwise_count(held).sum(axis=1)
        few = [n for n in alive if self._late[n] and counts[n] * FEW < frame.height]
        many = [n for n in alive if self._late[n] and counts[n] * FEW >= frame.height]
        picked = _set(np.bitwise_or.reduce(held[few], axis=0), frame.height) if few else None
        if picked is not None and len(picked) * FEW >= frame.height:
            few, many, picked = [], [*many, *few], None
        return {**found, **self._refined(many, held, frame, None), **self._refined(few, held, frame, picked)}

    def _refined(self, conditions: list[int], held: Bits, frame: pl.DataFrame, picked: Rows | None) -> dict[int, Rows]:
        """What the late parts leave of conditions; `picked`: the only rows that are left of them."""
        if not conditions:
            return {}
        before = held[conditions]
        if picked is not None:
            frame = frame[picked]
            before = np.packbits(before[:, picked >> 3] >> (7 - (picked & 7)).astype(np.uint8) & 1, axis=1)
        wanted = sorted({part for n in conditions for part in self._late[n]})
        after = before & _all_of([self._late[n] for n in conditions], wanted, self._bits(wanted, frame), frame.height)
        left = np.flatnonzero(after.any(axis=1))
        found = dict(zip([conditions[n] for n in left], _set_each(after[left], frame.height), strict=True))
        return found if picked is None else {n: picked[rows] for n, rows in found.items()}

    def _bits(self, wanted: Sequence[int], frame: pl.DataFrame) -> Bits:
        """These parts over a frame."""
        found = np.zeros((len(wanted), -(-frame.height // 8)), np.uint8)
        by_column: dict[str, list[int]] = {}
        plain: list[int] = []
        for place, number in enumerate(wanted):
            column = self._parts[number].column
            (plain if column is None else by_column.setdefault(column, [])).append(place)
        for column, places in by_column.items():
            values = frame.get_column(column).unique() if len(places) >= REPEATS <= frame.height else None
            if values is None or values.len() * REPEATS > frame.height:
                plain += places
                continue
            codes = _codes(frame.get_column(column), values)
            said = _booleans([self._parts[wanted[place]].expr for place in places], values.to_frame())
            found[places] = np.packbits(said[:, codes], axis=1)
        if plain:
            found[plain] = np.packbits(_booleans([self._parts[wanted[place]].expr for place in plain], frame), axis=1)
        return found


def _part(expr: pl.Expr, schema: pl.Schema) -> _Part:
    names = expr.meta.root_names()
    cheap = all(name in schema and (schema[name].is_numeric() or schema[name] == pl.Boolean) for name in names)
    repeats = len(set(names)) == 1 and schema.get(names[0]) == pl.String
    return _Part(expr, cheap, names[0] if repeats else None)


def _by_row(expr: pl.Expr) -> bool:
    """Whether it gives for each row what it would give for that row alone. Of what calls Python that can't be known."""
    try:
        return bool(expr.meta.is_row_separable()) and all(_by_row(one) for one in expr.meta.pop())
    except pl.exceptions.PolarsError:
        return False


def _conjuncts(condition: pl.Expr, schema: pl.Schema) -> Iterable[tuple[str, pl.Expr]]:
    """The parts that must all be true, each with what makes it equal to others."""
    tree: Any = json.loads(condition.meta.serialize(format="json"))
    found = list(_split(tree, condition))
    if len(found) > 1:
        types = pl.LazyFrame(schema=schema).select(e.alias(str(n)) for n, (_, e) in enumerate(found)).collect_schema()
        if any(dtype != pl.Boolean for dtype in types.dtypes()):  # `&` of whole numbers is no "and"
            return [(json.dumps(tree), condition)]
    return found


def _split(tree: Any, expr: pl.Expr) -> Iterable[tuple[str, pl.Expr]]:
    binary = tree.get("BinaryExpr") if isinstance(tree, dict) else None
    operands = expr.meta.pop()
    if binary is None or binary["op"] not in ("And", "LogicalAnd") or len(operands) != 2:
        yield json.dumps(tree), expr
        return
    right, left = operands
    yield from _split(binary["left"], left)
    yield from _split(binary["right"], right)


def _booleans(exprs: Sequence[pl.Expr], frame: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """Expressions over a frame, one row each. Lazily, so that what they have in common is computed once."""
    query = frame.lazy().select(expr.alias(str(number)) for number, expr in enumerate(exprs))
    found = np.empty((len(exprs), frame.height), np.bool_)
    for number, column in enumerate(query.collect().iter_columns()):
        if column.null_count():
            column = column.fill_null(False)
        found[number] = column.to_numpy()  # one value where it reads no column
    return found


def _codes(column: pl.Series, values: pl.Series) -> npt.NDArray[np.uint32]:
    """For each row the place of its value among `values`."""
    places = pl.DataFrame({"value": values, "code": np.arange(values.len(), dtype=np.uint32)})
    found = (
        column.alias("value").to_frame().join(places, on="value", how="left", nulls_equal=True, maintain_order="left")
    )
    return found.get_column("code").to_numpy()


def _all_of(conditions: Sequence[Sequence[int]], wanted: Sequence[int], bits: Bits, height: int) -> Bits:
    """The conditions whose parts these are, as bitmaps; without parts: true everywhere."""
    place = {number: n for n, number in enumerate(wanted)}
    everywhere = np.packbits(np.ones(height, np.bool_))
    found = np.tile(everywhere, (len(conditions), 1))
    by_count: dict[int, list[int]] = {}
    for number, parts in enumerate(conditions):
        by_count.setdefault(len(parts), []).append(number)
    for count, numbers in by_count.items():
        for nth in range(count):
            found[numbers] &= bits[[place[conditions[number][nth]] for number in numbers]]
    return found


def _set(bits: Bits, height: int) -> Rows:
    """The rows whose bit is set."""
    return np.flatnonzero(np.unpackbits(bits, count=height))


def _set_each(bits: Bits, height: int) -> list[Rows]:
    """The same of several conditions. Of those that hold on few rows, only bytes that have any bit are looked into."""
    few = np.bitwise_count(bits).sum(axis=1) * 8 < height
    places = np.flatnonzero(bits[few])
    inside = np.flatnonzero(np.unpackbits(bits[few].ravel()[places]))
    condition, byte = np.divmod(places[inside >> 3], max(bits.shape[1], 1))
    rows = iter(np.split((byte << 3) + (inside & 7), np.searchsorted(condition, np.arange(1, few.sum()))))
    return [next(rows) if is_few else _set(own, height) for own, is_few in zip(bits, few.tolist(), strict=True)]

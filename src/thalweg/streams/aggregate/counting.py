"""Aggregates that count items: distinct values by a sketch, and the most frequent ones."""

from __future__ import annotations

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate.monoid import Input, Itemised, ItemRows, Part
from thalweg.streams.aggregate.parts import Rows

_RANK = "__rank"


class _HighestRank(Part):
    """The highest rank of a register."""

    def __init__(self) -> None:
        super().__init__("rank", None)

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        return [pl.col(_RANK).max().alias(self.name)]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return [pl.col(self.name).max()]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)


class ApproxDistinct(Itemised):
    """About how many different values: HyperLogLog rows (register, rank), merged by the highest rank.

    At most 2**precision rows per group, however many values; the standard error is 1.04 / sqrt(2**precision): 0.8 %
    with 14. Few values (up to 2.5 registers each) are counted by the registers that are empty, nearly exactly. Values
    are told apart by a 64-bit hash of their canonical bytes, the same in every process and version.

    Source: Flajolet, Fusy, Gandouet, Meunier: HyperLogLog, AofA 2007; 64-bit hashes as in Heule, Nunkesser, Hall: EDBT
    2013.
    """

    dtype = pl.Int64()
    empty = 0

    def __init__(self, input: Input, precision: int = 14) -> None:
        if not isinstance(precision, int) or not 4 <= precision <= 18:
            raise ConfigurationError(f"approx_distinct: precision {precision!r} must lie between 4 and 18")
        self.item, self.precision = input, precision
        self.inputs = (input,)
        self.table = f"registers({input.text}, {precision})"
        self.rank = _HighestRank()
        self.parts = (self.rank,)

    def describe(self) -> str:
        return f"approx_distinct({self.item.label})"

    def bucket(self, values: pl.Series) -> pl.Expr:
        hashed = _hashes(values)
        register = (hashed >> np.uint64(64 - self.precision)).astype(np.int32)
        return pl.lit(pl.Series(register, dtype=pl.Int32).zip_with(values.is_not_null(), _nothing(len(values))))

    def measures(self, values: pl.Series) -> list[pl.Expr]:
        rest = _hashes(values) << np.uint64(self.precision)
        # The place of the first set bit, from 1; all zero: one more than there are bits.
        bits = np.where(rest == 0, -1.0, np.floor(np.log2(np.maximum(rest, np.uint64(1)).astype(np.float64))))
        bits = np.where((rest != 0) & ((rest >> np.uint64(63)) == 1), 63.0, bits)
        rank = np.where(rest == 0, 65 - self.precision, 64 - bits).astype(np.int8)
        return [pl.lit(pl.Series(_RANK, rank))]

    def finish(self, rows: ItemRows) -> pl.Series:
        registers = 2.0**self.precision
        starts = np.cumsum(rows.lengths) - rows.lengths
        powers = np.add.reduceat(2.0 ** -rows.parts[self.rank.name].to_numpy().astype(np.float64), starts)
        unused = registers - rows.lengths
        estimate = (0.7213 / (1 + 1.079 / registers)) * registers * registers / (powers + unused)
        few = (estimate <= 2.5 * registers) & (unused > 0)
        linear = registers * np.log(registers / np.maximum(unused, 1))
        return pl.Series(np.rint(np.where(few, linear, estimate)).astype(np.int64))


def _nothing(rows: int) -> pl.Series:
    return pl.Series([None], dtype=pl.Int32).new_from_index(0, rows)


def _hashes(values: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    from thalweg.streams.state.row_lists import keys_of

    if not len(values):
        return np.zeros(0, dtype=np.uint64)
    if values.dtype == pl.Null:
        values = values.cast(pl.String)
    name = values.name or "value"
    return keys_of(values.alias(name).to_frame(), [name]).first


class TopItems(Itemised):
    """The most frequent values with their counts, exactly: rows (value, count), so state grows with the values."""

    def __init__(self, input: Input, number: int) -> None:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigurationError(f"top_k of {number!r}: give a whole number, at least 1")
        self.item, self.number = input, number
        self.inputs = (input,)
        self.table = f"items({input.text})"
        self.rows = Rows()
        self.parts = (self.rows,)
        self.dtype = pl.List(pl.Struct({"value": pl.Null(), "count": pl.Int64()}))

    def describe(self) -> str:
        return f"top_k({self.item.label}, {self.number})"

    def bucket(self, values: pl.Series) -> pl.Expr:
        column = pl.col(self.item.column)
        return column + 0.0 if values.dtype.is_float() else column

    def finish(self, rows: ItemRows) -> pl.Series:
        groups = np.repeat(np.arange(len(rows.lengths)), rows.lengths)
        frame = pl.DataFrame({"group": groups, "value": rows.items, "count": rows.parts[self.rows.name]})
        best = frame.sort("group", "count", "value", descending=[False, True, False]).group_by(
            "group", maintain_order=True
        )
        return best.agg(pl.struct("value", "count").head(self.number).alias("top")).sort("group")["top"]

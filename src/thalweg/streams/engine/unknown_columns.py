"""Columns that a query reads and that no event had yet: without a schema their type is not known either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

import polars as pl

_GUESSES: tuple[pl.DataType, ...] = (
    pl.Null(),
    pl.String(),
    pl.Int64(),
    pl.Float64(),
    pl.Boolean(),
    pl.Datetime("ms"),
    pl.List(pl.String()),
    pl.List(pl.Int64()),
)
_MOST_COMBINATIONS = 3
"""Up to so many unknown columns are guessed each for itself, more of them all alike."""


class UnknownColumns:
    """Runs queries over columns that are missing, or null in every row so far.

    Such a column is null; the query takes it as a type that it can work with, and what comes of it is null of no type
    again, so that the first real value decides. A guess that worked is remembered.
    """

    def __init__(self) -> None:
        self._worked: dict[frozenset[str], Mapping[str, pl.DataType]] = {}

    def run(
        self,
        frame: pl.DataFrame,
        reads: frozenset[str],
        made: frozenset[str],
        query: Callable[[pl.DataFrame], pl.DataFrame],
    ) -> pl.DataFrame:
        """Runs a query that failed on the frame as it is.

        Args:
            frame: the rows.
            reads: the columns that the query's expressions read.
            made: the columns that the query makes itself.
            query: maps a frame to its result.

        Raises:
            PolarsError: the query fails for another reason.
        """
        missing = [name for name in reads - made if name not in frame.columns]
        whole = frame.with_columns(pl.lit(None, pl.Null()).alias(name) for name in missing)
        unknown = sorted(name for name in reads if name in whole.columns and whole.schema[name] == pl.Null())
        failure: pl.exceptions.PolarsError | None = None
        for guess in self._guesses(unknown):
            try:
                result = query(whole.with_columns(pl.col(name).cast(dtype) for name, dtype in guess.items()))
            except pl.exceptions.PolarsError as error:
                failure = failure or error
                continue
            self._worked[frozenset(unknown)] = guess
            return _untyped(result, set(guess.values()))
        assert failure is not None
        raise failure

    def _guesses(self, unknown: Sequence[str]) -> Iterator[Mapping[str, pl.DataType]]:
        known = self._worked.get(frozenset(unknown))
        if known is not None:
            yield known
        if len(unknown) > _MOST_COMBINATIONS:
            yield from (dict.fromkeys(unknown, guess) for guess in _GUESSES)
        else:
            yield from (dict(zip(unknown, types, strict=True)) for types in product(_GUESSES, repeat=len(unknown)))


def _untyped(result: pl.DataFrame, guesses: set[pl.DataType]) -> pl.DataFrame:
    """Columns of a guessed type without a value lose the type."""
    empty = [n for n, dtype in result.schema.items() if dtype in guesses and result[n].null_count() == result.height]
    return result.cast(dict.fromkeys(empty, pl.Null()))

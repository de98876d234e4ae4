"""Aggregates of your own: `mergeable` in columns, `fold` in plain Python.

Both keep partial results and merge them: results must not depend on how events were cut into batches, so `merge` has to
be associative and commutative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate import Aggregate, Custom, Fields, Fold, to_input


def mergeable(
    name: str,
    *,
    prepare: Mapping[str, Any],
    merge: Callable[[Fields], Mapping[str, pl.Expr]],
    finish: Callable[[Fields], pl.Expr],
) -> Aggregate:
    """An aggregate in columns, as fast as the ones that come along.

    Args:
        name: identifies its state across restarts.
        prepare: column of the partial result → an aggregating expression over a batch's events.
        merge: given the columns, the same columns over several partial results.
        finish: given the columns, the result.

    Raises:
        ConfigurationError: `prepare` and `merge` make different columns.

    >>> from thalweg import col
    >>> root_mean_square = mergeable(
    ...     "rms",
    ...     prepare={"squares": (col("v") * col("v")).sum(), "n": col("v").count()},
    ...     merge=lambda part: {"squares": part.squares.sum(), "n": part.n.sum()},
    ...     finish=lambda part: (part.squares / part.n).sqrt(),
    ... )
    >>> root_mean_square
    custom(rms)
    """
    return Custom(name, {column: _native(value, name) for column, value in prepare.items()}, merge, finish)


def fold(
    value: object,
    *,
    name: str,
    init: Callable[[], Any],
    add: Callable[[Any, Any], Any],
    merge: Callable[[Any, Any], Any],
    result: Callable[[Any], Any] = lambda state: state,
    returns: pl.DataType | type[pl.DataType] | None = None,
) -> Aggregate:
    """An aggregate in plain Python: one call per event, so slower by orders of magnitude.

    Args:
        value: what is added of each event: a column, an expression (`pl.struct("a", "b")` for several, which come as a
            dict) or a function of the event. Nulls are left out.
        name: identifies its state across restarts.
        init: makes an empty state: numbers, texts, bytes, lists and dicts of these.
        add: the state with one more value.
        merge: two states as one.
        result: what the state says.
        returns: the result's type; found from the first results where it is not given.

    >>> fold("word", name="longest", init=str, add=lambda s, w: max(s, w, key=len), merge=lambda a, b: max(a, b))
    fold(longest: word)
    """
    for what, function in (("init", init), ("add", add), ("merge", merge), ("result", result)):
        if not callable(function):
            raise ConfigurationError(f"fold {name!r}: {what} is not a function")
    return Fold(name, to_input(value), init, add, merge, result, returns)


def _native(value: Any, name: str) -> pl.Expr:
    if isinstance(value, pl.Expr):
        return value
    import narwhals as nw

    if isinstance(value, nw.Expr):
        from thalweg.expressions import to_polars

        return to_polars(value)
    raise ConfigurationError(f"mergeable {name!r}: {value!r} is no expression, such as col('v').sum()")

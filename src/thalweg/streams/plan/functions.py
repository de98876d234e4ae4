"""Users' functions as the plan holds them: compiled once, with the schema at hand, in the user's own line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from thalweg.errors import PlanError
from thalweg.streams.batch import RESERVED

if TYPE_CHECKING:
    from thalweg.expressions import CompiledFunction

Purpose = Literal["predicate", "value", "row", "rows"]


def compile_for(fn: Any, purpose: Purpose, schema: pl.Schema | None, where: str) -> CompiledFunction:
    """Compiles an expression, lambda or callable, and refuses what can't be right in a stream.

    Raises:
        PlanError: it reads a column that does not exist, or looks across rows (then the result would depend on how the
            events happened to be batched).
    """
    from thalweg.expressions import compile_function

    compiled = compile_function(fn, purpose=purpose, schema=schema)
    for expression in expressions_of(compiled):
        check_row_wise(expression, where)
        check_columns(expression.meta.root_names(), schema, where)
        if schema is not None:
            check_types([expression], schema, where)
    return compiled


def expressions_of(compiled: CompiledFunction) -> list[pl.Expr]:
    """The Polars expressions of a vectorised function; none where it runs per row."""
    exprs = compiled.exprs
    if isinstance(exprs, dict):
        return list(exprs.values())
    return [] if exprs is None else [exprs]


def check_row_wise(expression: pl.Expr, where: str) -> None:
    """Refuses expressions that look across rows, such as `col("x").mean()`."""
    if not _row_wise(expression):
        raise PlanError(
            f"{where}: {expression} looks across rows, so its result would depend on how the events were batched; "
            "use .window(…).aggregate(…) for that"
        )


def _row_wise(expression: pl.Expr) -> bool:
    separable = getattr(expression.meta, "is_row_separable", None)  # since Polars 2.0
    if separable is None:
        return True
    try:
        if not separable():
            return False
    except pl.exceptions.ColumnNotFoundError:
        return True  # Polars can't tell (list.eval, a Python function): what is inside works within one row
    return all(_row_wise(part) for part in expression.meta.pop())  # the root alone does not speak for its parts


def check_columns(names: Iterable[str], schema: pl.Schema | None, where: str) -> None:
    """Refuses names that the schema, where it is known, does not have."""
    for name in names:
        if name in RESERVED:
            raise PlanError(f"{where}: {name!r} is reserved for the engine")
        if schema is not None and name not in schema:
            raise PlanError(f"{where}: no column {name!r}{close_names(name, schema)}")


def check_types(expressions: Sequence[pl.Expr], schema: pl.Schema, where: str) -> pl.Schema:
    """What a projection gives over these columns, found by running it over no rows.

    Raises:
        PlanError: the types don't go together.
    """
    try:
        return pl.DataFrame(schema=schema).select(expressions).schema
    except pl.exceptions.ColumnNotFoundError as error:
        name = str(error).split('"')[1] if '"' in str(error) else str(error)
        raise PlanError(f"{where}: no column {name!r}{close_names(name, schema)}") from None
    except pl.exceptions.PolarsError as error:
        columns = ", ".join(f"{name}: {dtype}" for name, dtype in schema.items())
        raise PlanError(f"{where} does not fit the columns ({columns}): {str(error).splitlines()[0]}") from error


def close_names(name: str, names: Iterable[str]) -> str:
    """`; did you mean …?` or the list of what there is.

    >>> close_names("tempertaure", ["sensor_id", "temperature"])
    "; did you mean 'temperature'?"
    """
    known = list(names)
    close = get_close_matches(name, known, n=3)
    if close:
        return f"; did you mean {' or '.join(repr(c) for c in close)}?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"; there are: {shown}" if known else ""


def columns_of(functions: Iterable[CompiledFunction]) -> frozenset[str] | None:
    """The columns that the functions read; None where one of them can't say."""
    result: frozenset[str] = frozenset()
    for function in functions:
        if function.columns is None:
            return None
        result |= frozenset(function.columns)
    return result

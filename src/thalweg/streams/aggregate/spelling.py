"""One language, two spellings: `average("value")` and `col("value").mean()` become the same aggregate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate.basic import Average, Count, Extremum, Total, Variance
from thalweg.streams.aggregate.items import ExactQuantile
from thalweg.streams.aggregate.monoid import Aggregate, Input

_SPELLINGS: dict[str, tuple[Callable[[pl.Expr], pl.Expr], Callable[[Input], Aggregate]]] = {
    ".mean()": (lambda e: e.mean(), Average),
    ".sum()": (lambda e: e.sum(), Total),
    ".min()": (lambda e: e.min(), lambda i: Extremum(i, largest=False)),
    ".max()": (lambda e: e.max(), lambda i: Extremum(i, largest=True)),
    ".count()": (lambda e: e.count(), Count),
    ".len()": (lambda e: e.len(), lambda i: Count()),
    ".median()": (lambda e: e.median(), lambda i: ExactQuantile(i, 0.5)),
    ".std()": (lambda e: e.std(), lambda i: Variance(i, root=True)),
    ".var()": (lambda e: e.var(), lambda i: Variance(i)),
    ".std(ddof=0)": (lambda e: e.std(ddof=0), lambda i: Variance(i, ddof=0, root=True)),
    ".var(ddof=0)": (lambda e: e.var(ddof=0), lambda i: Variance(i, ddof=0)),
}


def to_input(value: object) -> Input:
    """What an aggregate reads: a column name, an expression, or a function of the event that can be vectorised.

    Raises:
        ConfigurationError: none of these, or a function that would have to run per row.
    """
    if isinstance(value, str):
        return Input(pl.col(value), value, frozenset({value}))
    expr = _native(value)
    if expr is None and callable(value):
        expr = _traced(value)
    if expr is None:
        raise ConfigurationError(
            f"{value!r} is no input for an aggregate; give a column name, an expression or a function of the event"
        )
    columns = frozenset(expr.meta.root_names())
    plain = len(columns) == 1 and expr.meta.eq(pl.col(next(iter(columns))))
    return Input(expr, next(iter(columns)) if plain else str(expr), columns)


def to_aggregate(value: object, *, name: str = "") -> Aggregate:
    """An aggregate as it stands, or an aggregating expression such as `col("value").mean()`.

    Raises:
        ConfigurationError: neither, or an expression that has no mergeable form here.
    """
    if isinstance(value, Aggregate):
        return value
    expr = _native(value)
    label = f"aggregate {name!r}" if name else "aggregate"
    if expr is None:
        raise ConfigurationError(f"{label} is {value!r}; give e.g. average('value') or col('value').mean()")
    expr = expr.meta.undo_aliases()
    if expr.meta.eq(pl.len()):
        return Count()
    inner = expr.meta.pop()
    for source in inner:
        for spell, make in _SPELLINGS.values():
            if expr.meta.eq(spell(source)):
                return make(to_input(source))
    quantile = _quantile(expr, inner)
    if quantile is not None:
        return quantile
    raise ConfigurationError(
        f"{label}: {expr} can't be kept as partial results; use one of {', '.join(_SPELLINGS)}, .quantile(q), len() on"
        " a column or a row expression, and compute with the results in a with_columns after it"
    )


def to_aggregates(values: Mapping[str, object]) -> dict[str, Aggregate]:
    """All of `.aggregate(**values)`.

    Raises:
        ConfigurationError: none given, a reserved name, or not an aggregate.
    """
    if not values:
        raise ConfigurationError("aggregate() needs at least one result, such as avg=average('value')")
    for name in values:
        if name.startswith("__") or name in ("window_start", "window_end"):
            raise ConfigurationError(f"aggregate {name!r}: the name is reserved")
    return {name: to_aggregate(value, name=name) for name, value in values.items()}


def _quantile(expr: pl.Expr, inner: list[pl.Expr]) -> Aggregate | None:
    for source in inner:
        for literal in inner:
            if literal is source or literal.meta.root_names():
                continue
            q = pl.select(literal).item()
            for way in ("linear", "nearest"):
                if isinstance(q, float) and expr.meta.eq(source.quantile(q, interpolation=way)):
                    if way != "linear":
                        raise ConfigurationError(f"{expr}: only .quantile(q, interpolation='linear') is served")
                    return ExactQuantile(to_input(source), q)
    return None


def _native(value: object) -> pl.Expr | None:
    if isinstance(value, pl.Expr):
        return value
    import narwhals as nw

    if isinstance(value, nw.Expr):
        from thalweg.expressions import to_polars

        return to_polars(value)
    return None


def _traced(function: Callable[..., Any]) -> pl.Expr:
    from thalweg.expressions import compile_function

    compiled = compile_function(function, purpose="value", schema=None)
    if not compiled.vectorised:
        raise ConfigurationError(
            f"the input of an aggregate must be vectorised, but {compiled.describe()}; compute it in a map or"
            " with_columns before the window"
        )
    exprs = compiled.exprs
    assert isinstance(exprs, pl.Expr)
    return exprs

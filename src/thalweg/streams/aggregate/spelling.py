"""One language, two spellings: `average("value")` and `col("value").mean()` become the same aggregate."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate.basic import Average, Count, Extremum, Total, Variance
from thalweg.streams.aggregate.items import ExactQuantile
from thalweg.streams.aggregate.monoid import COMPUTED, Aggregate, Input
from thalweg.streams.aggregate.order import BitAggregate
from thalweg.streams.plan.functions import check_row_wise

_SPELLINGS: dict[str, tuple[Callable[[pl.Expr], pl.Expr], Callable[[Input], Aggregate]]] = {
    ".bitwise_and()": (lambda e: e.bitwise_and(), lambda i: BitAggregate(i, "and")),
    ".bitwise_or()": (lambda e: e.bitwise_or(), lambda i: BitAggregate(i, "or")),
    ".bitwise_xor()": (lambda e: e.bitwise_xor(), lambda i: BitAggregate(i, "xor")),
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
    """What an aggregate reads: a column name, an expression, or a function of the event.

    A function that needs the stream's schema to be traced, or that runs per row, becomes a column that a step before
    the aggregate computes: see `computed_inputs`.

    Raises:
        ConfigurationError: none of these.
        PlanError: an expression that looks across rows.
    """
    if isinstance(value, str):
        return Input(pl.col(value), value, frozenset({value}))
    expr = _native(value)
    if expr is None and callable(value):
        expr = _traced(value)
        if expr is None:
            name = f"{COMPUTED}{identity_of(value)}"
            return Input(pl.col(name), name, frozenset({name}), {name: value})
    if expr is None:
        raise ConfigurationError(
            f"{value!r} is no input for an aggregate; give a column name, an expression or a function of the event"
        )
    check_row_wise(expr, "the input of an aggregate")
    columns = frozenset(expr.meta.root_names())
    plain = len(columns) == 1 and expr.meta.eq(pl.col(next(iter(columns))))
    return Input(expr, next(iter(columns)) if plain else str(expr), columns)


def computed_inputs(aggregates: Mapping[str, Aggregate]) -> dict[str, Callable[..., Any]]:
    """The columns that a step before these aggregates has to compute, and the functions that do."""
    inputs = [one for aggregate in aggregates.values() for one in aggregate.inputs]
    return {name: function for one in inputs for name, function in one.functions.items()}


def masked(args: tuple[Any, ...], aggregate: Aggregate, condition: Input) -> tuple[Any, ...]:
    """The arguments of an aggregate with all inputs null where the condition is not true.

    Raises:
        ConfigurationError: the aggregate reads the event by itself.
    """
    if isinstance(aggregate, Count) and not args:
        return (_masked(Input(pl.lit(True), "event", frozenset()), condition),)
    if not any(isinstance(one, Input) for one in args):
        raise ConfigurationError(
            f"{aggregate!r} can't be filtered by .where(…): put the condition into its expressions"
        )
    return tuple(_masked(one, condition) if isinstance(one, Input) else one for one in args)


def _masked(value: Input, condition: Input) -> Input:
    expr = pl.when(condition.expr).then(value.expr)
    functions = {**value.functions, **condition.functions}
    return Input(expr, f"{value.text} where {condition.text}", value.columns | condition.columns, functions)


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
        " a column or a row expression, or an aggregate such as count_distinct('x'); compute with the"
        " results in a with_columns after it"
    )


def to_aggregates(values: Mapping[str, object]) -> dict[str, Aggregate]:
    """All of `.aggregate(**values)`.

    Raises:
        ConfigurationError: none given, a reserved name, or not an aggregate.
    """
    if not values:
        raise ConfigurationError("aggregate() needs at least one aggregate, such as avg=average('value')")
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


def _traced(function: Callable[..., Any]) -> pl.Expr | None:
    from thalweg.expressions import compile_function

    compiled = compile_function(function, purpose="value", schema=None)
    return compiled.exprs if compiled.vectorised and isinstance(compiled.exprs, pl.Expr) else None


def identity_of(function: Callable[..., Any]) -> str:
    """A name for a function that outlives a restart: equal code, defaults and captured constants give equal names.

    What has no lasting value (a captured object, a callable that is no function) is told apart by type and number, in
    order of first use: a program that builds the same plan in the same order gives it the same name.

    >>> identity_of(lambda e: e.a + 1) == identity_of(lambda e: e.a + 1) != identity_of(lambda e: e.a + 2)
    True
    """
    code = getattr(function, "__code__", None)
    name = getattr(function, "__name__", type(function).__name__)
    if code is None:
        return f"{name}#{_number(function)}"
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    values = [_lasting(value) for value in (*cells, *(function.__defaults__ or ()))]
    parts = [function.__module__, *_code_parts(code), *values]
    return f"{name}#{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"


def _code_parts(code: CodeType) -> list[object]:
    constants = [_code_parts(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return [code.co_code, code.co_names, *constants]


def _lasting(value: object) -> str:
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, tuple):
        return repr([_lasting(one) for one in value])
    return f"{type(value).__qualname__}#{_number(value)}"


def _number(value: object) -> int:
    of_type = _numbered.setdefault(type(value).__qualname__, [])
    for number, known in enumerate(of_type):
        if known is value:
            return number
    of_type.append(value)
    return len(of_type) - 1


_numbered: dict[str, list[object]] = {}
"""Keeps its values alive: an address may be used again, a number may not."""

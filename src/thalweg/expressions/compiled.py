"""`compile_function`: what users hand to `filter`, `map` and the like, made ready to run."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Literal, TypeAlias

import polars as pl

from thalweg.errors import ConfigurationError, PlanError
from thalweg.expressions.native import is_expression, to_polars
from thalweg.expressions.per_row import RowResults, call_with_rows, python_form, rebuilt, refuse_expression_style
from thalweg.expressions.reserved import is_reserved
from thalweg.expressions.source import Source, find_source
from thalweg.expressions.tracing import Exprs, fields_read, record_display, trace
from thalweg.expressions.values import NeedsTypes, Untraceable

Purpose: TypeAlias = Literal["predicate", "value", "row", "rows"]


@dataclass(frozen=True)
class CompiledFunction:
    """A user's function, vectorised where its meaning allows it.

    Attributes:
        purpose: what it is used for.
        name: what `explain()` calls it.
        exprs: the expression (predicate, value, rows), or one per output column (row); None where it runs per row.
        columns: the columns that it reads; None where that can't be known.
        reason: why it runs per row.
    """

    purpose: Purpose
    name: str
    exprs: Exprs | None
    columns: frozenset[str] | None
    reason: str = ""
    _call: Callable[..., Any] | None = None
    """How it is called per row."""
    _parts: Mapping[str, CompiledFunction] | None = None
    """The fields of a record that it displays: those that can run over columns do, also where others can't."""
    _typed: Callable[[pl.Schema], CompiledFunction] | None = None
    """Compiles again, once the types are known that tracing lacked."""
    _known: dict[tuple[tuple[str, pl.DataType], ...], CompiledFunction] = field(default_factory=dict)

    @property
    def vectorised(self) -> bool:
        return self.exprs is not None

    def describe(self) -> str:
        """For `explain()`.

        >>> compile_function(pl.col("amount") > 3, purpose="predicate", schema=None).describe()
        '[(col("amount")) > (dyn int: 3)] [vectorised]'
        """
        if self.vectorised:
            return f"{self.name} [vectorised]"
        if self._parts is not None:
            fast = [name for name, part in self._parts.items() if part.vectorised]
            slow = "; ".join(f"{n}: {part.reason}" for n, part in self._parts.items() if not part.vectorised)
            start = f"vectorised: {', '.join(fast)}; " if fast else ""
            return f"{self.name} [{start}per row: {slow}]"
        return f"{self.name} [per row: {self.reason}]"

    def evaluate_rows(self, frame: pl.DataFrame) -> RowResults:
        """What the function gives for each row: for a predicate bools, for a value or a record plain Python values.

        A null operand and a division by zero give null, and so does an integer beyond 64 bits; for a record, in the
        field where it happens. Any other exception is that row's error.
        """
        if self._typed is not None:
            typed = self._for_types(frame)
            if typed.vectorised or typed._parts is not None:
                return typed._over_columns(frame) if typed.vectorised else typed.evaluate_rows(frame)
        if self._parts is not None:
            return self._of_parts(frame)
        if self._call is None:
            return self._over_columns(frame)
        single = self.purpose in ("predicate", "value")
        return call_with_rows(self._call, frame, null_is_result=single, truth=self.purpose == "predicate")

    def _for_types(self, frame: pl.DataFrame) -> CompiledFunction:
        schema = pl.Schema({name: dtype for name, dtype in frame.schema.items() if not is_reserved(name)})
        key = tuple(schema.items())
        if key not in self._known:
            assert self._typed is not None
            try:
                self._known[key] = self._typed(schema)
            except PlanError:  # a column that these rows don't have: Python says so, row by row
                self._known[key] = self
        return self._known[key]

    def _over_columns(self, frame: pl.DataFrame) -> RowResults:
        if isinstance(self.exprs, dict):
            return RowResults(frame.with_columns(**self.exprs).select(list(self.exprs)).to_dicts())
        assert self.exprs is not None
        return RowResults(frame.with_columns(__result=self.exprs).get_column("__result").to_list())

    def _of_parts(self, frame: pl.DataFrame) -> RowResults:
        assert self._parts is not None
        errors: dict[int, Exception] = {}
        columns: list[list[Any]] = []
        fast = {name: part.exprs for name, part in self._parts.items() if isinstance(part.exprs, pl.Expr)}
        ready = frame.with_columns(**fast).select(list(fast))
        for name, part in self._parts.items():
            results = RowResults(ready.get_column(name).to_list()) if name in fast else part.evaluate_rows(frame)
            columns.append(results.values)
            for row, error in results.errors:
                errors.setdefault(row, error)
        names = list(self._parts)
        values: list[Any] = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        for row in errors:
            values[row] = None
        return RowResults(values, sorted(errors.items()))


def compile_function(fn: Any, *, purpose: Purpose, schema: pl.Schema | Mapping[str, Any] | None) -> CompiledFunction:
    """Makes a function ready to run: an expression as it is, a lambda traced into one, anything else per row.

    Args:
        fn: an expression, the name of a column (value), a mapping of names to functions (row), or a callable that takes
            one event.
        purpose: "predicate" (filter), "value" (one value), "row" (map to a record), "rows" (flat_map).
        schema: the columns of the event, where known; tracing arithmetic needs it.

    Raises:
        ConfigurationError: not callable, or it can't run over columns and must (it uses `event.x.is_in(…)` or, without
            source, `~`).
        PlanError: it reads a column that the schema does not have.

    >>> compile_function(lambda e: 0 <= e.value < 10, purpose="predicate", schema={"value": pl.Int64}).describe()
    '0 <= e.value < 10 [vectorised]'
    """
    known = pl.Schema(schema) if schema is not None else None
    if is_expression(fn) or (isinstance(fn, str) and purpose == "value"):
        expr = to_polars(fn)
        return CompiledFunction(purpose, str(expr), expr, frozenset(expr.meta.root_names()))
    if isinstance(fn, Mapping) and purpose == "row":
        parts = {name: compile_function(part, purpose="value", schema=known) for name, part in fn.items()}
        return _of_parts("{" + ", ".join(f"{n}: {p.name}" for n, p in parts.items()) + "}", parts)
    if not callable(fn):
        raise ConfigurationError(f"{fn!r} is neither an expression nor a callable")
    return _compile(fn, purpose, known)


def _compile(fn: Callable[..., Any], purpose: Purpose, schema: pl.Schema | None) -> CompiledFunction:
    source = find_source(fn) if isinstance(fn, FunctionType) else None
    name = source.text if source is not None else getattr(fn, "__qualname__", type(fn).__name__)
    columns = fields_read(source) if source is not None else None
    typed = None
    try:
        if purpose == "rows":
            raise Untraceable("flat_map makes any number of rows")
        exprs = trace(fn, source, purpose, schema)
        read = exprs.values() if isinstance(exprs, dict) else [exprs]
        found = frozenset(root for expr in read for root in expr.meta.root_names())
        return CompiledFunction(purpose, name, exprs, found, _call=_callable_form(fn, source))
    except NeedsTypes as error:
        reason = str(error)
        typed = lambda types: _compile(fn, purpose, types)  # noqa: E731
    except Untraceable as error:
        reason = str(error)
    if purpose == "row" and source is not None and isinstance(fn, FunctionType):
        display = record_display(source.node)
        if display is not None:
            parts = {key: _compile_field(fn, source, value, schema) for key, value in display.items()}
            return _of_parts(name, parts, columns)
    call = python_form(fn, source, reason)
    return CompiledFunction(purpose, name, None, columns, reason, call, _typed=typed)


def _compile_field(fn: FunctionType, source: Source, value: ast.expr, schema: pl.Schema | None) -> CompiledFunction:
    """One field of a record, as a function of its own."""
    node = ast.copy_location(ast.Lambda(source.node.args, value), value)
    part = Source(node, source.scopes)
    typed = None
    try:
        expr = trace(fn, part, "value", schema)
        assert isinstance(expr, pl.Expr)
        return CompiledFunction("value", part.text, expr, frozenset(expr.meta.root_names()))
    except NeedsTypes as error:
        reason = str(error)
        typed = lambda types: _compile_field(fn, source, value, types)  # noqa: E731
    except Untraceable as error:
        reason = str(error)
    refuse_expression_style(node, reason)
    call = rebuilt(fn, node)
    return CompiledFunction("value", part.text, None, fields_read(part), reason, call, _typed=typed)


def _of_parts(
    name: str, parts: Mapping[str, CompiledFunction], columns: frozenset[str] | None = None
) -> CompiledFunction:
    exprs = {n: part.exprs for n, part in parts.items() if isinstance(part.exprs, pl.Expr)}
    if all(part.columns is not None for part in parts.values()):
        columns = frozenset[str]().union(*(part.columns or () for part in parts.values()))
    if len(exprs) == len(parts):
        return CompiledFunction("row", name, exprs, columns)
    reason = "; ".join(f"{n}: {part.reason}" for n, part in parts.items() if not part.vectorised)
    return CompiledFunction("row", name, None, columns, reason, _parts=dict(parts))


def _callable_form(fn: Callable[..., Any], source: Source | None) -> Callable[..., Any] | None:
    """How a traced function runs per row all the same (tests compare the two); None where it can't."""
    try:
        return python_form(fn, source, "")
    except ConfigurationError:
        return None

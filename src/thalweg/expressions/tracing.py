"""Tracing a function: by its source where that is at hand, else by calling it once with a recording proxy."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, TypeAlias

import polars as pl

from thalweg.errors import PlanError
from thalweg.expressions import bytecode
from thalweg.expressions.arithmetic import Operand
from thalweg.expressions.event import Event
from thalweg.expressions.logic import truth
from thalweg.expressions.proxy import EventProxy, unwrapped
from thalweg.expressions.source import FunctionNode, Source
from thalweg.expressions.syntax import Tracer
from thalweg.expressions.values import INT64_MAX, INT64_MIN, Kind, Untraceable, Value, settled

Exprs: TypeAlias = pl.Expr | dict[str, pl.Expr]


def trace(fn: Callable[..., Any], source: Source | None, purpose: str, schema: pl.Schema | None) -> Exprs:
    """The expressions that give what the function gives.

    Raises:
        Untraceable: something in it is left to Python; `NeedsTypes` where only the schema is missing.
        PlanError: it reads a column that the schema does not have.
    """
    if not isinstance(fn, FunctionType):
        raise Untraceable(f"a {type(fn).__name__} is not a plain function")
    if source is not None:
        result = Tracer(fn, source, Event(schema)).trace()
    else:
        reason = bytecode.why_not(fn)
        if reason is not None:
            raise Untraceable(reason)
        result = _recorded(fn, Event(schema))
    if purpose == "row":
        return _record(result)
    if isinstance(result, dict):
        raise Untraceable("a record as a value is left to Python")
    return _test(result) if purpose == "predicate" else _value(result)


def _recorded(fn: FunctionType, event: Event) -> Any:
    try:
        result = fn(EventProxy(event))
    except (Untraceable, PlanError):
        raise
    except Exception as error:
        raise Untraceable(f"{type(error).__name__} while tracing: {error}") from error
    if isinstance(result, dict):
        return {name: unwrapped(value) for name, value in result.items()}
    return unwrapped(result)


def _record(result: object) -> dict[str, pl.Expr]:
    if not isinstance(result, Mapping) or not all(isinstance(name, str) for name in result):
        raise Untraceable("it returns no record")
    if not any(isinstance(value, Value) for value in result.values()):
        raise Untraceable("a record without a field of the event is left to Python")
    return {name: _value(value) for name, value in result.items()}


def _test(result: Operand) -> pl.Expr:
    if isinstance(result, Value):
        if result.kind is Kind.UNKNOWN:
            return result.expr  # a filter takes bools only, loudly
        return truth(result).as_test
    return pl.lit(bool(result))


def _value(result: Operand) -> pl.Expr:
    if isinstance(result, Value):
        return settled(result).expr
    if type(result) is int and not INT64_MIN <= result <= INT64_MAX:
        raise Untraceable("integers beyond 64 bits are left to Python")
    if result is None or type(result) in (bool, int, float, str):
        return pl.lit(result, dtype=pl.Int64) if type(result) is int else pl.lit(result)
    raise Untraceable(f"a {type(result).__name__} as a value is left to Python")


def record_display(node: FunctionNode) -> dict[str, ast.expr] | None:
    """The fields of `{"name": …, …}`, where that is all that the function does."""
    body: ast.expr | None = node.body if isinstance(node, ast.Lambda) else None
    if isinstance(node, ast.FunctionDef):
        statements = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        if len(statements) == 1 and isinstance(statements[0], ast.Return):
            body = statements[0].value
    if not isinstance(body, ast.Dict) or not body.keys:
        return None
    fields: dict[str, ast.expr] = {}
    for key, value in zip(body.keys, body.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str) or _has_walrus(value):
            return None
        fields[key.value] = value
    return fields


def _has_walrus(node: ast.AST) -> bool:
    return any(isinstance(inner, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom) for inner in ast.walk(node))


def fields_read(source: Source) -> frozenset[str] | None:
    """The columns that a function reads, where it takes them from the event by name and nothing else; None where the
    event goes elsewhere as a whole.
    """
    node = source.node
    parameters = [*node.args.posonlyargs, *node.args.args]
    if not parameters:
        return None
    event = parameters[0].arg
    names: set[str] = set()
    taken = 0
    for inner in ast.walk(node):
        if isinstance(inner, ast.Attribute) and _is_name(inner.value, event):
            if inner.attr in _WHOLE or not isinstance(inner.ctx, ast.Load):
                return None
            names.add(inner.attr)
            taken += 1
        elif isinstance(inner, ast.Subscript) and _is_name(inner.value, event):
            if not isinstance(inner.slice, ast.Constant) or not isinstance(inner.slice.value, str):
                return None
            names.add(inner.slice.value)
            taken += 1
    every = sum(_is_name(inner, event) for inner in ast.walk(node))
    return frozenset(names) if taken == every else None


_WHOLE = frozenset({"get", "items", "keys", "values", "to_dict", "key", "timestamp"})
"""Attributes of a row that need not be columns."""


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name

"""Names that a function takes from around it: which of them are constants, provably enough to trace them.

A traced function reads a name once; Python reads it at each call. They agree only where the name is bound once and
for all: by a single statement outside of any loop (or as a parameter), that no `global`, `nonlocal`, `del` or
assignment elsewhere in the file touches, to a value that can't change. What code in another file does to a module's
global (`module.LIMIT = 5`) is not seen: a job's settings belong into its arguments.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from types import FunctionType
from typing import Any

from thalweg.expressions.source import Scope, Source
from thalweg.expressions.values import Untraceable

_SCALARS = (bool, int, float, str, bytes, datetime, date, timedelta, type(None))


def captured(name: str, function: FunctionType, source: Source) -> Any:
    """The value of a name that the function takes from around it.

    Raises:
        Untraceable: it may change, or is no constant.
    """
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    if name in cells:
        try:
            value = cells[name].cell_contents
        except ValueError:
            raise Untraceable(f"{name!r} has no value yet") from None
        scope = _owner(name, source)
        if scope is None or not bound_once(name, scope):
            raise Untraceable(f"{name!r} may change: it is bound more than once, or in a loop")
    elif name in function.__globals__:
        value = function.__globals__[name]
        module = source.scopes[0]
        if not bound_once(name, module) or _declared_global(name, module):
            raise Untraceable(f"{name!r} may change: it is bound more than once, or in a loop")
    elif hasattr(builtins, name):
        return getattr(builtins, name)
    else:
        raise Untraceable(f"{name!r} is not defined")
    if not is_constant(value):
        raise Untraceable(f"{name!r} is a {type(value).__name__}, which is no constant")
    return value


def is_constant(value: object) -> bool:
    """Whether a value can't change: exactly a number, a string, a date …, or a tuple or frozenset of those."""
    if type(value) in (tuple, frozenset):
        return all(is_constant(item) for item in value)  # type: ignore[attr-defined]
    return type(value) in _SCALARS


def _owner(name: str, source: Source) -> Scope | None:
    """The enclosing function that binds the name."""
    for scope in reversed(source.scopes[1:]):
        if not isinstance(scope, ast.ClassDef) and (_is_parameter(name, scope) or list(_bindings(name, scope))):
            return scope
    return None


def bound_once(name: str, scope: Scope) -> bool:
    """Whether the scope binds the name exactly once, at most once per run of the scope."""
    if _in_comprehension(name, scope):
        return False
    bindings = list(_bindings(name, scope))
    if _is_parameter(name, scope):
        return not bindings
    return bindings == [False]


def _is_parameter(name: str, scope: Scope) -> bool:
    if isinstance(scope, ast.Module | ast.ClassDef):
        return False
    a = scope.args
    every = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    return any(argument.arg == name for argument in every)


def _bindings(name: str, scope: Scope) -> Iterator[bool]:
    """For each statement that binds the name in this scope (not in functions inside): whether it may run again.

    A `nonlocal` inside counts as one that may.
    """
    body = [scope.body] if isinstance(scope, ast.Lambda) else list(scope.body)
    for statement in body:
        yield from _bound_in(name, statement, repeats=False)


def _bound_in(name: str, node: ast.AST, *, repeats: bool) -> Iterator[bool]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        if getattr(node, "name", None) == name:
            yield repeats
        if any(isinstance(inner, ast.Nonlocal) and name in inner.names for inner in ast.walk(node)):
            yield True
        # Default values and decorators run in this scope, and may bind with `:=`.
        yield from (
            True for part in ast.walk(node)
            if isinstance(part, ast.NamedExpr) and isinstance(part.target, ast.Name) and part.target.id == name
        )  # fmt: skip
        return
    if _binds(node, name):
        yield repeats
    loop = isinstance(node, ast.For | ast.AsyncFor | ast.While)
    for child in ast.iter_child_nodes(node):
        yield from _bound_in(name, child, repeats=repeats or loop)


def _binds(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.Name):
        return node.id == name and not isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.alias):
        return (node.asname or node.name.split(".")[0]) == name or node.name == "*"
    if isinstance(node, ast.Global | ast.Nonlocal):
        return name in node.names
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return node.name == name
    return isinstance(node, ast.MatchMapping) and node.rest == name


def _in_comprehension(name: str, scope: Scope) -> bool:
    comprehensions = (n for n in ast.walk(scope) if isinstance(n, ast.comprehension))
    return any(_binds(target, name) for c in comprehensions for target in ast.walk(c.target))


def _declared_global(name: str, module: Scope) -> bool:
    return any(isinstance(node, ast.Global) and name in node.names for node in ast.walk(module))

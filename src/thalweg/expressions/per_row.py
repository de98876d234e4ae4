"""Functions called with one row after the other: what Python does, but for `~`, nulls and integers beyond 64 bits."""

from __future__ import annotations

import ast
import copy
import dis
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import CellType, FunctionType, TracebackType
from typing import Any

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.expressions.methods import EXPRESSION_STYLE
from thalweg.expressions.rows import Row, iter_rows, plain
from thalweg.expressions.source import FunctionNode, Source, compile_node
from thalweg.expressions.values import INT64_MAX, INT64_MIN

PerRow = Callable[[Row], Any]


@dataclass(slots=True)
class RowResults:
    """What a function gave: one value per row, and the rows on which it raised (their value is None)."""

    values: list[Any]
    errors: list[tuple[int, Exception]] = field(default_factory=list)


def call_with_rows(function: PerRow, frame: pl.DataFrame, *, null_is_result: bool, truth: bool) -> RowResults:
    """Calls the function with each row.

    Where Python raises because a field is null (TypeError, AttributeError of None) or a divisor is zero, the result is
    null, as it is over columns. This holds for what the function does itself: an exception from a function that it
    calls is an error of that row, and so is any other exception.

    Args:
        function: called with a `Row`.
        frame: the rows.
        null_is_result: a null is something that the function may give; False: it should give a record, so that a null
            field which it trips over is an error as well.
        truth: only the truth of the results counts (a filter).
    """
    results = RowResults([])
    append = results.values.append
    for number, row in enumerate(iter_rows(frame)):
        try:
            value = function(row)
            append(bool(value) if truth and value is not None else _fitting(value, row))
        except Exception as error:
            append(None)
            if not (null_is_result and _stands_for_null(error, row)):
                results.errors.append((number, error))
    return results


def _stands_for_null(error: Exception, row: Row) -> bool:
    if not _raised_itself(error.__traceback__):
        return False
    if isinstance(error, ZeroDivisionError):
        return True
    return isinstance(error, TypeError | AttributeError) and "NoneType" in str(error) and _has_null(row)


def _raised_itself(trace: TracebackType | None) -> bool:
    """Whether the exception comes from the function's own code, not from a function that it called."""
    frames = []
    while trace is not None:
        frames.append(trace.tb_frame.f_code)
        trace = trace.tb_next
    return len(frames) <= 2 or (len(frames) == 3 and frames[-1] is _inverted.__code__)


def _has_null(value: object) -> bool:
    if isinstance(value, Mapping):
        return (
            any(item is None or _has_null(item) for item in vars(value).values())
            if isinstance(value, Row)
            else any(item is None or _has_null(item) for item in value.values())
        )
    return isinstance(value, list) and any(item is None or _has_null(item) for item in value)


def _fitting(value: Any, row: Row) -> Any:
    """The value as columns have it: integers beyond 64 bits are null, rows are dicts, NumPy's scalars are Python's."""
    if value is None or type(value) in (str, float, bool):
        return value
    if type(value) is int:
        fits = INT64_MIN <= value <= INT64_MAX
        return value if fits or any(value is item for item in vars(row).values()) else None  # an unsigned field
    if isinstance(value, Row):
        return value.to_dict()
    if type(value) is dict:
        return {name: _fitting(item, row) for name, item in value.items()}
    if type(value) is list:
        return [_fitting(item, row) for item in value]
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return _fitting(value.item(), row)
    return plain(value)


def python_form(function: Callable[..., Any], source: Source | None, reason: str) -> Callable[..., Any]:
    """The function as it is called per row: itself, or, where it uses `~`, the same with `~` of a bool as `not`.

    Raises:
        ConfigurationError: it needs to be traced, but can't be (`reason`): it uses methods that only expressions have,
            or `~` where its source is not at hand.
    """
    code = getattr(function, "__code__", None)
    if source is None or not isinstance(function, FunctionType):
        if code is not None and any(i.opname == "UNARY_INVERT" for i in dis.get_instructions(code)):
            raise ConfigurationError(
                f"{function.__name__} uses `~` and can't run on columns ({reason}); per row, Python's `~True` is -2, "
                "which counts as true. Write `not`, or use an expression"
            )
        return function
    refuse_expression_style(source.node, reason)
    if not _own_inverts(source.node):
        return function
    return rebuilt(function, source.node)


def refuse_expression_style(node: FunctionNode, reason: str) -> None:
    """Refuses `event.x.is_in(…)` and the like in a function that can't be traced.

    Raises:
        ConfigurationError: there is such a call.
    """
    parameters = [*node.args.posonlyargs, *node.args.args]
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in EXPRESSION_STYLE:
            root: ast.expr = call.func.value
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if root is not call.func.value and isinstance(root, ast.Name) and root.id == parameters[0].arg:
                raise ConfigurationError(
                    f"`{ast.unparse(call)}` needs columns, but the function around it can't run on them: {reason}"
                )


def _own_inverts(node: FunctionNode) -> bool:
    return any(isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.Invert) for n in ast.walk(node))


_INVERT = "__thalweg_invert"


def rebuilt(function: FunctionType, node: FunctionNode) -> FunctionType:
    """A function of this syntax tree, in place of `function`: same globals, same closure, `~` of a bool is `not`."""
    changed = _Inverts().visit(copy.deepcopy(node))
    code = compile_node(changed, function.__code__.co_filename, (*function.__code__.co_freevars, _INVERT))
    assert code is not None, "a function that compiled once compiles again"
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    cells[_INVERT] = CellType(_inverted)
    closure = tuple(cells[name] for name in code.co_freevars)
    made = FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__kwdefaults__ = function.__kwdefaults__
    return made


class _Inverts(ast.NodeTransformer):
    """`~x` as a call."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Invert):
            return node
        call = ast.Call(ast.Name(_INVERT, ast.Load()), [node.operand], [])
        return ast.fix_missing_locations(ast.copy_location(call, node))


def _inverted(value: Any) -> Any:
    return not value if isinstance(value, bool) else ~value

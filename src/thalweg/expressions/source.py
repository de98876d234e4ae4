"""The syntax tree of a function, where its source is at hand and provably the source of this very function."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import TypeAlias

FunctionNode: TypeAlias = ast.Lambda | ast.FunctionDef
Scope: TypeAlias = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Source:
    """A function's syntax tree, and the scopes that it stands in."""

    node: FunctionNode
    scopes: tuple[Scope, ...]
    """From the module to the innermost enclosing scope; comprehensions count as part of the scope around them."""

    @property
    def text(self) -> str:
        """The body in one line, for `explain()`."""
        if isinstance(self.node, ast.Lambda):
            return ast.unparse(self.node.body)
        return f"{self.node.name}({self.node.args.args[0].arg if self.node.args.args else ''})"


_parsed: dict[str, tuple[int, ast.Module]] = {}


def find_source(function: FunctionType) -> Source | None:
    """The source of a function; None where there is none, or where the file has changed since.

    Each function of the file that begins on the right line is compiled again: the one with the same bytecode at the
    same place is it, so that two lambdas on one line are told apart.
    """
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        return None
    module = _parse(code.co_filename, "".join(lines))
    if module is None:
        return None
    for node, scopes in _functions(module, (module,)):
        if _first_line(node) == code.co_firstlineno:
            again = compile_node(node, code.co_filename, code.co_freevars)
            if again is not None and _same_code(again, code):
                return Source(node, scopes)
    return None


def _parse(name: str, text: str) -> ast.Module | None:
    known = _parsed.get(name)
    if known is not None and known[0] == hash(text):
        return known[1]
    try:
        module = ast.parse(text, name)
    except (SyntaxError, ValueError):
        return None
    _parsed[name] = hash(text), module
    return module


def _functions(node: ast.AST, scopes: tuple[Scope, ...]) -> Iterator[tuple[FunctionNode, tuple[Scope, ...]]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Lambda | ast.FunctionDef):
            yield child, scopes
        inner = isinstance(child, ast.Lambda | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from _functions(child, (*scopes, child) if inner else scopes)  # type: ignore[arg-type]


def _first_line(node: FunctionNode) -> int:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def compile_node(node: FunctionNode, filename: str, free: tuple[str, ...]) -> CodeType | None:
    """Compiles a function's syntax tree alone, with the given names coming from the scope around it."""
    body: ast.stmt = node if isinstance(node, ast.FunctionDef) else ast.Expr(node)
    if isinstance(node, ast.FunctionDef) and node.decorator_list:
        body = ast.FunctionDef(**{**{f: getattr(node, f) for f in node._fields}, "decorator_list": []})
        ast.copy_location(body, node)
    arguments = ast.arguments(
        posonlyargs=[], args=[ast.arg(name) for name in free], kwonlyargs=[], kw_defaults=[], defaults=[]
    )
    outer = ast.FunctionDef("outer", arguments, [body], [])
    outer.type_params = []  # type: ignore[attr-defined]  # Python 3.12 has it
    module = ast.Module([ast.fix_missing_locations(ast.copy_location(outer, node))], [])
    try:
        code = compile(module, filename, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    wrapper = next((c for c in code.co_consts if isinstance(c, CodeType)), None)
    if wrapper is None:
        return None
    return next((c for c in wrapper.co_consts if isinstance(c, CodeType)), None)


def _same_code(a: CodeType, b: CodeType) -> bool:
    if a.co_code != b.co_code or a.co_names != b.co_names or a.co_varnames != b.co_varnames:
        return False
    if a.co_freevars != b.co_freevars or a.co_cellvars != b.co_cellvars or len(a.co_consts) != len(b.co_consts):
        return False
    for one, other in zip(a.co_consts, b.co_consts, strict=True):
        if isinstance(one, CodeType) != isinstance(other, CodeType):
            return False
        if isinstance(one, CodeType):
            if not _same_code(one, other):
                return False
        elif type(one) is not type(other) or repr(one) != repr(other):
            return False
    # The place is compared without the first instructions, which belong to no line of their own.
    return _places(a) == _places(b)


def _places(code: CodeType) -> set[tuple[int, int, int, int]]:
    first = code.co_firstlineno
    return {p for p in code.co_positions() if None not in p and (p[0], p[2]) != (first, 0)}  # type: ignore[misc]

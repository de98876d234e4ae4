"""Which functions may be traced: an allow-list over bytecode, and a rewrite of what Python would ask the truth of.

A function that runs straight through allowed operations does the same to a proxy as to an event. Anything else (jumps,
`in`, `is`, f-strings, names from outside, unknown operations of a newer Python) is not traced as it stands. Where its
source is at hand, `and`, `or`, `not`, `in`, `is None`, chained comparisons and conditional expressions are rewritten
into calls that record them, and the rewritten function is checked by the same allow-list.
"""

from __future__ import annotations

import ast
import builtins
import dis
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

from thalweg.expressions import terms
from thalweg.expressions.proxy import FieldProxy, term_of
from thalweg.expressions.terms import NotTraceable

# fmt: off
_STRAIGHT = frozenset({
    "RESUME", "NOP", "CACHE", "PRECALL", "PUSH_NULL", "COPY", "SWAP", "POP_TOP", "KW_NAMES", "EXTENDED_ARG",
    "NOT_TAKEN", "LOAD_FAST", "LOAD_FAST_CHECK", "LOAD_FAST_BORROW", "LOAD_FAST_LOAD_FAST",
    "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST",
    "LOAD_CONST", "LOAD_SMALL_INT", "LOAD_CONST_IMMORTAL", "LOAD_CONST_MORTAL", "RETURN_CONST", "RETURN_VALUE",
    "LOAD_ATTR", "LOAD_METHOD", "BINARY_OP", "BINARY_SUBSCR", "COMPARE_OP", "UNARY_NEGATIVE", "UNARY_INVERT",
    "CALL", "CALL_KW", "BUILD_MAP", "BUILD_CONST_KEY_MAP", "BUILD_TUPLE", "BUILD_LIST", "LIST_EXTEND",
    "LOAD_GLOBAL",
})
# fmt: on
_BUILTINS = frozenset({"abs", "dict"})
_IN_PLACE = "="


def why_not(code: CodeType, names: frozenset[str] = frozenset(), outer: dict[str, Any] | None = None) -> str | None:
    """Why this code may not be traced; None where it may. `names` are further globals that are known to be safe."""
    if code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return "it is a generator or a coroutine"
    for instruction in dis.get_instructions(code):
        name = instruction.opname
        if name in ("LOAD_DEREF", "COPY_FREE_VARS", "LOAD_CLOSURE"):
            return (
                f"{code.co_freevars[0] if code.co_freevars else 'a name'!r} comes from outside and can change; "
                "bind it: `lambda e, limit=limit: …`"
            )
        if name == "LOAD_GLOBAL":
            given = instruction.argval
            if given not in names and not _is_builtin(given, outer):
                return f"{given!r} comes from outside and can change; bind it: `lambda e, {given}={given}: …`"
        if name not in _STRAIGHT:
            return _REASONS.get(name, f"it does more than expressions can ({name.lower()})")
        if name == "BINARY_OP" and instruction.argrepr.endswith(_IN_PLACE):
            return "it changes a value in place"
    return None


_REASONS = {
    "CONTAINS_OP": "`in` outside of what could be rewritten",
    "IS_OP": "`is`",
    "FORMAT_VALUE": "an f-string",
    "FORMAT_SIMPLE": "an f-string",
    "BUILD_STRING": "an f-string",
    "FOR_ITER": "a loop",
    "MAKE_FUNCTION": "a function inside the function",
    "IMPORT_NAME": "an import",
}


def _is_builtin(name: str, outer: dict[str, Any] | None) -> bool:
    return name in _BUILTINS and hasattr(builtins, name) and name not in (outer or {})


# -- the rewrite


def rewritten(function: FunctionType) -> Callable[..., Any] | None:
    """The function with what asks for truth turned into recording calls; None where there is nothing to rewrite, or
    its source is not at hand (or not surely its own)."""
    node = _own_node(function)
    if node is None:
        return None
    rewriter = _Rewrite()
    body = rewriter.visit(node.body) if isinstance(node, ast.Lambda) else _single_return(node, rewriter)
    if body is None or not rewriter.changed:
        return None
    lambda_node = ast.Lambda(args=_bare(node.args), body=body)
    expression = ast.fix_missing_locations(ast.Expression(lambda_node))
    namespace = dict(_RECORDERS)
    made: FunctionType = eval(compile(expression, "<traced>", "eval"), namespace)  # the user's own source, rewritten
    made.__defaults__, made.__kwdefaults__ = function.__defaults__, function.__kwdefaults__
    return made if why_not(made.__code__, frozenset(_RECORDERS), function.__globals__) is None else None


def _own_node(function: FunctionType) -> ast.Lambda | ast.FunctionDef | None:
    """The syntax of the function, checked by compiling it again and comparing the bytecode."""
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return None
    tree = _parse(source)
    if tree is None:
        return None
    found = [n for n in ast.walk(tree) if isinstance(n, (ast.Lambda, ast.FunctionDef)) and _compiles_to(n, function)]
    return found[0] if found and all(ast.dump(n) == ast.dump(found[0]) for n in found) else None


def _parse(source: str) -> ast.AST | None:
    """`getsource` gives the lines around a lambda, which need not be a statement by themselves."""
    starts = [0] + [i for i in range(len(source)) if source.startswith("lambda", i)]
    for start in starts:
        for end in (len(source), *(len(source) - cut for cut in range(1, min(len(source) - start, 400)))):
            piece = source[start:end]
            try:
                return ast.parse(piece if start == 0 else f"({piece})")
            except SyntaxError:
                continue
    return None


def _compiles_to(node: ast.Lambda | ast.FunctionDef, function: FunctionType) -> bool:
    wanted = function.__code__
    if isinstance(node, ast.FunctionDef):
        copy = ast.FunctionDef(**{f: getattr(node, f) for f in node._fields} | {"decorator_list": [], "returns": None})
        module = ast.Module([ast.copy_location(copy, node)], [])
        made = compile(ast.fix_missing_locations(module), "<check>", "exec")
    else:
        made = compile(ast.fix_missing_locations(ast.Expression(node)), "<check>", "eval")
    inner = [c for c in made.co_consts if isinstance(c, CodeType)]
    return any(
        c.co_code == wanted.co_code and c.co_consts == wanted.co_consts and c.co_names == wanted.co_names for c in inner
    )


def _single_return(node: ast.FunctionDef, rewriter: _Rewrite) -> ast.expr | None:
    body = node.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]  # the docstring
    if len(body) == 1 and isinstance(body[0], ast.Return) and body[0].value is not None:
        result: ast.expr = rewriter.visit(body[0].value)
        return result
    return None


def _bare(arguments: ast.arguments) -> ast.arguments:
    """The parameters without annotations; the defaults' values are put in afterwards, not evaluated again."""
    nothing = ast.Constant(None)
    plain = [[ast.arg(a.arg) for a in group] for group in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs)]
    return ast.arguments(
        posonlyargs=plain[0],
        args=plain[1],
        kwonlyargs=plain[2],
        kw_defaults=[nothing if d is not None else None for d in arguments.kw_defaults],
        defaults=[nothing for _ in arguments.defaults],
    )


class _Rewrite(ast.NodeTransformer):
    changed = False

    def _call(self, name: str, *arguments: ast.expr) -> ast.Call:
        self.changed = True
        return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        values = [self.visit(value) for value in node.values]
        name = "_and" if isinstance(node.op, ast.And) else "_or"
        result: ast.expr = values[-1]
        for value in reversed(values[:-1]):
            result = self._call(name, value, result)
        return result

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        return self._call("_not", node.operand) if isinstance(node.op, ast.Not) else node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        self.generic_visit(node)
        return self._call("_if", node.test, node.body, node.orelse)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        operands = [node.left, *node.comparators]
        parts = [self._compare(op, a, b) for op, a, b in zip(node.ops, operands[:-1], operands[1:], strict=True)]
        result = parts[-1]
        for part in reversed(parts[:-1]):
            result = self._call("_and", part, result)
        return result

    def _compare(self, op: ast.cmpop, a: ast.expr, b: ast.expr) -> ast.expr:
        name = {ast.In: "_in", ast.NotIn: "_not_in", ast.Is: "_is", ast.IsNot: "_is_not"}.get(type(op))
        return self._call(name, a, b) if name else ast.Compare(a, [op], [b])


def _in(a: Any, b: Any) -> FieldProxy:
    if isinstance(b, FieldProxy):
        return FieldProxy(terms.text("contains", b._term, term_of(a)))
    if isinstance(b, (tuple, list, frozenset, set)) and isinstance(a, FieldProxy):
        return FieldProxy(terms.member(a._term, tuple(b)))
    raise NotTraceable("`in` of this kind")


def _is(a: Any, b: Any) -> FieldProxy:
    if b is not None or not isinstance(a, FieldProxy):
        raise NotTraceable("`is` of anything but None")
    return FieldProxy(terms.is_null(a._term))


_RECORDERS: dict[str, Any] = {
    "_and": lambda a, b: FieldProxy(terms.conjunction(term_of(a), term_of(b))),
    "_or": lambda a, b: FieldProxy(terms.disjunction(term_of(a), term_of(b))),
    "_not": lambda a: FieldProxy(terms.negation(term_of(a))),
    "_if": lambda c, a, b: FieldProxy(terms.choice(term_of(c), term_of(a), term_of(b))),
    "_in": _in,
    "_not_in": lambda a, b: FieldProxy(terms.negation(_in(a, b)._term)),
    "_is": _is,
    "_is_not": lambda a, b: FieldProxy(terms.negation(_is(a, b)._term)),
}

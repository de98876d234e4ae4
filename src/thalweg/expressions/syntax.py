"""Tracing by syntax tree: what each node of a function's source means over columns."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from types import FunctionType
from typing import Any, TypeAlias

import polars as pl

from thalweg.expressions.arithmetic import FOLD, Operand, absolute, arithmetic, negative
from thalweg.expressions.captured import captured, is_constant
from thalweg.expressions.comparisons import compare, is_none
from thalweg.expressions.event import EVENT, Event
from thalweg.expressions.logic import bitwise, both, choose, either, invert, negated, truth
from thalweg.expressions.methods import attribute, contains, length, member, method, part_of_text, subfield
from thalweg.expressions.source import Source
from thalweg.expressions.values import Kind, Null, Untraceable, Value

Record: TypeAlias = dict[str, Operand]

_BINARY = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^",
}  # fmt: skip
_COMPARE = {ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
_WORDS = {
    ast.JoinedStr: "an f-string", ast.ListComp: "a comprehension", ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension", ast.GeneratorExp: "a comprehension", ast.Lambda: "a function inside",
    ast.NamedExpr: ":=", ast.Await: "await", ast.Yield: "yield", ast.Starred: "*",
}  # fmt: skip


@dataclass(slots=True)
class Tracer:
    """Walks one function's syntax tree; each method gives a traced value, a constant, or the event itself."""

    function: FunctionType
    source: Source
    event: Event
    names: dict[str, Any] = field(default_factory=dict)

    def trace(self) -> Operand | Record:
        """What the function returns.

        Raises:
            Untraceable: something in it is left to Python.
        """
        self._take_parameters()
        node = self.source.node
        if isinstance(node, ast.Lambda):
            return self._result(node.body)
        return self._block(node.body)

    def _take_parameters(self) -> None:
        arguments = self.source.node.args
        parameters = [*arguments.posonlyargs, *arguments.args]
        if not parameters or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
            raise Untraceable("only functions of one event are traced")
        defaults = self.function.__defaults__ or ()
        if len(defaults) < len(parameters) - 1:
            raise Untraceable("only functions of one event are traced")
        self.names[parameters[0].arg] = EVENT
        for parameter, value in zip(parameters[::-1], defaults[::-1], strict=False):
            if parameter is not parameters[0]:
                if not is_constant(value):
                    raise Untraceable(f"the default of {parameter.arg!r} is no constant")
                self.names[parameter.arg] = value

    def _block(self, statements: list[ast.stmt]) -> Operand | Record:
        """Assignments, then a return; `if` where both ways return."""
        for position, statement in enumerate(statements):
            if isinstance(statement, ast.Return):
                if statement.value is None:
                    raise Untraceable("a return without a value is left to Python")
                return self._result(statement.value)
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                continue  # the docstring
            if isinstance(statement, ast.Pass):
                continue
            rest = statements[position + 1 :]
            if isinstance(statement, ast.If):
                return self._branches(statement, rest)
            assigned = self._assign(statement)
            if isinstance(assigned, Value) and assigned.raises:
                # Python raises here, whether the result depends on the name or not.
                return _unless_raised(self._block(rest), assigned)
        raise Untraceable("a function that may end without a return is left to Python")

    def _branches(self, statement: ast.If, rest: list[ast.stmt]) -> Operand:
        condition = self.test(statement.test)
        before = dict(self.names)
        then = self._block([*statement.body, *rest] if not _returns(statement.body) else statement.body)
        self.names = dict(before)
        otherwise = self._block([*statement.orelse, *rest])
        if isinstance(then, dict) or isinstance(otherwise, dict):
            raise Untraceable("records that depend on an if are left to Python")
        return choose(condition, then, otherwise)

    def _assign(self, statement: ast.stmt) -> Any:
        target: ast.expr | None = None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            target = statement.target
        if not isinstance(target, ast.Name):
            raise Untraceable(f"{_words(statement)} is left to Python")
        assert isinstance(statement, ast.Assign | ast.AnnAssign)
        assert statement.value is not None
        value = self.value(statement.value)
        self.names[target.id] = value
        return value

    def _result(self, node: ast.expr) -> Operand | Record:
        if isinstance(node, ast.Dict):
            return self._record(node)
        if isinstance(node, ast.Call) and self._is_builtin(node.func, dict) and not node.args:
            names: list[ast.expr | None] = [
                ast.Constant(keyword.arg) if keyword.arg else None for keyword in node.keywords
            ]
            return self._record(ast.Dict(names, [keyword.value for keyword in node.keywords]))
        return self.operand(node)

    def _record(self, node: ast.Dict) -> Record:
        record: Record = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                if self.value(value) is not EVENT:
                    raise Untraceable("** of anything but the event is left to Python")
                record |= self.event.all_fields()
            elif isinstance(key, ast.Constant) and isinstance(key.value, str):
                record[key.value] = self.operand(value)
            else:
                raise Untraceable("a record with computed names is left to Python")
        return record

    def operand(self, node: ast.expr) -> Operand:
        """A traced value or a constant, not the event as a whole."""
        result: Operand = self.value(node)
        if result is EVENT:
            raise Untraceable("the event as a whole is left to Python")
        return result

    def test(self, node: ast.expr) -> Value:
        """The truth of a condition."""
        result = self.operand(node)
        return truth(result) if isinstance(result, Value) else _constant_bool(bool(result))

    def value(self, node: ast.expr) -> Any:
        """A traced value, a constant, or `EVENT`."""
        handler = getattr(self, f"_{type(node).__name__.lower()}", None)
        if handler is None:
            raise Untraceable(f"{_words(node)} is left to Python")
        return handler(node)

    def _constant(self, node: ast.Constant) -> object:
        return node.value

    def _name(self, node: ast.Name) -> object:
        if node.id in self.names:
            return self.names[node.id]
        return captured(node.id, self.function, self.source)

    def _tuple(self, node: ast.Tuple) -> tuple[object, ...]:
        items = tuple(self.operand(item) for item in node.elts)
        if any(isinstance(item, Value) for item in items):
            raise Untraceable("a tuple of fields is left to Python")
        return items

    def _list(self, node: ast.List) -> list[object]:
        return list(self._tuple(ast.Tuple(node.elts)))

    def _set(self, node: ast.Set) -> list[object]:
        return list(self._tuple(ast.Tuple(node.elts)))

    def _attribute(self, node: ast.Attribute) -> Value:
        owner = self.value(node.value)
        if owner is EVENT:
            return self.event.attribute(node.attr)
        if isinstance(owner, Value):
            return attribute(owner, node.attr)
        raise Untraceable(f".{node.attr} of a constant is left to Python")

    def _subscript(self, node: ast.Subscript) -> Value:
        owner = self.value(node.value)
        if isinstance(node.slice, ast.Slice):
            ends = [None if end is None else self.value(end) for end in (node.slice.lower, node.slice.upper)]
            if isinstance(owner, Value) and node.slice.step is None:
                return part_of_text(owner, *ends)
            raise Untraceable("such a slice is left to Python")
        item = self.value(node.slice)
        if not isinstance(item, str):
            raise Untraceable("a computed item is left to Python")
        if owner is EVENT:
            return self.event.item(item)
        if isinstance(owner, Value):
            return subfield(owner, item)
        raise Untraceable("an item of a constant is left to Python")

    def _binop(self, node: ast.BinOp) -> Operand:
        symbol = _BINARY.get(type(node.op))
        if symbol is None:
            raise Untraceable(f"{_words(node.op)} is left to Python")
        left, right = self.operand(node.left), self.operand(node.right)
        if symbol in FOLD and not isinstance(left, Value) and not isinstance(right, Value):
            return _folded(symbol, left, right)
        return bitwise(symbol, left, right) if symbol in "&|^" else arithmetic(symbol, left, right)

    def _unaryop(self, node: ast.UnaryOp) -> Operand:
        value = self.operand(node.operand)
        if not isinstance(value, Value):
            if isinstance(node.op, ast.Not):
                return not value
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else self._refuse(node.op)
            return self._refuse(node.op)
        if isinstance(node.op, ast.Invert):
            return invert(value)
        if isinstance(node.op, ast.Not):
            return negated(value)
        return negative(value) if isinstance(node.op, ast.USub) else arithmetic("+", value, 0)

    def _refuse(self, node: ast.AST) -> Operand:
        raise Untraceable(f"{_words(node)} is left to Python")

    def _boolop(self, node: ast.BoolOp) -> Operand:
        join = both if isinstance(node.op, ast.And) else either
        operands = [self.operand(value) for value in node.values]
        values = [v if isinstance(v, Value) else self._bool_constant(v) for v in operands]
        result = values[-1]
        for value in reversed(values[:-1]):  # a and (b and c)
            result = join(value, result)
        return result

    def _bool_constant(self, value: object) -> Value:
        if not isinstance(value, bool):
            raise Untraceable("and/or of a constant is left to Python")
        return _constant_bool(value)

    def _compare(self, node: ast.Compare) -> Operand:
        operands = [self.value(value) for value in (node.left, *node.comparators)]
        pairs = zip(node.ops, operands, operands[1:], strict=False)
        results = [self._comparison(op, left, right) for op, left, right in pairs]
        result = results[-1]
        for earlier in reversed(results[:-1]):  # a < b < c: b is there once, and c counts only where a < b
            if not isinstance(earlier, Value) or not isinstance(result, Value):
                raise Untraceable("a comparison of constants is left to Python")
            result = both(earlier, result)
        return result

    def _comparison(self, op: ast.cmpop, left: Any, right: Any) -> Operand:
        if isinstance(op, ast.In | ast.NotIn):
            found = self._contained(left, right)
            return negated(found) if isinstance(op, ast.NotIn) else found
        if left is EVENT or right is EVENT:
            raise Untraceable("a comparison of the event as a whole is left to Python")
        if isinstance(op, ast.Is | ast.IsNot):
            if not isinstance(left, Value) or right is not None:
                raise Untraceable("`is` is traced for None only")
            found = is_none(left)
            return negated(found) if isinstance(op, ast.IsNot) else found
        if not isinstance(left, Value) and not isinstance(right, Value):
            raise Untraceable("a comparison of constants is left to Python")
        return compare(_COMPARE[type(op)], left, right)

    def _contained(self, item: Any, container: Any) -> Value:
        if container is EVENT or item is EVENT:
            raise Untraceable("`in` the event as a whole is left to Python")
        if isinstance(container, Value):
            return contains(container, item)
        if isinstance(item, Value) and isinstance(container, tuple | list | frozenset):
            return member(item, container)
        raise Untraceable("such an `in` is left to Python")

    def _ifexp(self, node: ast.IfExp) -> Value:
        return choose(self.test(node.test), self.operand(node.body), self.operand(node.orelse))

    def _call(self, node: ast.Call) -> Operand:
        if node.keywords:
            raise Untraceable("a call with named arguments is left to Python")
        if isinstance(node.func, ast.Attribute):
            owner = self.value(node.func.value)
            arguments = tuple(self.value(argument) for argument in node.args)
            if owner is EVENT:
                return self.event.call(node.func.attr, arguments)
            if isinstance(owner, Value) and EVENT not in arguments:
                return method(owner, node.func.attr, arguments)
            raise Untraceable(f"a call of .{node.func.attr}() is left to Python")
        for builtin, operation in ((abs, absolute), (len, length)):
            if self._is_builtin(node.func, builtin) and len(node.args) == 1:
                value = self.operand(node.args[0])
                if isinstance(value, Value):
                    return operation(value)
        raise Untraceable(f"a call of {ast.unparse(node.func)}() is left to Python")

    def _is_builtin(self, node: ast.expr, builtin: object) -> bool:
        if not isinstance(node, ast.Name) or node.id in self.names or node.id in self.function.__code__.co_freevars:
            return False
        return node.id not in self.function.__globals__ and captured(node.id, self.function, self.source) is builtin


def _constant_bool(value: bool) -> Value:
    return Value(pl.lit(value), Kind.BOOL, pl.Boolean(), Null.NEVER)


def _folded(symbol: str, left: object, right: object) -> object:
    numbers = (int, float)
    if type(left) not in numbers or type(right) not in numbers or (symbol == "**" and abs(right) > 128):  # type: ignore[arg-type]
        raise Untraceable("such arithmetic of constants is left to Python")
    try:
        result: object = FOLD[symbol](left, right)
    except ArithmeticError as error:
        raise Untraceable(f"arithmetic of constants that fails ({error}) is left to Python") from error
    return result


def _unless_raised(result: Operand | Record, earlier: Value) -> Operand | Record:
    if isinstance(result, dict):
        return {name: _guarded(value, earlier) for name, value in result.items()}
    return _guarded(result, earlier)


def _guarded(value: Operand, earlier: Value) -> Operand:
    if not isinstance(value, Value):
        raise Untraceable("a constant after an assignment that may raise is left to Python")
    fine = ~earlier.has_raised()
    null = Null.RAISED if value.null in (Null.NEVER, Null.RAISED) else Null.MIXED
    raised = earlier.has_raised() | value.has_raised() if value.raises else earlier.has_raised()
    return replace(
        value,
        expr=pl.when(fine).then(value.expr),
        test=value.as_test & fine if value.kind is Kind.BOOL else None,
        null=null,
        raised=raised if null is Null.MIXED else None,
        field=False,
    )


def _returns(statements: list[ast.stmt]) -> bool:
    return bool(statements) and isinstance(statements[-1], ast.Return)


def _words(node: ast.AST) -> str:
    return _WORDS.get(type(node), type(node).__name__.lower())

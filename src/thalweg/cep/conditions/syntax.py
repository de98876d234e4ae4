"""The grammar of textual conditions, and the tree that it gives. Parsed with Lark, imported on first use."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from thalweg.cep.conditions.errors import ConditionError
from thalweg.errors import MissingExtraError

GRAMMAR = r"""
?start: choice

?choice: either | either "?" choice ":" choice          -> choose
?either: both | either ("||" | _OR) both                -> either
?both: relation | both ("&&" | _AND) relation           -> both
?relation: sum | sum OPERATOR sum                       -> compare
    | sum IN sum                                        -> compare
    | sum _NOT IN sum                                   -> not_in
    | _NOT relation                                     -> negate
?sum: product | sum PLUS product                        -> arithmetic
?product: unary | product TIMES unary                   -> arithmetic
?unary: member | "!" unary                              -> negate
    | "-" unary                                         -> minus
?member: primary | member "." NAME                      -> field
    | member "[" choice "]"                             -> item
    | member "." NAME "(" arguments ")"                 -> method
?primary: "(" choice ")"
    | NAME "(" arguments ")"                            -> call
    | "[" arguments "]"                                 -> list
    | FLOAT                                             -> float
    | INTEGER                                           -> integer
    | TEXT                                              -> text
    | TRUE                                              -> true
    | FALSE                                             -> false
    | NULL                                              -> null
    | NAME                                              -> name
arguments: (choice ("," choice)* ","?)?

OPERATOR: "==" | "!=" | "<=" | ">=" | "<" | ">"
PLUS: "+" | "-"
TIMES: "*" | "/" | "%"
IN.2: /in\b/
TRUE.2: /true\b/
FALSE.2: /false\b/
NULL.2: /null\b/
_OR.2: /or\b/
_AND.2: /and\b/
_NOT.2: /not\b/
FLOAT: /\d+\.\d+([eE][+-]?\d+)?|\d+[eE][+-]?\d+/
INTEGER: /0x[0-9a-fA-F]+|\d+/
TEXT: /r?"(\\.|[^"\\\n])*"|r?'(\\.|[^'\\\n])*'/
NAME: /[A-Za-z_][A-Za-z_0-9]*/
COMMENT: /\/\/[^\n]*/

%ignore /[ \t\r\n]+/
%ignore COMMENT
"""

LONGEST = 20_000
"""Characters."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of a condition stands: line and column, from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Literal:
    value: bool | int | float | str | None
    place: Place


@dataclass(frozen=True, slots=True)
class Name:
    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Field:
    """`of.name`, or `of["name"]`."""

    of: Term
    name: str
    place: Place


@dataclass(frozen=True, slots=True)
class Item:
    """`of[index]`."""

    of: Term
    index: Term
    place: Place


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Term, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator or a function and what it is applied to; a method's object comes first."""

    name: str
    operands: tuple[Term, ...]
    place: Place
    is_method: bool = False


Term: TypeAlias = Literal | Name | Field | Item | ListOf | Operation


def parse(text: str) -> Term:
    """The tree of a condition.

    Raises:
        ConditionError: it can't be read, and where.
        MissingExtraError: Lark is not installed.
    """
    if len(text) > LONGEST:
        raise ConditionError(f"a condition has at most {LONGEST} characters", text[:80], 1, 1)
    parser, lark = _parser()
    try:
        tree = parser.parse(text)
        result: Term = _transformer(text).transform(tree)
    except lark.exceptions.VisitError as error:
        if isinstance(error.orig_exc, ConditionError):
            raise error.orig_exc from None
        raise _too_deep(text) from None
    except lark.exceptions.UnexpectedCharacters as error:
        reason = f"{text[error.pos_in_stream]!r} is not understood here"
        raise ConditionError(reason, text, error.line, error.column) from None
    except lark.exceptions.UnexpectedToken as error:
        if error.token.type == "$END":
            lines = text.split("\n")
            raise ConditionError("it ends too early", text, len(lines), len(lines[-1]) + 1) from None
        raise ConditionError(f"{str(error.token)!r} is not expected here", text, error.line, error.column) from None
    except RecursionError:
        raise _too_deep(text) from None
    return result


def _too_deep(text: str) -> ConditionError:
    return ConditionError("it is nested too deeply", text[:80], 1, 1)


@lru_cache(maxsize=1)
def _parser() -> tuple[Any, Any]:
    try:
        import lark
    except ImportError:
        raise MissingExtraError("textual conditions need Lark: pip install 'thalweg[rules]'") from None
    return lark.Lark(GRAMMAR, parser="lalr", propagate_positions=True, maybe_placeholders=False), lark


def _transformer(text: str) -> Any:
    """Makes terms of Lark's tree, bottom up."""
    _, lark = _parser()

    def at(meta: Any) -> Place:
        return Place(meta.line, meta.column)

    def token(piece: Any) -> Place:
        return Place(piece.line, piece.column)

    @lark.v_args(meta=True)
    class ToTerms(lark.Transformer):  # type: ignore[misc, name-defined]
        def choose(self, meta: Any, parts: Any) -> Term:
            return Operation("?:", tuple(parts), at(meta))

        def either(self, meta: Any, parts: Any) -> Term:
            return Operation("||", _flat("||", parts), at(meta))

        def both(self, meta: Any, parts: Any) -> Term:
            return Operation("&&", _flat("&&", parts), at(meta))

        def compare(self, meta: Any, parts: Any) -> Term:
            return Operation(str(parts[1]), (parts[0], parts[2]), token(parts[1]))

        arithmetic = compare

        def not_in(self, meta: Any, parts: Any) -> Term:
            inside = Operation("in", (parts[0], parts[2]), token(parts[1]))
            return Operation("!", (inside,), at(meta))

        def negate(self, meta: Any, parts: Any) -> Term:
            return Operation("!", tuple(parts), at(meta))

        def minus(self, meta: Any, parts: Any) -> Term:
            operand = parts[0]
            if isinstance(operand, Literal) and type(operand.value) in (int, float):
                return Literal(-operand.value, at(meta))  # type: ignore[operator]
            return Operation("minus", (operand,), at(meta))

        def field(self, meta: Any, parts: Any) -> Term:
            return Field(parts[0], str(parts[1]), token(parts[1]))

        def item(self, meta: Any, parts: Any) -> Term:
            of, index = parts
            if isinstance(index, Literal) and isinstance(index.value, str):
                return Field(of, index.value, index.place)
            return Item(of, index, at(meta))

        def method(self, meta: Any, parts: Any) -> Term:
            return Operation(str(parts[1]), (parts[0], *parts[2]), token(parts[1]), is_method=True)

        def call(self, meta: Any, parts: Any) -> Term:
            return Operation(str(parts[0]), tuple(parts[1]), token(parts[0]))

        def arguments(self, meta: Any, parts: Any) -> tuple[Term, ...]:
            return tuple(parts)

        def list(self, meta: Any, parts: Any) -> Term:
            return ListOf(parts[0], at(meta))

        def float(self, meta: Any, parts: Any) -> Term:
            return Literal(_float(parts[0]), token(parts[0]))

        def integer(self, meta: Any, parts: Any) -> Term:
            return Literal(int(parts[0], 0) if parts[0].startswith("0x") else int(parts[0]), token(parts[0]))

        def text(self, meta: Any, parts: Any) -> Term:
            return Literal(_unquoted(str(parts[0]), text, token(parts[0])), token(parts[0]))

        def true(self, meta: Any, parts: Any) -> Term:
            return Literal(True, token(parts[0]))

        def false(self, meta: Any, parts: Any) -> Term:
            return Literal(False, token(parts[0]))

        def null(self, meta: Any, parts: Any) -> Term:
            return Literal(None, token(parts[0]))

        def name(self, meta: Any, parts: Any) -> Term:
            return Name(str(parts[0]), token(parts[0]))

    return ToTerms()


_float = float


def _flat(operator: str, parts: Any) -> tuple[Term, ...]:
    """`a && b && c` as one operation of three."""
    found: list[Term] = []
    for part in parts:
        if isinstance(part, Operation) and part.name == operator:
            found += part.operands
        else:
            found.append(part)
    return tuple(found)


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "0": "\0"}


def _unquoted(token: str, text: str, place: Place) -> str:
    if token.startswith("r"):
        return token[2:-1]
    body, out, i = token[1:-1], [], 0
    while i < len(body):
        if body[i] != "\\":
            out.append(body[i])
            i += 1
        elif body[i + 1] in "xu":
            width = 2 if body[i + 1] == "x" else 4
            digits = body[i + 2 : i + 2 + width]
            try:
                out.append(chr(int(digits, 16)))
            except ValueError:
                reason = f"\\{body[i + 1]} needs {width} hexadecimal digits"
                raise ConditionError(reason, text, place.line, place.column) from None
            i += 2 + width
        elif body[i + 1] in _ESCAPES:
            out.append(_ESCAPES[body[i + 1]])
            i += 2
        else:
            raise ConditionError(
                f"\\{body[i + 1]} is no escape; write \\\\{body[i + 1]}, or r'…' for a raw text",
                text,
                place.line,
                place.column,
            )
    return "".join(out)

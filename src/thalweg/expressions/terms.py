"""What a traced function computes: Polars expressions that mean what the Python code means, row by row.

Each `Term` knows its expression, the kind of its values, and on which rows Python would raise because of a null operand
(TypeError) or a division by zero. Those rows give null, traced as per row. The rules, per kind:

- bool: `== != & | ^ ~`, `and or not`
- int: `+ - *` in 128 bits (results beyond Int64 are null), `/ // %` (by zero: null), comparisons
- float: `+ - * /`, comparisons; NaN compares as in Python (never equal, never ordered)
- str: comparisons (code points), `+`, `startswith`, `endswith`, `in`
- `==` and `!=` treat null as Python treats None: equal to null only

What is not here raises `NotTraceable`, and the function runs per row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl

_EXACT = 2**53
"""Up to here a float holds every integer."""


class NotTraceable(Exception):
    """The function does something that columns would not do in the same way."""


@dataclass(frozen=True, slots=True)
class Term:
    """One intermediate value.

    Attributes:
        expr: its column.
        kind: "bool", "int", "float", "str", "null", "struct"; "other" for further types; None: no schema.
        fails: never-null Boolean expressions; where one is true, Python would have raised and the result is null.
        bits: upper bound of an integer's size, sign included.
        calm: where a row fails, `expr` is null or false anyway, so that a filter need not ask.
        constant: the Python value of a literal; `...` otherwise.
        dtype: of a field, where the schema is known.
    """

    expr: pl.Expr
    kind: str | None
    fails: tuple[pl.Expr, ...] = ()
    bits: int = 64
    calm: bool = True
    constant: Any = ...
    dtype: pl.DataType | None = None

    @property
    def literal(self) -> bool:
        return self.constant is not ...

    def result(self) -> pl.Expr:
        """The column of results: null where Python would have raised."""
        expr = self.expr.cast(pl.Int64, strict=False) if self.kind == "int" and self.bits > 64 else self.expr
        if not self.fails:
            return expr
        return (
            pl.when(pl.any_horizontal(self.fails) if len(self.fails) > 1 else self.fails[0]).then(None).otherwise(expr)
        )

    def predicate(self) -> pl.Expr:
        """For a filter, where null counts as false."""
        return self.expr if self.calm else self.result()


def literal(value: Any) -> Term:
    """A constant."""
    if value is None:
        return Term(pl.lit(None), "null", constant=None)
    if isinstance(value, bool):
        return Term(pl.lit(value), "bool", constant=value)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise NotTraceable(f"{value} does not fit Int64")
        return Term(pl.lit(value, pl.Int64), "int", bits=value.bit_length() + 1, constant=value)
    if isinstance(value, float):
        return Term(pl.lit(value, pl.Float64), "float", constant=value)
    if isinstance(value, str):
        return Term(pl.lit(value, pl.String), "str", constant=value)
    raise NotTraceable(f"a constant of type {type(value).__name__}")


def field(expr: pl.Expr, dtype: pl.DataType | None) -> Term:
    """A column, or a field of a struct."""
    if dtype is None:
        return Term(expr, None)
    if dtype == pl.Boolean:
        kind = "bool"
    elif dtype.is_integer():
        kind = "int"
        expr = expr if dtype == pl.Int64 else expr.cast(pl.Int64, strict=False) if dtype != pl.UInt64 else expr
        if dtype in (pl.UInt64, pl.Int128):
            kind = "other"
    elif dtype.is_float():
        kind = "float"
        expr = expr if dtype == pl.Float64 else expr.cast(pl.Float64)
    else:
        kind = {pl.String: "str", pl.Struct: "struct"}.get(dtype.base_type(), "other")
    return Term(expr, kind, dtype=dtype)


def _null(term: Term) -> tuple[pl.Expr, ...]:
    """Where this operand is null: Python would raise TypeError."""
    return () if term.literal else (term.expr.is_null(),)


def _wide(term: Term) -> pl.Expr:
    return term.expr.cast(pl.Int128)


# -- comparisons


_ORDER: dict[str, Callable[[pl.Expr, pl.Expr], pl.Expr]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def compare(op: str, a: Term, b: Term) -> Term:
    """`a < b` and its like. Null operands fail; NaN is never ordered."""
    if "null" in (a.kind, b.kind):
        raise NotTraceable("comparing the order of None")
    a, b = _comparable(a, b)
    if a.kind not in ("int", "float", "str", None):
        raise NotTraceable(f"order of {a.kind} values")
    # On columns NaN is above everything: only the side that should be the larger one has to be looked at.
    expr = _not_nan(b if op in ("<", "<=") else a, _ORDER[op](a.expr, b.expr))
    return Term(expr, "bool", (*a.fails, *b.fails, *_null(a), *_null(b)), calm=a.calm and b.calm)


def equal(a: Term, b: Term, *, negate: bool = False) -> Term:
    """`a == b` (`!=` with `negate`): null is equal to null only, NaN to nothing. Never fails by itself."""
    if "null" in (a.kind, b.kind):
        other = b if a.kind == "null" else a
        expr = pl.lit(True) if other.kind == "null" else other.expr.is_null()
    elif a.kind and b.kind and not _same_family(a, b):
        expr = pl.lit(False)  # in Python values of other types are just unequal
    else:
        a, b = _comparable(a, b)
        if a.kind == "other" or b.kind == "other":
            raise NotTraceable(f"equality of {a.dtype or b.dtype} values")
        expr = a.expr.eq_missing(b.expr)
        for term in (a, b):
            expr = _not_nan(term, expr)
    calm = a.calm and b.calm and not a.fails and not b.fails
    return Term(~expr if negate else expr, "bool", (*a.fails, *b.fails), calm=calm)


def _same_family(a: Term, b: Term) -> bool:
    numbers = {"int", "float"}
    return a.kind == b.kind or {a.kind, b.kind} <= numbers or "other" in (a.kind, b.kind)


def _not_nan(term: Term, expr: pl.Expr) -> pl.Expr:
    if term.kind != "float":
        return expr
    if term.literal:
        return expr & pl.lit(not math.isnan(term.constant)) if math.isnan(term.constant) else expr
    return expr & term.expr.is_not_nan().fill_null(True)


def _comparable(a: Term, b: Term) -> tuple[Term, Term]:
    """Operands of one type, so that nothing is rounded on the way."""
    if {a.kind, b.kind} == {"bool", "int"} or {a.kind, b.kind} == {"bool", "float"}:
        raise NotTraceable("comparing truth values with numbers")
    if {a.kind, b.kind} == {"int", "float"}:
        return _exact_numbers(a, b)
    if a.kind and b.kind and a.kind != b.kind:
        raise NotTraceable(f"comparing {a.kind} with {b.kind}")
    if a.kind == b.kind == "int" and a.bits != b.bits and max(a.bits, b.bits) > 64:
        return _with(a, _wide(a)), _with(b, _wide(b))
    return a, b


def _exact_numbers(a: Term, b: Term) -> tuple[Term, Term]:
    """int with float: exact where one is a constant that both types hold."""
    whole, real = (a, b) if a.kind == "int" else (b, a)
    if real.literal and math.isfinite(real.constant) and abs(real.constant) <= _EXACT:
        if real.constant == int(real.constant):
            new = literal(int(real.constant))
            return (a, new) if whole is a else (new, b)
        cast = Term(whole.expr.cast(pl.Float64), "float", whole.fails, calm=whole.calm)
        return (cast, b) if whole is a else (a, cast)
    if whole.literal and abs(whole.constant) <= _EXACT:
        new = literal(float(whole.constant))
        return (new, b) if whole is a else (a, new)
    raise NotTraceable("comparing an integer with a float column: Python compares exactly, columns round")


def _with(term: Term, expr: pl.Expr) -> Term:
    return Term(expr, term.kind, term.fails, term.bits, term.calm, term.constant, term.dtype)


# -- arithmetic


def arithmetic(op: str, a: Term, b: Term) -> Term:
    """`+ - * / // %`. Null operands and division by zero fail."""
    fails = (*a.fails, *b.fails, *_null(a), *_null(b))
    if a.kind is None or b.kind is None:
        raise NotTraceable(f"`{op}` on fields of unknown type: give the stream a schema")
    if a.kind == b.kind == "str" and op == "+":
        return Term(pl.concat_str(a.expr, b.expr), "str", fails, calm=False)
    if not {a.kind, b.kind} <= {"int", "float"}:
        raise NotTraceable(f"`{op}` on {a.kind} and {b.kind}")
    if op in ("/", "//", "%"):
        fails = (*fails, (b.expr == 0).fill_null(False))
    if op == "/":
        return _divide(a, b, fails)
    if "float" in (a.kind, b.kind):
        return _floats(op, a, b, fails)
    return _integers(op, a, b, fails)


def _divide(a: Term, b: Term, fails: tuple[pl.Expr, ...]) -> Term:
    if max(a.bits, b.bits) > 64:
        raise NotTraceable("dividing integers that may be beyond Int64")
    return Term(a.expr.cast(pl.Float64) / b.expr.cast(pl.Float64), "float", fails, calm=False)


def _floats(op: str, a: Term, b: Term, fails: tuple[pl.Expr, ...]) -> Term:
    if op in ("//", "%"):
        raise NotTraceable(f"`{op}` on floats: Python and columns round differently")
    if max(a.bits, b.bits) > 64:
        raise NotTraceable("mixing floats with integers that may be beyond Int64")
    left, right = a.expr.cast(pl.Float64), b.expr.cast(pl.Float64)
    expr = {"+": left + right, "-": left - right, "*": left * right}[op]
    return Term(expr, "float", fails, calm=False)


def _integers(op: str, a: Term, b: Term, fails: tuple[pl.Expr, ...]) -> Term:
    bits = {"+": max(a.bits, b.bits) + 1, "-": max(a.bits, b.bits) + 1, "*": a.bits + b.bits}.get(
        op, max(a.bits, b.bits) + 1
    )
    if bits > 128:
        raise NotTraceable("integers that may not fit 128 bits on the way")
    left, right = _wide(a), _wide(b)
    if op in ("//", "%"):
        safe = pl.when(right == 0).then(1).otherwise(right)
        expr = left // safe if op == "//" else left % safe
    else:
        expr = {"+": left + right, "-": left - right, "*": left * right}[op]
    return Term(expr, "int", fails, bits=max(bits, 65), calm=False)


def negative(a: Term) -> Term:
    """`-a`."""
    if a.kind == "int":
        return Term(pl.lit(0, pl.Int128) - _wide(a), "int", (*a.fails, *_null(a)), bits=max(a.bits + 1, 65), calm=False)
    if a.kind == "float":
        return Term(-a.expr, "float", (*a.fails, *_null(a)), calm=False)
    raise NotTraceable(f"negation of {a.kind or 'a field of unknown type'}")


def absolute(a: Term) -> Term:
    """`abs(a)`."""
    if a.kind == "int":
        return Term(_wide(a).abs(), "int", (*a.fails, *_null(a)), bits=max(a.bits + 1, 65), calm=False)
    if a.kind == "float":
        return Term(a.expr.abs(), "float", (*a.fails, *_null(a)), calm=False)
    raise NotTraceable(f"abs() of {a.kind or 'a field of unknown type'}")


# -- truth


def _truth(a: Term, what: str) -> None:
    if a.kind not in ("bool", None):
        raise NotTraceable(f"`{what}` on {a.kind} values")


def bitwise(op: str, a: Term, b: Term) -> Term:
    """`a & b`, `a | b`, `a ^ b` of truth values: both sides are evaluated, a null one fails."""
    _truth(a, op)
    _truth(b, op)
    expr = {"&": a.expr & b.expr, "|": a.expr | b.expr, "^": a.expr ^ b.expr}[op]
    fails = (*a.fails, *b.fails, *_null_truth(a), *_null_truth(b))
    # null & x is null or false: a filter drops it either way; null | true is not.
    return Term(expr, "bool", fails, calm=op == "&" and a.calm and b.calm)


def _null_truth(term: Term) -> tuple[pl.Expr, ...]:
    """A comparison is null only where it has failed already; a field may be null by itself."""
    return () if term.literal or term.fails else (term.expr.is_null(),)


def invert(a: Term) -> Term:
    """`~a` of a truth value: not. (On Python's own bools it would be -1 or -2; see `compiled`.)"""
    _truth(a, "~")
    return Term(~a.expr, "bool", (*a.fails, *_null_truth(a)), calm=not a.fails)


def negation(a: Term) -> Term:
    """`not a`: null counts as false, so the result is true."""
    _known_truth(a, "not")
    return Term(~a.expr.fill_null(False), "bool", a.fails, calm=not a.fails)


def conjunction(a: Term, b: Term) -> Term:
    """`a and b`: b counts only where a is true, failures included."""
    _known_truth(a, "and")
    _known_truth(b, "and")
    holds = a.expr.fill_null(False)
    expr = pl.when(holds).then(b.expr).otherwise(a.expr)
    return Term(expr, "bool", (*a.fails, *(holds & f for f in b.fails)), calm=a.calm and b.calm)


def disjunction(a: Term, b: Term) -> Term:
    """`a or b`: b counts only where a is not true, failures included."""
    _known_truth(a, "or")
    _known_truth(b, "or")
    holds = a.expr.fill_null(False)
    expr = pl.when(holds).then(a.expr).otherwise(b.expr)
    return Term(expr, "bool", (*a.fails, *(~holds & f for f in b.fails)), calm=not a.fails and not b.fails)


def choice(condition: Term, a: Term, b: Term) -> Term:
    """`a if condition else b`."""
    _known_truth(condition, "if")
    if a.kind != b.kind or a.kind in ("other", "struct", "null"):
        raise NotTraceable(f"a conditional expression of {a.kind} and {b.kind}")
    holds = condition.expr.fill_null(False)
    left, right = (_wide(a), _wide(b)) if a.kind == "int" else (a.expr, b.expr)
    fails = (*condition.fails, *(holds & f for f in a.fails), *(~holds & f for f in b.fails))
    bits = max(a.bits, b.bits, 65) if a.kind == "int" else 64
    return Term(pl.when(holds).then(left).otherwise(right), a.kind, fails, bits=bits, calm=False)


def _known_truth(a: Term, what: str) -> None:
    if a.kind != "bool":
        raise NotTraceable(f"`{what}` on {a.kind or 'a field of unknown type'}: Python asks for its truth")


# -- texts and sets


def text(method: str, a: Term, argument: Term) -> Term:
    """`a.startswith(x)`, `a.endswith(x)`, `x in a`."""
    if a.kind not in ("str", None) or argument.kind != "str":
        raise NotTraceable(f"{method} on {a.kind} and {argument.kind}")
    strings = a.expr.str
    expr = {
        "startswith": lambda: strings.starts_with(argument.expr),
        "endswith": lambda: strings.ends_with(argument.expr),
        "contains": lambda: strings.contains(argument.expr, literal=True),
    }[method]()
    return Term(expr, "bool", (*a.fails, *argument.fails, *_null(a), *_null(argument)), calm=a.calm and argument.calm)


def member(a: Term, values: tuple[Any, ...]) -> Term:
    """`a in (1, 2, 3)` of constants."""
    terms = [equal(a, literal(value)) for value in values]
    if not terms:
        return Term(pl.lit(False), "bool", a.fails, calm=not a.fails)
    return Term(pl.any_horizontal([t.expr for t in terms]), "bool", a.fails, calm=not a.fails)


def is_null(a: Term, *, negate: bool = False) -> Term:
    """`a is None`."""
    return equal(a, literal(None), negate=negate)

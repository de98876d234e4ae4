"""Writes an expression as a textual condition, where it has one."""

from __future__ import annotations

import json
import warnings
from typing import Any

import polars as pl

from thalweg.cep.pattern import takes_match
from thalweg.errors import ConfigurationError
from thalweg.expressions import compile_function

_OPERATORS = {
    "Eq": "==", "EqValidity": "==", "NotEq": "!=", "NotEqValidity": "!=", "Lt": "<", "LtEq": "<=", "Gt": ">",
    "GtEq": ">=", "And": "&&", "LogicalAnd": "&&", "Or": "||", "LogicalOr": "||", "Plus": "+", "Minus": "-",
    "Multiply": "*", "TrueDivide": "/", "Modulus": "%",
}  # fmt: skip
_CLOSED = {"Both": (">=", "<="), "Left": (">=", "<"), "Right": (">", "<="), "None": (">", "<")}
_METHODS = {"StartsWith": "startsWith", "EndsWith": "endsWith"}


def condition_text(condition: Any) -> str:
    """The text of an expression, or of a lambda that is traced into one.

    Raises:
        ConfigurationError: it is a Python function, or uses what textual conditions lack.
    """
    if takes_match(condition):
        raise ConfigurationError("it is a Python function of the event and the match; write it as text")
    compiled = compile_function(condition, purpose="predicate", schema=None)
    if not isinstance(compiled.exprs, pl.Expr):
        raise ConfigurationError(f"it runs per row ({compiled.reason})")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the form is not promised to stay; a test notices when it changes
        tree = json.loads(compiled.exprs.meta.serialize(format="json"))
    return _text(tree, exact=False)


def _text(tree: Any, *, exact: bool) -> str:
    """The text of a part. `exact`: null stays null, for something negates it; else it may be false.

    A textual `==` or `!=` is never null, that of an expression is where a side is.
    """
    match tree:
        case {"Column": name} if name.isidentifier():
            return str(name)
        case {"Literal": {"Scalar": scalar}}:
            return _scalar(scalar)
        case {"BinaryExpr": {"left": left, "op": "LtEq", "right": {"Literal": {"Dyn": {"Float": None}}}}}:
            return f"({_text(left, exact=True)} <= 1e999)"  # how tracing leaves NaN out: JSON has no infinity
        case {"Literal": {"Dyn": {"Int": int() as value}}} | {"Literal": {"Dyn": {"Float": float() as value}}}:
            return repr(value)
        case {"BinaryExpr": {"left": left, "op": "Eq" | "NotEq" as op, "right": right}}:
            return _equality(_text(left, exact=True), _OPERATORS[op], _text(right, exact=True), exact=exact)
        case {"BinaryExpr": {"left": left, "op": op, "right": right}} if op in _OPERATORS:
            inner = exact or op not in ("And", "LogicalAnd", "Or", "LogicalOr")
            return f"({_text(left, exact=inner)} {_OPERATORS[op]} {_text(right, exact=inner)})"
        case {"Function": {"input": inputs, "function": function}}:
            return _function(function, inputs, exact=exact)
    raise ConfigurationError(f"textual conditions have no {_name(tree)}")


def _equality(left: str, sign: str, right: str, *, exact: bool) -> str:
    unknown = [f"{side} == null" for side in (left, right) if not _is_constant(side)]
    if exact and unknown:
        return f"({' || '.join(unknown)} ? null : {left} {sign} {right})"
    known = "".join(f" && {side.replace('==', '!=')}" for side in unknown) if sign == "!=" or len(unknown) > 1 else ""
    return f"({left} {sign} {right}{known})"


def _is_constant(text: str) -> bool:
    return text[0] in '"-0123456789' or text in ("true", "false")


def _function(function: Any, inputs: list[Any], *, exact: bool) -> str:
    match function:
        case {"Boolean": "Not"}:
            return f"!{_text(inputs[0], exact=True)}"
        case "FillNull":
            match inputs[1]:
                case {"Literal": {"Scalar": {"Boolean": False}}}:
                    return f"({_text(inputs[0], exact=True)} == true)" if exact else _text(inputs[0], exact=False)
                case {"Literal": {"Scalar": {"Boolean": True}}}:
                    return f"({_text(inputs[0], exact=True)} != false)"
            raise ConfigurationError("textual conditions have no FillNull with a value")
        case {"Boolean": "AnyHorizontal" | "AllHorizontal" as kind}:
            sign = " || " if kind == "AnyHorizontal" else " && "
            return f"({sign.join(_text(part, exact=exact) for part in inputs)})"
        case {"Boolean": "IsNull"}:
            return f"({_text(inputs[0], exact=True)} == null)"
        case {"Boolean": "IsNotNull"}:
            return f"({_text(inputs[0], exact=True)} != null)"
        case {"Boolean": {"IsBetween": {"closed": closed}}}:
            value, low, high = (_text(part, exact=True) for part in inputs)
            above, below = _CLOSED[closed]
            return f"({value} {above} {low} && {value} {below} {high})"
        case {"StringExpr": {"Contains": {"literal": literal}}}:
            method = "contains" if literal else "matches"
            return f"{_text(inputs[0], exact=True)}.{method}({_text(inputs[1], exact=True)})"
        case {"StringExpr": name} if name in _METHODS:
            return f"{_text(inputs[0], exact=True)}.{_METHODS[name]}({_text(inputs[1], exact=True)})"
        case {"StructExpr": {"FieldByName": field}}:
            return f"{_text(inputs[0], exact=True)}.{field}"
    raise ConfigurationError(f"textual conditions have no {_name(function)}")


def _scalar(scalar: Any) -> str:
    match scalar:
        case {"String": value}:
            return json.dumps(value)
        case {"Boolean": value}:
            return "true" if value else "false"
        case "Null":
            return "null"
        case dict() if len(scalar) == 1:
            value = next(iter(scalar.values()))
            if isinstance(value, int | float) and not isinstance(value, bool):
                return repr(value)
    raise ConfigurationError(f"textual conditions have no constant of the type {_name(scalar)}")


def _name(tree: Any) -> str:
    while isinstance(tree, dict) and len(tree) == 1:
        key, inner = next(iter(tree.items()))
        if not isinstance(inner, dict | str):
            return str(key)
        tree = inner if isinstance(inner, str) or len(inner) == 1 else key
    return str(tree)[:60]

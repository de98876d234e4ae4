"""From the tree of a condition to an expression over columns, with types where the events' are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import polars as pl

from thalweg.cep.conditions import functions
from thalweg.cep.conditions.errors import ConditionError
from thalweg.cep.conditions.kinds import Kind, kind_of
from thalweg.cep.conditions.syntax import Field, Item, ListOf, Literal, Name, Operation, Place, Term
from thalweg.expressions.reserved import is_reserved
from thalweg.streams.plan.functions import close_names


@dataclass(frozen=True, slots=True)
class Value:
    """A part of a condition as an expression. `dtype` None: not known; `constant` where it is one."""

    expr: pl.Expr
    dtype: pl.DataType | None
    place: Place
    constant: bool = False
    literal: Any = None

    @property
    def kind(self) -> Kind:
        return kind_of(self.dtype)


class Compiler:
    """Compiles the terms of one condition.

    Args:
        text: the condition, for errors.
        schema: the events' columns; None: not known, so that types are not checked.
    """

    def __init__(self, text: str, schema: pl.Schema | None) -> None:
        self.text = text
        self.schema = schema

    def error(self, reason: str, place: Place) -> ConditionError:
        """An error at a place of this condition."""
        return ConditionError(reason, self.text, place.line, place.column)

    def predicate(self, term: Term) -> pl.Expr:
        """The expression of a whole condition."""
        value = self.value(term)
        self.need(value, Kind.BOOL, "a condition")
        return value.expr

    def need(self, value: Value, kind: Kind, what: str) -> None:
        """Refuses a value of another kind than `kind`."""
        if value.kind not in (kind, Kind.UNKNOWN, Kind.NULL):
            raise self.error(f"{what} has to be {kind}, this is {value.kind}", value.place)

    def value(self, term: Term) -> Value:
        """Any term."""
        match term:
            case Literal(value, place):
                return _literal(value, place)
            case Name(name, place):
                return self._column(name, place)
            case Field(of, name, place):
                return self._field(self.value(of), name, place)
            case Item(of, index, place):
                return self._item(self.value(of), self.value(index), place)
            case ListOf(_, place):
                raise self.error("a list stands only after `in`", place)
            case Operation():
                return self._operation(term)
        raise AssertionError(term)

    # -- columns

    def _column(self, name: str, place: Place) -> Value:
        if is_reserved(name):
            raise self.error(f"{name!r} is the engine's own", place)
        if self.schema is None:
            return Value(pl.col(name), None, place)
        if name not in self.schema:
            raise self.error(f"the events have no column {name!r}{close_names(name, self.schema)}", place)
        dtype = self.schema[name]
        if dtype == pl.Null:  # a column that has held nothing so far: its type is still open
            return nothing(place)
        return Value(pl.col(name), dtype, place)

    def _field(self, of: Value, name: str, place: Place) -> Value:
        if of.kind is Kind.NULL:
            return nothing(place)
        if of.dtype is None:
            return Value(of.expr.struct.field(name), None, place)
        if not isinstance(of.dtype, pl.Struct):
            raise self.error(f"only a record has fields, this is {of.kind}", of.place)
        fields = {field.name: field.dtype for field in of.dtype.fields}
        if name not in fields:
            raise self.error(f"there is no field {name!r}{close_names(name, fields)}", place)
        dtype = fields[name]
        return Value(of.expr.struct.field(name), dtype() if isinstance(dtype, type) else dtype, place)

    def _item(self, of: Value, index: Value, place: Place) -> Value:
        self.need(of, Kind.LIST, "what has items")
        self.need(index, Kind.NUMBER, "an index")
        if of.kind is Kind.NULL:
            return nothing(place)
        return Value(of.expr.list.get(index.expr, null_on_oob=True), _inner(of.dtype), place)

    # -- operators and functions

    def _operation(self, term: Operation) -> Value:
        name, operands, place = term.name, term.operands, term.place
        if term.is_method or (name.isidentifier() and name not in ("in", "minus")):
            return self._function(term)
        if name in ("&&", "||"):
            return self._connect(name, operands, place)
        if name == "in":
            return self._member(operands[0], operands[1], place)
        values = [self.value(operand) for operand in operands]
        if name == "!":
            self.need(values[0], Kind.BOOL, "what `!` negates")
            return Value(~values[0].expr, pl.Boolean(), place)
        if name == "?:":
            return self._choose(values, place)
        if name == "minus":
            self.need(values[0], Kind.NUMBER, "what `-` negates")
            return Value(-values[0].expr, values[0].dtype, place)
        if name in _COMPARED:
            return self._compare(name, values[0], values[1], place)
        return self._arithmetic(name, values[0], values[1], place)

    def _connect(self, name: str, operands: Sequence[Term], place: Place) -> Value:
        values = [self.value(operand) for operand in operands]
        for value in values:
            self.need(value, Kind.BOOL, f"each side of `{name}`")
        expressions = [value.expr for value in values]
        joined = reduce(lambda a, b: a & b, expressions) if name == "&&" else reduce(lambda a, b: a | b, expressions)
        return Value(joined, pl.Boolean(), place)

    def _choose(self, values: Sequence[Value], place: Place) -> Value:
        condition, yes, no = values
        self.need(condition, Kind.BOOL, "what stands before `?`")
        if Kind.UNKNOWN not in (yes.kind, no.kind) and Kind.NULL not in (yes.kind, no.kind) and yes.kind != no.kind:
            raise self.error(f"one choice is {yes.kind}, the other {no.kind}", place)
        dtype = no.dtype if yes.kind is Kind.NULL else yes.dtype
        return Value(pl.when(condition.expr).then(yes.expr).otherwise(no.expr), dtype, place)

    def _member(self, item: Term, container: Term, place: Place) -> Value:
        left = self.value(item)
        if isinstance(container, ListOf):
            items = [self.value(part) for part in container.items]
            for part in items:
                if not part.constant:
                    raise self.error("a list after `in` holds constants only", part.place)
                self._comparable("in", left, part, part.place)
            found = left.expr.is_in([p.literal for p in items if p.literal is not None], nulls_equal=False)
            result = found.fill_null(False)
            if any(p.literal is None for p in items):
                result = result | left.expr.is_null()
            return Value(result if items else pl.lit(False) & left.expr.is_null(), pl.Boolean(), place)
        right = self.value(container)
        if right.kind is Kind.TEXT:
            raise self.error("`in` looks into lists; for a part of a text write text.contains(part)", place)
        self.need(right, Kind.LIST, "what stands after `in`")
        if right.kind is Kind.NULL:
            return Value(pl.lit(None, pl.Boolean), pl.Boolean(), place)
        return Value(right.expr.list.contains(left.expr), pl.Boolean(), place)

    def _compare(self, name: str, left: Value, right: Value, place: Place) -> Value:
        if name in ("==", "!="):
            if Kind.NULL in (left.kind, right.kind):
                other = right if left.kind is Kind.NULL else left
                result = other.expr.is_null() if name == "==" else other.expr.is_not_null()
                return Value(result, pl.Boolean(), place)
            left, right = self._times(left, right)
            self._comparable(name, left, right, place)
            equal = left.expr.eq_missing(right.expr) if name == "==" else left.expr.ne_missing(right.expr)
            return Value(equal, pl.Boolean(), place)
        left, right = self._times(left, right)
        self._comparable(name, left, right, place)
        for value in (left, right):
            if value.kind in (Kind.BOOL, Kind.LIST, Kind.RECORD) or (value.kind is Kind.NULL and value.constant):
                raise self.error(f"{value.kind} has no order", value.place)
        if Kind.NULL in (left.kind, right.kind):
            return Value(pl.lit(None, pl.Boolean), pl.Boolean(), place)
        return Value(getattr(left.expr, _COMPARED[name])(right.expr), pl.Boolean(), place)

    def _times(self, left: Value, right: Value) -> tuple[Value, Value]:
        """A text that is compared with a time is read as one."""
        if left.kind is Kind.TIME and right.constant and right.kind is Kind.TEXT:
            right = functions.timestamp_of(self, right)
        if right.kind is Kind.TIME and left.constant and left.kind is Kind.TEXT:
            left = functions.timestamp_of(self, left)
        if left.kind is Kind.TIME and right.kind is Kind.TIME:
            return _utc(left), _utc(right)
        return left, right

    def _comparable(self, name: str, left: Value, right: Value, place: Place) -> None:
        free = (Kind.UNKNOWN, Kind.NULL, Kind.OTHER)
        if left.kind != right.kind and left.kind not in free and right.kind not in free:
            raise self.error(f"`{name}` compares {left.kind} with {right.kind}", place)

    def _arithmetic(self, name: str, left: Value, right: Value, place: Place) -> Value:
        if name == "+" and Kind.TEXT in (left.kind, right.kind):
            self.need(left, Kind.TEXT, "what is joined to a text")
            self.need(right, Kind.TEXT, "what is joined to a text")
            return Value(pl.concat_str([left.expr, right.expr]), pl.String(), place)
        for value in (left, right):
            self.need(value, Kind.NUMBER, f"each side of `{name}`")
        if name in ("/", "%"):
            divisor = pl.when(right.expr == 0).then(None).otherwise(right.expr)
            quotient = left.expr / divisor if name == "/" else left.expr % divisor
            dtype = pl.Float64() if name == "/" else left.dtype
            return Value(quotient, dtype, place)
        return Value(getattr(left.expr, _ARITHMETIC[name])(right.expr), _wider(left.dtype, right.dtype), place)

    def _function(self, term: Operation) -> Value:
        known = functions.METHODS if term.is_method else functions.FUNCTIONS
        function = known.get(term.name)
        if function is None:
            what = "method" if term.is_method else "function"
            raise self.error(f"there is no {what} {term.name}(){close_names(term.name, known)}", term.place)
        minimum, maximum, make = function
        given = len(term.operands) - (1 if term.is_method else 0)
        if not minimum <= given <= maximum:
            wanted = str(minimum) if minimum == maximum else f"{minimum} to {maximum}"
            raise self.error(f"{term.name}() takes {wanted} arguments, not {given}", term.place)
        made: Value = make(self, [self.value(operand) for operand in term.operands], term.place)
        return made


_COMPARED = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_ARITHMETIC = {"+": "add", "-": "sub", "*": "mul"}


def nothing(place: Place) -> Value:
    """A part that is null in every event."""
    return Value(pl.lit(None), pl.Null(), place)


def _literal(value: bool | int | float | str | None, place: Place) -> Value:
    types: dict[type, pl.DataType] = {bool: pl.Boolean(), int: pl.Int64(), float: pl.Float64(), str: pl.String()}
    dtype = types.get(type(value), pl.Null())
    return Value(pl.lit(value), dtype, place, constant=True, literal=value)


def _utc(value: Value) -> Value:
    """A time with the zone UTC, which is what times without one are in."""
    zone = value.dtype.time_zone if isinstance(value.dtype, pl.Datetime) else None
    if zone is not None:
        return value if zone == "UTC" else replace(value, expr=value.expr.dt.convert_time_zone("UTC"))
    return replace(value, expr=value.expr.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"))


def _inner(dtype: pl.DataType | None) -> pl.DataType | None:
    if not isinstance(dtype, pl.List | pl.Array):
        return None
    inner = dtype.inner
    return inner() if isinstance(inner, type) else inner


def _wider(left: pl.DataType | None, right: pl.DataType | None) -> pl.DataType | None:
    if left is None or right is None:
        return None
    return pl.Float64() if left.is_float() or right.is_float() else pl.Int64()

"""Conditions and measures that look at the match: `price > LAST(up.price)`, `SUM(buy.amount) / COUNT(buy)`.

Terms are those of textual conditions; FIRST, LAST, SUM, AVG, MIN, MAX take `step.field`, COUNT takes a step. Null is
treated as in a condition on the event alone: comparing with it is null, a null condition is false.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from functools import reduce
from typing import Any

import polars as pl

from thalweg.cep.conditions import Condition, ConditionError
from thalweg.cep.conditions.syntax import Field, Item, ListOf, Literal, Name, Operation, Place, Term, parse
from thalweg.cep.measures import MatchTerms
from thalweg.cep.partial import PartialMatch

AGGREGATES = ("FIRST", "LAST", "COUNT", "SUM", "AVG", "MIN", "MAX")


class MatchCondition:
    """A condition on the event and the partial match, as text; the event under test is not among a step's events.

    Attributes:
        plain: the parts, joined by `&&`, that look at the event alone: they are asked as columns, and only events that
            meet them are asked the rest. None: there are none.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        parts = _conjuncts(parse(text))
        asking = [part for part in parts if _asks(part)]
        plain = [part for part in parts if not _asks(part)]
        compiler = _Compiler(text)
        self._asking = [compiler.value(part) for part in asking]
        self._plain = [compiler.value(part) for part in plain]
        self.plain = Condition.of_tree(text, _joined(plain)) if plain else None

    def __call__(self, event: Any, match: PartialMatch) -> bool:
        return all(value(event, match) is True for value in self._plain) and self.rest(event, match)

    def rest(self, event: Any, match: PartialMatch) -> bool:
        """The condition, of an event that meets `plain`."""
        return all(value(event, match) is True for value in self._asking)

    def __repr__(self) -> str:
        return f"MatchCondition({self.text!r})"


class Measure:
    """A measure as text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = parse(text)

    def __call__(self, match: MatchTerms) -> pl.Expr:
        return _measure(self._tree, match, self.text)

    def __repr__(self) -> str:
        return f"Measure({self.text!r})"


def condition_of(text: str) -> Condition | MatchCondition:
    """A condition, of the kind that its text asks for."""
    return MatchCondition(text) if _asks(parse(text)) else Condition(text)


def measure_of(text: str, steps: tuple[str, ...]) -> Measure:
    """A measure; one that names an unknown step is refused at once."""
    measure = Measure(text)
    measure(MatchTerms(steps))
    return measure


def _asks(term: Term) -> bool:
    """Whether it looks at the partial match."""
    return any(isinstance(part, Operation) and part.name in AGGREGATES for part in _terms(term))


def _conjuncts(term: Term) -> list[Term]:
    """What all has to hold for the term to hold."""
    if isinstance(term, Operation) and term.name == "&&":
        return [part for operand in term.operands for part in _conjuncts(operand)]
    return [term]


def _joined(terms: list[Term]) -> Term:
    return reduce(lambda one, other: Operation("&&", (one, other), other.place), terms)


def _terms(term: Term) -> Iterator[Term]:
    yield term
    inner: tuple[Term, ...] = ()
    if isinstance(term, Operation):
        inner = term.operands
    elif isinstance(term, ListOf):
        inner = term.items
    elif isinstance(term, Field):
        inner = (term.of,)
    elif isinstance(term, Item):
        inner = (term.of, term.index)
    for part in inner:
        yield from _terms(part)


def _aggregate(term: Operation, text: str) -> tuple[str, str | None]:
    """The step and the field that an aggregate is of."""
    wanted = "a step" if term.name == "COUNT" else "step.field"
    if len(term.operands) == 1:
        match term.operands[0]:
            case Name(step, _) if term.name == "COUNT":
                return step, None
            case Field(Name(step, _), field, _) if term.name != "COUNT":
                return step, field
    raise ConditionError(f"{term.name}(…) takes {wanted}", text, term.place.line, term.place.column)


Value = Callable[[Any, PartialMatch], Any]
_COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_COMPUTE: dict[str, Callable[[Any, Any], Any]] = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_EXPRESSIONS: dict[str, Callable[[Any, Any], Any]] = {
    **_COMPARE, **_COMPUTE, "/": operator.truediv, "%": operator.mod, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


class _Compiler:
    """Makes functions of the event and the partial match."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _error(self, reason: str, place: Place) -> ConditionError:
        return ConditionError(reason, self.text, place.line, place.column)

    def value(self, term: Term) -> Value:
        match term:
            case Literal(constant, _):
                return lambda e, m: constant
            case Name(name, _):
                return lambda e, m: e[name]
            case Field(of, name, _):
                inner = self.value(of)
                return lambda e, m: None if (record := inner(e, m)) is None else record[name]
            case Operation():
                return self._operation(term)
        raise self._error("this can't be part of a condition on the match", term.place)

    def _operation(self, term: Operation) -> Value:
        if term.name in AGGREGATES and not term.is_method:
            return self._of_match(term)
        if term.name == "in":
            return self._member(term)
        operands = [self.value(operand) for operand in term.operands]
        if term.name in ("&&", "||"):
            return _connected(operands, decisive=term.name == "||")
        if term.name == "!":
            return _strict(operator.not_, operands)
        if term.name == "minus":
            return _strict(operator.neg, operands)
        if term.name in ("==", "!="):
            same, (left, right) = term.name == "==", operands
            return lambda e, m: (left(e, m) == right(e, m)) is same
        if term.name in ("/", "%"):
            divide = operator.truediv if term.name == "/" else operator.mod
            return _strict(lambda a, b: None if b == 0 else divide(a, b), operands)
        known = {**_COMPARE, **_COMPUTE}
        if term.name in known:
            return _strict(known[term.name], operands)
        raise self._error(f"{term.name} can't be part of a condition on the match", term.place)

    def _of_match(self, term: Operation) -> Value:
        step, field = _aggregate(term, self.text)
        if field is None:
            return lambda e, m: m.count(step)
        if term.name in ("FIRST", "LAST"):
            end = 0 if term.name == "FIRST" else -1
            return lambda e, m: m[step][end][field] if m[step] else None
        name = term.name.lower()
        return lambda e, m: getattr(m, name)(step, field)

    def _member(self, term: Operation) -> Value:
        item, container = term.operands
        if not isinstance(container, ListOf) or not all(isinstance(part, Literal) for part in container.items):
            raise self._error("`in` takes a list of constants here", term.place)
        values = [part.value for part in container.items if isinstance(part, Literal)]
        inner = self.value(item)
        return lambda e, m: inner(e, m) in values


def _strict(function: Callable[..., Any], operands: list[Value]) -> Value:
    """Null where an operand is."""

    def value(event: Any, match: PartialMatch) -> Any:
        values = [operand(event, match) for operand in operands]
        return None if any(v is None for v in values) else function(*values)

    return value


def _connected(operands: list[Value], *, decisive: bool) -> Value:
    """`or` (and, with `decisive` false, `and`): one decisive operand decides, else null if any is."""

    def value(event: Any, match: PartialMatch) -> bool | None:
        unknown: bool = False
        for operand in operands:
            given: Any = operand(event, match)
            if given is decisive:
                return bool(decisive)
            unknown = unknown or given is None
        return None if unknown else bool(not decisive)

    return value


def _measure(term: Term, match: MatchTerms, text: str) -> pl.Expr:
    """An expression over matches."""
    if isinstance(term, Literal):
        return pl.lit(term.value)
    if isinstance(term, Operation) and not term.is_method:
        if term.name in AGGREGATES:
            step, field = _aggregate(term, text)
            if field is None:
                return match.count(step)
            if term.name in ("FIRST", "LAST"):
                return (match.first if term.name == "FIRST" else match.last)(step)[field]
            made: pl.Expr = getattr(match, term.name.lower())(step, field)
            return made
        if term.name == "DURATION" and not term.operands:
            return match.duration
        if term.name in _EXPRESSIONS:
            left, right = (_measure(operand, match, text) for operand in term.operands)
            combined: pl.Expr = _EXPRESSIONS[term.name](left, right)
            return combined
    reason = f"a measure is made of {', '.join(AGGREGATES)}, DURATION(), numbers and + - * / %"
    raise ConditionError(reason, text, term.place.line, term.place.column)

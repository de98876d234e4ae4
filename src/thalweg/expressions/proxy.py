"""The recording proxy: a lambda is called once with it, and what it does to it becomes a `Term`.

Whatever would make Python look at a value (truth, hash, text, iteration, length, number) raises `NotTraceable`: a
traced function never branches on an event.
"""

from __future__ import annotations

from typing import Any, NoReturn

import polars as pl

from thalweg.expressions import terms
from thalweg.expressions.terms import NotTraceable, Term


def _looks(what: str) -> Any:
    def refuse(self: object, *_: object) -> NoReturn:
        raise NotTraceable(f"{what} of a field")

    return refuse


class Opaque:
    """Refuses everything by which a value could leave the trace."""

    __slots__ = ()
    __bool__ = _looks("the truth")
    __hash__ = _looks("the hash")
    __str__ = _looks("the text")
    __format__ = _looks("the text")
    __contains__ = _looks("`in`")
    __iter__ = _looks("iteration")
    __len__ = _looks("the length")
    __index__ = _looks("a plain int")
    __int__ = _looks("a plain int")
    __float__ = _looks("a plain float")
    __complex__ = _looks("a plain complex")
    __round__ = _looks("round()")
    __call__ = _looks("a call")
    __setattr__ = _looks("assignment")
    __setitem__ = _looks("assignment")
    __reduce_ex__ = _looks("pickling")


class EventProxy(Opaque):
    """Stands for the event: attributes and items are its fields."""

    __slots__ = ("_schema", "_seen")
    _schema: pl.Schema | None
    _seen: set[str]

    def __init__(self, schema: pl.Schema | None, seen: set[str]) -> None:
        object.__setattr__(self, "_schema", schema)
        object.__setattr__(self, "_seen", seen)

    def __getattr__(self, name: str) -> FieldProxy:
        return self._field(name)

    def __getitem__(self, name: object) -> FieldProxy:
        if not isinstance(name, str):
            raise NotTraceable(f"item {name!r} of the event")
        return self._field(name)

    def _field(self, name: str) -> FieldProxy:
        if name.startswith("__"):
            raise NotTraceable(f"{name} of the event")
        schema = self._schema
        if schema is not None and name not in schema:
            if name in _ROW_NAMES:
                raise NotTraceable(f"{name!r} of the event is not a field")
            raise UnknownField(name)
        self._seen.add(name)
        return FieldProxy(terms.field(pl.col(name), None if schema is None else schema[name]))


_ROW_NAMES = frozenset({"key", "get", "items", "keys", "values", "to_dict", "timestamp"})
"""What a `Row` has beside its fields."""


class UnknownField(Exception):
    """The schema is known and has no such field: an error of the user's, not a reason to run per row."""


class FieldProxy(Opaque):
    """Stands for a value made from fields."""

    __slots__ = ("_term",)
    _term: Term

    def __init__(self, term: Term) -> None:
        object.__setattr__(self, "_term", term)

    # `__eq__` without a usable `__hash__`, as `Opaque` refuses hashing
    def __eq__(self, other: object) -> FieldProxy:  # type: ignore[override]
        return FieldProxy(terms.equal(self._term, term_of(other)))

    def __ne__(self, other: object) -> FieldProxy:  # type: ignore[override]
        return FieldProxy(terms.equal(self._term, term_of(other), negate=True))

    __hash__ = _looks("the hash")

    def __lt__(self, other: object) -> FieldProxy:
        return FieldProxy(terms.compare("<", self._term, term_of(other)))

    def __le__(self, other: object) -> FieldProxy:
        return FieldProxy(terms.compare("<=", self._term, term_of(other)))

    def __gt__(self, other: object) -> FieldProxy:
        return FieldProxy(terms.compare(">", self._term, term_of(other)))

    def __ge__(self, other: object) -> FieldProxy:
        return FieldProxy(terms.compare(">=", self._term, term_of(other)))

    def __neg__(self) -> FieldProxy:
        return FieldProxy(terms.negative(self._term))

    def __abs__(self) -> FieldProxy:
        return FieldProxy(terms.absolute(self._term))

    def __invert__(self) -> FieldProxy:
        return FieldProxy(terms.invert(self._term))

    def __getattr__(self, name: str) -> Any:
        term = self._term
        if name in _METHODS:
            return Method(term, name)
        if term.kind == "struct":
            return self._member(name)
        raise NotTraceable(f".{name} of a {term.kind or 'field of unknown type'}")

    def __getitem__(self, name: object) -> FieldProxy:
        if self._term.kind != "struct" or not isinstance(name, str):
            raise NotTraceable(f"item {name!r} of a {self._term.kind or 'field of unknown type'}")
        return self._member(name)

    def _member(self, name: str) -> FieldProxy:
        term = self._term
        assert isinstance(term.dtype, pl.Struct)
        inner = {f.name: f.dtype for f in term.dtype.fields}
        if name not in inner:
            raise UnknownField(name)
        dtype = inner[name]
        found = terms.field(term.expr.struct.field(name), dtype if isinstance(dtype, pl.DataType) else dtype())
        # In Python a field of None raises AttributeError, which is an error of that row.
        return FieldProxy(
            Term(found.expr, found.kind, (*term.fails, term.expr.is_null()), calm=False, dtype=found.dtype)
        )


def _binary(op: str, make: Any) -> tuple[Any, Any]:
    def forward(self: FieldProxy, other: object) -> FieldProxy:
        return FieldProxy(make(op, self._term, term_of(other)))

    def backward(self: FieldProxy, other: object) -> FieldProxy:
        return FieldProxy(make(op, term_of(other), self._term))

    return forward, backward


for _name, _op in {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%"}.items():
    _forward, _backward = _binary(_op, terms.arithmetic)
    setattr(FieldProxy, f"__{_name}__", _forward)
    setattr(FieldProxy, f"__r{_name}__", _backward)
for _name, _op in {"and": "&", "or": "|", "xor": "^"}.items():
    _forward, _backward = _binary(_op, terms.bitwise)
    setattr(FieldProxy, f"__{_name}__", _forward)
    setattr(FieldProxy, f"__r{_name}__", _backward)


class Method(Opaque):
    """A method of a field, about to be called."""

    __slots__ = ("_name", "_term")
    _name: str
    _term: Term

    def __init__(self, term: Term, name: str) -> None:
        object.__setattr__(self, "_term", term)
        object.__setattr__(self, "_name", name)

    def __call__(self, *arguments: Any) -> FieldProxy:
        name, term = self._name, self._term
        if name in ("startswith", "endswith", "contains") and len(arguments) == 1:
            return FieldProxy(terms.text(name, term, term_of(arguments[0])))
        if name == "is_in" and len(arguments) == 1 and isinstance(arguments[0], (list, tuple)):
            return FieldProxy(terms.member(term, tuple(arguments[0])))
        if name == "is_between" and len(arguments) == 2:
            low, high = (term_of(a) for a in arguments)
            return FieldProxy(terms.bitwise("&", terms.compare(">=", term, low), terms.compare("<=", term, high)))
        if name in ("is_null", "is_not_null") and not arguments:
            return FieldProxy(terms.is_null(term, negate=name == "is_not_null"))
        raise NotTraceable(f".{name}() with these arguments")


_METHODS = frozenset({"startswith", "endswith", "contains", "is_in", "is_between", "is_null", "is_not_null"})


def term_of(value: object) -> Term:
    """The term behind a proxy, or of a constant."""
    if isinstance(value, FieldProxy):
        return value._term
    return terms.literal(value)

"""The recording proxy, for functions without source: called once with it, what a function does becomes an expression.

Whatever would make Python look at a value (truth, hash, text, iteration, length, number) raises: a traced function
never branches on an event.
"""

from __future__ import annotations

from typing import Any, NoReturn

from thalweg.expressions.arithmetic import absolute, arithmetic, negative
from thalweg.expressions.comparisons import compare
from thalweg.expressions.event import Event
from thalweg.expressions.logic import bitwise, invert
from thalweg.expressions.methods import METHODS, attribute, method, subfield
from thalweg.expressions.values import Kind, Untraceable, Value


def _refused(what: str) -> Any:
    def refuse(self: object, *_: object) -> NoReturn:
        raise Untraceable(f"{what} is left to Python")

    return refuse


class Opaque:
    """Refuses everything by which a value could leave the trace."""

    __slots__ = ()
    __bool__ = _refused("the truth of a field")
    __hash__ = _refused("the hash of a field")
    __str__ = _refused("the text of a field")
    __repr__ = _refused("the text of a field")
    __format__ = _refused("the text of a field")
    __contains__ = _refused("`in` a field")
    __iter__ = _refused("iteration over a field")
    __reversed__ = _refused("iteration over a field")
    __len__ = _refused("the length of a field")
    __index__ = _refused("a field as a plain int")
    __int__ = _refused("a field as a plain int")
    __float__ = _refused("a field as a plain float")
    __complex__ = _refused("a field as a plain number")
    __round__ = _refused("round()")
    __trunc__ = _refused("truncation")
    __floor__ = _refused("floor()")
    __ceil__ = _refused("ceil()")
    __bytes__ = _refused("the bytes of a field")
    __call__ = _refused("a call of a field")
    __setattr__ = _refused("assignment to a field")
    __setitem__ = _refused("assignment to a field")
    __delattr__ = _refused("deletion of a field")
    __delitem__ = _refused("deletion of a field")
    __reduce_ex__ = _refused("pickling")


class EventProxy(Opaque):
    """Stands for the event: attributes and items are its fields."""

    __slots__ = ("_event",)
    _event: Event

    def __init__(self, event: Event) -> None:
        object.__setattr__(self, "_event", event)

    def __getattr__(self, name: str) -> FieldProxy:
        return FieldProxy(self._event.attribute(name))

    def __getitem__(self, name: object) -> FieldProxy:
        if not isinstance(name, str):
            raise Untraceable(f"item {name!r} of the event is left to Python")
        return FieldProxy(self._event.item(name))


def unwrapped(operand: object) -> object:
    """The traced value behind a proxy; a constant as it is."""
    if isinstance(operand, FieldProxy):
        return operand._value
    if isinstance(operand, Opaque):
        raise Untraceable("the event as a whole is left to Python")
    return operand


class FieldProxy(Opaque):
    """Stands for a value made from fields."""

    __slots__ = ("_value",)
    _value: Value

    def __init__(self, value: Value) -> None:
        object.__setattr__(self, "_value", value)

    def __eq__(self, other: object) -> FieldProxy:  # type: ignore[override]
        return FieldProxy(compare("==", self._value, unwrapped(other)))

    def __ne__(self, other: object) -> FieldProxy:  # type: ignore[override]
        return FieldProxy(compare("!=", self._value, unwrapped(other)))

    __hash__ = _refused("the hash of a field")

    def __lt__(self, other: object) -> FieldProxy:
        return FieldProxy(compare("<", self._value, unwrapped(other)))

    def __le__(self, other: object) -> FieldProxy:
        return FieldProxy(compare("<=", self._value, unwrapped(other)))

    def __gt__(self, other: object) -> FieldProxy:
        return FieldProxy(compare(">", self._value, unwrapped(other)))

    def __ge__(self, other: object) -> FieldProxy:
        return FieldProxy(compare(">=", self._value, unwrapped(other)))

    def __neg__(self) -> FieldProxy:
        return FieldProxy(negative(self._value))

    def __abs__(self) -> FieldProxy:
        return FieldProxy(absolute(self._value))

    def __invert__(self) -> FieldProxy:
        return FieldProxy(invert(self._value))

    def __getattr__(self, name: str) -> FieldProxy | Method:
        if name in METHODS and self._value.kind is not Kind.STRUCT:
            return Method(self._value, name)
        return FieldProxy(attribute(self._value, name))

    def __getitem__(self, name: object) -> FieldProxy:
        if not isinstance(name, str):
            raise Untraceable(f"item {name!r} of a field is left to Python")
        return FieldProxy(subfield(self._value, name))


def _binary(symbol: str, make: Any) -> tuple[Any, Any]:
    def forward(self: FieldProxy, other: object) -> FieldProxy:
        return FieldProxy(make(symbol, self._value, unwrapped(other)))

    def backward(self: FieldProxy, other: object) -> FieldProxy:
        return FieldProxy(make(symbol, unwrapped(other), self._value))

    return forward, backward


_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**"}
_BITWISE = {"and": "&", "or": "|", "xor": "^"}
for _names, _make in ((_ARITHMETIC, arithmetic), (_BITWISE, bitwise)):
    for _name, _symbol in _names.items():
        _forward, _backward = _binary(_symbol, _make)
        setattr(FieldProxy, f"__{_name}__", _forward)
        setattr(FieldProxy, f"__r{_name}__", _backward)


class Method(Opaque):
    """A method of a field, about to be called."""

    __slots__ = ("_name", "_value")
    _name: str
    _value: Value

    def __init__(self, value: Value, name: str) -> None:
        object.__setattr__(self, "_value", value)
        object.__setattr__(self, "_name", name)

    def __call__(self, *arguments: object) -> FieldProxy:
        return FieldProxy(method(self._value, self._name, tuple(unwrapped(argument) for argument in arguments)))

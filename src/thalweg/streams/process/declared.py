"""What a keyed function declares: its state, and its methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import polars as pl

from thalweg.durations import Duration, milliseconds
from thalweg.errors import ConfigurationError
from thalweg.schema import to_schema

if TYPE_CHECKING:
    from thalweg.streams.process.context import Context, Timer
    from thalweg.streams.process.handles import Entries, Items, Value

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")

Results = Mapping[str, Any] | Iterable[Mapping[str, Any]] | None
"""What a function may give: nothing, a record, or several (a list, or what a generator yields)."""

_RESERVED = frozenset({"clear"})


class State:
    """The base of what a keyed function keeps per key: declared as an attribute of its class, or by name.

    Args:
        ttl: how long something lives after it was last written, in event time; None: as long as its key, or what the
            job's `StateBackend` says.
    """

    name = ""

    def __init__(self, ttl: Duration | None = None) -> None:
        self.ttl = None if ttl is None else milliseconds(ttl, name="ttl", minimum=1)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def _of(self, instance: object) -> Any:
        """Reached only outside a job: in one, the object has what stands for the key at hand under this name."""
        raise AttributeError(f"state {self.name!r} belongs to a key: it can be used while the job runs only")


class ValueState(State, Generic[T]):
    """One value per key.

    Args:
        kind: a Python or Polars type; also `list[int]`, or a dataclass.
        default: what a key that has none reads.
        ttl: see `State`.
    """

    def __init__(self, kind: type[T] | Any, default: T | None = None, *, ttl: Duration | None = None) -> None:
        super().__init__(ttl)
        self.dtype = _type(kind)
        self.default = default

    @overload
    def __get__(self, instance: None, owner: type) -> ValueState[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Value[T]: ...
    def __get__(self, instance: object | None, owner: type) -> ValueState[T] | Value[T]:
        return self if instance is None else self._of(instance)


class ListState(State, Generic[T]):
    """A list per key. A batch that changes it reads and writes the key's whole list: keep it to some thousands.

    Args:
        kind: the type of an item.
        ttl: how long each item lives.
    """

    def __init__(self, kind: type[T] | Any, *, ttl: Duration | None = None) -> None:
        super().__init__(ttl)
        self.dtype = _type(kind)

    @overload
    def __get__(self, instance: None, owner: type) -> ListState[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Items[T]: ...
    def __get__(self, instance: object | None, owner: type) -> ListState[T] | Items[T]:
        return self if instance is None else self._of(instance)


class MapState(State, Generic[K, V]):
    """A dictionary per key. A batch that changes it reads and writes the key's whole map: keep it to some thousands.

    Args:
        key: the type of its keys: text, bytes, numbers, Booleans or times.
        value: the type of its values.
        ttl: how long each entry lives after it was last put.
    """

    def __init__(self, key: type[K] | Any, value: type[V] | Any, *, ttl: Duration | None = None) -> None:
        super().__init__(ttl)
        self.key_dtype, self.dtype = _type(key), _type(value)
        if self.key_dtype.is_nested():
            raise ConfigurationError(f"a map's keys can't be {self.key_dtype}: use text, bytes, numbers or times")

    @overload
    def __get__(self, instance: None, owner: type) -> MapState[K, V]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Entries[K, V]: ...
    def __get__(self, instance: object | None, owner: type) -> MapState[K, V] | Entries[K, V]:
        return self if instance is None else self._of(instance)


class ProcessFunction(ABC):
    """A keyed function: state as class attributes, a method for events, and one for timers.

    Give `.process()` the class, or an object of it: each step of a plan works on a copy of its own.

    >>> class Total(ProcessFunction):
    ...     total = ValueState(float, default=0.0)
    ...
    ...     def on_event(self, event, ctx):
    ...         self.total.set(self.total.get() + event.amount)
    ...         return {"total": self.total.get()}
    """

    @abstractmethod
    def on_event(self, event: Any, ctx: Context) -> Results:
        """Takes an event (`event.column`); `ctx` knows its key, times and timers. Gives records, or nothing."""

    def on_timer(self, timer: Timer, ctx: Context) -> Results:
        """Takes a timer that has come due; the state is that of its key."""
        raise NotImplementedError(f"{type(self).__name__} sets timers, but has no on_timer(timer, ctx)")

    def open(self) -> None:
        """Called once before the first event."""

    def close(self) -> None:
        """Called once at the end."""


def states_of(function: object) -> dict[str, State]:
    """The state that a function's class declares, base classes first."""
    found: dict[str, State] = {}
    for owner in reversed(type(function).__mro__):
        found |= {name: value for name, value in vars(owner).items() if isinstance(value, State)}
    return found


def checked(states: Mapping[str, Any], keys: Iterable[str]) -> dict[str, State]:
    """The declared state, if its names can be used.

    Raises:
        ConfigurationError: not a declaration, or a name that is taken.
    """
    result: dict[str, State] = {}
    for name, state in states.items():
        if not isinstance(state, State):
            raise ConfigurationError(f"state {name!r} is {state!r}; declare ValueState, ListState or MapState")
        if name in keys:
            raise ConfigurationError(f"state {name!r} has the name of a key column; call it differently")
        if not name.isidentifier():
            raise ConfigurationError(f"state {name!r}: use a name that could be a variable's")
        if not state.name:
            state.name = name
        result[name] = state
    return result


def _type(kind: Any) -> pl.DataType:
    return to_schema({"state": kind}).schema["state"]

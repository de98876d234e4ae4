"""Aggregates that users write: in columns, or in plain Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate.monoid import Input, Part, Scalar


class Fields:
    """A partial result's columns, for `merge` and `finish`: `part.total` or `part["total"]` is a Polars expression."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = names

    def __getitem__(self, name: str) -> pl.Expr:
        if name not in self._names:
            raise ConfigurationError(f"custom aggregate: prepare makes no {name!r}, only {', '.join(self._names)}")
        return pl.col(self._names[name])

    def __getattr__(self, name: str) -> pl.Expr:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]


class Columns(Part):
    """Partial results as columns, by the user's expressions."""

    def __init__(self, name: str, prepare: Mapping[str, pl.Expr], merge: Callable[[Fields], Mapping[str, Any]]) -> None:
        super().__init__("custom", None)
        self.name = f"custom({name})"
        self._prepare = dict(prepare)
        self.names = {field: f"{self.name}.{field}" for field in self._prepare}
        self._merge = dict(merge(Fields(self.names)))
        if set(self._merge) != set(self._prepare):
            raise ConfigurationError(
                f"custom aggregate {name!r}: prepare makes {', '.join(self._prepare)}, merge {', '.join(self._merge)};"
                " they must be the same"
            )

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        return [expr.alias(self.names[field]) for field, expr in self._prepare.items()]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return [expr.alias(self.names[field]) for field, expr in self._merge.items()]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.struct(list(self.names.values()))


class Custom(Scalar):
    """A mergeable aggregate in columns: prepare a batch, merge partial results, finish."""

    def __init__(
        self,
        name: str,
        prepare: Mapping[str, pl.Expr],
        merge: Callable[[Fields], Mapping[str, Any]],
        finish: Callable[[Fields], pl.Expr],
    ) -> None:
        if not prepare:
            raise ConfigurationError(f"custom aggregate {name!r}: prepare must make at least one column")
        self.label = name
        columns = frozenset(root for expr in prepare.values() for root in expr.meta.root_names())
        self.inputs = tuple(Input(pl.col(column), column, frozenset({column})) for column in sorted(columns))
        self.part = Columns(name, prepare, merge)
        self.parts = (self.part,)
        self._result = finish(Fields(self.part.names))

    def describe(self) -> str:
        return f"custom({self.label})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return self._result


class Folded(Part):
    """Partial results as Python values, kept as MessagePack."""

    def __init__(
        self,
        name: str,
        input: Input,
        init: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        merge: Callable[[Any, Any], Any],
    ) -> None:
        super().__init__("fold", input)
        self.name = f"fold({name}, {input.text})"
        self.column = input.column
        self._init, self._add, self._merge = init, add, merge
        self._values = f"{self.name}.values"

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        return [pl.col(self.column).drop_nulls().implode().alias(self._values)]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return [pl.col(self.name).drop_nulls().implode()]

    def settle(self, frame: pl.DataFrame) -> pl.DataFrame:
        if self._values in frame.columns:
            folded = [self._fold(values) for values in _items(frame[self._values])]
            return frame.drop(self._values).with_columns(pl.Series(self.name, folded, dtype=pl.Binary))
        if isinstance(frame.schema.get(self.name), pl.List):
            merged = [self._merged(states) for states in _items(frame[self.name])]
            return frame.with_columns(pl.Series(self.name, merged, dtype=pl.Binary))
        return frame

    def _fold(self, values: list[Any]) -> bytes | None:
        if not values:
            return None
        state = self._init()
        for value in values:
            state = self._add(state, value)
        return _packed(state, self.name)

    def _merged(self, states: list[bytes]) -> bytes | None:
        if len(states) < 2:
            return states[0] if states else None
        state = msgspec.msgpack.decode(states[0])
        for other in states[1:]:
            state = self._merge(state, msgspec.msgpack.decode(other))
        return _packed(state, self.name)

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)


def _items(lists: pl.Series) -> list[list[Any]]:
    """Per group its values; a list of lists where the aggregation made one."""
    found: list[list[Any]] = lists.to_list()
    return [
        one[0] if isinstance(lists.dtype, pl.List) and isinstance(lists.dtype.inner, pl.List) else one for one in found
    ]


def _packed(state: Any, name: str) -> bytes:
    try:
        return msgspec.msgpack.encode(state)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{name}: its state is a {type(state).__name__} ({error});"
            " keep numbers, texts, bytes, lists and dicts of these"
        ) from None


class Fold(Scalar):
    """An aggregate in plain Python: init, add, merge, result."""

    converts = True

    def __init__(
        self,
        name: str,
        input: Input,
        init: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        merge: Callable[[Any, Any], Any],
        result: Callable[[Any], Any],
        dtype: pl.DataType | type[pl.DataType] | None,
    ) -> None:
        self.label = name
        self.inputs = (input,)
        self.part = Folded(name, input, init, add, merge)
        self.parts = (self.part,)
        self._result, self._dtype = result, dtype

    def describe(self) -> str:
        return f"fold({self.label}: {self.inputs[0].label})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return self.part.value(present)

    def convert(self, values: pl.Series) -> pl.Series:
        results = [None if state is None else self._result(msgspec.msgpack.decode(state)) for state in values.to_list()]
        return pl.Series(values.name, results, dtype=self._dtype, strict=True)


def reducer(function: Callable[[Any, Any], Any], columns: tuple[str, ...], schema: pl.Schema | None = None) -> Fold:
    """The aggregate of `.reduce(function, *columns)`: a struct of these columns, as `schema` has them.

    Raises:
        ConfigurationError: no columns, or not a function.
    """
    if not callable(function):
        raise ConfigurationError(f"reduce takes a function of two records, not a {type(function).__name__}")
    if not columns:
        raise ConfigurationError("reduce needs the columns that its records have: .reduce(function, 'price', 'size')")

    def combine(a: Any, b: Any) -> Any:
        from thalweg.expressions import Row

        made = function(Row(a), Row(b))
        missing = [name for name in columns if name not in made]
        if missing:
            raise ConfigurationError(f"reduce: the function's record has no {', '.join(missing)}")
        return {name: made[name] for name in columns}

    record = Input(pl.struct(columns), f"struct({', '.join(columns)})", frozenset(columns))
    known = schema is not None and all(name in schema for name in columns)
    dtype = pl.Struct({name: schema[name] for name in columns}) if known and schema is not None else None
    label = getattr(function, "__qualname__", "function")
    return Fold(label, record, lambda: None, lambda a, b: b if a is None else combine(a, b), combine, _same, dtype)


def _same(state: Any) -> Any:
    return state

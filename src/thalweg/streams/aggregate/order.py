"""Aggregates that go by an order: the first and last value, the mean of the newest ones; and those of bits."""

from __future__ import annotations

import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.aggregate.monoid import Input, Part, Scalar


class Outermost(Part):
    """The value at the smallest or largest place; of several there the smallest or largest one.

    So the result does not depend on the order of arrival. Events without a value or a place are left out.
    """

    def __init__(self, value: Input, by: Input, *, last: bool) -> None:
        super().__init__("last" if last else "first", value)
        self.name = f"{self.kind}({value.text}, {by.text})"
        self.last = last
        self.columns = (value.column, by.column)
        self.place = f"{self.name}.by"

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        return self._of(*self.columns)

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return self._of(self.name, self.place)

    def _of(self, value_column: str, by_column: str) -> list[pl.Expr]:
        value, by = pl.col(value_column), pl.col(by_column)
        known = value.is_not_null() & by.is_not_null()
        place = by.filter(known).max() if self.last else by.filter(known).min()
        there = value.filter(known & (by == place)).sort(descending=self.last).first()
        return [there.alias(self.name), place.alias(self.place)]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)


class FirstOrLast(Scalar):
    """The first or last value, by event time or by another value."""

    def __init__(self, value: Input, by: Input, *, last: bool) -> None:
        self.inputs = (value, by)
        self.part = Outermost(value, by, last=last)
        self.parts = (self.part,)

    def describe(self) -> str:
        by = "" if self.inputs[1].text == "__ts" else f", by={self.inputs[1].label}"
        return f"{self.part.kind}({self.inputs[0].label}{by})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return self.part.value(present)


class Newest(Part):
    """The values at the `number` largest places, newest last, as lists of values and places."""

    def __init__(self, value: Input, by: Input, number: int) -> None:
        super().__init__("newest", value)
        self.name = f"newest({value.text}, {by.text}, {number})"
        self.number = number
        self.columns = (value.column, by.column)
        self.place = f"{self.name}.by"

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        value, by = (pl.col(name) for name in self.columns)
        known = value.is_not_null() & by.is_not_null()
        return self._kept(value.filter(known), by.filter(known))

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return self._kept(
            *(pl.col(name).explode(empty_as_null=False, keep_nulls=False) for name in (self.name, self.place))
        )

    def _kept(self, value: pl.Expr, by: pl.Expr) -> list[pl.Expr]:
        return [
            value.sort_by(by, value).tail(self.number).alias(self.name),
            by.sort_by(by, value).tail(self.number).alias(self.place),
        ]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)


class MovingAverage(Scalar):
    """The mean of the newest values of a window."""

    def __init__(self, value: Input, by: Input, number: int) -> None:
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigurationError(f"moving_average over {number!r} events: give a whole number, at least 1")
        self.inputs = (value, by)
        self.part = Newest(value, by, number)
        self.parts = (self.part,)

    def describe(self) -> str:
        return f"moving_average({self.inputs[0].label}, {self.part.number})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return self.part.value(present).list.mean()


class Bits(Part):
    """All bits together, by and, or, exclusive or; nulls are ignored."""

    def __init__(self, input: Input, how: str) -> None:
        super().__init__(f"bit_{how}", input)
        self.column, self.how = input.column, how

    def _of(self, column: str) -> pl.Expr:
        values = pl.col(column).drop_nulls()
        combined = {"and": values.bitwise_and(), "or": values.bitwise_or(), "xor": values.bitwise_xor()}[self.how]
        return pl.when(values.len() > 0).then(combined).alias(self.name)

    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        if values is None or not (values.dtype.is_integer() or values.dtype in (pl.Boolean, pl.Null)):
            raise ConfigurationError(f"no {self.kind} of {self.column!r}: it is not a whole number")
        return [self._of(self.column)]

    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        return [self._of(self.name)]

    def value(self, present: frozenset[str]) -> pl.Expr:
        return pl.col(self.name)


class BitAggregate(Scalar):
    """Bitwise and, or, exclusive or."""

    def __init__(self, input: Input, how: str) -> None:
        self.inputs = (input,)
        self.part = Bits(input, how)
        self.parts = (self.part,)

    def describe(self) -> str:
        return f"{self.part.kind}({self.inputs[0].label})"

    def finish(self, present: frozenset[str]) -> pl.Expr:
        return self.part.value(present)

"""Aggregates as columnar monoids: what an aggregate reads, keeps per group, and how partial results merge.

An aggregate never sees single events. `prepare` turns a batch into partial rows (one per group), `merge` reduces
partial rows of equal group to one, `finish` turns them into the result. Merging is commutative and associative, so
neither the order of the events nor the batch cuts matter.

Two shapes: a `Scalar` aggregate keeps columns beside the key (`Part`s: a sum, a count); an `Itemised` one keeps rows
per key and item (a log-bucket, a distinct value). Aggregates that need the same part share it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

if TYPE_CHECKING:
    from thalweg.streams.aggregate.accumulators import Accumulator

COMPUTED = "__in:"
"""What the names of columns begin with that hold computed inputs."""


@dataclass(frozen=True, slots=True)
class Input:
    """What an aggregate reads of each event: an expression over the event's columns.

    `text` is its identity: inputs of equal text are computed and kept once, also across restarts.
    """

    expr: pl.Expr = field(compare=False, hash=False)
    text: str
    columns: frozenset[str] = field(compare=False, hash=False)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict, compare=False, hash=False)
    """Columns that a step before the aggregate has to fill, by functions of the event."""

    @property
    def label(self) -> str:
        """For `explain()`."""
        return self.text.removeprefix(COMPUTED)

    @property
    def plain(self) -> bool:
        """It is a column as it stands."""
        return self.columns == {self.text}

    @property
    def column(self) -> str:
        """The column of the batch that holds the value: the user's own or a computed one."""
        return self.text if self.plain else f"{COMPUTED}{self.text}"


class Part(ABC):
    """One mergeable partial result per group, in one or a few columns. Equal names mean equal parts."""

    def __init__(self, kind: str, input: Input | None) -> None:
        self.kind = kind
        self.input = input
        self.name = f"{kind}({'' if input is None else input.text})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def before(self, values: pl.Series | None) -> list[pl.Expr]:
        """Columns to compute before grouping; `values` is the batch's input column."""
        return []

    @abstractmethod
    def prepare(self, values: pl.Series | None) -> list[pl.Expr]:
        """Aggregations over the events of a group."""

    @abstractmethod
    def merge(self, present: frozenset[str]) -> list[pl.Expr]:
        """Aggregations over partial rows of a group; gives the same columns. Nulls stand for "nothing yet"."""

    def settle(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What is left to do after `prepare` or `merge`, on the frame of partial rows."""
        return frame

    @abstractmethod
    def value(self, present: frozenset[str]) -> pl.Expr:
        """The part's value, from its columns."""

    def accumulator(self, dtype: pl.DataType | None) -> Accumulator | None:
        """What does `prepare` batch after batch in place, for inputs of this type; None: nothing can."""
        return None


class Aggregate(ABC):
    """What `.aggregate(name=…)` takes."""

    inputs: tuple[Input, ...] = ()
    empty: object = None
    """The result where no event of a group has a value."""
    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __new__(cls, *args: Any, **named: Any) -> Self:
        made = super().__new__(cls)
        made._arguments = args, named
        return made

    def where(self, predicate: object) -> Self:
        """The same over those events only for which `predicate` (an expression or a function of the event) is true.

        >>> from thalweg.analytics import sum_
        >>> sum_("amount").where(pl.col("paid"))
        sum(amount where paid)
        """
        from thalweg.streams.aggregate.spelling import masked, to_input

        condition = to_input(predicate)
        args, named = self._arguments
        return type(self)(*masked(args, self, condition), **named)

    @abstractmethod
    def describe(self) -> str:
        """As the user would write it, for `explain()`."""

    def __repr__(self) -> str:
        return self.describe()


class Scalar(Aggregate):
    """Keeps columns beside the key."""

    parts: tuple[Part, ...]

    converts = False
    """Whether `convert` makes the result of what `finish` gives: for what no expression can say."""

    @abstractmethod
    def finish(self, present: frozenset[str]) -> pl.Expr:
        """The result from the parts' columns; `present` are the columns there are."""

    def convert(self, values: pl.Series) -> pl.Series:
        """The results, where it `converts`."""
        return values


@dataclass(frozen=True, slots=True)
class ItemRows:
    """The rows of an itemised table, key after key, within a key sorted by item.

    Key g has `lengths[g]` rows (at least one); `items` and each of `parts` have all rows.
    """

    items: pl.Series
    parts: Mapping[str, pl.Series]
    lengths: npt.NDArray[np.int64]


class Itemised(Aggregate):
    """Keeps rows (key, item, parts): sketches, distinct values. Aggregates of equal `table` share the rows."""

    table: str
    """Identity of the rows kept."""
    item: Input
    parts: tuple[Part, ...] = ()

    @abstractmethod
    def bucket(self, values: pl.Series) -> pl.Expr:
        """The item that each event falls into, over column `item.column`; null: none."""

    def measures(self, values: pl.Series) -> list[pl.Expr]:
        """Columns that its parts are prepared from, beside the item."""
        return []

    @abstractmethod
    def finish(self, rows: ItemRows) -> pl.Series:
        """One result per key that has rows. A key of which no event had an item gets `empty`."""

    dtype: pl.DataType
    """Of the result."""


def unique_inputs(aggregates: Sequence[Aggregate]) -> list[Input]:
    """The inputs of all, each once, in order of first use."""
    return list(dict.fromkeys(one for aggregate in aggregates for one in aggregate.inputs))

"""How the columns of two inputs become those of a joined row; the same at plan time and when rows come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import polars as pl

from thalweg.errors import ConfigurationError, PlanError
from thalweg.streams.batch import MIN_TIME, RESERVED, TIMESTAMP, WATERMARK
from thalweg.streams.plan.functions import check_columns

On = str | Sequence[str] | Mapping[str, str]
"""Key columns of both sides: a name, several names, or left name → right name."""


class How(StrEnum):
    """Which rows a join gives."""

    INNER = "inner"
    """Pairs."""
    LEFT = "left"
    """Pairs, and left rows without a partner."""
    RIGHT = "right"
    """Pairs, and right rows without a partner."""
    FULL = "full"
    """Pairs, and rows of either side without a partner."""
    SEMI = "semi"
    """Left rows that have a partner, each once."""
    ANTI = "anti"
    """Left rows without a partner."""

    @property
    def keeps_left(self) -> bool:
        """Left rows without a partner are results."""
        return self in (How.LEFT, How.FULL, How.ANTI)

    @property
    def keeps_right(self) -> bool:
        """Right rows without a partner are results."""
        return self in (How.RIGHT, How.FULL)

    @property
    def left_only(self) -> bool:
        """Results have the left columns only."""
        return self in (How.SEMI, How.ANTI)


def how_of(how: str, where: str, allowed: Sequence[How] = tuple(How)) -> How:
    """The kind of join by name.

    Raises:
        ConfigurationError: not a kind, or not one that this join serves.
    """
    if how not in list(allowed):
        raise ConfigurationError(f"{where}: how is {how!r}; use one of {', '.join(allowed)}")
    return How(how)


def key_pairs(on: On, where: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The key columns of the left and of the right side.

    >>> key_pairs({"seller": "id"}, "join")
    (('seller',), ('id',))
    """
    pairs = {on: on} if isinstance(on, str) else dict(on) if isinstance(on, Mapping) else {name: name for name in on}
    if not all(isinstance(name, str) for pair in pairs.items() for name in pair):
        raise ConfigurationError(f"{where}: on is {on!r}; give column names, or a mapping of left name to right name")
    return tuple(pairs), tuple(pairs.values())


@dataclass
class JoinColumns:
    """Joined rows have the left columns, then the right ones without the right keys (they equal the left ones). A right
    column whose name the left side has gets the suffix.

    Where a schema is not known, columns count from when they are first seen.
    """

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    how: How
    suffix: str = "_right"
    left: dict[str, pl.DataType] = field(default_factory=dict)
    right: dict[str, pl.DataType] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        left_on: tuple[str, ...],
        right_on: tuple[str, ...],
        how: How,
        suffix: str,
        schemas: Sequence[pl.Schema | None],
    ) -> JoinColumns:
        """Over what is known of the inputs' columns."""
        left, right = ({**(schema or {})} for schema in schemas)
        return cls(left_on, right_on, how, suffix, left, right)

    def check(self, left: pl.Schema | None, right: pl.Schema | None, where: str) -> None:
        """Refuses keys that are not there or can't be equal, and names that come twice."""
        check_columns(self.left_on, left, where)
        check_columns(self.right_on, right, f"{where}, right side")
        if left is None or right is None:
            return
        for one, other in zip(self.left_on, self.right_on, strict=True):
            if _kind(left[one]) != _kind(right[other]):
                raise PlanError(
                    f"{where}: {one!r} is {left[one]} and {other!r} is {right[other]}: they are never equal; "
                    "cast one of them with .with_columns(…)"
                )
        twice = [name for name in self.right_names().values() if list(self.names()).count(name) > 1]
        if twice and not self.how.left_only:
            raise PlanError(f"{where}: two columns would be called {twice[0]!r}; give another suffix=")

    def right_names(self) -> dict[str, str]:
        """Right column → its name in the result."""
        return {
            name: name + self.suffix if name in self.left else name for name in self.right if name not in self.right_on
        }

    def names(self) -> list[str]:
        """The result's columns."""
        return [*self.left] if self.how.left_only else [*self.left, *self.right_names().values()]

    def schema(self) -> pl.Schema:
        """The result's columns and types."""
        if self.how.left_only:
            return pl.Schema(self.left)
        renamed = self.right_names()
        return pl.Schema({**self.left, **{renamed[name]: self.right[name] for name in renamed}})

    def see(self, frame: pl.DataFrame, *, right: bool) -> None:
        """Takes note of the columns of a batch."""
        known = self.right if right else self.left
        for name, dtype in frame.schema.items():
            if name not in known and name not in RESERVED:
                known[name] = dtype

    # -- rows

    def pairs(self, left: pl.DataFrame, right: pl.DataFrame, behind: int = 0) -> pl.DataFrame:
        """Row i of the one beside row i of the other. Its time is the later of the two; its watermark the lower one.

        Args:
            behind: how far, in ms, the watermark is held back.
        """
        renamed = self.right_names()
        columns = [*left.select(self._present(left, self.left))]
        columns += [right[name].alias(to) for name, to in renamed.items() if name in right.columns]
        times = pl.DataFrame([left[TIMESTAMP].alias("l"), right[TIMESTAMP].alias("r")]).max_horizontal()
        lows = pl.DataFrame([_watermark(left).alias("l"), _watermark(right).alias("r")]).min_horizontal() - behind
        return pl.DataFrame([*columns, times.alias(TIMESTAMP), lows.alias(WATERMARK)])

    def alone(self, rows: pl.DataFrame, behind: int = 0, *, right: bool = False) -> pl.DataFrame:
        """Rows of one side without a partner: the other side's columns are null, but for the keys."""
        low = (_watermark(rows) - behind).alias(WATERMARK)
        if self.how.left_only:
            return rows.select(*self._present(rows, self.left), TIMESTAMP).with_columns(low)
        if not right:
            missing = [pl.lit(None, self.right[name]).alias(to) for name, to in self.right_names().items()]
            return rows.select(*self._present(rows, self.left), *missing, TIMESTAMP).with_columns(low)
        keys = dict(zip(self.left_on, self.right_on, strict=True))
        filled = [
            pl.col(keys[name]).cast(dtype).alias(name) if name in keys else pl.lit(None, dtype).alias(name)
            for name, dtype in self.left.items()
        ]
        filled += [pl.col(keys[name]).alias(name) for name in keys if name not in self.left]
        own = [pl.col(name).alias(to) for name, to in self.right_names().items() if name in rows.columns]
        return rows.select(*filled, *own, TIMESTAMP).with_columns(low)

    @staticmethod
    def _present(frame: pl.DataFrame, names: Mapping[str, pl.DataType]) -> list[str]:
        return [name for name in names if name in frame.columns]


def _watermark(frame: pl.DataFrame) -> pl.Series:
    if WATERMARK in frame.columns:
        return frame[WATERMARK]
    return pl.Series(WATERMARK, [MIN_TIME]).new_from_index(0, frame.height)


def _kind(dtype: pl.DataType) -> str:
    """What a key's type can be equal to."""
    if dtype.is_integer() or dtype.is_float() or dtype == pl.Boolean:
        return "number"
    if dtype in (pl.String, pl.Binary) or isinstance(dtype, pl.Categorical | pl.Enum):
        return "text"
    return str(dtype.base_type())

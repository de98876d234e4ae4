"""Events by the values that fingerprints are made of, and those values as small numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.alerts.plain import plain
from thalweg.records import Int64s

Key = tuple[str, ...]
Place = tuple[tuple[str, ...], Key]
"""Columns, and values of them."""
Flags = npt.NDArray[np.bool_]


class Keyed:
    """The rows of a batch by their values of some columns.

    Attributes:
        codes: per row, which of `keys` it has.
        keys: the distinct values, as text, in the order in which they come.
    """

    def __init__(self, frame: pl.DataFrame, by: Sequence[str]) -> None:
        self.codes: Int64s = np.zeros(frame.height, np.int64)
        self.keys: list[Key] = [()]
        if by:
            rows = frame.select(n if n in frame.columns else pl.lit(None).alias(n) for n in by)
            distinct = rows.unique(maintain_order=True)
            coded = distinct.with_row_index("__code")
            joined = rows.join(coded, on=list(by), how="left", nulls_equal=True, maintain_order="left")
            self.codes = joined.get_column("__code").to_numpy().astype(np.int64)
            self.keys = list(zip(*(_texts(column) for column in distinct.iter_columns()), strict=True))

    def in_order(self) -> tuple[Int64s, Int64s]:
        """Where the rows of each key begin, and the rows by key."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.codes, minlength=len(self.keys)))])
        return starts.astype(np.int64), np.argsort(self.codes, kind="stable")


def _texts(column: pl.Series) -> Iterable[str]:
    """Values as the text that goes into fingerprints."""
    values = column.to_list()
    if column.dtype == pl.String and not column.null_count():
        return values
    return [str(plain(value)) for value in values]


def key_of(values: Iterable[Any]) -> Key:
    """The same of the values of one event."""
    return tuple(str(value) for value in values)


class KeyNumbers:
    """Gives keys numbers, and takes them back: as arrays need them. Keys of different columns have different ones."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, ...], dict[Key, int]] = {}
        self._keys: list[Place | None] = []
        self._free: list[int] = []

    @property
    def room(self) -> int:
        """All numbers are below this."""
        return len(self._keys)

    def of(self, by: tuple[str, ...], keys: Sequence[Key], wanted: Flags) -> Int64s:
        """The numbers of keys of these columns: new ones for those that are wanted, -1 for others that have none."""
        mine = self._numbers.setdefault(by, {})
        found = [mine.get(key, -1) for key in keys]
        for place in np.flatnonzero(wanted).tolist():
            if found[place] < 0:
                found[place] = self.number(by, keys[place])
        return np.array(found, np.int64)

    def number(self, by: tuple[str, ...], key: Key) -> int:
        """The number of a key of these columns: a new one where it has none."""
        mine = self._numbers.setdefault(by, {})
        if key in mine:
            return mine[key]
        number = self._free.pop() if self._free else len(self._keys)
        if number == len(self._keys):
            self._keys.append(None)
        self._keys[number] = by, key
        mine[key] = number
        return number

    def get(self, number: int) -> Place:
        """Columns and key of a number that is in use."""
        found = self._keys[number]
        assert found is not None
        return found

    def release(self, numbers: Iterable[int]) -> None:
        """Nothing has these numbers any more."""
        for number in numbers:
            by, key = self.get(number)
            self._keys[number] = None
            del self._numbers[by][key]
            self._free.append(number)

"""Where lookup joins find their rows: a frame, or a function with a cache before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.streams.operator import Memory
from thalweg.streams.plan.functions import close_names
from thalweg.streams.state.keyed_rows import KeyedRows
from thalweg.streams.state.row_lists import Int64s, Keys

Function = Callable[[pl.DataFrame], Any]
"""Takes the distinct keys as a frame; returns the rows that there are of them, with the key columns."""

_MISS = "__miss"
_STEP = 100


class Lookup(ABC):
    """Rows by key."""

    rows: KeyedRows

    @abstractmethod
    def prepare(self, wanted: pl.DataFrame, keys: Keys, clock: int) -> None:
        """Makes the rows of these keys ready to be found in `rows`.

        Args:
            wanted: the key columns, under the lookup's own names; nulls may be among them.
            keys: their identities.
        """

    def found(self, keys: Keys) -> tuple[Int64s, pl.DataFrame]:
        """Pairs: number of the key, and its row."""
        pieces = list(self.rows.find(keys))
        if not pieces:
            return np.zeros(0, dtype=np.int64), pl.DataFrame()
        probes, slots = (np.concatenate([piece[i] for piece in pieces]) for i in (0, 1))
        order = np.lexsort((self.rows.serial[slots], probes))
        probes, partners = probes[order], self.rows.read(slots[order])
        if _MISS in partners.columns:
            there = partners[_MISS].is_null()
            probes, partners = probes[there.to_numpy()], partners.filter(there).drop(_MISS)
        return probes, partners

    def memory(self) -> Memory:
        """What it holds."""
        return self.rows.memory()


class FrameLookup(Lookup):
    """The rows of a frame, indexed once."""

    def __init__(self, frame: pl.DataFrame, columns: Sequence[str]) -> None:
        self.rows = KeyedRows("lookup", columns)
        self.rows.add(frame, self.rows.keys(frame), np.zeros(frame.height, dtype=np.int64))

    def prepare(self, wanted: pl.DataFrame, keys: Keys, clock: int) -> None:
        """They are all there."""


class FunctionLookup(Lookup):
    """The rows that a function returns, kept for a while; so is that there were none.

    Args:
        columns: the key columns of what the function takes and returns.
        ttl: how long an answer holds, ms of the job's clock; 0: for the batch that asked.
        size: how many rows are kept; beyond, the oldest answers go first.
    """

    def __init__(self, function: Function, columns: Sequence[str], ttl: int, size: int) -> None:
        self.function = function
        self.columns = list(columns)
        self.ttl = ttl
        self.size = size
        self.rows = KeyedRows("lookup", columns, bucket=max(ttl // 8, _STEP))

    def prepare(self, wanted: pl.DataFrame, keys: Keys, clock: int) -> None:
        self.rows.remove(self.rows.due(clock - max(self.ttl, 1)))
        new = ~self.rows.has(keys)
        if keys.null is not None:
            new &= ~keys.null
        asked = wanted.filter(pl.Series(new)).unique(maintain_order=True)
        if not asked.height:
            return
        self._make_room(asked.height)
        answer = self._answer(asked)
        self._keep(answer, clock)
        missing = ~self.rows.has(self.rows.keys(asked))
        if missing.any():
            self._keep(asked.filter(pl.Series(missing)).with_columns(pl.lit(True).alias(_MISS)), clock)

    def _answer(self, asked: pl.DataFrame) -> pl.DataFrame:
        answer = self.function(asked)
        frame = answer if isinstance(answer, pl.DataFrame) else pl.DataFrame(answer, infer_schema_length=None)
        if not frame.width:
            return asked.clear()
        for name in self.columns:
            if name not in frame.columns:
                raise ConfigurationError(f"the lookup returned no column {name!r}{close_names(name, frame.columns)}")
        return frame

    def _keep(self, rows: pl.DataFrame, clock: int) -> None:
        if rows.height:
            self.rows.add(rows, self.rows.keys(rows), np.full(rows.height, clock, dtype=np.int64))

    def _make_room(self, more: int) -> None:
        beyond = len(self.rows) + more - self.size
        if beyond > 0:
            alive = self.rows.alive()
            oldest = alive[np.argsort(self.rows.serial[alive], kind="stable")]
            self.rows.remove(oldest[: max(beyond, self.size // 4)])

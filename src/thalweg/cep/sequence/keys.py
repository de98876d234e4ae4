"""Keys as small numbers: what the engines index their arrays by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.state.runs import compact_strings
from thalweg.streams.state.slot_table import SlotTable, identities

Booleans = npt.NDArray[np.bool_]


class KeyCodes:
    """Gives each key a code; codes are given anew when most keys are gone, so that idle keys leave nothing.

    A key is known by two 64-bit hashes of different seeds, in memory only: two of a billion keys coincide with a
    probability of 1e-21. Cost: one probe per row.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self._values: pl.DataFrame | None = None
        """The key columns; row i has code i."""
        self._new: list[pl.DataFrame] = []
        """Rows that come after those of `_values`."""
        self._count = 0
        self._table = SlotTable()

    def __len__(self) -> int:
        return self._count if self.columns else 1

    def of(self, rows: pl.DataFrame, adds: Booleans | None = None) -> Int64s:
        """The code of each row's key; -1 for keys that are not known.

        Args:
            adds: rows whose key becomes known; None: all.
        """
        if not self.columns:
            return np.zeros(rows.height, np.int64)
        keys = self._fitted(rows.select(self.columns))
        adds = np.ones(rows.height, np.bool_) if adds is None else adds
        self._table.make_room(self._count + int(adds.sum()))
        codes, created = np.empty(rows.height, np.int64), np.empty(rows.height, np.int64)
        identity = identities(keys, rows.height)
        count = _kernels().look_up(self._table.rows, *identity, adds, self._count, codes, created)
        if count:
            self._new.append(compact_strings(keys[created[:count]]))
            self._count += count
        return codes

    def values(self) -> pl.DataFrame:
        """The key columns of all codes, in the order of codes."""
        parts = [] if self._values is None else [self._values]
        self._values = pl.concat([*parts, *self._new], rechunk=True) if self._new or parts else pl.DataFrame()
        self._new = []
        return self._values

    def keep(self, alive: Booleans) -> Int64s | None:
        """Forgets the keys that are not alive; returns the new code of each old one (-1: gone).

        None, and nothing is done, while fewer than half of the keys are gone: so a key costs its share once.
        """
        if not self.columns or self._count < _WORTH_IT or 2 * int(alive.sum()) > self._count:
            return None
        new = np.full(self._count, -1, np.int64)
        kept = np.flatnonzero(alive)
        new[kept] = np.arange(len(kept))
        self._rebuild(compact_strings(self.values()[kept]))
        return new

    def _fitted(self, keys: pl.DataFrame) -> pl.DataFrame:
        """The key columns in the types known so far; types widen where they must, and then all hashes change."""
        known = self._values if self._values is not None else self._new[0] if self._new else None
        if known is None or known.schema == keys.schema:
            return keys
        values = self.values()
        wider = pl.concat([values.clear(), keys.clear()], how="vertical_relaxed").schema
        if values.schema != wider:
            self._rebuild(values.cast(wider))
        return keys.cast(wider)

    def _rebuild(self, values: pl.DataFrame) -> None:
        self._values, self._new, self._table = values, [], SlotTable()
        self._table.make_room(values.height)
        codes, created = np.empty(values.height, np.int64), np.empty(values.height, np.int64)
        adds = np.ones(values.height, np.bool_)
        identity = identities(values, values.height)
        self._count = _kernels().look_up(self._table.rows, *identity, adds, 0, codes, created)


_WORTH_IT = 1_024


def _kernels() -> Any:
    from thalweg.cep.sequence import _keys

    return _keys

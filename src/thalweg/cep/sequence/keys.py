"""Keys as small numbers: what the engines index their arrays by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s
from thalweg.streams.batch import gathered, only, rechunked, stacked
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
        self._parts: list[pl.DataFrame] = []
        """The key columns, part after part; row i of all has code i. Each is more than twice as long as the next."""
        self._new: list[pl.DataFrame] = []
        """Rows that come after those; each still holds the buffers of the batch that it came from."""
        self._seen = 0
        """How many rows those batches had."""
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
        keys = self._fitted(only(rows, self.columns))
        adds = np.ones(rows.height, np.bool_) if adds is None else adds
        self._table.make_room(self._count + int(adds.sum()))
        codes, created = np.empty(rows.height, np.int64), np.empty(rows.height, np.int64)
        identity = identities(keys, rows.height)
        count = _kernels().look_up(self._table.rows, *identity, adds, self._count, codes, created)
        if count:
            self._new.append(gathered(keys, created[:count]))
            self._count += count
            self._seen += rows.height
            if len(self._new) > _MOST_NEW or self._seen > _MOST_SEEN:
                self._settle()
        return codes

    def values(self) -> pl.DataFrame:
        """The key columns of all codes, in the order of codes."""
        self._settle()
        if len(self._parts) > 1:
            self._parts = [pl.concat(self._parts, rechunk=True)]
        return self._parts[0] if self._parts else pl.DataFrame()

    def values_of(self, codes: Int64s) -> pl.DataFrame:
        """The key columns of some codes, which grow: costs what it gives, not what there is."""
        self._settle()
        found, first, start = [], 0, 0
        for part in self._parts:
            end = int(np.searchsorted(codes, first + part.height))
            if end > start:
                found.append(gathered(part, codes[start:end] - first))
            first, start = first + part.height, end
        return stacked(found) if found else pl.DataFrame()

    def _settle(self) -> None:
        """Makes the new rows a part, and parts of like length one: a key moves a few times, however many there are."""
        if not self._new:
            return
        self._parts.append(compact_strings(rechunked(stacked(self._new))))
        self._new, self._seen = [], 0
        while len(self._parts) > 1 and self._parts[-2].height <= 2 * self._parts[-1].height:
            self._parts[-2:] = [rechunked(stacked(self._parts[-2:]))]

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
        known = self._parts[0] if self._parts else self._new[0] if self._new else None
        if known is None or known.schema == keys.schema:
            return keys
        values = self.values()
        wider = pl.concat([values.clear(), keys.clear()], how="vertical_relaxed").schema
        if values.schema != wider:
            self._rebuild(values.cast(wider))
        return keys.cast(wider)

    def _rebuild(self, values: pl.DataFrame) -> None:
        self._parts, self._new, self._table = [values], [], SlotTable()
        self._table.make_room(values.height)
        codes, created = np.empty(values.height, np.int64), np.empty(values.height, np.int64)
        adds = np.ones(values.height, np.bool_)
        identity = identities(values, values.height)
        self._count = _kernels().look_up(self._table.rows, *identity, adds, 0, codes, created)


_WORTH_IT = 1_024
_MOST_NEW, _MOST_SEEN = 64, 65_536


def _kernels() -> Any:
    from thalweg.cep.sequence import _keys

    return _keys

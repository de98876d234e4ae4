"""Keys as small numbers: what the kernel indexes its arrays by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from thalweg.records import Int64s

CODE = "__code"


class KeyCodes:
    """Gives each key value a code; codes are given anew when most keys are gone, so that idle keys leave nothing."""

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self._codes: dict[Any, int] = {}

    def __len__(self) -> int:
        return max(len(self._codes), 1)

    def of(self, rows: pl.DataFrame) -> Int64s:
        """The code of each row's key. Cost: one dictionary look-up per distinct key of the batch."""
        if not self.columns:
            return np.zeros(rows.height, np.int64)
        distinct = rows.select(self.columns).unique(maintain_order=True)
        known = self._codes
        codes = [known.setdefault(key, len(known)) for key in _values(distinct)]
        table = distinct.with_columns(pl.Series(CODE, codes, dtype=pl.Int64))
        joined = rows.select(self.columns).join(
            table, on=self.columns, how="left", nulls_equal=True, maintain_order="left"
        )
        return joined.get_column(CODE).to_numpy().astype(np.int64, copy=False)

    def frame(self, codes: Int64s, schema: pl.Schema) -> pl.DataFrame:
        """The key columns of these codes, in their order."""
        if not self.columns:
            return pl.DataFrame({})
        wanted = set(codes.tolist())
        values = {code: key for key, code in self._codes.items() if code in wanted}
        keys = [values[code] if len(self.columns) > 1 else (values[code],) for code in codes.tolist()]
        return pl.DataFrame(keys, schema={name: schema[name] for name in self.columns}, orient="row")

    def keep(self, alive: np.ndarray[Any, np.dtype[np.bool_]]) -> Int64s | None:
        """Forgets the keys that are not alive; returns the new code of each old one (-1: gone).

        None, and nothing is done, while fewer than half of the keys are gone: so a key costs its share once.
        """
        total = len(self._codes)
        if not self.columns or total < _WORTH_IT or 2 * int(alive[:total].sum()) > total:
            return None
        new = np.full(total, -1, np.int64)
        codes: dict[Any, int] = {}
        for key, code in self._codes.items():
            if alive[code]:
                new[code] = codes[key] = len(codes)
        self._codes = codes
        return new


_WORTH_IT = 1_024


def _values(frame: pl.DataFrame) -> list[Any]:
    return frame.to_series().to_list() if frame.width == 1 else frame.rows()

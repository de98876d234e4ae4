"""Records against their JSON Schema: whole batches by column expressions, and what these are not sure of one by one."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import polars as pl

from thalweg.formats.binary import binary_column
from thalweg.formats.json.decoder import JsonDecoder
from thalweg.kafka.schema_registry.framing import part
from thalweg.kafka.schema_registry.json_checks import certainly_accepted
from thalweg.records import RawRecords

Problem = Callable[[Any], str | None]
"""What is wrong with a value, None where nothing is."""

_NULLS = "\0nulls"
"""A name that no field has."""
_RELEARN = 10
"""Where more than one in so many records does not fit the columns, they are learned anew."""


class Validation:
    """Which records one schema accepts.

    Args:
        schema: as JSON data.
        keywords: those that say something in its draft.
        problem: looks at a single value.
    """

    def __init__(self, schema: Any, keywords: Collection[str], problem: Problem) -> None:
        self._schema = schema
        self._keywords = keywords
        self._problem = problem
        self._decoder = JsonDecoder()
        self._checks: tuple[pl.Schema | None, pl.Expr] = (None, pl.lit(False))

    def invalid(self, raw: RawRecords, header: int = 0) -> dict[int, str]:
        """The records that the schema does not accept, and why; what is no JSON is left to the decoder to refuse.

        Args:
            header: bytes before each value.
        """
        every = np.arange(len(raw))
        found: dict[int, str] = {}
        for row in np.flatnonzero(~self._accepted(part(raw, every, header))).tolist():
            try:
                value = json.loads((raw.value(row) or b"")[header:])
            except (ValueError, RecursionError):
                continue
            problem = self._problem(value)
            if problem is not None:
                found[row] = problem
        return found

    def _accepted(self, raw: RawRecords) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which records are certainly accepted."""
        accepted = np.zeros(len(raw), bool)
        decoded = self._decoder.decode(raw)
        if len(decoded.errors) * _RELEARN > len(raw):
            self._decoder = JsonDecoder()
        rows = np.arange(len(raw)) if decoded.rows is None else decoded.rows
        if not len(rows):
            return accepted
        payloads = pl.Series(pl.from_arrow(binary_column(raw.value_address, raw.value_length)))
        frame = decoded.frame.with_columns(payloads.bin.contains(b"null").gather(rows).alias(_NULLS))
        accepted[rows] = frame.with_columns(self._check(decoded.frame.schema).alias(_NULLS))[_NULLS].to_numpy()
        return accepted

    def _check(self, columns: pl.Schema) -> pl.Expr:
        """The expression for frames of these columns: a record with the text null in it may have a null."""
        if self._checks[0] != columns:
            either = [certainly_accepted(self._schema, columns, self._keywords, nulls=nulls) for nulls in (True, False)]
            with_nulls, without = (pl.lit(False) if each is None else each for each in either)
            self._checks = columns, pl.when(pl.col(_NULLS)).then(with_nulls).otherwise(without)
        return self._checks[1]

"""Events of several streams, put into one order and into numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from thalweg.cep.correlate import held
from thalweg.records import Int64s
from thalweg.streams.batch import OFFSET, PARTITION, SOURCE, TIMESTAMP

if TYPE_CHECKING:
    from thalweg.cep.correlate.correlator import EventCorrelator
    from thalweg.cep.sequence.events import EventStore

_NULL_HASH = 0


def arrivals_of(
    correlator: EventCorrelator,
    inputs: Sequence[pl.DataFrame | None],
    keys: Sequence[Sequence[str]],
    stores: Sequence[EventStore],
    names: Sequence[str],
    start: int,
    numbers: Sequence[Int64s] | None = None,
) -> held.Arrivals | None:
    """The events of each stream, stored, together in the order of time, source, partition, offset, stream.

    Args:
        keys: the key columns of each stream; `names` is what they are called together.
        start: the number of the first event.
        numbers: of each stream's events, where they have them already (after a restart): then in this order.
    """
    parts: list[pl.DataFrame] = []
    for number, rows in enumerate(inputs):
        if rows is None or not rows.height:
            continue
        own = numbers[number] if numbers is not None else np.zeros(rows.height, np.int64)
        places = stores[number].add(rows)
        parts.append(
            rows.select(
                pl.col(TIMESTAMP).cast(pl.Int64).alias("time"),
                *(_column(rows, name) for name in (SOURCE, PARTITION, OFFSET)),
                pl.lit(number, pl.Int64).alias("stream"),
                pl.Series("number", own),
                pl.Series("event", places),
                _values(rows, correlator.field_of(correlator.streams[number])),
                *(pl.col(column).alias(f"key:{name}") for column, name in zip(keys[number], names, strict=True)),
            )
        )
    if not parts:
        return None
    order = ["time", "number"] if numbers is not None else ["time", SOURCE, PARTITION, OFFSET, "stream"]
    together = pl.concat(parts, how="vertical_relaxed").sort(order, maintain_order=True)

    def column(name: str) -> Int64s:
        # Writable, all of them: the kernel is compiled for that, and once.
        return np.require(together.get_column(name).to_numpy(), np.int64, ["C", "W"])

    given = column("number") if numbers is not None else np.arange(start, start + together.height, dtype=np.int64)
    key_frame = together.select(pl.col(f"key:{name}").alias(name) for name in names)
    return held.Arrivals(column("time"), key_frame, column("stream"), column("value"), column("event"), given)


def _column(rows: pl.DataFrame, name: str) -> pl.Expr:
    return (pl.col(name).cast(pl.Int64) if name in rows.columns else pl.lit(None, pl.Int64)).alias(name)


def _values(rows: pl.DataFrame, field: str | None) -> pl.Expr | pl.Series:
    """A hash of what is counted; 0 for null."""
    if field is None or field not in rows.columns:
        return pl.lit(_NULL_HASH, pl.Int64).alias("value")
    texts = rows.get_column(field).cast(pl.String)
    hashes = texts.hash(7).to_numpy().view(np.int64).copy()
    hashes[hashes == _NULL_HASH] = 1
    hashes[texts.is_null().to_numpy()] = _NULL_HASH
    return pl.Series("value", hashes)

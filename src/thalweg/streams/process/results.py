"""What keyed functions give, as rows: with the key columns, the event's times, and one frame per port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from thalweg.streams.batch import INGESTED, RESERVED, TIMESTAMP, WATERMARK, Batch
from thalweg.streams.engine.dead_letters import RowError
from thalweg.streams.engine.row_frames import RowFrames, as_record

NO_ROW = -1


class Emitted(NamedTuple):
    """One record on its way out."""

    port: str
    record: dict[str, Any]
    row: int
    """The event that it came of, or `NO_ROW`: a timer's."""
    time: int | None
    """The timer's time; None: the event's."""


class NotARecordError(TypeError):
    """A keyed function gave something that is not a record."""


def records_of(results: object) -> Iterator[dict[str, Any]]:
    """The records that a function gave: none, one, or several.

    Raises:
        NotARecordError: something else.
    """
    if results is None:
        return
    single = as_record(results)
    if single is not None:
        yield single
        return
    if isinstance(results, str | bytes) or not isinstance(results, Iterable):
        raise NotARecordError(f"got a {type(results).__name__}; give a record (a dict), several of them, or nothing")
    for result in results:
        record = as_record(result)
        if record is None:
            raise NotARecordError(f"a {type(result).__name__} is not a record; give a dict, a dataclass or a Row")
        yield record


class Results:
    """Makes frames of emitted records, port by port; types stay as they were once seen.

    Args:
        keys: the key columns, which every record gets.
        schemas: the other columns, for the ports where they are known.
    """

    def __init__(self, keys: Sequence[str], schemas: Mapping[str, pl.Schema]) -> None:
        self._keys = list(keys)
        self._schemas = schemas
        self._types: dict[str, pl.DataType] = {}
        self._frames: dict[str, RowFrames] = {}

    def know_keys(self, frame: pl.DataFrame) -> None:
        """Learns the types of the key columns from the first rows that have them."""
        if not self._types:
            self._types = {name: frame.schema[name] for name in self._keys}

    def frames(
        self, emitted: Sequence[Emitted], source: pl.DataFrame | None, clock: int
    ) -> tuple[list[Batch], list[tuple[Emitted, RowError]]]:
        """The rows of each port, and the records that do not fit their columns.

        Args:
            emitted: in order.
            source: the batch that the events came in; None where there are timers only.
            clock: the job's, for rows of timers.
        """
        batches: list[Batch] = []
        errors: list[tuple[Emitted, RowError]] = []
        for port in dict.fromkeys(item.port for item in emitted):
            items = [item for item in emitted if item.port == port]
            made, kept, misfits = self._of(port).make([item.record for item in items])
            errors += [(items[error[0]], error) for error in misfits]
            items = [items[place] for place in kept]
            if items:
                rows = made.with_columns(pl.col(name).cast(dtype) for name, dtype in self._types.items())
                batches.append(Batch(pl.concat([rows, _times(items, source, clock)], how="horizontal"), port))
        return batches, errors

    def _of(self, port: str) -> RowFrames:
        if port not in self._frames:
            schema = self._schemas.get(port)
            whole = None if schema is None else pl.Schema({**self._types, **schema})
            self._frames[port] = RowFrames(whole, self._keys)
        return self._frames[port]


def _times(items: Sequence[Emitted], source: pl.DataFrame | None, clock: int) -> pl.DataFrame:
    """The reserved columns of the rows: those of the event, with a timer's time where it was one."""
    times = pl.Series(TIMESTAMP, [item.time for item in items], dtype=pl.Int64)
    if source is None:
        return pl.DataFrame([times, times.alias(WATERMARK)]).with_columns(pl.lit(clock).alias(INGESTED))
    reserved = source.select([name for name in source.columns if name in RESERVED])[[item.row for item in items]]
    own = [pl.coalesce(times, pl.col(name)).alias(name) for name in (TIMESTAMP, WATERMARK) if name in reserved.columns]
    return reserved.with_columns(own)

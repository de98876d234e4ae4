"""Records in wire form to what a source hands to the engine."""

from __future__ import annotations

import numpy as np
import polars as pl

from thalweg.errors import NotReady
from thalweg.formats.dead_records import dead_records
from thalweg.records import Decoder, Int64s, RawRecords
from thalweg.streams.batch import INGESTED, OFFSET, PARTITION, TIMESTAMP
from thalweg.streams.connector import SourceBatch


def decode_batch(raw: RawRecords, decoder: Decoder, now: int, *, broker_timestamps: bool = False) -> SourceBatch:
    """Decodes n records and gives their memory back: readable ones as rows, the others as dead letters.

    Args:
        now: the job's clock, ms UTC, for `__ingested`.
        broker_timestamps: add the records' time as `__ts`.

    Raises:
        NotReady: not now; the records are as they were.
    """
    try:
        decoded = decoder.decode(raw)
    except NotReady:
        raise
    except BaseException:
        raw.release()
        raise
    try:
        rows: slice | Int64s = slice(None) if decoded.rows is None else decoded.rows
        origin = [
            pl.Series(PARTITION, raw.partition[rows], dtype=pl.Int32),
            pl.Series(OFFSET, raw.offset[rows], dtype=pl.Int64),
        ]
        if broker_timestamps:
            origin.append(pl.Series(TIMESTAMP, raw.timestamp[rows], dtype=pl.Int64))
        dead = dead_records(raw, decoded.errors)
        positions = next_offsets(raw)
        received = len(raw)
    finally:
        raw.release()
    origin.insert(2, pl.Series(INGESTED, np.full(len(origin[0]), now, dtype=np.int64)))
    # `hstack`, not `with_columns`: that is a lazy query, which costs a small batch as much as its decoding.
    frame = decoded.frame.hstack(origin) if decoded.frame.width else pl.DataFrame(origin)
    return SourceBatch(frame, dead, positions, received)


def next_offsets(raw: RawRecords) -> dict[int, int]:
    """For each partition the offset after its last record: offsets ascend within a partition."""
    from thalweg.kafka._consume_kernels import last_rows

    last = np.empty(max(64, int(raw.partition.max(initial=0)) + 1), dtype=np.int64)
    last_rows(np.ascontiguousarray(raw.partition), last)
    found = np.flatnonzero(last >= 0)
    return dict(zip(found.tolist(), (raw.offset[last[found]] + 1).tolist(), strict=True))

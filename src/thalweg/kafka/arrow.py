"""Records in wire form to Arrow columns: the payloads are copied once, by a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thalweg.formats.binary import binary_column
from thalweg.records import RawRecords

if TYPE_CHECKING:
    import pyarrow as pa


def to_arrow(raw: RawRecords) -> pa.RecordBatch:
    """Copies n records into columns that live on after `raw.release()`.

    Returns:
        `value` and `key` (large_binary; null where the record has none), `partition` (int32), `offset` (int64) and
        `timestamp` (int64, ms UTC, -1 where the broker gave none). Zero-copy into Polars by `pl.from_arrow`.
    """
    import pyarrow as pa

    columns = {
        "value": binary_column(raw.value_address, raw.value_length),
        "key": binary_column(raw.key_address, raw.key_length),
        "partition": pa.array(raw.partition),
        "offset": pa.array(raw.offset),
        "timestamp": pa.array(raw.timestamp),
    }
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

"""Records in wire form to Arrow columns: the payloads are copied once, by a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg.records import Int64s, RawRecords, UInt64s

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


def binary_column(addresses: UInt64s, lengths: Int64s) -> pa.Array:
    """Copies n byte strings into a large_binary column; a length of -1 is a null."""
    import pyarrow as pa

    from thalweg.kafka._consume_kernels import copy_rows, offsets_of

    rows = len(lengths)
    offsets = np.empty(rows + 1, dtype=np.int64)
    nulls = offsets_of(lengths, offsets)
    data = np.empty(int(offsets[-1]), dtype=np.uint8)
    copy_rows(addresses, lengths, offsets, data)
    valid = pa.py_buffer(np.packbits(lengths >= 0, bitorder="little")) if nulls else None
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), rows, buffers, null_count=nulls)

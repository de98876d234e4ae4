"""Records of one appended batch as an Arrow IPC stream, and back as addresses into the Arrow buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from thalweg.errors import StateError
from thalweg.records import EncodedRecords, Int64s, RawRecords, UInt64s

MAX_RECORDS = 16_384
MAX_BYTES = 4 * 1024 * 1024
"""What a stored batch holds at most (one record may be larger), so that a reader with small polls stays cheap."""

_COMPRESS_FROM = 1024  # bytes of payload; below, the frame header of zstd outweighs what it saves
_HEADERS = pa.map_(pa.string(), pa.binary())
_ZSTD = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))
_PLAIN = pa.ipc.IpcWriteOptions()


@dataclass(slots=True)
class Records:
    """Records on their way into one partition: Arrow arrays of equal length. None: no record has one."""

    values: pa.LargeBinaryArray
    keys: pa.LargeBinaryArray | None = None
    timestamps: pa.Int64Array | None = None
    headers: pa.MapArray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Int64s) -> Records:
        return self._each(lambda array: array.take(pa.array(rows)))

    def slice(self, start: int, length: int) -> Records:
        return self._each(lambda array: array.slice(start, length))

    def _each(self, change: Any) -> Records:
        parts = (self.values, self.keys, self.timestamps, self.headers)
        return Records(*(None if part is None else change(part) for part in parts))


def values_of(encoded: EncodedRecords) -> pa.LargeBinaryArray:
    """An encoder's buffer as an Arrow array, without a copy."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(encoded.offsets)), pa.py_buffer(encoded.data)]
    return pa.Array.from_buffers(pa.large_binary(), len(encoded), buffers)


def headers_of(headers: Sequence[Mapping[str, bytes]]) -> pa.MapArray:
    return pa.array([list(row.items()) for row in headers], type=_HEADERS)


def split(records: Records) -> list[Records]:
    """Cuts records into batches within `MAX_RECORDS` and `MAX_BYTES`."""
    count = len(records)
    if count <= MAX_RECORDS and records.values.nbytes <= MAX_BYTES:
        return [records] if count else []
    # Filled greedily: a batch ends before the record that would take it over a limit.
    ends = np.cumsum(_lengths(records.values).clip(min=0))
    parts, start = [], 0
    while start < count:
        before = int(ends[start - 1]) if start else 0
        stop = int(np.searchsorted(ends, before + MAX_BYTES, side="right"))
        stop = min(max(stop, start + 1), start + MAX_RECORDS, count)
        parts.append(records.slice(start, stop - start))
        start = stop
    return parts


def to_payload(records: Records) -> bytes:
    """One Arrow IPC stream of one record batch; a column that no record has is left out."""
    columns: dict[str, pa.Array] = {"value": records.values}
    if records.keys is not None:
        columns["key"] = records.keys
    if records.timestamps is not None:
        columns["timestamp"] = records.timestamps
    if records.headers is not None:
        columns["headers"] = records.headers
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    options = _ZSTD if batch.nbytes >= _COMPRESS_FROM else _PLAIN
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


@dataclass(slots=True)
class Chunk:
    """A stored batch, or what is left of it, as addresses. `table` keeps the memory alive."""

    partition: int
    offset: Int64s
    value_address: UInt64s
    value_length: Int64s
    key_address: UInt64s
    key_length: Int64s
    timestamp: Int64s
    table: pa.Table
    first: int = 0
    """The table's row that is the chunk's first."""

    def __len__(self) -> int:
        return len(self.offset)

    def slice(self, start: int, stop: int | None = None) -> Chunk:
        """Rows from `start` up to `stop`, neither negative."""
        rows = slice(start, stop)
        return Chunk(
            self.partition,
            self.offset[rows],
            self.value_address[rows],
            self.value_length[rows],
            self.key_address[rows],
            self.key_length[rows],
            self.timestamp[rows],
            self.table,
            self.first + start,
        )


def read_table(payload: bytes, place: str) -> pa.Table:
    """
    Raises:
        StateError: the payload is damaged; says where it stands.
    """
    try:
        return pa.ipc.open_stream(payload).read_all().combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise StateError(f"the embedded log is damaged at {place}: {error}") from error


def to_chunk(payload: bytes, partition: int, base_offset: int, appended: int, place: str) -> Chunk:
    """A stored batch as addresses; its broker time is the writer's clock where records have none of their own."""
    table = read_table(payload, place)
    count = table.num_rows
    value_address, value_length = _addresses(table, "value", count)
    key_address, key_length = _addresses(table, "key", count)
    if "timestamp" in table.column_names:
        timestamp = _single(table, "timestamp").fill_null(appended).to_numpy(zero_copy_only=False).astype(np.int64)
    else:
        timestamp = np.full(count, appended, dtype=np.int64)
    offset = np.arange(base_offset, base_offset + count, dtype=np.int64)
    return Chunk(partition, offset, value_address, value_length, key_address, key_length, timestamp, table)


def to_raw(topic: str, chunks: Sequence[Chunk]) -> RawRecords:
    """Several chunks as one `RawRecords`: only addresses are joined, payloads stay where they are."""

    def join(name: str) -> Any:
        return np.concatenate([getattr(chunk, name) for chunk in chunks])

    partitions = [np.full(len(chunk), chunk.partition, dtype=np.int32) for chunk in chunks]
    return RawRecords(
        topic=topic,
        value_address=join("value_address"),
        value_length=join("value_length"),
        key_address=join("key_address"),
        key_length=join("key_length"),
        partition=np.concatenate(partitions),
        offset=join("offset"),
        timestamp=join("timestamp"),
        owner=[chunk.table for chunk in chunks],
    )


def _single(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks else pa.array([], type=column.type)


def _lengths(array: pa.LargeBinaryArray) -> Int64s:
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(offsets)
    if array.null_count:
        lengths[array.is_null().to_numpy(zero_copy_only=False)] = -1
    return lengths


def _addresses(table: pa.Table, name: str, count: int) -> tuple[UInt64s, Int64s]:
    if name not in table.column_names or not count:
        return np.zeros(count, dtype=np.uint64), np.full(count, -1, dtype=np.int64)
    array = _single(table, name)
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int64)[array.offset : array.offset + count]
    data = array.buffers()[2]
    base = data.address if data is not None else 0
    return offsets.astype(np.uint64) + np.uint64(base), _lengths(array)

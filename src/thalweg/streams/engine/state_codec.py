"""State deltas in wire form, and back: versioned, Arrow IPC and msgpack, never pickle.

A record is `TWSD`, the format version (one byte), the length of the header (4 bytes, little-endian), the header
(msgpack), then one Arrow IPC stream for each group of puts with equal columns. One record holds one operator's change
within one state partition: a contiguous range of key groups.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import polars as pl

from thalweg.errors import StateError
from thalweg.records import Int64s
from thalweg.streams.batch import KEY_GROUP, gathered, stacked
from thalweg.streams.connector import StateRecord
from thalweg.streams.operator import State, StateDelta

MAGIC = b"TWSD"
VERSION = 1
_PUT = "__put"


class _Header(msgspec.Struct):
    """What a record's frames mean."""

    partitions: int
    key_groups: int
    drops: list[str]
    names: list[str]
    """The name of each put, in order; rows say by `__put` which one they belong to."""
    lengths: list[int]
    """The size of each Arrow stream, in bytes."""


def state_partitions(frame: pl.DataFrame, partitions: int, groups: int = 128) -> Int64s:
    """The state partition of each row: contiguous ranges of key groups, of equal size."""
    return frame.get_column(KEY_GROUP).to_numpy().astype(np.int64) * partitions // groups


@dataclass(frozen=True, slots=True)
class PlacedDelta:
    """A state change, and where it belongs."""

    operator_id: str
    delta: StateDelta
    partition: int | None = None
    """The state partition that all of it belongs to; None: its rows are placed by their key groups."""


def touched(deltas: Iterable[StateDelta], partitions: int, groups: int = 128) -> set[int]:
    """The state partitions that these deltas change, placed by key groups."""
    result: set[int] = set()
    for delta in deltas:
        if partitions == 1 or delta.full or delta.drops:
            return set(range(partitions))
        for _, frame in delta.puts:
            result.update(np.unique(state_partitions(frame, partitions, groups)).tolist())
    return result


def touched_places(deltas: Sequence[PlacedDelta], partitions: int, groups: int = 128) -> set[int]:
    """The state partitions that these deltas change, wherever they belong."""
    by_key = touched((placed.delta for placed in deltas if placed.partition is None), partitions, groups)
    return by_key | {placed.partition for placed in deltas if placed.partition is not None}


def encode(
    operator_id: str, delta: StateDelta, partitions: int, void_to: int = 0, *, groups: int = 128
) -> list[StateRecord]:
    """Writes a delta as one record for each state partition that it touches.

    Drops go to all partitions (the name's rows may be in any); so does a full delta, which voids what was before, also
    in partitions up to `void_to` where an earlier layout had more of them.

    Raises:
        StateError: a frame without the key group column.
    """
    tables = [_split(table, partitions, groups) for table in _by_schema(operator_id, delta.puts)]
    everywhere = bool(delta.full or delta.drops)
    names = [name for name, _ in delta.puts]
    records = []
    for partition in range(max(partitions, void_to) if delta.full else partitions):
        parts = [table[partition] for table in tables if partition in table]
        if parts or everywhere:
            header = _Header(partitions, groups, list(delta.drops), names, [])
            records.append(StateRecord(partition, operator_id, _pack(header, parts), delta.full))
    return records


def encode_placed(placed: PlacedDelta, partitions: int, void_to: int = 0, *, groups: int = 128) -> list[StateRecord]:
    """Writes a delta as `encode` does; that of a task as one record of its state partition.

    Raises:
        StateError: a frame without the key group column.
    """
    delta = placed.delta
    if placed.partition is None:
        return encode(placed.operator_id, delta, partitions, void_to, groups=groups)
    if not delta:
        return []
    parts = [table for table in _by_schema(placed.operator_id, delta.puts) if table.height]
    header = _Header(partitions, groups, list(delta.drops), [name for name, _ in delta.puts], [])
    return [StateRecord(placed.partition, placed.operator_id, _pack(header, parts), delta.full)]


def _by_schema(operator_id: str, puts: Sequence[tuple[str, pl.DataFrame]]) -> list[pl.DataFrame]:
    """Puts with equal columns as one frame, each row with the number of its put."""
    groups: dict[tuple[tuple[str, pl.DataType], ...], list[pl.DataFrame]] = {}
    for number, (name, frame) in enumerate(puts):
        if KEY_GROUP not in frame.columns:
            raise StateError(f"operator {operator_id!r}: state frame {name!r} has no {KEY_GROUP!r} column")
        marked = frame.hstack([pl.Series(_PUT, [number], pl.UInt32).new_from_index(0, frame.height)])
        groups.setdefault(tuple(marked.schema.items()), []).append(marked)
    return [stacked(frames) for frames in groups.values()]


def _split(table: pl.DataFrame, partitions: int, groups: int) -> dict[int, pl.DataFrame]:
    """The rows of each state partition that has any: one pass, as most deltas are small and a filter has its price."""
    if not table.height:
        return {}
    if partitions == 1:
        return {0: table}
    places = state_partitions(table, partitions, groups)
    order = np.argsort(places.astype(np.uint16), kind="stable")  # 16 bits: a radix sort
    together = gathered(table, order)
    there, first = np.unique(places[order], return_index=True)
    ends = [*first[1:].tolist(), table.height]
    return {
        partition: together.slice(start, end - start)
        for partition, start, end in zip(there.tolist(), first.tolist(), ends, strict=True)
    }


def _pack(header: _Header, parts: Iterable[pl.DataFrame]) -> bytes:
    streams = []
    for part in parts:
        buffer = io.BytesIO()
        part.write_ipc_stream(buffer, compression="lz4")
        streams.append(buffer.getvalue())
    header.lengths = [len(stream) for stream in streams]
    packed = msgspec.msgpack.encode(header)
    return b"".join([MAGIC, bytes([VERSION]), len(packed).to_bytes(4, "little"), packed, *streams])


@dataclass(slots=True)
class DecodedState:
    """A record as it was before it was written."""

    delta: StateDelta
    partitions: int
    key_groups: int


def decode(record: StateRecord) -> DecodedState:
    """Reads a record.

    Raises:
        StateError: not a state record, of a version that this one can't read, or cut short.
    """
    where = f"state of operator {record.operator_id!r}, partition {record.state_partition}"
    payload = record.payload
    if payload[:4] != MAGIC or len(payload) < 9:
        raise StateError(f"{where}: not a state record")
    if payload[4] != VERSION:
        raise StateError(f"{where}: format version {payload[4]}; this version of Thalweg reads {VERSION}")
    start = 9 + int.from_bytes(payload[5:9], "little")
    try:
        header = msgspec.msgpack.decode(payload[9:start], type=_Header)
        puts = _read_puts(header, payload, start)
    except (msgspec.DecodeError, pl.exceptions.PolarsError, OSError, EOFError, IndexError, ValueError) as error:
        raise StateError(f"{where}: unreadable: {error}") from error
    return DecodedState(StateDelta(header.drops, puts, record.full), header.partitions, header.key_groups)


def _read_puts(header: _Header, payload: bytes, start: int) -> list[tuple[str, pl.DataFrame]]:
    if start + sum(header.lengths) != len(payload):
        raise ValueError(f"{len(payload)} bytes where there should be {start + sum(header.lengths)}")
    numbered: list[tuple[int, pl.DataFrame]] = []
    for length in header.lengths:
        table = pl.read_ipc_stream(io.BytesIO(payload[start : start + length]))
        start += length
        parts = table.partition_by(_PUT, maintain_order=True, include_key=True)
        numbered += [(int(part.item(0, _PUT)), part.drop(_PUT)) for part in parts]
    return [(header.names[number], frame) for number, frame in sorted(numbered, key=lambda item: item[0])]


@dataclass
class StateLog:
    """Merges what commits wrote into what operators get back."""

    states: dict[str, dict[tuple[int, str], list[pl.DataFrame]]] = field(default_factory=dict)
    partitions: set[int] = field(default_factory=set)
    """How many state partitions the job had when the records were written."""
    size: int = 0
    """Bytes read."""

    def apply(self, record: StateRecord) -> None:
        """Takes the next record: a full one voids its partition's past, drops come first, then puts."""
        decoded = decode(record)
        self.partitions.add(decoded.partitions)
        self.size += len(record.payload)
        frames = self.states.setdefault(record.operator_id, {})
        place = record.state_partition
        if decoded.delta.full:
            for key in [key for key in frames if key[0] == place]:
                del frames[key]
        for name in decoded.delta.drops:
            frames.pop((place, name), None)
        for name, frame in decoded.delta.puts:
            frames.setdefault((place, name), []).append(frame)

    def of_operators(self, partition: int | None = None) -> dict[str, State]:
        """What `Dataflow.restore` takes: all state, or that of one state partition."""
        states = {operator: _by_name(frames, partition) for operator, frames in self.states.items()}
        return {operator: state for operator, state in states.items() if state or partition is None}


def _by_name(
    frames: Mapping[tuple[int, str], Sequence[pl.DataFrame]], partition: int | None
) -> dict[str, list[pl.DataFrame]]:
    result: dict[str, list[pl.DataFrame]] = {}
    for (place, name), parts in frames.items():
        if partition is None or place == partition:
            result.setdefault(name, []).extend(parts)
    return result


def merge(records: Iterable[StateRecord]) -> StateLog:
    """Merges records in the order in which they were committed."""
    log = StateLog()
    for record in records:
        log.apply(record)
    return log


def describe(record: StateRecord) -> dict[str, Any]:
    """A record's header as plain data, for tools that look into a changelog."""
    decoded = decode(record)
    return {
        "operator": record.operator_id,
        "partition": record.state_partition,
        "full": record.full,
        "drops": list(decoded.delta.drops),
        "puts": [(name, frame.height) for name, frame in decoded.delta.puts],
        "bytes": len(record.payload),
    }

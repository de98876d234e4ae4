"""A record of the exchange topic: rows of one edge for one partition, and how far those who sent them have come.

In wire form: `TWEX`, the format version (one byte), the length of the header (4 bytes, little-endian), the header
(msgpack), then the rows as an Arrow IPC stream; nothing where the record only tells how far its senders are.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import polars as pl

from thalweg.errors import StateError

MAGIC = b"TWEX"
VERSION = 1

Upstream = tuple[str, int]
"""Who sends: a source topic, or `BEHIND_EXCHANGE`, and a partition of it."""
BEHIND_EXCHANGE = "#exchange"
"""Stands for the exchange itself, where rows come from state: its partitions send on."""


BARRIER = "#barrier"
"""The edge of a record without rows: whoever sent it knows, when it comes back, that nothing before it is under way."""


class Reached(NamedTuple):
    """How far one upstream partition has come, after the rows of the record."""

    watermark: int
    """No later row of it has a lower own watermark; ms UTC."""
    idle: bool = False
    """It is read to its end and has been quiet: it holds nobody back."""
    by_clock: bool = False
    """The watermark was moved by the opt-in wall-clock close of a quiet stream."""
    at_end: bool = False
    """Everything that the broker had of it has been sent."""


class _Header(msgspec.Struct, array_like=True):
    edge: str
    reached: list[tuple[str, int, int, bool, bool, bool]]


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    """One record, read."""

    edge: str
    reached: dict[Upstream, Reached]
    rows: pl.DataFrame | None


def pack(edge: str, reached: dict[Upstream, Reached], rows: pl.DataFrame | None) -> bytes:
    """Writes a record."""
    header = msgspec.msgpack.encode(_Header(edge, [(*upstream, *state) for upstream, state in reached.items()]))
    body = b""
    if rows is not None:
        buffer = io.BytesIO()
        rows.write_ipc_stream(buffer, compression="lz4")
        body = buffer.getvalue()
    return b"".join([MAGIC, bytes([VERSION]), len(header).to_bytes(4, "little"), header, body])


def unpack(payload: bytes | None, where: str) -> ExchangeRecord:
    """Reads a record.

    Args:
        where: topic, partition and offset, for the error.

    Raises:
        StateError: not such a record, of another version, or cut short.
    """
    if payload is None or payload[:4] != MAGIC or len(payload) < 9:
        raise StateError(f"{where}: not a record of an exchange; does something else write to this topic?")
    if payload[4] != VERSION:
        raise StateError(f"{where}: exchange format {payload[4]}; this version of Thalweg reads {VERSION}")
    start = 9 + int.from_bytes(payload[5:9], "little")
    try:
        header = msgspec.msgpack.decode(payload[9:start], type=_Header)
        rows = pl.read_ipc_stream(io.BytesIO(payload[start:])) if len(payload) > start else None
    except (msgspec.DecodeError, pl.exceptions.PolarsError, OSError, EOFError) as error:
        raise StateError(f"{where}: unreadable: {error}") from error
    reached = {(origin, p): Reached(wm, idle, clock, end) for origin, p, wm, idle, clock, end in header.reached}
    return ExchangeRecord(header.edge, reached, rows)


def runs_of_equal_columns(frames: Sequence[pl.DataFrame]) -> list[pl.DataFrame]:
    """Neighbouring frames with equal columns as one; the order of rows stays."""
    runs: list[list[pl.DataFrame]] = []
    for frame in frames:
        if runs and runs[-1][0].schema == frame.schema:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [run[0] if len(run) == 1 else pl.concat(run) for run in runs]

"""What crosses the border between a broker, a format and the engine: records in wire form, and dead letters.

Kafka, the embedded log and the formats know only this module of each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]


@dataclass(slots=True)
class RawRecords:
    """n records as the broker gave them: addresses, not copies.

    Payloads and keys are (address, length) pairs into memory that stays valid until `release()`; a length of -1 is a
    null. Decoders copy what they keep. `timestamp` is the broker's record time in ms UTC, -1 where it has none.
    """

    topic: str
    value_address: UInt64s
    value_length: Int64s
    key_address: UInt64s
    key_length: Int64s
    partition: Int32s
    offset: Int64s
    timestamp: Int64s
    owner: Any = None
    """Keeps the memory alive; its `release()`, where it has one, gives the memory back."""

    def __len__(self) -> int:
        return len(self.offset)

    def value(self, row: int) -> bytes | None:
        """Copies one payload out (for dead letters and the general parsers; not for the hot path)."""
        return _copy(self.value_address[row], self.value_length[row])

    def key(self, row: int) -> bytes | None:
        """Copies one key out."""
        return _copy(self.key_address[row], self.key_length[row])

    def release(self) -> None:
        """Gives the memory back; the addresses are dead afterwards."""
        owner, self.owner = self.owner, None
        if hasattr(owner, "release"):
            owner.release()


def _copy(address: np.uint64, length: np.int64) -> bytes | None:
    import ctypes

    return None if length < 0 else ctypes.string_at(int(address), int(length))


@dataclass(frozen=True, slots=True)
class DecodeError:
    """Why one record could not be read. `error_class` is one of the names in `thalweg.formats.errors`."""

    row: int
    error_class: str
    message: str


@dataclass(slots=True)
class Decoded:
    """The readable part of a `RawRecords`, as columns.

    `rows[i]` is the raw record that frame row i came from: ascending; a record that holds several rows (Arrow) repeats.
    None: row i is record i, and nothing failed.
    """

    frame: pl.DataFrame
    rows: Int64s | None = None
    errors: list[DecodeError] = field(default_factory=list)


class Decoder(Protocol):
    """Turns records in wire form into columns. Never raises for bad bytes: it reports them."""

    def decode(self, raw: RawRecords) -> Decoded: ...


@dataclass(slots=True)
class EncodedRecords:
    """n payloads in one buffer: record i is `data[offsets[i]:offsets[i + 1]]`."""

    data: Bytes
    offsets: Int64s

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Encoder(Protocol):
    """Turns a frame into one payload per row (or, for Arrow, one per frame)."""

    def encode(self, frame: pl.DataFrame) -> EncodedRecords: ...


DEAD_LETTER_SCHEMA = pl.Schema(
    {
        "topic": pl.String,  # where the event came from
        "partition": pl.Int32,
        "offset": pl.Int64,
        "timestamp": pl.Int64,  # the broker's record time, or the event time of a late event; ms UTC
        "key": pl.Binary,
        "payload": pl.Binary,  # truncated to `MAX_DEAD_PAYLOAD`; the event as JSON where the wire form is gone
        "payload_size": pl.Int64,  # before truncation
        "payload_sha256": pl.String,  # of the whole payload, set where it was truncated
        "operator": pl.String,  # which operator refused it: its stable id
        "error_class": pl.String,
        "error_message": pl.String,
        "details": pl.String,  # JSON: window, lateness, traceback … whatever the operator knows
        "attempt": pl.Int32,
    }
)
"""One row per event that could not be processed. Nothing vanishes: what is not here was processed."""

MAX_DEAD_PAYLOAD = 256 * 1024

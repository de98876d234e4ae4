"""`confluent_kafka`'s messages as records in wire form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.records import Int64s, RawRecords, UInt64s

if TYPE_CHECKING:
    from confluent_kafka import Message


class PlainOwner:
    """Keeps the bytes that a batch's addresses point into, and the messages for their headers."""

    def __init__(self, buffers: tuple[object, ...], messages: Sequence[Message]) -> None:
        self._buffers = buffers
        self._messages = messages

    def keep(self, rows: npt.NDArray[np.bool_]) -> PlainOwner:
        """The batch has lost its other rows."""
        self._messages = list(compress(self._messages, rows.tolist()))
        return self

    def share(self, rows: npt.NDArray[np.bool_]) -> PlainOwner:
        """The owner of a second batch, of these rows."""
        return PlainOwner(self._buffers, list(compress(self._messages, rows.tolist())))

    def headers(self, dtype: pl.DataType) -> pl.Series:
        """The records' headers; an empty list where a record has none."""
        rows = [
            [{"key": name, "value": value} for name, value in message.headers() or ()] for message in self._messages
        ]
        return pl.Series(rows, dtype=dtype)


def raw_records(topic: str, messages: Sequence[Message]) -> RawRecords:
    """Messages of one topic, copied."""
    values = _Column([message.value() for message in messages])
    keys = _Column([message.key() for message in messages])
    times = [message.timestamp() for message in messages]
    return RawRecords(
        topic,
        values.addresses,
        values.lengths,
        keys.addresses,
        keys.lengths,
        np.array([message.partition() for message in messages], dtype=np.int32),
        np.array([message.offset() for message in messages], dtype=np.int64),
        np.array([at if kind else -1 for kind, at in times], dtype=np.int64),
        PlainOwner((values.data, keys.data), messages),
    )


class _Column:
    """Byte strings in one buffer, by address and length; None has length -1."""

    def __init__(self, rows: Sequence[bytes | None]) -> None:
        self.data = np.frombuffer(b"".join(row for row in rows if row) or b"\0", dtype=np.uint8)
        self.lengths: Int64s = np.array([-1 if row is None else len(row) for row in rows], dtype=np.int64)
        sizes = np.maximum(self.lengths, 0)
        starts = (np.cumsum(sizes) - sizes).astype(np.uint64)
        self.addresses: UInt64s = np.where(self.lengths < 0, 0, starts + np.uint64(self.data.ctypes.data))

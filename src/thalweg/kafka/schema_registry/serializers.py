"""Rows to payloads and back, by a registry's format: for `producer.send` and programs that handle single records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from thalweg.errors import ConnectorError
from thalweg.records import RawRecords

if TYPE_CHECKING:
    from thalweg.kafka.schema_registry.base import RegistryFormat

Row = Mapping[str, Any]


class UnreadablePayload(ConnectorError):
    """A payload that its format can't read; `error_class` is one of the names in `thalweg.formats.errors`."""

    def __init__(self, error_class: str, message: str) -> None:
        super().__init__(f"{error_class}: {message}")
        self.error_class = error_class


class RowSerializer:
    """Writes rows of one topic. A frame is made of the rows of a call: many at once cost little more than one.

    >>> serialize = RowSerializer(AvroFormat(registry), "orders")                         # doctest: +SKIP
    >>> producer.send("orders", serialize({"id": 1, "price": 2.5}))                       # doctest: +SKIP
    """

    def __init__(self, format: RegistryFormat, topic: str) -> None:
        bound = format.for_topic(topic)
        given = bound.given_schema()
        self._columns = None if given is None else bound.columns(given)
        self._encoder = bound.encoder()

    def __call__(self, row: Row) -> bytes:
        """One row as its payload.

        Raises:
            ConfigurationError: a value that the schema does not take; it names the field.
            IncompatibleSchemaError: the subject does not take the schema.
        """
        return self.many([row])[0]

    def many(self, rows: Sequence[Row]) -> list[bytes]:
        """Rows as their payloads, in order; raises as for one."""
        if not rows:
            return []
        known = None if self._columns is None else dict(self._columns)
        frame = pl.DataFrame([dict(row) for row in rows], schema=known, infer_schema_length=None)
        encoded = self._encoder.encode(frame)
        return [encoded.data[a:b].tobytes() for a, b in pairwise(encoded.offsets.tolist())]


class RowDeserializer:
    """Reads payloads of one topic as rows."""

    def __init__(self, format: RegistryFormat, topic: str) -> None:
        self._topic = topic
        self._decoder = format.for_topic(topic).decoder()

    def __call__(self, payload: bytes | None) -> dict[str, Any]:
        """The row of a payload.

        Raises:
            UnreadablePayload: it can't be read; says why.
            RegistryUnavailableError: its schema was not read before, and the registry does not answer.
        """
        (found,) = self.many([payload])
        if isinstance(found, UnreadablePayload):
            raise found
        return found

    def many(self, payloads: Sequence[bytes | None]) -> list[dict[str, Any] | UnreadablePayload]:
        """The row of each payload, or why it can't be read."""
        if not payloads:
            return []
        decoded = self._decoder.decode(_raw(self._topic, payloads))
        found: list[Any] = [None] * len(payloads)
        for error in decoded.errors:
            found[error.row] = UnreadablePayload(error.error_class, error.message)
        rows = range(len(payloads)) if decoded.rows is None else decoded.rows.tolist()
        for at, row in zip(rows, decoded.frame.to_dicts(), strict=True):
            found[at] = row
        return found


def _raw(topic: str, payloads: Sequence[bytes | None]) -> RawRecords:
    """Payloads as a broker would hand them over."""
    data = np.frombuffer(b"".join(payload or b"" for payload in payloads) + b"\0", np.uint8)
    lengths = np.array([-1 if payload is None else len(payload) for payload in payloads], np.int64)
    taken = lengths.clip(min=0)
    n = len(lengths)
    addresses = (data.ctypes.data + np.cumsum(taken) - taken).astype(np.uint64)
    places = np.arange(n, dtype=np.int64)
    none = np.full(n, -1, np.int64)
    return RawRecords(
        topic, addresses, lengths, np.zeros(n, np.uint64), none, np.zeros(n, np.int32), places, none, data
    )

"""What a reader of Kafka gets: frames with reserved columns beside the value's own, and single records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError, ConnectorError, NotReady
from thalweg.formats import Format, open_format
from thalweg.formats.binary import binary_column
from thalweg.formats.dead_records import dead_records
from thalweg.formats.patience import serves_others
from thalweg.records import Decoder, Int64s, RawRecords

KEY, TOPIC, PARTITION, OFFSET, TIMESTAMP, HEADERS = (
    "__key",
    "__topic",
    "__partition",
    "__offset",
    "__ts",
    "__headers",
)
META = (KEY, TOPIC, PARTITION, OFFSET, TIMESTAMP, HEADERS)
VALUE = "value"


class BadRecords(ConnectorError):
    """Records that the format can't read. The readable ones beside them come with the next call.

    Attributes:
        letters: a frame with `thalweg.records.DEAD_LETTER_SCHEMA`, one row per such record.
    """

    def __init__(self, letters: pl.DataFrame) -> None:
        first = letters.row(0, named=True)
        super().__init__(
            f"{letters.height} records can't be read; the first is {first['topic']!r} [{first['partition']}] offset "
            f"{first['offset']}: {first['error_class']}: {first['error_message']}. Give on_bad_records=… to go on"
        )
        self.letters = letters


class KafkaRecord(NamedTuple):
    """One record. `timestamp` in ms UTC, None where the broker gave none; `headers` None unless they were asked for."""

    topic: str
    partition: int
    offset: int
    timestamp: int | None
    key: Any
    value: Any
    headers: list[tuple[str, bytes | None]] | None


class RecordReader:
    """Turns records in wire form into frames.

    Args:
        format: a format's name ("raw", "text", "json", "arrow" …) or a `Format`.
        schema, columns: as in `Format.decoder`.
        key_format: "raw" (Binary) or "text" (String).
        headers: add `__headers`.
    """

    def __init__(
        self,
        format: str | Format,
        *,
        schema: Mapping[str, Any] | None = None,
        columns: list[str] | None = None,
        key_format: str = "raw",
        headers: bool = False,
    ) -> None:
        if key_format not in ("raw", "text"):
            raise ConfigurationError(f'key_format is {key_format!r}; use "raw" or "text"')
        made = open_format(format) if isinstance(format, str) else format
        # Raw values need no decoder: the kernel that copies keys copies them too.
        self._decoder: Decoder | None = None if made.name == "raw" else made.decoder(schema, columns)
        if self._decoder is not None:
            serves_others(self._decoder)
        self.plain = made.name in ("raw", "text")
        self._text_keys = key_format == "text"
        self._headers = headers

    def read(self, raw: RawRecords) -> tuple[pl.DataFrame, pl.DataFrame | None]:
        """The readable records as rows and the others as dead letters; releases the records.

        Raises:
            NotReady: not now; the records are as they were.
        """
        ready = True
        try:
            if self._decoder is None:
                frame = pl.DataFrame({VALUE: _series(raw.value_address, raw.value_length)})
                return frame.with_columns(self._meta(raw, None)), None
            try:
                decoded = self._decoder.decode(raw)
            except NotReady:
                ready = False
                raise
            letters = dead_records(raw, decoded.errors)
            meta = self._meta(raw, decoded.rows)
        finally:
            if ready:
                raw.release()
        clash = set(META) & set(decoded.frame.columns)
        if clash:
            raise ConfigurationError(f"the records have fields with reserved names: {', '.join(sorted(clash))}")
        frame = decoded.frame.with_columns(meta) if decoded.frame.width else pl.DataFrame(meta)
        return frame, letters

    def _meta(self, raw: RawRecords, rows: Int64s | None) -> list[pl.Series]:
        keys = _series(raw.key_address, raw.key_length)
        times = pl.Series(TIMESTAMP, raw.timestamp, dtype=pl.Int64)
        if (raw.timestamp < 0).any():
            times = times.set(times < 0, None)
        found = [
            (_as_text(keys) if self._text_keys else keys).alias(KEY),
            pl.repeat(raw.topic, len(raw), dtype=pl.String, eager=True).alias(TOPIC),
            pl.Series(PARTITION, raw.partition, dtype=pl.Int32),
            pl.Series(OFFSET, raw.offset, dtype=pl.Int64),
            times,
        ]
        if self._headers:
            from thalweg.kafka._headers import headers_of

            found.append(headers_of(raw).alias(HEADERS))
        return found if rows is None else [column.gather(rows) for column in found]

    def records(self, frame: pl.DataFrame) -> Iterator[KafkaRecord]:
        """The rows of a frame made by `read`."""
        own = frame.select(pl.exclude(META))
        values = own[VALUE].to_list() if self.plain else own.to_dicts()
        headers: list[Any] = [None] * frame.height
        if HEADERS in frame.columns:
            headers = [[(pair["key"], pair["value"]) for pair in row] for row in frame[HEADERS].to_list()]
        lists = [frame[name].to_list() for name in (TOPIC, PARTITION, OFFSET, TIMESTAMP, KEY)]
        return map(KafkaRecord, *lists, values, headers)


def raw_of(values: Sequence[bytes | None], topic: str = "") -> RawRecords:
    """Values from elsewhere as records, for a decoder."""
    data = np.frombuffer(b"".join(value for value in values if value) or b"\0", dtype=np.uint8)
    lengths = np.array([-1 if value is None else len(value) for value in values], dtype=np.int64)
    sizes = np.maximum(lengths, 0)
    addresses = (data.ctypes.data + np.cumsum(sizes) - sizes).astype(np.uint64)
    rows, none = len(values), np.full(len(values), -1, dtype=np.int64)
    return RawRecords(topic, addresses, lengths, addresses, none, np.zeros(rows, np.int32), np.arange(rows), none, data)


def _series(addresses: Any, lengths: Any) -> pl.Series:
    return pl.Series(pl.from_arrow(binary_column(addresses, lengths)))


def _as_text(keys: pl.Series) -> pl.Series:
    """Keys as text; bytes that are not UTF-8 are replaced one by one."""
    try:
        return keys.cast(pl.String)
    except pl.exceptions.PolarsError:
        texts = [None if key is None else key.decode(errors="replace") for key in keys.to_list()]
        return pl.Series(texts, dtype=pl.String)

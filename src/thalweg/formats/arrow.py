"""Arrow IPC: a payload is one IPC stream that holds any number of rows."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from thalweg.formats.errors import ErrorClass, Refused
from thalweg.formats.schemas import check_known, joined, resolve
from thalweg.records import Decoded, DecodeError, Decoder, EncodedRecords, Encoder, RawRecords

_TEXTS = (pl.String, pl.Categorical, pl.Enum)


class ArrowFormat:
    """Frames as Arrow IPC streams: the cheapest form between Thalweg jobs, and many rows in one record."""

    name = "arrow"

    def decoder(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> Decoder:
        """A decoder for one stream.

        Raises:
            ConfigurationError: a wanted column that the schema lacks.
        """
        return ArrowDecoder(schema, columns)

    def encoder(self) -> Encoder:
        """An encoder: one payload per frame."""
        return ArrowEncoder()


class ArrowDecoder:
    """Reads payloads of possibly different schemas: columns are matched by name, missing ones are null.

    With a schema, columns are cast to its types where no value is lost, and others are dropped. Without one, new
    columns join as they appear and numeric types widen; a column that changes to an unrelated type is refused.
    """

    def __init__(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> None:
        self._closed = schema is not None
        self._only = None if columns is None else frozenset(columns)
        known = resolve(schema or {})
        if self._only is not None and self._closed:
            check_known(self._only, known)
            known = {name: dtype for name, dtype in known.items() if name in self._only}
        elif self._only is not None:
            known = {name: pl.Null() for name in sorted(self._only)}
        self._schema = known

    def decode(self, raw: RawRecords) -> Decoded:
        """Reads every record; one that can't be read is in `errors`, the others give their rows."""
        frames: list[pl.DataFrame] = []
        heights = np.zeros(len(raw), np.int64)
        errors: list[DecodeError] = []
        for row in range(len(raw)):
            try:
                frame = self._fit(_read(raw, row))
            except Refused as refusal:
                errors.append(DecodeError(row, str(refusal.error_class), refusal.message))
                continue
            heights[row] = frame.height
            frames.append(frame)
        rows = np.repeat(np.arange(len(raw), dtype=np.int64), heights)
        return Decoded(joined(frames, self._schema), rows, errors)

    def _fit(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The wanted columns of one payload in the types of the schema, which evolves where none was given."""
        if not self._closed:
            self._evolve(frame)
        return frame.select(
            _cast(frame[name], dtype) if name in frame.columns else pl.lit(None, dtype).alias(name)
            for name, dtype in self._schema.items()
        ) if self._schema else pl.DataFrame(height=frame.height)  # fmt: skip

    def _evolve(self, frame: pl.DataFrame) -> None:
        changes = {}
        for name, seen in frame.schema.items():
            if self._only is None or name in self._only:
                known = self._schema.get(name)
                changes[name] = seen if known is None else _wider(name, known, seen)
        self._schema.update(changes)


class ArrowEncoder:
    """Writes a frame as one payload; a frame without rows gives none."""

    packs_rows = True
    """One payload holds many rows, so rows have no keys or times of their own."""

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        """The frame as one Arrow IPC stream."""
        if frame.height == 0:
            return EncodedRecords(np.empty(0, np.uint8), np.zeros(1, np.int64))
        buffer = frame.write_ipc_stream(None)
        data = np.frombuffer(buffer.getvalue(), np.uint8)
        return EncodedRecords(data, np.array([0, len(data)], np.int64))


def _read(raw: RawRecords, row: int) -> pl.DataFrame:
    length = int(raw.value_length[row])
    if length < 0:
        raise Refused(ErrorClass.NULL_PAYLOAD, "the record has no value")
    if length == 0:
        raise Refused(ErrorClass.EMPTY_PAYLOAD, "the value has no bytes")
    # Copied: the frame may share memory with what it was read from, and the payload is given back.
    payload = ctypes.string_at(int(raw.value_address[row]), length)
    return _parse(payload)


def _parse(payload: bytes) -> pl.DataFrame:
    """Reads one IPC stream through Arrow C++, which checks untrusted bytes; Polars' own reader trusts them."""
    import pyarrow as pa

    try:
        with pa.ipc.open_stream(payload) as reader:
            table = reader.read_all()
        table.validate(full=True)
        frame = pl.from_arrow(table)
    except (
        pa.ArrowException,
        pl.exceptions.PolarsError,
        pl.exceptions.PanicException,
        OSError,
        ValueError,
        TypeError,
    ) as error:
        raise Refused(ErrorClass.BAD_ARROW, f"not a readable Arrow IPC stream: {error}") from None
    assert isinstance(frame, pl.DataFrame)
    return frame


def _cast(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    if series.dtype == dtype:
        return series
    if not _related(dtype, series.dtype):
        raise _unfit(series.name, dtype, series.dtype, "no cast between them keeps the meaning")
    try:
        return series.cast(dtype, strict=True)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        # Polars panics at times that are beyond its calendar, which damaged bytes may hold.
        raise _unfit(series.name, dtype, series.dtype, str(error).splitlines()[0]) from None


def _related(wanted: pl.DataType, seen: pl.DataType) -> bool:
    """Whether a cast from one type to the other keeps what values mean: numbers, texts, times of another unit."""
    return (
        (wanted.is_numeric() and seen.is_numeric())
        or type(wanted) is type(seen)
        or isinstance(seen, pl.Null)
        or (isinstance(wanted, _TEXTS) and isinstance(seen, _TEXTS))
        or (isinstance(wanted, pl.Datetime) and isinstance(seen, pl.Date))
    )


def _wider(name: str, known: pl.DataType, seen: pl.DataType) -> pl.DataType:
    """The type that holds both, by Polars' rules for numbers; strings and numbers have none."""
    if known == seen:
        return known
    if not _related(known, seen) and not isinstance(known, pl.Null):
        raise _unfit(name, known, seen, "declare a schema")
    try:
        pair = [pl.DataFrame(schema={name: known}), pl.DataFrame(schema={name: seen})]
        return pl.concat(pair, how="vertical_relaxed").schema[name]
    except pl.exceptions.PolarsError as error:
        raise _unfit(name, known, seen, str(error).splitlines()[0]) from None


def _unfit(name: str, known: pl.DataType, seen: pl.DataType, why: str) -> Refused:
    return Refused(ErrorClass.BAD_ARROW, f"column {name!r} is {seen}, expected {known}: {why}")

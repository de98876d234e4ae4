"""Avro records to columns: one reader's schema, and a program for each writer's schema that comes along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.avro.columns import Buffers, used_bytes
from thalweg.formats.avro.general import GeneralReader
from thalweg.formats.avro.program import NeedsGeneralReader, Program, SymbolViews, compile_program
from thalweg.formats.avro.schema import AvroType, parse
from thalweg.formats.avro.targets import build_targets
from thalweg.formats.avro.types import columns_of
from thalweg.formats.errors import MAX_CHUNK_BYTES, ErrorClass
from thalweg.formats.kernels import avro_values as why
from thalweg.formats.kernels import read_avro as kernel
from thalweg.formats.schemas import check_known, joined, resolve
from thalweg.records import Decoded, DecodeError, Int64s, RawRecords

_REASONS: dict[int, tuple[ErrorClass, str]] = {
    why.TRUNCATED: (ErrorClass.BAD_AVRO, "the record ends before the value does"),
    why.OVERLONG: (ErrorClass.BAD_AVRO, "an integer of more than 64 bits"),
    why.BAD_BRANCH: (ErrorClass.BAD_AVRO, "the union has no such branch"),
    why.BAD_SYMBOL: (ErrorClass.BAD_AVRO, "the enum has no such symbol"),
    why.BAD_BOOLEAN: (ErrorClass.BAD_AVRO, "a boolean that is neither 0 nor 1"),
    why.BAD_LENGTH: (ErrorClass.BAD_AVRO, "a negative length"),
    why.BAD_TEXT: (ErrorClass.BAD_UTF8, "text that is not UTF-8"),
    why.TRAILING: (ErrorClass.BAD_AVRO, "bytes are left behind the last field"),
    why.OUT_OF_RANGE: (ErrorClass.NUMBER_OUT_OF_RANGE, "the value is out of range of its type"),
    why.UNEXPECTED_NULL: (ErrorClass.WRONG_TYPE, "null, which the reader's schema does not take"),
    why.NO_MATCH: (ErrorClass.WRONG_TYPE, "a branch of the writer's union that the reader's schema does not take"),
    why.NO_PAYLOAD: (ErrorClass.NULL_PAYLOAD, "the record has no value"),
    why.EMPTY: (ErrorClass.EMPTY_PAYLOAD, "the value has no bytes"),
    why.UNKNOWN_SYMBOL: (ErrorClass.WRONG_TYPE, "an enum symbol that the reader's schema lacks"),
}


@dataclass(frozen=True, eq=False, slots=True)
class Writer:
    """A writer's schema, made ready for one reader: either part is set."""

    program: Program | None
    general: GeneralReader | None


class AvroReader:
    """Reads records of any writer's schema into the columns of one reader's schema.

    Args:
        reader: the schema that gives the columns (JSON text or data, or parsed).
        columns: the only columns to make; None for all. Text in others is not checked.

    Raises:
        AvroSchemaError: not an Avro schema.
        ConfigurationError: a wanted column that the schema lacks.

    >>> reader = AvroReader('{"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}')
    >>> dict(reader.schema)
    {'x': Int32}
    """

    def __init__(self, reader: Any, columns: Iterable[str] | None = None) -> None:
        self.node: AvroType = parse(reader) if isinstance(reader, str | dict | list) else reader
        every = columns_of(self.node)
        if columns is not None:
            columns = frozenset(columns)
            check_known(columns, every)
        self._columns = columns
        self._top = build_targets(self.node, columns)
        self._symbols: dict[int, SymbolViews] = {}
        self.schema = pl.Schema({target.name: target.dtype for target in self._top.children})

    def writer(self, schema: AvroType) -> Writer:
        """Resolves a writer's schema.

        Raises:
            AvroSchemaError: the reader's schema can't read it; says which field and why.
            MissingExtraError: it needs fastavro (a record within itself), which is not installed.
        """
        try:
            return Writer(compile_program(schema, self._top, self._symbols), None)
        except NeedsGeneralReader as reason:
            return Writer(None, GeneralReader(schema, self.node, self._top, str(reason)))

    def decode(self, raw: RawRecords, writer: Writer, *, header: int = 0, start: int = 0) -> Decoded:
        """Reads records that are all of one writer's schema.

        Args:
            header: bytes before the value in each record, which are not looked at.
            start: added to the row numbers that are reported.
        """
        lengths = np.ascontiguousarray(raw.value_length, np.int64)
        addresses = np.ascontiguousarray(raw.value_address).view(np.int64)
        if writer.general is not None:
            return writer.general.decode(raw, header)
        assert writer.program is not None
        if int(lengths.clip(min=0).sum()) <= MAX_CHUNK_BYTES:
            return self._decode(addresses, lengths, writer.program, header, start)
        return self._decode_in_chunks(addresses, lengths, writer.program, header)

    def _decode_in_chunks(self, addresses: Int64s, lengths: Int64s, program: Program, header: int) -> Decoded:
        """Arrow's views have 32-bit offsets, so that a chunk is at most 1 GiB; so is a record."""
        parts: list[Decoded] = []
        rows: list[Int64s] = []
        totals = np.cumsum(lengths.clip(min=0))
        at = 0
        while at < len(lengths):
            before = int(totals[at - 1]) if at else 0
            stop = max(int(np.searchsorted(totals, before + MAX_CHUNK_BYTES, side="right")), at + 1)
            if lengths[at] > MAX_CHUNK_BYTES:
                text = f"{lengths[at]} bytes; the most is {MAX_CHUNK_BYTES}"
                empty = pl.DataFrame(schema=self.schema)
                part = Decoded(empty, np.empty(0, np.int64), [DecodeError(at, str(ErrorClass.TOO_LARGE), text)])
            else:
                part = self._decode(addresses[at:stop], lengths[at:stop], program, header, at)
            rows.append(np.arange(at, stop) if part.rows is None else part.rows)
            parts.append(part)
            at = stop
        frame = joined([part.frame for part in parts], self.schema)
        return Decoded(frame, np.concatenate(rows), [error for part in parts for error in part.errors])

    def _decode(self, addresses: Int64s, lengths: Int64s, program: Program, header: int, start: int) -> Decoded:
        rows = len(lengths)
        buffers = Buffers(self._top, rows, int(lengths.clip(min=0).sum()))
        failures = np.zeros((rows, kernel.FAILURE_FIELDS), np.int64)
        state = np.zeros(kernel.STATE_FIELDS, np.int64)
        while True:
            done = kernel.read_avro(
                addresses, lengths, header, program.steps, program.tables, buffers.table, failures, state,
                buffers.side.ctypes.data, buffers.side_size, program.default_bytes,
            )  # fmt: skip
            if done == rows:
                break
            length = int(lengths[done])
            buffers.grow(length + program.default_bytes * (length + 1), used_bytes(state))
        series = [buffers.series(target, used_bytes(state), self._symbols) for target in self._top.children]
        failed = np.flatnonzero(failures[:, kernel.REASON])
        good = rows - len(failed)
        frame = pl.DataFrame(series) if series else pl.DataFrame(height=good)
        errors = [_error(failures[row], program, int(row) + start) for row in failed]
        if not errors:
            return Decoded(frame, None if start == 0 else np.arange(start, start + rows), [])
        return Decoded(frame, np.flatnonzero(failures[:, kernel.REASON] == 0) + start, errors)


def _error(failure: npt.NDArray[np.int64], program: Program, row: int) -> DecodeError:
    error_class, text = _REASONS[int(failure[kernel.REASON])]
    if failure[kernel.REASON] not in (why.TRAILING, why.NO_PAYLOAD, why.EMPTY) and len(program.paths):
        text = f"field {program.paths[int(failure[kernel.STEP])]!r}, at byte {int(failure[kernel.PLACE])}: {text}"
    elif failure[kernel.REASON] == why.TRAILING:
        text = f"at byte {int(failure[kernel.PLACE])}: {text}"
    return DecodeError(row, str(error_class), text)


class AvroDecoder:
    """Decodes Avro without a registry: every record is written with one known schema.

    Args:
        writer: the schema that the records are written with.
        reader: the schema to read them by; the writer's where not given.
        schema: column types that are wanted instead of those of the Avro schema; other columns are left out.
        columns: the only columns to make; None for all.

    Raises:
        AvroSchemaError: not an Avro schema, or the one can't be read by the other.
    """

    def __init__(
        self,
        writer: Any,
        reader: Any = None,
        *,
        schema: Mapping[str, Any] | None = None,
        columns: Iterable[str] | None = None,
    ) -> None:
        parsed = parse(writer) if isinstance(writer, str | dict | list) else writer
        node = parsed if reader is None else parse(reader) if isinstance(reader, str | dict | list) else reader
        self._cast = None if schema is None else Cast(schema, columns)
        known = columns_of(node)
        wanted = columns if self._cast is None else self._cast.columns & known.keys()
        self.reader = AvroReader(node, wanted)
        self._writer = self.reader.writer(parsed)

    def decode(self, raw: RawRecords) -> Decoded:
        """Reads every record; what can't be read is in `errors`, by row."""
        decoded = self.reader.decode(raw, self._writer)
        return decoded if self._cast is None else self._cast.apply(decoded)


class Cast:
    """Brings columns to the types that a stream's schema asks for; a value that does not fit fails its row."""

    def __init__(self, schema: Mapping[str, Any], columns: Iterable[str] | None = None) -> None:
        known = resolve(schema)
        if columns is not None:
            columns = frozenset(columns)
            check_known(columns, known)
            known = {name: dtype for name, dtype in known.items() if name in columns}
        self._types = known

    @property
    def columns(self) -> frozenset[str]:
        """The columns that are wanted."""
        return frozenset(self._types)

    def apply(self, decoded: Decoded) -> Decoded:
        """The frame with exactly the wanted columns: missing ones are null."""
        frame = decoded.frame
        made: list[pl.Series] = []
        bad: dict[int, str] = {}
        for name, dtype in self._types.items():
            if name not in frame.columns:
                made.append(pl.Series(name, [None], dtype=dtype).new_from_index(0, frame.height))
                continue
            given = frame[name]
            cast = given if given.dtype == dtype else _cast(given, dtype)
            if cast is not given:
                for row in (cast.is_null() & given.is_not_null()).arg_true().to_list():
                    bad.setdefault(row, f"field {name!r}: {given[row]!r:.80} does not fit {dtype}")
            made.append(cast)
        shaped = pl.DataFrame(made) if made else pl.DataFrame(height=frame.height)
        if not bad:
            return Decoded(shaped, decoded.rows, decoded.errors)
        return _without(shaped, decoded, bad)


def _cast(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    try:
        return series.cast(dtype, strict=False)
    except pl.exceptions.PolarsError as error:
        raise ConfigurationError(f"column {series.name!r}: {series.dtype} can't be read as {dtype}: {error}") from error


def _without(frame: pl.DataFrame, decoded: Decoded, bad: Mapping[int, str]) -> Decoded:
    rows = np.arange(frame.height) if decoded.rows is None else decoded.rows
    good = np.ones(frame.height, bool)
    good[list(bad)] = False
    errors = [DecodeError(int(rows[row]), str(ErrorClass.WRONG_TYPE), text) for row, text in bad.items()]
    return Decoded(
        frame.filter(pl.Series(good)), rows[good], sorted([*decoded.errors, *errors], key=lambda error: error.row)
    )

"""Protobuf messages to columns: by a kernel, and where that can't, a record at a time by Google's own library."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import polars as pl

from thalweg.formats.avro.columns import Buffers, used_bytes
from thalweg.formats.errors import MAX_CHUNK_BYTES, ErrorClass
from thalweg.formats.schemas import joined
from thalweg.kafka.schema_registry.by_topic import Within
from thalweg.kafka.schema_registry.framing import HEADER, Refusal, decode_by_id, part, together
from thalweg.kafka.schema_registry.protobuf_columns import frame_of
from thalweg.kafka.schema_registry.protobuf_program import Program, compile_program
from thalweg.kafka.schema_registry.protobuf_slots import NeedsLibrary
from thalweg.kafka.schema_registry.protobuf_types import Messages, columns_of, message_at, read_index, write_index
from thalweg.kafka.schema_registry.resolving import Resolver
from thalweg.kafka.schema_registry.schema import Schema
from thalweg.records import Decoded, DecodeError, Int64s, RawRecords

if TYPE_CHECKING:
    from thalweg.kafka.schema_registry.protobuf import ProtobufFormat

logger = logging.getLogger("thalweg.kafka")


class MessageReader:
    """Reads messages of one type, as far as the kernel does.

    Args:
        program: see `compile_program`.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._schema = pl.Schema({slot.name: slot.dtype for slot in program.top.children})

    def read(self, raw: RawRecords, prefix: bytes, header: int = 0) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
        """The records that the kernel can read as rows, and which it can't.

        Args:
            prefix: what comes before each message.
            header: bytes before that, which are not looked at.
        """
        lengths = np.ascontiguousarray(raw.value_length, np.int64)
        addresses = np.ascontiguousarray(raw.value_address).view(np.int64)
        return self._read(addresses, lengths, prefix, header)

    def _read(
        self, addresses: Int64s, lengths: Int64s, prefix: bytes, header: int
    ) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
        if int(lengths.clip(min=0).sum()) <= MAX_CHUNK_BYTES:
            return self._run(addresses, lengths, prefix, header)
        if len(lengths) == 1:
            return pl.DataFrame(schema=self._schema), np.ones(1, bool)
        middle = len(lengths) // 2  # Arrow's views have 32-bit offsets
        halves = [
            self._read(addresses[rows], lengths[rows], prefix, header) for rows in (slice(middle), slice(middle, None))
        ]
        return joined([frame for frame, _ in halves], self._schema), np.concatenate([refused for _, refused in halves])

    def _run(
        self, addresses: Int64s, lengths: Int64s, prefix: bytes, header: int
    ) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
        from thalweg.formats.kernels import read_protobuf as kernel

        program, rows = self._program, len(lengths)
        buffers = Buffers(program.top, rows, int(lengths.clip(min=0).sum()) + 1)
        seen, refused = np.zeros(len(buffers.table), np.int64), np.zeros(rows, np.int64)
        state = np.zeros(kernel.STATE_FIELDS, np.int64)
        before = np.frombuffer(prefix or b"\0", np.uint8)
        while True:
            done = kernel.read_protobuf(
                addresses, lengths, header, before.ctypes.data, len(prefix), program.messages, program.fields,
                program.tables, program.rules, buffers.table, seen, refused, state, buffers.side.ctypes.data,
                buffers.side_size,
            )  # fmt: skip
            if done == rows:
                break
            buffers.grow(int(lengths[done]) + 1, used_bytes(state))
        series = [buffers.series(slot, used_bytes(state), program.symbols) for slot in program.top.children]
        is_refused = refused != 0
        height = rows - int(is_refused.sum())
        return pl.DataFrame(series) if series else pl.DataFrame(height=height), is_refused


@dataclass(frozen=True, slots=True)
class _Writer:
    """A schema that records are written by. `prefix`: how they name the wanted message; None: it has none of them."""

    messages: Messages
    prefix: bytes | None


class ProtobufReader:
    """Reads the records of one topic by the type of the reader's schema, fixed at the first batch."""

    def __init__(self, format: ProtobufFormat, columns: frozenset[str] | None, within: Within) -> None:
        self._format = format
        self._columns = columns
        self._type: Any = None
        self._kernel: MessageReader | None = None
        self._writer = Resolver(format, self._resolve, within)

    def decode(self, raw: RawRecords) -> Decoded:
        """See `ByTopic`."""
        return decode_by_id(raw, self._part)

    def _part(self, schema_id: int, raw: RawRecords) -> Decoded | Refusal:
        writer = self._writer(schema_id)
        return writer if isinstance(writer, Refusal) else self._read(raw, writer)

    def _resolve(self, schema: Schema) -> _Writer:
        messages = self._format.compiled(schema)
        if self._type is None:
            self._open(messages)
        same = messages.by_name.get(self._type.full_name)
        return _Writer(messages, None if same is None else write_index(same))

    def _open(self, first: Messages) -> None:
        """Fixes the type: of the given schema, the subject's latest, or (where there is none) the first record's."""
        found = self._format.reader_schema()
        descriptor = self._format.message_of(first if found is None else self._format.compiled(found))
        schema = columns_of(descriptor)
        if self._columns is not None:
            schema = pl.Schema({name: dtype for name, dtype in schema.items() if name in self._columns})
        try:
            self._kernel = MessageReader(compile_program(descriptor, schema))
        except NeedsLibrary as reason:
            logger.info("%s is read a message at a time: %s", descriptor.full_name, reason)
        self._schema = schema
        self._type = descriptor

    def _read(self, raw: RawRecords, writer: _Writer) -> Decoded:
        if self._kernel is None or writer.prefix is None:
            return self._by_library(raw, writer.messages)
        frame, refused = self._kernel.read(raw, writer.prefix, HEADER)
        if not refused.any():
            return Decoded(frame)
        rows = np.flatnonzero(refused)
        rest = self._by_library(part(raw, rows), writer.messages)
        errors = [DecodeError(int(rows[error.row]), error.error_class, error.message) for error in rest.errors]
        read = rows if rest.rows is None else rows[rest.rows]
        return together([Decoded(frame, np.flatnonzero(~refused)), Decoded(rest.frame, read)], errors, self._schema)

    def _by_library(self, raw: RawRecords, writer: Messages) -> Decoded:
        parse = _parser(writer, self._type)
        rows: list[int] = []
        messages: list[Any] = []
        errors: list[DecodeError] = []
        for row in range(len(raw)):
            try:
                messages.append(parse(raw.value(row) or b""))
                rows.append(row)
            except _Unreadable as problem:
                errors.append(DecodeError(row, str(problem.error_class), str(problem)))
        frame, failures = frame_of(messages, self._type, self._schema)
        if failures:
            errors += [DecodeError(rows[at], str(kind), text) for at, (kind, text) in failures.items()]
            errors.sort(key=lambda error: error.row)
            keep = np.array([at not in failures for at in range(len(rows))])
            frame, rows = frame.filter(pl.Series(keep)), np.array(rows)[keep].tolist()
        return Decoded(frame, np.array(rows, np.int64) if errors else None, errors)


def _parser(writer: Messages, descriptor: Any) -> Callable[[bytes], Any]:
    """A function that parses one record, path included; it raises `_Unreadable`."""
    from google.protobuf.message import DecodeError as Damaged
    from google.protobuf.message_factory import GetMessageClass

    parse = GetMessageClass(descriptor).FromString
    fitting: set[tuple[int, ...]] = set()

    def parsed(payload: bytes) -> Any:
        try:
            path, place = read_index(payload, HEADER)
            if path not in fitting:
                _check_type(message_at(writer, path), descriptor)
                fitting.add(path)
        except (ValueError, IndexError) as error:
            raise _Unreadable(ErrorClass.BAD_PROTOBUF, f"which message: {error}") from None
        try:
            return parse(payload[place:])
        except Damaged as error:
            raise _Unreadable(ErrorClass.BAD_PROTOBUF, str(error)) from None

    return parsed


def _check_type(written: Any, wanted: Any) -> None:
    if written.full_name != wanted.full_name:
        text = f"a {written.full_name}, where {wanted.full_name} is read"
        raise _Unreadable(ErrorClass.INCOMPATIBLE_SCHEMA, text)


class _Unreadable(Exception):
    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class

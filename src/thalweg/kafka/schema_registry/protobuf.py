"""Protobuf by a schema registry: messages to columns and back, parsed by Google's own library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.avro.decoder import Cast
from thalweg.formats.errors import ErrorClass, UnwritableError
from thalweg.formats.writable import Encoded, EncodeError, without_empty
from thalweg.kafka.schema_registry.base import RegistryFormat
from thalweg.kafka.schema_registry.errors import SchemaRegistryError
from thalweg.kafka.schema_registry.framing import HEADER, Refusal, decode_by_id, header_of
from thalweg.kafka.schema_registry.protobuf_columns import frame_of
from thalweg.kafka.schema_registry.protobuf_types import (
    Messages,
    columns_of,
    compile_messages,
    message_at,
    read_index,
    set_row,
    write_index,
)
from thalweg.kafka.schema_registry.resolving import Resolver
from thalweg.kafka.schema_registry.schema import Schema, SchemaType
from thalweg.records import Decoded, DecodeError, Decoder, EncodedRecords, Encoder, RawRecords


@dataclass(frozen=True)
class ProtobufFormat(RegistryFormat):
    """Protobuf messages in the registry's wire form; see `RegistryFormat` for the other settings.

    Needs `pip install 'thalweg[protobuf]'` (the compiler of `.proto` text and Google's runtime).

    Args:
        message: which message of the schema to write, and to read; None: its first one.
    """

    message: str | None = None

    name = "protobuf"
    type = SchemaType.PROTOBUF

    def decoder(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> Decoder:
        """A decoder for one stream: the columns are the message's fields."""
        return RegistryProtobufDecoder(self, schema, columns)

    def encoder(self) -> Encoder:
        """An encoder: one message per row."""
        return RegistryProtobufEncoder(self)

    def columns(self, schema: Schema) -> pl.Schema | None:
        return columns_of(self.message_of(self.compiled(schema)))

    def record_name(self, schema: Schema) -> str:
        return str(self.message_of(self.compiled(schema)).full_name)

    def compiled(self, schema: Schema) -> Messages:
        """The messages of a schema, with those of the files that it imports.

        Raises:
            SchemaRegistryError: the schema is of another language, or not valid.
        """
        if schema.type is not SchemaType.PROTOBUF:
            raise SchemaRegistryError(f"the schema is {schema.type}, not Protobuf")
        return compile_messages(schema.text, self.client.named_references(schema))

    def message_of(self, messages: Messages) -> Any:
        """The descriptor of the wanted message.

        Raises:
            ConfigurationError: the schema has no message of that name.
        """
        if self.message is None:
            return message_at(messages, (0,))
        for name in (self.message, f"{messages.file.package}.{self.message}"):
            if name in messages.by_name:
                return messages.by_name[name]
        raise ConfigurationError(f"there is no message {self.message!r}; the schema has {', '.join(messages.by_name)}")


class RegistryProtobufDecoder:
    """Reads messages by the reader's type: fields that it lacks are dropped, fields that the writer lacks are unset."""

    def __init__(self, format: ProtobufFormat, schema: Mapping[str, Any] | None, columns: Iterable[str] | None) -> None:
        self._format = format
        self._cast = None if schema is None else Cast(schema, columns)
        self._columns = None if columns is None else frozenset(columns)
        self._readers: dict[str, _Reader] = {}

    def decode(self, raw: RawRecords) -> Decoded:
        """Reads every record; what can't be read is in `errors`, by row.

        Raises:
            RegistryUnavailableError: a schema is needed that was not read before.
        """
        topic = self._format.topic or raw.topic
        if topic not in self._readers:
            wanted = self._columns if self._cast is None else self._cast.columns
            self._readers[topic] = _Reader(self._format.for_topic(topic), wanted)
        decoded = self._readers[topic].decode(raw)
        return decoded if self._cast is None else self._cast.apply(decoded)


class _Reader:
    def __init__(self, format: ProtobufFormat, columns: frozenset[str] | None) -> None:
        self._format = format
        self._columns = columns
        self._type: Any = None
        self._writer = Resolver(format, format.compiled)

    def decode(self, raw: RawRecords) -> Decoded:
        return decode_by_id(raw, self._part)

    def _part(self, schema_id: int, raw: RawRecords) -> Decoded | Refusal:
        writer = self._writer(schema_id)
        return writer if isinstance(writer, Refusal) else self._read(raw, writer)

    def _reader(self, writer: Messages) -> Any:
        if self._type is None:
            found = self._format.reader_schema()
            self._type = self._format.message_of(writer if found is None else self._format.compiled(found))
        return self._type

    def _read(self, raw: RawRecords, writer: Messages) -> Decoded:
        descriptor = self._reader(writer)
        schema = columns_of(descriptor)
        if self._columns is not None:
            schema = pl.Schema({name: dtype for name, dtype in schema.items() if name in self._columns})
        parse = self._parser(writer, descriptor)
        rows: list[int] = []
        messages: list[Any] = []
        errors: list[DecodeError] = []
        for row in range(len(raw)):
            try:
                messages.append(parse(raw.value(row) or b""))
                rows.append(row)
            except _Unreadable as problem:
                errors.append(DecodeError(row, str(problem.error_class), str(problem)))
        frame, failures = frame_of(messages, descriptor, schema)
        if failures:
            errors += [DecodeError(rows[at], str(kind), text) for at, (kind, text) in failures.items()]
            errors.sort(key=lambda error: error.row)
            keep = np.array([at not in failures for at in range(len(rows))])
            frame, rows = frame.filter(pl.Series(keep)), np.array(rows)[keep].tolist()
        return Decoded(frame, np.array(rows, np.int64) if errors else None, errors)

    def _parser(self, writer: Messages, descriptor: Any) -> Callable[[bytes], Any]:
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


class RegistryProtobufEncoder:
    """Writes rows as messages of the given schema, or of the subject's latest."""

    def __init__(self, format: ProtobufFormat) -> None:
        self._format = format
        self._ready: tuple[bytes, Any] | None = None

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        """One payload per row; null leaves a field unset, a column that the message lacks is left out.

        Raises:
            ConfigurationError: no schema to write by, or a value that its field can't hold.
            IncompatibleSchemaError: the subject does not take the schema.
        """
        encoded = self.encode_rows(frame)
        if encoded.errors:
            raise UnwritableError(encoded.errors[0].message)
        return encoded.records

    def encode_rows(self, frame: pl.DataFrame) -> Encoded:
        """One payload per row that the message can hold; the others are in `errors`.

        Raises:
            ConfigurationError, IncompatibleSchemaError: as `encode`.
        """
        from google.protobuf.message_factory import GetMessageClass

        if self._ready is None:
            self._ready = self._open()
        header, descriptor = self._ready
        make = GetMessageClass(descriptor)
        payloads = []
        errors = []
        for number, row in enumerate(frame.iter_rows(named=True)):
            message = make()
            try:
                set_row(message, row)
            except (TypeError, ValueError) as error:
                text = f"row {number} is no {descriptor.full_name}: {error}"
                errors.append(EncodeError(number, str(ErrorClass.UNWRITABLE), text))
                payloads.append(b"")
                continue
            payloads.append(header + message.SerializeToString(deterministic=True))
        offsets = np.zeros(len(payloads) + 1, np.int64)
        np.cumsum([len(payload) for payload in payloads], out=offsets[1:])
        return without_empty(EncodedRecords(np.frombuffer(b"".join(payloads), np.uint8), offsets), errors)

    def _open(self) -> tuple[bytes, Any]:
        given = self._format.given_schema()
        if given is None and not self._format.use_latest:
            raise ConfigurationError("protobuf: give schema= (the text of a .proto file), or use_latest=True")
        found = self._format.writer_schema(given or Schema("", SchemaType.PROTOBUF))
        descriptor = self._format.message_of(self._format.compiled(found.schema))
        return header_of(found.id) + write_index(descriptor), descriptor

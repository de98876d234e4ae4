"""Protobuf by a schema registry: messages to columns and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import ConfigurationError
from thalweg.formats.errors import ErrorClass, UnwritableError
from thalweg.formats.writable import Encoded, EncodeError, without_empty
from thalweg.kafka.schema_registry.base import RegistryFormat
from thalweg.kafka.schema_registry.by_topic import CastByTopic, TopicReader, Within
from thalweg.kafka.schema_registry.errors import SchemaRegistryError
from thalweg.kafka.schema_registry.framing import header_of
from thalweg.kafka.schema_registry.protobuf_reader import ProtobufReader
from thalweg.kafka.schema_registry.protobuf_types import (
    Messages,
    columns_of,
    compile_messages,
    message_at,
    set_row,
    write_index,
)
from thalweg.kafka.schema_registry.schema import Schema, SchemaType
from thalweg.records import Decoder, EncodedRecords, Encoder


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


class RegistryProtobufDecoder(CastByTopic[ProtobufFormat]):
    """Reads messages by the reader's type: fields that it lacks are dropped, fields that the writer lacks are unset."""

    def _open(self, format: ProtobufFormat, within: Within) -> TopicReader:
        return ProtobufReader(format, self._columns, within)


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

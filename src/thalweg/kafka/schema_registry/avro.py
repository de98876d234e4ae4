"""Avro by a schema registry: records of any registered schema into the columns of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from thalweg.formats.avro.decoder import AvroReader, Writer
from thalweg.formats.avro.encoder import AvroEncoder
from thalweg.formats.avro.schema import AvroType, Record
from thalweg.formats.avro.types import avro_of, columns_of
from thalweg.formats.writable import Encoded
from thalweg.kafka.schema_registry.base import RegistryFormat
from thalweg.kafka.schema_registry.by_topic import CastByTopic, TopicReader, Within
from thalweg.kafka.schema_registry.framing import HEADER, Refusal, decode_by_id, header_of
from thalweg.kafka.schema_registry.resolving import Resolver
from thalweg.kafka.schema_registry.schema import Schema, SchemaType
from thalweg.records import Decoded, Decoder, EncodedRecords, Encoder, RawRecords


@dataclass(frozen=True)
class AvroFormat(RegistryFormat):
    """Avro in the registry's wire form; see `RegistryFormat` for the settings.

    >>> app.stream("orders", format=AvroFormat(SchemaRegistryClient("http://localhost:8081")))  # doctest: +SKIP
    """

    name = "avro"
    type = SchemaType.AVRO

    def decoder(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> Decoder:
        """A decoder for one stream.

        Args:
            schema: column types that are wanted instead of the Avro schema's.
            columns: the only columns to make.
        """
        return RegistryAvroDecoder(self, schema, columns)

    def encoder(self) -> Encoder:
        """An encoder: one record per row."""
        return RegistryAvroEncoder(self)

    def columns(self, schema: Schema) -> pl.Schema | None:
        return pl.Schema(columns_of(self.client.avro(schema)))

    def record_name(self, schema: Schema) -> str:
        node = self.client.avro(schema)
        return node.name if isinstance(node, Record) else ""


class RegistryAvroDecoder(CastByTopic[AvroFormat]):
    """Reads records of several schemas into the columns of one: the reader's schema, fixed at the first batch."""

    def _open(self, format: AvroFormat, within: Within) -> TopicReader:
        return _TopicReader(format, self._columns, within)


class _TopicReader:
    """The reader of one topic, and what it knows of each schema id."""

    def __init__(self, format: AvroFormat, columns: frozenset[str] | None, within: Within) -> None:
        self._format = format
        self._columns = columns
        self._reader: AvroReader | None = None
        self._writer = Resolver(format, self._resolve, within)

    def decode(self, raw: RawRecords) -> Decoded:
        return decode_by_id(raw, self._part, None if self._reader is None else self._reader.schema)

    def _part(self, schema_id: int, raw: RawRecords) -> Decoded | Refusal:
        writer = self._writer(schema_id)
        return writer if isinstance(writer, Refusal) else self._opened(None).decode(raw, writer, header=HEADER)

    def _resolve(self, schema: Schema) -> Writer:
        node = self._format.client.avro(schema)
        return self._opened(node).writer(node)

    def _opened(self, first: AvroType | None) -> AvroReader:
        """The reader: of the given schema, the subject's latest, or (where there is none) the first record's."""
        if self._reader is None:
            found = self._format.reader_schema()
            node = first if found is None else self._format.client.avro(found)
            assert node is not None
            self._reader = AvroReader(node, None if self._columns is None else self._columns & columns_of(node).keys())
        return self._reader


class RegistryAvroEncoder:
    """Writes rows by the given schema, the subject's latest, or one made from the columns; registers it before the
    first record. Frames of other columns get a schema of their own, where the subject takes it."""

    def __init__(self, format: AvroFormat) -> None:
        self._format = format
        self._encoders: dict[tuple[tuple[str, pl.DataType], ...], AvroEncoder] = {}

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        """One payload per row.

        Raises:
            IncompatibleSchemaError: the subject does not take the schema.
            ConfigurationError: a column that can't be written as the schema says.
        """
        return self._for(frame).encode(frame)

    def encode_rows(self, frame: pl.DataFrame) -> Encoded:
        """One payload per row that the schema takes; the others are in `errors`.

        Raises:
            IncompatibleSchemaError: the subject does not take the schema.
            ConfigurationError: a column that can't be written as the schema says.
        """
        return self._for(frame).encode_rows(frame)

    def _for(self, frame: pl.DataFrame) -> AvroEncoder:
        shape = tuple(frame.schema.items())
        if shape not in self._encoders:
            self._encoders[shape] = self._open(frame)
        return self._encoders[shape]

    def _open(self, frame: pl.DataFrame) -> AvroEncoder:
        name = "".join(c if c.isalnum() else "_" for c in self._format.topic or "Event")
        inferred = Schema(json.dumps(avro_of(frame.schema, name)))
        found = self._format.writer_schema(inferred)
        return AvroEncoder(self._format.client.avro(found.schema), header=header_of(found.id))

"""What the three registry formats have in common: a registry, a subject, and which schema to read and write by."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Self

import polars as pl

from thalweg.durations import Duration
from thalweg.errors import ConfigurationError
from thalweg.kafka.schema_registry.client import SchemaRegistryClient
from thalweg.kafka.schema_registry.errors import UnknownSchemaError
from thalweg.kafka.schema_registry.schema import Reference, RegisteredSchema, Schema, SchemaType
from thalweg.kafka.schema_registry.subjects import SubjectStrategy, strategy_of
from thalweg.kafka.schema_registry.transport import RegistryAccess, access_from_environment
from thalweg.records import Decoder, Encoder


@dataclass(frozen=True)
class RegistryFormat:
    """A wire form whose records name a schema of a registry: `open_format` takes it in place of a name.

    Args:
        registry: the client; None: one for the registry that the environment names.
        schema: to write by, and to read by (JSON or Protobuf text, or data). None: written by a schema made from the
            frame's columns, read by the subject's latest.
        subject: "topic", "record", "topic-record", or a function; or the subject itself with `subject_name`.
        subject_name: the subject, whatever the topic.
        auto_register: register the schema that is written by, where the subject has it not; False: it must be there.
        use_latest: write by the subject's latest version instead.
        references: other subjects' schemas that `schema` uses.
        is_key: of record keys.
        wait: while the registry does not answer for a schema that was not read before, the topic waits, and goes on by
            itself. After this long its records are dead letters (`SchemaUnavailable`) instead; None: never.
    """

    registry: SchemaRegistryClient | None = None
    schema: Any = None
    subject: str | SubjectStrategy = "topic"
    subject_name: str | None = None
    auto_register: bool = True
    use_latest: bool = False
    references: tuple[Reference, ...] = ()
    is_key: bool = False
    topic: str | None = None
    wait: Duration | None = None

    name = ""
    type = SchemaType.AVRO

    def __post_init__(self) -> None:
        strategy_of(self.subject)
        if self.use_latest and self.schema is not None:
            raise ConfigurationError(f"{self.name}: give a schema to write by, or use_latest=True, not both")

    def for_topic(self, topic: str) -> Self:
        """The same for one topic, whose name the subject follows."""
        return replace(self, topic=topic, registry=self.client)

    @property
    def client(self) -> SchemaRegistryClient:
        """The registry's client."""
        return self.registry or _shared(access_from_environment())

    def stream_schema(self, topic: str) -> pl.Schema | None:
        """The columns that a stream of this topic has, as far as the registry knows now: None, where the subject has no
        version yet."""
        bound = self.for_topic(topic)
        found = bound.reader_schema()
        return None if found is None else bound.columns(found)

    def decoder(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> Decoder:
        """A decoder for one stream; see `thalweg.formats.Format`."""
        raise NotImplementedError

    def encoder(self) -> Encoder:
        """An encoder: one record per row."""
        raise NotImplementedError

    def columns(self, schema: Schema) -> pl.Schema | None:
        """The columns of a schema, None where it does not say them all."""
        raise NotImplementedError

    def record_name(self, schema: Schema) -> str:
        """The full name of the record that a schema describes, for subject strategies."""
        raise NotImplementedError

    def given_schema(self) -> Schema | None:
        """The schema that the user gave."""
        if self.schema is None or isinstance(self.schema, Schema):
            return self.schema
        text = self.schema if isinstance(self.schema, str) else json.dumps(self.schema)
        return Schema(text, self.type, self.references)

    def subject_of(self, schema: Schema | None) -> str:
        """The subject of the topic.

        Raises:
            ConfigurationError: no topic, or a strategy that needs a schema to name one.
        """
        if self.subject_name is not None:
            return self.subject_name
        if self.topic is None:
            raise ConfigurationError(f"format {self.name!r}: which topic? Give subject_name=, or use it in a stream")
        return strategy_of(self.subject)(self.topic, "" if schema is None else self.record_name(schema), self.is_key)

    def reader_schema(self) -> Schema | None:
        """The schema to read by: the given one, else the subject's latest; None where there is none yet."""
        given = self.given_schema()
        if given is not None:
            return given
        if self.subject != "topic" and self.subject_name is None:
            return None  # the subject follows from a record's schema: the first one decides
        try:
            return self.client.latest(self.subject_of(None)).schema
        except UnknownSchemaError:
            return None

    def writer_schema(self, inferred: Schema) -> RegisteredSchema:
        """The schema to write by, with its id; registered where it has to be.

        Raises:
            IncompatibleSchemaError: the subject does not take it.
            UnknownSchemaError: it is not there, and `auto_register` is off.
        """
        wanted = self.given_schema() or inferred
        subject = self.subject_of(wanted)
        if self.use_latest:
            return self.client.latest(subject)
        if not self.auto_register:
            return self.client.lookup(subject, wanted)
        return RegisteredSchema(subject, 0, self.client.register(subject, wanted), wanted)

    def __str__(self) -> str:
        return self.name


@cache
def _shared(access: RegistryAccess) -> SchemaRegistryClient:
    """One client for each registry that the environment has named."""
    return SchemaRegistryClient(access)

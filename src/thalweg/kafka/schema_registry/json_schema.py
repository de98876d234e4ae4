"""JSON by a schema registry: read and written by the columnar JSON kernels, checked against its schema on request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from thalweg.errors import MissingExtraError
from thalweg.formats.errors import ErrorClass
from thalweg.formats.json.decoder import JsonDecoder
from thalweg.formats.json.encoder import JsonEncoder
from thalweg.formats.writable import Encoded, EncodeError, without
from thalweg.kafka.schema_registry.base import RegistryFormat
from thalweg.kafka.schema_registry.by_topic import ByTopic, TopicReader, Within
from thalweg.kafka.schema_registry.errors import SchemaRegistryError
from thalweg.kafka.schema_registry.framing import HEADER, Refusal, decode_by_id, header_of, part, with_header
from thalweg.kafka.schema_registry.json_types import columns_of, json_schema_of
from thalweg.kafka.schema_registry.json_validation import Problem, Validation
from thalweg.kafka.schema_registry.resolving import Resolver
from thalweg.kafka.schema_registry.schema import Schema, SchemaType
from thalweg.records import Decoded, DecodeError, Decoder, EncodedRecords, Encoder, RawRecords


@dataclass(frozen=True)
class JsonSchemaFormat(RegistryFormat):
    """JSON objects in the registry's wire form; see `RegistryFormat` for the other settings.

    Args:
        validate: check every record against its schema, in and out: batches by column expressions, and records or
            schemas of which these are not sure by the package `jsonschema`, some ten thousand a second.
    """

    validate: bool = False

    name = "json-schema"
    type = SchemaType.JSON

    def decoder(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> Decoder:
        """A decoder for one stream; the columns are the given ones, else those of the JSON Schema, else inferred."""
        return RegistryJsonDecoder(self, schema, columns)

    def encoder(self) -> Encoder:
        """An encoder: one object per row."""
        return RegistryJsonEncoder(self)

    def columns(self, schema: Schema) -> pl.Schema | None:
        return columns_of(json.loads(schema.text))

    def record_name(self, schema: Schema) -> str:
        return str(json.loads(schema.text).get("title", ""))

    def validation(self, schema: Schema) -> Validation:
        """What checks values against a schema and those that it refers to.

        Raises:
            MissingExtraError: `jsonschema` is not installed.
            SchemaRegistryError: the schema is not valid in its draft.
        """
        try:
            import jsonschema
            import referencing
            from referencing.jsonschema import DRAFT7
        except ImportError:
            raise MissingExtraError("validate=True needs jsonschema: pip install 'thalweg[jsonschema]'") from None
        wanted = json.loads(schema.text)
        kind = jsonschema.validators.validator_for(wanted)
        try:
            kind.check_schema(wanted)
        except jsonschema.SchemaError as error:
            raise SchemaRegistryError(f"the JSON Schema is not valid: {error.json_path}: {error.message}") from error
        known: Any = referencing.Registry()
        for name, text in self.client.named_references(schema).items():
            resource: Any = referencing.Resource.from_contents(json.loads(text), default_specification=DRAFT7)
            known = known.with_resource(name, resource)
        return Validation(wanted, kind.VALIDATORS.keys(), _problems(kind(wanted, registry=known)))


def _problems(validator: Any) -> Problem:
    from referencing.exceptions import Unresolvable

    def problem(value: Any) -> str | None:
        try:
            error = next(validator.iter_errors(value), None)
        except Unresolvable as missing:
            return f"its JSON Schema refers to what is not there: {missing}"[:500]
        return None if error is None else f"{error.json_path}: {error.message}"[:500]

    return problem


class RegistryJsonDecoder(ByTopic[JsonSchemaFormat]):
    """Reads the JSON behind each schema id."""

    def _open(self, format: JsonSchemaFormat, within: Within) -> TopicReader:
        return _TopicReader(format, self._schema, self._columns, within)


class _TopicReader:
    """The reader of one topic: its columns are fixed with the first schema that comes."""

    def __init__(
        self,
        format: JsonSchemaFormat,
        schema: Mapping[str, Any] | None,
        columns: frozenset[str] | None,
        within: Within,
    ) -> None:
        self._format = format
        self._schema = schema
        self._columns = columns
        self._decoder: JsonDecoder | None = None
        self._check = Resolver(format, self._resolve, within)

    def decode(self, raw: RawRecords) -> Decoded:
        """See `ByTopic`."""
        return decode_by_id(raw, self._part)

    def _part(self, schema_id: int, raw: RawRecords) -> Decoded | Refusal:
        check = self._check(schema_id)
        if isinstance(check, Refusal):
            return check
        assert self._decoder is not None
        rows = np.arange(len(raw))
        invalid = {} if check.validation is None else check.validation.invalid(raw, HEADER)
        keep = np.array([row not in invalid for row in rows], bool) if invalid else np.ones(len(rows), bool)
        decoded = self._decoder.decode(part(raw, rows[keep], HEADER))
        return _renumbered(decoded, rows[keep], invalid) if invalid else decoded

    def _resolve(self, schema: Schema) -> _Check:
        if schema.type is not SchemaType.JSON:
            raise SchemaRegistryError(f"the schema is {schema.type}, not JSON Schema")
        if self._decoder is None:
            self._decoder = self._open()
        return _Check(self._format.validation(schema) if self._format.validate else None)

    def _open(self) -> JsonDecoder:
        schema = self._schema
        if schema is None:
            reader = self._format.reader_schema()
            schema = None if reader is None else self._format.columns(reader)
        columns = self._columns
        if schema is not None and columns is not None:
            columns = columns & frozenset(schema)
        return JsonDecoder(schema, columns)


@dataclass(frozen=True, slots=True)
class _Check:
    """Of one schema id: None where nothing is checked."""

    validation: Validation | None


def _renumbered(decoded: Decoded, rows: Any, invalid: dict[int, str]) -> Decoded:
    errors = [DecodeError(row, str(ErrorClass.INVALID_VALUE), text) for row, text in invalid.items()]
    errors += [DecodeError(int(rows[e.row]), e.error_class, e.message) for e in decoded.errors]
    kept = rows if decoded.rows is None else rows[decoded.rows]
    return Decoded(decoded.frame, kept, sorted(errors, key=lambda error: error.row))


class RegistryJsonEncoder:
    """Writes rows as JSON by the given schema, the subject's latest, or one made from the columns."""

    def __init__(self, format: JsonSchemaFormat) -> None:
        self._format = format
        self._json = JsonEncoder()
        self._ready: dict[tuple[tuple[str, pl.DataType], ...], tuple[bytes, Validation | None]] = {}

    def encode(self, frame: pl.DataFrame) -> EncodedRecords:
        """One payload per row.

        Raises:
            IncompatibleSchemaError: the subject does not take the schema.
            SchemaRegistryError: with `validate`, a row that the schema does not accept.
        """
        encoded = self.encode_rows(frame)
        if encoded.errors:
            first = encoded.errors[0]
            raise SchemaRegistryError(f"row {first.row} is not what its JSON Schema accepts: {first.message}")
        return encoded.records

    def encode_rows(self, frame: pl.DataFrame) -> Encoded:
        """One payload per row; with `validate`, rows that the schema does not accept are in `errors` instead.

        Raises:
            IncompatibleSchemaError: the subject does not take the schema.
        """
        shape = tuple(frame.schema.items())
        if shape not in self._ready:
            self._ready[shape] = self._open(frame)
        header, check = self._ready[shape]
        written = self._json.encode(frame)
        encoded = Encoded(written) if check is None else without(written, _unaccepted(written, check))
        return Encoded(with_header(encoded.records, header), encoded.rows, encoded.errors)

    def _open(self, frame: pl.DataFrame) -> tuple[bytes, Validation | None]:
        inferred = Schema(json.dumps(json_schema_of(frame.schema, self._format.topic or "Event")), SchemaType.JSON)
        found = self._format.writer_schema(inferred)
        return header_of(found.id), self._format.validation(found.schema) if self._format.validate else None


def _unaccepted(encoded: EncodedRecords, check: Validation) -> list[EncodeError]:
    data = np.ascontiguousarray(encoded.data)
    places = np.arange(len(encoded), dtype=np.int64)
    none, at = np.full(len(encoded), -1, np.int64), (data.ctypes.data + encoded.offsets[:-1]).astype(np.uint64)
    raw = RawRecords("", at, np.diff(encoded.offsets), at, none, places.astype(np.int32), places, none, data)
    return [EncodeError(row, str(ErrorClass.INVALID_VALUE), text) for row, text in check.invalid(raw).items()]

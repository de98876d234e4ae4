"""Why a record could not be read: the classes that dead letters name."""

from __future__ import annotations

from enum import StrEnum

from thalweg.errors import ConfigurationError


class ErrorClass(StrEnum):
    """The `error_class` of a `DecodeError`. Their names are part of the dead-letter format and never change."""

    NULL_PAYLOAD = "NullPayload"
    """The record has no value (a tombstone, in Kafka)."""
    EMPTY_PAYLOAD = "EmptyPayload"
    """The value has no bytes."""
    MALFORMED_JSON = "MalformedJson"
    """Not JSON as RFC 8259 has it: cut short, trailing characters, a byte order mark, half a surrogate pair …"""
    BAD_UTF8 = "BadUtf8"
    """A string that is not UTF-8."""
    NOT_AN_OBJECT = "NotAnObject"
    """JSON, but not an object."""
    TOO_DEEP = "TooDeep"
    """More containers within containers than `MAX_DEPTH`."""
    TOO_LARGE = "TooLarge"
    """More than 1 GiB in one record."""
    WRONG_TYPE = "WrongType"
    """A field whose value is not of its column's type."""
    MISSING_FIELD = "MissingField"
    """A required field that is missing or null."""
    NUMBER_OUT_OF_RANGE = "NumberOutOfRange"
    """A number or time that its column (or a double) can't hold."""
    TOO_MANY_FIELDS = "TooManyFields"
    """Without a schema: a record that would make a table of more than `MAX_COLUMNS` columns."""
    BAD_ARROW = "BadArrow"
    """Not an Arrow IPC stream, or one with columns that do not fit the schema."""
    BAD_AVRO = "BadAvro"
    """Bytes that are not what the writer's schema says: cut short, left over, no such branch or symbol …"""
    BAD_PROTOBUF = "BadProtobuf"
    """Not a message of the schema's type."""
    NOT_FRAMED = "NotFramed"
    """Not in the registry's wire form: a zero byte and the number of a schema before the payload."""
    UNKNOWN_SCHEMA = "UnknownSchema"
    """The registry has no schema of the number that the record names."""
    INCOMPATIBLE_SCHEMA = "IncompatibleSchema"
    """The record's schema can't be read by the stream's."""
    SCHEMA_UNAVAILABLE = "SchemaUnavailable"
    """The registry did not answer for as long as the format was told to wait."""
    INVALID_VALUE = "InvalidValue"
    """A record that its JSON Schema does not accept."""
    UNWRITABLE = "Unwritable"
    """A row that the output's format or schema has no form for: a null where none is allowed, a number too large …"""


MAX_DEPTH = 200
"""How deep JSON containers may nest."""
MAX_COLUMNS = 1_000
"""How many columns inference makes before it asks for a schema."""
MAX_CHUNK_BYTES = 1 << 30
"""Records are read in chunks of at most this size, as Arrow's string views have 32-bit offsets."""


class UnwritableError(ConfigurationError):
    """A value that the format can't write; rows without it may be fine."""


class Refused(Exception):
    """One record can't be read. Caught by the decoder, which reports it; it never reaches a user."""

    def __init__(self, error_class: ErrorClass, message: str) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message

"""Schema registries: the client, and the formats whose records name a schema."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.kafka.schema_registry.avro import AvroFormat
    from thalweg.kafka.schema_registry.client import CompatibilityCheck, SchemaRegistryClient
    from thalweg.kafka.schema_registry.errors import (
        IncompatibleSchemaError,
        RegistryUnavailableError,
        SchemaRegistryError,
        UnknownSchemaError,
    )
    from thalweg.kafka.schema_registry.json_schema import JsonSchemaFormat
    from thalweg.kafka.schema_registry.protobuf import ProtobufFormat
    from thalweg.kafka.schema_registry.schema import Compatibility, Reference, RegisteredSchema, Schema, SchemaType
    from thalweg.kafka.schema_registry.serializers import RowDeserializer, RowSerializer, UnreadablePayload

_HOMES = {
    "AvroFormat": "avro",
    "Compatibility": "schema",
    "CompatibilityCheck": "client",
    "IncompatibleSchemaError": "errors",
    "JsonSchemaFormat": "json_schema",
    "ProtobufFormat": "protobuf",
    "Reference": "schema",
    "RegisteredSchema": "schema",
    "RegistryUnavailableError": "errors",
    "RowDeserializer": "serializers",
    "RowSerializer": "serializers",
    "Schema": "schema",
    "SchemaRegistryClient": "client",
    "SchemaRegistryError": "errors",
    "SchemaType": "schema",
    "UnknownSchemaError": "errors",
    "UnreadablePayload": "serializers",
}

__all__ = [
    "AvroFormat",
    "Compatibility",
    "CompatibilityCheck",
    "IncompatibleSchemaError",
    "JsonSchemaFormat",
    "ProtobufFormat",
    "Reference",
    "RegisteredSchema",
    "RegistryUnavailableError",
    "RowDeserializer",
    "RowSerializer",
    "Schema",
    "SchemaRegistryClient",
    "SchemaRegistryError",
    "SchemaType",
    "UnknownSchemaError",
    "UnreadablePayload",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)

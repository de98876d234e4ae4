"""Formats: how records in wire form become columns, and back.

>>> open_format("json").name
'json'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol

from thalweg.errors import ConfigurationError
from thalweg.formats.errors import ErrorClass
from thalweg.records import Decoder, Encoder

__all__ = ["ErrorClass", "Format", "open_format"]


class Format(Protocol):
    """A wire form."""

    name: str

    def decoder(self, schema: Mapping[str, Any] | None = None, columns: Iterable[str] | None = None) -> Decoder:
        """A decoder for one stream.

        Args:
            schema: names and Polars types of the columns; None infers them and lets them evolve.
            columns: the only columns to make, which must be in the schema; None for all.
        """

    def encoder(self) -> Encoder:
        """An encoder; it keeps nothing between frames."""


_FORMATS = {
    "json": "thalweg.formats.json:JsonFormat",
    "arrow": "thalweg.formats.arrow:ArrowFormat",
    "raw": "thalweg.formats.raw:RawFormat",
    "text": "thalweg.formats.raw:TextFormat",
    # By a schema registry: each record names its schema.
    "avro": "thalweg.kafka.schema_registry.avro:AvroFormat",
    "json-schema": "thalweg.kafka.schema_registry.json_schema:JsonSchemaFormat",
    "protobuf": "thalweg.kafka.schema_registry.protobuf:ProtobufFormat",
}


def open_format(name: str | Format, topic: str | None = None) -> Format:
    """The format of that name: "json", "arrow", "raw" (bytes) or "text"; or, with the schema registry that the
    environment names, "avro", "json-schema" or "protobuf". A `Format` is itself.

    Other packages add formats through the entry point group `thalweg.formats`.

    Args:
        topic: what it is for; formats of a schema registry find the subject by it.

    Raises:
        ConfigurationError: no such format.
    """
    if not isinstance(name, str):
        return _for_topic(name, topic)
    target = _FORMATS.get(name) or next(
        (point.value for point in entry_points(group="thalweg.formats") if point.name == name), None
    )
    if target is None:
        raise ConfigurationError(f"format {name!r}: use one of {', '.join(_FORMATS)}")
    module, _, attribute = target.partition(":")
    return _for_topic(getattr(import_module(module), attribute)(), topic)


def _for_topic(made: Format, topic: str | None) -> Format:
    bind = getattr(made, "for_topic", None)
    bound: Format = made if topic is None or bind is None else bind(topic)
    return bound

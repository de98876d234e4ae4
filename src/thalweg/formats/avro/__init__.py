"""Avro: records by schema, to columns and back.

`AvroDecoder` and `AvroEncoder` work with schemas at hand; with a schema registry see `thalweg.kafka.schema_registry`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thalweg.formats.avro.decoder import AvroDecoder, AvroReader
    from thalweg.formats.avro.encoder import AvroEncoder
    from thalweg.formats.avro.schema import AvroSchemaError

__all__ = ["AvroDecoder", "AvroEncoder", "AvroReader", "AvroSchemaError"]

_HOMES = {"AvroDecoder": "decoder", "AvroReader": "decoder", "AvroEncoder": "encoder", "AvroSchemaError": "schema"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def warm_up() -> bool:
    """Compiles the Avro kernels, or loads them from the cache on disk; says whether all of them came from there."""
    from thalweg.formats.kernels import framing, read_avro, write_avro
    from thalweg.formats.kernels.compile import cache_hits

    entries = [read_avro.read_avro, write_avro.write_avro, framing.read_schema_ids, framing.add_headers]
    return all(cache_hits(each) for each in entries)

"""Avro records as fastavro writes them, for the tests of ours."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import fastavro

from thalweg.formats.avro import AvroDecoder, AvroEncoder
from thalweg.records import EncodedRecords, RawRecords

MakeRecords = Callable[[Sequence[bytes | None]], RawRecords]


def record(*fields: Any, name: str = "R") -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [f if isinstance(f, dict) else {"name": f[0], "type": f[1]} for f in fields],
    }


def written(schema: Any, *values: Any) -> list[bytes]:
    parsed = fastavro.parse_schema(schema)
    payloads = []
    for value in values:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, value)
        payloads.append(out.getvalue())
    return payloads


def split(encoded: EncodedRecords) -> list[bytes]:
    ends = encoded.offsets.tolist()
    return [encoded.data[a:b].tobytes() for a, b in itertools.pairwise(ends)]


class PlainAvro:
    """A format: Avro of one schema, without a registry. It takes no null and no `n` of more than 32 bits."""

    name = "plain-avro"
    schema = record(("n", "int"), ("user", "string"))

    def encoder(self) -> AvroEncoder:
        return AvroEncoder(self.schema)

    def decoder(self, schema: Any = None, columns: Any = None) -> AvroDecoder:
        return AvroDecoder(self.schema)

"""Avro records as fastavro writes them, for the tests of ours."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import fastavro

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
